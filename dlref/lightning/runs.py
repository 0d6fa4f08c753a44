"""What a run leaves behind: logs, predictions, and a checkpoint to continue from, after Ctrl-C too."""

from __future__ import annotations

import csv
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from ..core.files import NotWritten
from ..core.interrupt import Interrupted, heed, held, unbroken
from ..core.parallel import largest, ranks
from ..pictures.training import draw_curves
from .logs import EventsLogger, RowsLogger


def loggers(folder: Path) -> list[Logger]:
    """metrics.csv and TensorBoard's events, in the folder itself."""
    where = {"save_dir": str(folder), "name": "", "version": ""}
    return [RowsLogger(**where), EventsLogger(**where)]  # type: ignore[arg-type]


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
        "You requested to overfit",  # the shuffling of its validation is then off
        "Total length of `list` across ranks is zero",  # no validation part was wanted
    ):
        warnings.filterwarnings("ignore", message)


def restarted(runs: str, name: str) -> Path | None:
    """The checkpoint from which training goes on after torchrun (--max-restarts) has restarted its processes.

    It is the newest of the runs of that name, begun since torchrun began; None in what it starts first, or where no epoch was
    over.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    since, torchrun = 0.0, Path(f"/proc/{os.getppid()}/stat")
    if torchrun.exists():  # its start, in ticks since the machine's
        ticks = float(torchrun.read_text().rpartition(")")[2].split()[19])
        since = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    found = [path for path in Path(runs).glob(f"*-{name}/checkpoints/last.ckpt") if path.stat().st_mtime >= since]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def run_folder(trainer: lightning.Trainer) -> Path | None:
    """Where a run leaves its files: its logger's folder; None without one, where Lightning would take the current folder."""
    return Path(trainer.log_dir) if trainer.logger is not None and trainer.log_dir is not None else None


def draws(trainer: lightning.Trainer) -> bool:
    """Whether this process draws and writes what the network makes: the first does, where it has the whole network."""
    return trainer.is_global_zero and not isinstance(trainer.strategy, ModelParallelStrategy)


def tell(trainer: lightning.Trainer, *lines: str) -> None:
    """Say what is in the run's folder, and in the same line, the last, what else is to be said of the run."""
    if (folder := run_folder(trainer)) is not None and folder.is_dir() and trainer.is_global_zero:
        found = [path for path in sorted(folder.rglob("*")) if path.is_file() and "tfevents" not in path.name]
        names = ", ".join(str(path.relative_to(folder)) for path in found if path.name != "hparams.yaml")
        lines = (f"wrote {folder}/: {names}", *lines)
    if lines and trainer.is_global_zero:
        print("; ".join(lines))


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
        drawn = folder is not None and draws(trainer) and hasattr(trainer.datamodule, "split")
        if drawn and hasattr(module, "pictures"):
            module.pictures(folder, stage)

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """After the module's own end, where it may have drawn more."""
        if not trainer.is_global_zero:
            return
        from matplotlib.image import imread

        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for path in sorted(Path(logger.log_dir).glob("*.png")):
                    with unbroken():
                        logger.experiment.add_image(
                            path.stem, imread(path)[..., :3], trainer.global_step, dataformats="HWC"
                        )


class TellHow(lightning.Callback):
    """Tell after Ctrl-C, and of a full disk, which checkpoint continues the run: the last whole epoch's.

    Several processes end a training together: before each of its batches they ask each other whether one has got a signal.
    """

    others: Any = None  # the processes that Lightning has started for this one
    together = False

    def setup(self, trainer: Any, module: lightning.LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or getattr(trainer.strategy.cluster_environment, "auto_requeue", False):
            return
        # Lightning's handler speaks to the other processes from within whatever it interrupts, and its own question before
        # each batch is about the first process alone.
        trainer._signal_connector._sigterm_notifier_fn = lambda number, frame: None
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
        if stage == "fit":
            self.together = True
            held["depth"] += 1  # to the end: what comes second ends the process at once

    def on_train_batch_start(self, trainer: Any, *about: Any) -> None:
        number = held["received"]
        if self.together:
            number = int(largest(torch.tensor(number, device=trainer.strategy.root_device)))
        if number:
            raise Interrupted(number)

    def on_validation_batch_start(self, *about: Any) -> None:
        if not self.together:  # the processes may have validation batches of different numbers
            heed()

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start  # type: ignore[assignment]

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        if self.together:
            self.together, held["depth"] = False, held["depth"] - 1
            heed()

    def on_exception(self, trainer: lightning.Trainer, module: lightning.LightningModule, error: BaseException) -> None:
        path = getattr(trainer.checkpoint_callback, "last_model_path", "")
        if isinstance(error, NotWritten) and path:
            error.strerror = f"{error.strerror}; continue with --ckpt_path {path}"
        signalled = isinstance(error, Interrupted) or (held["received"] and not self.together)
        if not signalled and not isinstance(error, KeyboardInterrupt):
            return
        begun = trainer.fit_loop.epoch_loop.global_step
        if begun and not path and (self.together or trainer.world_size == 1):  # not one epoch is over, and all are here
            path = str(Path(trainer.default_root_dir, "interrupted.ckpt"))
            trainer.save_checkpoint(path)
        if self.others is not None:
            self.others.end(10 if self.together else 0)
        if not begun or not path:
            return
        told = f"interrupted in epoch {trainer.current_epoch + 1}; continue with --ckpt_path {path}"
        if signalled:
            # By the program, as its last line; of several processes the first says it.
            error.told = told if trainer.is_global_zero else True  # type: ignore[attr-defined]
        else:
            print(f"\n{told}", flush=True)


class WritePredictions(BasePredictionWriter):
    """What the module makes of its predictions, in the run's folder."""

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(self, trainer: lightning.Trainer, module: Any, predictions: Any, batch_indices: Any) -> None:
        folder, predictions = run_folder(trainer), together(list(predictions))
        if folder is not None and trainer.is_global_zero and hasattr(module, "save_predictions"):
            module.save_predictions(folder, predictions)


def together(predictions: list) -> list:
    """All processes' predictions, batch by batch in the samples' order; what is no tensor is the first process's."""
    if (size := ranks()[1]) == 1:
        return predictions
    found: list[Any] = [None] * size
    torch.distributed.all_gather_object(found, predictions)
    return [torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0] for parts in zip(*found, strict=True)]
