"""A classifier under Lightning, whose step is the algorithm by hand or by autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from .. import builtin, manual, models
from ..manual.flat import flatten
from ..models import mlp
from ..names import called, one_of, optimizer_named, schedule_named

# Backend: the namespace of its model, loss, optimizer and schedule.
BACKENDS: dict[str, Any] = {"manual": manual, "bridged": manual, "builtin": builtin}


# The models of dlref.models that end in one logit for each class.
MODELS = ("mlp", "cnn", "residual_network", "row_classifier", "vision_transformer")


class Classifier(lightning.LightningModule):
    """A network that learns classes by cross entropy, a multilayer perceptron by default.

    model, model_args: the name of a model of dlref.models and its arguments beside `classes`. in_features, hidden,
    activation, dropout: those of the mlp, and of it alone. label_smoothing: in [0, 1].
    backend: "manual" (explicit gradients by vjp, no graph), "bridged" (the same operations under autograd) or "builtin"
        (torch.nn and autograd).
    optimizer, lr, optimizer_args: name, learning rate and further arguments of the backend's `optim`.
    schedule, schedule_args: name and arguments of the backend's `optim.lr_scheduler`; schedule_every: "epoch" or "step".
        ReduceLROnPlateau watches the validation loss, and the training loss where there is no validation.
    gradient_clip_val, accumulate_grad_batches: the largest norm of all gradients together, and the batches that make one
        update. They stand here, since Lightning leaves both to the module where the module does the optimization.

    Input (N, in_features), or (N, C, H, W) where the model takes images; output (N, classes) logits. ValueError where a
    name is unknown or a number out of its range.
    """

    def __init__(
        self,
        in_features: int = 64,
        hidden: Sequence[int] = (128,),
        classes: int = 10,
        activation: str = "relu",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        backend: str = "manual",
        optimizer: str = "SGD",
        lr: float = 0.01,
        optimizer_args: dict[str, Any] | None = None,
        schedule: str | None = None,
        schedule_args: dict[str, Any] | None = None,
        schedule_every: str = "epoch",
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        model: str = "mlp",
        model_args: dict[str, Any] | None = None,
    ):
        super().__init__()
        one_of("backend", backend, BACKENDS)
        one_of("model", model, MODELS)
        one_of("schedule_every", schedule_every, ("epoch", "step"))
        for name, value in (("lr", lr), ("gradient_clip_val", gradient_clip_val),
                            ("accumulate_grad_batches", accumulate_grad_batches)):  # fmt: skip
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, it is {value}")
        self.save_hyperparameters()
        self.hp: Any = self.hparams
        self.automatic_optimization = False
        self.ns: Any = BACKENDS[backend]
        if model == "mlp":
            self.network = mlp(self.ns, in_features, hidden, classes, activation, dropout)
        else:
            self.network = called("model", getattr(models, model), self.ns, classes=classes, **(model_args or {}))
        self.criterion = self.ns.nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.metrics = torch.nn.ModuleDict(
            {
                f"{stage}_accuracy": MulticlassAccuracy(classes, average="micro")
                for stage in ("train", "validation", "test")
            }
        )
        self._optimizer_and_schedule()  # for what is wrong with their arguments

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and error of a batch; adds the gradients of error / accumulate_grad_batches to the parameters' .grad."""
        share = 1 / self.hp.accumulate_grad_batches
        if self.hp.backend == "manual":
            z, network_pullback = self.network.vjp(x)  # a. forward
            error, error_pullback = self.criterion.vjp(z, y)  # b. error
            network_pullback(error_pullback(torch.full_like(error, share))[0], needs=(False,))  # c. chain rule
        else:
            z = self.network(x)
            error = self.criterion(z, y)
            self.manual_backward(error * share)
        return z.detach(), error.detach()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        optimizer: Any = self.optimizers()
        every = self.hp.accumulate_grad_batches
        z, error = self.gradients(*batch)
        self._log("train", z, error, batch[1])
        if (index + 1) % every and not self.trainer.is_last_batch:
            return
        if self.hp.gradient_clip_val is not None:
            self.ns.nn.utils.clip_grad_norm_(self.network.parameters(), self.hp.gradient_clip_val)
        optimizer.step()  # d. update
        optimizer.zero_grad()
        if self.hp.schedule_every == "step":
            self._step_schedule()

    def on_train_epoch_end(self) -> None:
        if self.hp.schedule_every == "epoch":
            self._step_schedule()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._evaluate("validation", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._evaluate("test", batch)

    def predict_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Probabilities (N, classes)."""
        return self.ns.functional.softmax(self.network(batch[0]), dim=1)

    def configure_optimizers(self) -> Any:
        if self.hp.backend == "manual":
            flatten(self.network)  # one update runs for all parameters
        optimizer, schedule = self._optimizer_and_schedule()
        return {"optimizer": optimizer} | ({"lr_scheduler": schedule} if schedule is not None else {})

    def on_fit_start(self) -> None:
        if self.hp.backend != "manual":
            return
        if "mixed" in str(self.trainer.precision) or self.trainer.world_size > 1:
            raise ValueError(
                "backend 'manual' trains on one device in one precision, as 32-true or 64-true; the trainer has "
                f"{self.trainer.world_size} devices and {self.trainer.precision}: use backend 'bridged' for these"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs, ours = checkpoint.get("state_dict", {}), self.state_dict()
        for name in sorted(set(theirs) | set(ours)):
            a, b = (tuple(s[name].shape) if name in s else "missing" for s in (theirs, ours))
            if a != b:
                raise ValueError(
                    f"the checkpoint must be of this architecture: {name} is {a} in it, {b} in the model; start with the "
                    "configuration that it was trained with (config.yaml in its run folder)"
                )

    def _optimizer_and_schedule(self) -> tuple[Any, Any]:
        hp = self.hp
        arguments = {**(hp.optimizer_args or {}), "lr": hp.lr}
        optimizer = optimizer_named(self.ns, hp.optimizer, self.network.parameters(), **arguments)
        if hp.schedule is None:
            return optimizer, None
        return optimizer, schedule_named(self.ns, hp.schedule, optimizer, **(hp.schedule_args or {}))

    def _step_schedule(self) -> None:
        schedule: Any = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            seen = self.trainer.callback_metrics
            schedule.step(seen["validation_loss" if "validation_loss" in seen else "train_loss"])
        elif schedule is not None:
            schedule.step()

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        z = self.network(batch[0])
        self._log(stage, z, self.criterion(z, batch[1]), batch[1])

    def _log(self, stage: str, z: Tensor, error: Tensor, y: Tensor) -> None:
        accuracy: Any = self.metrics[f"{stage}_accuracy"]
        accuracy(z, y)
        values: dict[str, Any] = {f"{stage}_loss": error, f"{stage}_accuracy": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(y), prog_bar=stage == "validation")
