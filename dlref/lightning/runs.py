"""What a run leaves behind: logs, predictions, and a checkpoint to continue from, after Ctrl-C too."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO


def loggers(folder: Path) -> list[Logger]:
    """metrics.csv and TensorBoard's events, in the folder itself."""
    where = {"save_dir": str(folder), "name": "", "version": ""}
    return [CSVLogger(**where), TensorBoardLogger(**where)]  # type: ignore[arg-type]


def quiet() -> None:
    """Silence Lightning's advice that is noise here: worker processes and logging for data that lie in memory."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers",
        ".*smaller than the logging interval",
        ".*LeafSpec",  # its own use of torch
        "The dirpath has changed",  # a continued run has a folder of its own
        "Couldn't infer the batch indices",
    ):
        warnings.filterwarnings("ignore", message)


def run_folder(trainer: lightning.Trainer) -> Path | None:
    """Where a run leaves its files: its logger's folder; None without one, where Lightning would take the current folder."""
    return Path(trainer.log_dir) if trainer.logger is not None and trainer.log_dir is not None else None


class CheckpointIO(TorchCheckpointIO):
    """Checkpoints as Lightning has them, and a ValueError in plain words for a file that holds none."""

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            checkpoint = super().load_checkpoint(path, *args, **kwargs)
            checkpoint["state_dict"], checkpoint["pytorch-lightning_version"]
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever the unpickler meets in a file that is not one
            reason = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
            raise ValueError(f"the checkpoint must be a file that dlref fit wrote, {path} is none: {reason}") from None
        return checkpoint


class TellWhere(lightning.Callback):
    """Tell at the end where the run is, and after Ctrl-C which checkpoint continues it: the last whole epoch's."""

    def on_fit_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if trainer.log_dir is not None and best:
            print(f"\nwrote {trainer.log_dir}; the best checkpoint is {best}")

    def on_exception(self, trainer: lightning.Trainer, module: lightning.LightningModule, error: BaseException) -> None:
        if not isinstance(error, KeyboardInterrupt) or not trainer.training:
            return
        path = getattr(trainer.checkpoint_callback, "last_model_path", "")
        if not path:  # not one epoch is over
            path = str(Path(trainer.default_root_dir, "interrupted.ckpt"))
            trainer.save_checkpoint(path)
        print(f"\ninterrupted in epoch {trainer.current_epoch + 1}; continue with --ckpt_path {path}", flush=True)


class WritePredictions(BasePredictionWriter):
    """What the module makes of its predictions, in the run's folder."""

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(self, trainer: lightning.Trainer, module: Any, predictions: Any, batch_indices: Any) -> None:
        folder = run_folder(trainer)
        if folder is not None and hasattr(module, "save_predictions"):
            print(f"wrote {module.save_predictions(folder, list(predictions))}")
