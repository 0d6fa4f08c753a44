"""What a run leaves behind: logs, predictions, and a checkpoint to continue from, after Ctrl-C too."""

from __future__ import annotations

import csv
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..core.interrupt import Interrupted
from ..pictures.training import draw_curves


class Rows(ExperimentWriter):
    """metrics.csv with a row an epoch: what is logged of an epoch later, as the training loss is, comes into its row."""

    def __init__(self, log_dir: str):
        super().__init__(log_dir)
        self.whole = 0  # where in the file the last row begins, which may still grow

    def log_metrics(self, metrics_dict: dict[str, Any], step: int | None = None) -> None:
        super().log_metrics(metrics_dict, step)
        *_, last, new = ({}, *self.metrics[-2:]) if len(self.metrics) > 1 else ({}, {}, *self.metrics)
        if last.get("epoch") == new.get("epoch") and last.keys() & new.keys() == {"epoch", "step"}:
            self.metrics[-2:] = [{**last, **new}]

    def save(self) -> None:
        if not self.metrics:
            return
        exists = os.path.exists(self.metrics_file_path)
        if exists:
            os.truncate(self.metrics_file_path, self.whole)
        if self._record_new_keys() and exists:
            self._rewrite_with_new_header(self.metrics_keys)
        with open(self.metrics_file_path, "a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            if not exists:
                writer.writeheader()
            writer.writerows(self.metrics[:-1])
            file.flush()
            self.whole = os.path.getsize(self.metrics_file_path)
            writer.writerow(self.metrics[-1])
        self.metrics = self.metrics[-1:]


class RowsLogger(CSVLogger):
    """Lightning's CSVLogger, a row an epoch."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = Rows(log_dir=self.log_dir)
        return self._experiment


def loggers(folder: Path) -> list[Logger]:
    """metrics.csv and TensorBoard's events, in the folder itself."""
    where = {"save_dir": str(folder), "name": "", "version": ""}
    return [RowsLogger(**where), TensorBoardLogger(**where)]  # type: ignore[arg-type]


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
        "Total length of `list` across ranks is zero",  # no validation part was wanted
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


def tell(trainer: lightning.Trainer) -> None:
    """Say what is in the run's folder."""
    if (folder := run_folder(trainer)) is not None and folder.is_dir() and trainer.is_global_zero:
        found = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tfevents" not in path.name]
        print(
            f"wrote {folder}/: {', '.join(str(path.relative_to(folder)) for path in found if path.name != 'hparams.yaml')}"
        )


class Pictures(lightning.Callback):
    """The learning curves and what the module draws of itself, in the run's folder and on TensorBoard."""

    def on_fit_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        folder = run_folder(trainer)
        if folder is not None and trainer.is_global_zero and (metrics := folder / "metrics.csv").exists():
            with metrics.open(newline="") as file:
                draw_curves(folder / "curves.png", list(csv.DictReader(file)), folder.name)
        self._of_module(trainer, module, "validation")

    def on_test_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._of_module(trainer, module, "test")

    @staticmethod
    def _of_module(trainer: Any, module: Any, stage: str) -> None:
        folder = run_folder(trainer)
        drawn = folder is not None and trainer.is_global_zero and hasattr(trainer.datamodule, "split")
        if drawn and hasattr(module, "pictures"):
            module.pictures(folder, stage)

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """After the module's own end, where it may have drawn more."""
        from matplotlib.image import imread

        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for path in sorted(Path(logger.log_dir).glob("*.png")):
                    logger.experiment.add_image(
                        path.stem, imread(path)[..., :3], trainer.global_step, dataformats="HWC"
                    )


class TellHow(lightning.Callback):
    """Tell after Ctrl-C which checkpoint continues the run: the last whole epoch's."""

    def on_exception(self, trainer: lightning.Trainer, module: lightning.LightningModule, error: BaseException) -> None:
        if not isinstance(error, (KeyboardInterrupt, Interrupted)) or not trainer.fit_loop.epoch_loop.global_step:
            return
        path = getattr(trainer.checkpoint_callback, "last_model_path", "")
        if not path:  # not one epoch is over
            path = str(Path(trainer.default_root_dir, "interrupted.ckpt"))
            trainer.save_checkpoint(path)
        told = f"interrupted in epoch {trainer.current_epoch + 1}; continue with --ckpt_path {path}"
        if isinstance(error, Interrupted):
            error.told = told  # by the program, as its last line
        else:
            print(f"\n{told}", flush=True)


class WritePredictions(BasePredictionWriter):
    """What the module makes of its predictions, in the run's folder."""

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(self, trainer: lightning.Trainer, module: Any, predictions: Any, batch_indices: Any) -> None:
        folder = run_folder(trainer)
        if folder is not None and hasattr(module, "save_predictions"):
            module.save_predictions(folder, list(predictions))
