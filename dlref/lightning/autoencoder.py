"""Autoencoders under Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import models
from ..core.names import called, one_of
from ..core.ranges import check_number
from ..pictures.images import draw_rows
from ..pictures.plane import draw_codes
from .learner import Learner
from .runs import draws, run_folder

MODELS = ("autoencoder", "convolutional_autoencoder", "variational_autoencoder")


class Autoencoder(Learner):
    """A network that learns to give back its input through a narrow code.

    Input and output (N, features), or (N, C, H, W) for the convolutional one. A fit and a prediction leave
    reconstructions.png in the run's folder: test images, what the network makes of them, and images that it makes of drawn
    codes. ValueError where a name is unknown or a number out of its range.

    Args:
        model: autoencoder, convolutional_autoencoder or variational_autoencoder.
        model_args: Arguments of the model's function in dlref.models, as {"code": 8}.
        beta: Weight of the divergence in the loss of the variational one; the others learn the mean squared error.
        options: Those of Learner: backend, optimizer, schedule.
    """

    logs = ("mse",)

    def __init__(
        self, model: str = "autoencoder", model_args: dict[str, Any] | None = None, beta: float = 1.0, **options
    ):
        super().__init__(**options)
        one_of("model", model, MODELS)
        check_number("beta", beta, needed=True)
        if beta != 1 and model != "variational_autoencoder":
            raise ValueError(f"beta is of the variational_autoencoder alone, the model is {model}: leave it out")
        network = called("model", getattr(models, model), self.ns, **(model_args or {}))
        self.variational = model == "variational_autoencoder"
        self.learn(network, self.ns.nn.VariationalLoss(beta) if self.variational else self.ns.nn.MSELoss())

    def task(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch[0], batch[0]

    def measures(self, stage: str, output: Any, error: Tensor, target: Tensor) -> dict[str, Any]:
        return {"mse": (self.reconstruction(output) - target).square().mean()}

    @staticmethod
    def reconstruction(output: Any) -> Tensor:
        return output[0] if isinstance(output, tuple) else output

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The code (N, code), of a variational autoencoder its mean."""
        code = (self.network.encoder if self.variational else self.network[0])(x)
        return code.chunk(2, -1)[0] if self.variational else code

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        return (self.network.decoder if self.variational else self.network[1])(code)

    def draw(self, number: int, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images made of drawn codes: standard normal ones, or (not variational) as normal as the codes of x are."""
        codes = self.encode(x)
        noise = torch.randn(
            number, codes.shape[1], generator=generator, device=generator.device if generator else "cpu"
        ).to(codes)
        if not self.variational:
            # V sqrt(L) turns white noise into one of the codes' covariance V L V', of any rank.
            values, vectors = torch.linalg.eigh(codes.T.cov().double())
            noise = codes.mean(0) + noise @ (vectors * values.clamp(min=0).sqrt()).to(codes).T
        return self.decode(noise)

    def predict_step(self, batch: Any, index: int) -> Tensor:
        """The reconstructions."""
        return self.reconstruction(self.network(batch[0]))

    def on_fit_end(self) -> None:
        if (folder := run_folder(self.trainer)) is not None and draws(self.trainer):
            self.picture(folder)

    def save_predictions(self, folder: Path, predictions: list[Tensor]) -> Path:
        return self.picture(folder)

    def plots(self, folder: Path) -> list[Path]:
        """codes.png: the test images' codes by class."""
        x, y = self.trainer.datamodule.split.test.tensors  # type: ignore[attr-defined]
        codes = self.encode(x.to(self.device, self.dtype))
        return [draw_codes(folder / "codes.png", codes, y, int(y.max()) + 1)]

    def picture(self, folder: Path) -> Path:
        """Draw reconstructions.png of the data module's first test images; without a test part, of others."""
        split = self.trainer.datamodule.split  # type: ignore[attr-defined]
        name, part = next((name, part) for name in ("test", "validation", "train") if len(part := getattr(split, name)))
        x, train = (part.tensors[0].to(self.device, self.dtype) for part in (part, split.train))
        x = x[:12]
        training = self.training
        self.eval()
        with torch.no_grad():
            found = self.reconstruction(self.network(x))
        rows = {
            f"{name} image": x,
            "reconstruction": found,
            "drawn code": self.draw(12, train, torch.Generator().manual_seed(0)),
        }
        self.train(training)
        return draw_rows(folder / "reconstructions.png", rows)
