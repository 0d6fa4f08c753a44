"""Classifiers under Lightning."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from .. import models
from ..core.names import called, one_of
from ..core.ranges import check_numbers
from ..pictures.classifier import draw_classifier
from ..pictures.plane import draw_boundaries
from ..pictures.training import draw_activations
from .learner import Learner

# The models of dlref.models that end in one logit for each class.
MODELS = ("mlp", "perceptron", "rbf_network", "locally_connected", "cnn", "residual_network", "row_classifier",
          "vision_transformer")  # fmt: skip
# Loss: what its target is for a class and for the others; None where it is the index of the class.
LOSSES: dict[str, tuple[float, float] | None] = {
    "CrossEntropyLoss": None, "MultiMarginLoss": None, "MSELoss": (1.0, 0.0), "PerceptronLoss": (1.0, -1.0)
}  # fmt: skip


class Classifier(Learner):
    """A network that learns classes, a multilayer perceptron by cross entropy by default.

    Input (N, in_features), or (N, C, H, W) where the model takes images; output (N, classes) scores. ValueError where a
    name is unknown or a number out of its range.

    Args:
        in_features: Numbers in an input of the mlp; as hidden, activation and dropout, of the mlp alone.
        hidden: Sizes of its hidden layers, as [128] or 64,32.
        classes: Number of classes.
        activation: Name of an activation of torch.nn, in any case.
        dropout: Probability with which a hidden unit is dropped.
        label_smoothing: Share of the target that is spread over all classes, of the cross entropy.
        model: mlp, perceptron, rbf_network, locally_connected, cnn, residual_network, row_classifier or vision_transformer.
        model_args: Arguments of the model's function in dlref.models beside `classes`, as {"channels": [16, 32]}.
        loss: CrossEntropyLoss, MultiMarginLoss, or, each class against the rest, MSELoss or PerceptronLoss, which with
            SGD on single samples is the perceptron rule.
        rbf_args: How an RBF network begins: arguments of RBF.fit_centers, and ridge, with which its output weights are had
            by least_squares.
        options: Those of Learner: backend, optimizer, schedule.
    """

    logs = ("accuracy",)

    def __init__(
        self,
        in_features: int = 64,
        hidden: Sequence[int] = (128,),
        classes: int = 10,
        activation: str = "relu",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        model: str = "mlp",
        model_args: dict[str, Any] | None = None,
        loss: str = "CrossEntropyLoss",
        rbf_args: dict[str, Any] | None = None,
        **options,
    ):
        super().__init__(**options)
        one_of("model", model, MODELS)
        one_of("loss", loss, LOSSES)
        check_numbers(needed=True, classes=classes, dropout=dropout, label_smoothing=label_smoothing)
        own = {"in_features": in_features, "hidden": hidden, "activation": activation, "dropout": dropout}
        for name, value in own.items() if model != "mlp" else ():
            if value != inspect.signature(Classifier).parameters[name].default and value not in ([128], None):
                raise ValueError(f"{name} is of the mlp alone, the model is {model}: put what it takes into model_args, see "
                                 f"dlref.models.{model}")  # fmt: skip
        if model == "mlp" and model_args:
            raise ValueError(f"model_args must be those of another model than the mlp, which is told by in_features, hidden, "
                             f"activation and dropout; they are {model_args}")  # fmt: skip
        if rbf_args and model != "rbf_network":
            raise ValueError(f"rbf_args must be those of an rbf_network, the model is {model}: leave them out")
        if label_smoothing and loss != "CrossEntropyLoss":
            raise ValueError(f"label_smoothing is of CrossEntropyLoss alone, the loss is {loss}: leave it out")
        if model == "mlp":
            network = models.mlp(self.ns, in_features, hidden, classes, activation, dropout)
        else:
            size = {"out_features" if model == "rbf_network" else "classes": classes}
            network = called("model", getattr(models, model), self.ns, **size, **(model_args or {}))
        smooth = {"label_smoothing": label_smoothing} if loss == "CrossEntropyLoss" else {}
        self.metrics = torch.nn.ModuleDict(
            {
                f"{stage}_accuracy": MulticlassAccuracy(classes, average="micro")
                for stage in ("train", "validation", "test")
            }
        )
        self.learn(network, getattr(self.ns.nn, loss)(**smooth))

    def setup(self, stage: str) -> None:
        """Give an RBF network centres, widths and output weights from the training data, before the first step."""
        if stage == "fit" and self.hp.model == "rbf_network":
            x, y = self.trainer.datamodule.split.train.tensors  # type: ignore[attr-defined]
            options = dict(self.hp.rbf_args or {})
            ridge = options.pop("ridge", None)
            called("rbf", self.network[0].fit_centers, x, **options)
            if ridge is not None:
                models.least_squares(self.network, x.to(self.dtype), y, ridge)
        super().setup(stage)

    def task(self, batch: Any) -> tuple[Tensor, Tensor]:
        x, y = batch
        if (values := LOSSES[self.hp.loss]) is not None:
            one = y.unsqueeze(1) == torch.arange(self.hp.classes, device=y.device)
            y = torch.where(one, *values).to(x.dtype)
        return x, y

    def measures(self, stage: str, output: Tensor, error: Tensor, target: Tensor) -> dict[str, Any]:
        accuracy: Any = self.metrics[f"{stage}_accuracy"]
        if len(target):  # another of several processes may have all samples
            accuracy(output, target if target.dim() == 1 else target.argmax(1))
        return {"accuracy": accuracy}

    def predict_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Probabilities (N, classes): the softmax of the scores."""
        return self.ns.functional.softmax(self.network(batch[0]), dim=1)

    def pictures(self, folder: Path, stage: str) -> None:
        """What was taken for what in the validation or test part, the mistakes, and what the first layer has learnt."""
        x, y = self._part(stage)
        draw_classifier(folder, self.network, x, y, self._scores(x), stage)

    def plots(self, folder: Path) -> list[Path]:
        """activations.png and boundaries.png: of the test part by layer, and in the plane."""
        x, y = self._part("test")
        return [
            draw_activations(folder / "activations.png", self.network, x.to(self.device)),
            draw_boundaries(folder / "boundaries.png", self._scores, x, y, self.hp.classes),
        ]

    def _part(self, stage: str) -> tuple[Tensor, Tensor]:
        return getattr(self.trainer.datamodule.split, stage).tensors  # type: ignore[attr-defined]

    @torch.no_grad()
    def _scores(self, x: Tensor) -> Tensor:
        """(N, classes) on the CPU, by parts, without dropout."""
        training = self.training
        self.eval()
        found = [self.network(part.to(self.device, self.dtype)).cpu() for part in x.split(1000)]
        self.train(training)
        return torch.cat(found)

    def save_predictions(self, folder: Path, predictions: list[Tensor]) -> Path:
        """predictions.csv: the true class, the predicted one and the probability of each class, a line a sample.

        The true one of the data modules here; of somebody else's it is not known.
        """
        path, rows = folder / "predictions.csv", torch.cat(predictions)
        known = hasattr(getattr(self.trainer, "datamodule", None), "split")
        true = [[y] for y in self._part("test")[1][: len(rows)].tolist()] if known else [[]] * len(rows)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(["true"] if known else []), "predicted", *(f"p{i}" for i in range(self.hp.classes))])
            for first, row in zip(true, rows, strict=True):
                writer.writerow([*first, int(row.argmax()), *(f"{p:.6g}" for p in row.tolist())])
        return path
