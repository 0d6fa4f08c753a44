"""Trainings under Lightning that go on as if they had not stopped, and checkpoints that are whole, sealed and verified."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from ..core import checkpoint as files
from ..core.files import write_whole
from ..core.resume import generators, plain, refuse_other, restore_generators
from .logs import RowsLogger

# Options that may be another when a training goes on: what is learnt is the same.
FREE = {
    "model": {"backend", "compile", "on_nonfinite", "prompt", "length", "temperature", "top_k"},
    "data": {"num_workers", "data_dir", "download"},
}


class CheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there, and of which nothing but numbers and texts is ever loaded."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        files.save(path, checkpoint)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint; FileNotFoundError, or a ValueError in plain words for a file that is damaged or holds none."""
        if not Path(path).exists():
            raise FileNotFoundError(f"the checkpoint must be an existing file, there is no {path}")
        found = files.load(path, "a file that dlref fit wrote", resume=False)
        if lacks := {"state_dict", "pytorch-lightning_version"} - set(found):
            raise ValueError(
                f"the checkpoint must be a file that dlref fit wrote, {path} is none: it lacks {min(lacks)}"
            )
        if "manifest" not in found:
            found.pop("progress", None)  # nobody answers for it
        return found


class WholeEpochs(ModelCheckpoint):
    """Lightning's ModelCheckpoint whose `last` is the last whole epoch, whatever has improved; the start before the first."""

    saved_last = False

    @property
    def state_key(self) -> str:
        """Lightning's own, by which either goes on from the other's checkpoints."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self._keeps_last(trainer) and trainer.ckpt_path is None:
            self._save_last_checkpoint(trainer, {})

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.saved_last = False
        super().on_train_epoch_end(trainer, pl_module)
        if not self.saved_last and self._keeps_last(trainer) and self._should_save_on_train_epoch_end(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_last_checkpoint(self, trainer: lightning.Trainer, monitor_candidates: dict[str, torch.Tensor]) -> None:
        super()._save_last_checkpoint(trainer, monitor_candidates)
        self.saved_last = True

    def _keeps_last(self, trainer: Any) -> bool:
        return bool(self.save_last) and not trainer.fast_dev_run


class Resume(lightning.Callback):
    """What a checkpoint of Lightning's lacks for going on to the bit.

    The random generators of every process; the options, which must be the same; the best score, though the run has another
    folder; the log, which goes on in one file. The order of the data is a function of seed and epoch (`Batches`).

    override: go on with other options.
    """

    def __init__(self, override: bool = False):
        self.override = override
        self.within: Any = None  # the generators of a checkpoint from within an epoch, or from before the first

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointIO()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loop: Any = trainer.fit_loop
        step = loop.epoch_loop._batches_that_stepped
        states = [generators()]
        if trainer.world_size > 1:
            states = [{}] * trainer.world_size
            torch.distributed.all_gather_object(states, generators())
        checkpoint["progress"] = {
            "generators": states, "options": options(trainer, pl_module), "step": step, "row": pending_row(trainer),
            "folder": trainer.log_dir and str(trainer.log_dir),
        }  # fmt: skip

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        path, progress = Path(str(trainer.ckpt_path)), checkpoint.get("progress")
        if progress is None:
            raise ValueError(f"{path} has no manifest, as of a version before it: its weights can be tested and predict, but "
                             "nothing can go on from it exactly; train anew")  # fmt: skip
        if not self.override:
            refuse_other(progress["options"], options(trainer, pl_module), "--override true")
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if len(progress["generators"]) == trainer.world_size:
            restore_generators(progress["generators"][trainer.global_rank])
            if epochs["started"] > epochs["processed"] or not epochs["started"]:
                self.within = progress["generators"][trainer.global_rank]
        if trainer.is_global_zero:
            carry_log(trainer, path, progress)
        carry_checkpoints(trainer, path, checkpoint)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """There the iterator over the data had been made, with a number drawn for it, as it has been here by now."""
        if self.within is not None:
            restore_generators(self.within)
            self.within = None


def options(trainer: lightning.Trainer, module: lightning.LightningModule) -> dict[str, Any]:
    """What decides what is learnt: the hyperparameters of the module and its data, the seed and the precision."""
    datamodule = getattr(trainer, "datamodule", None)
    given = {"model": module.hparams, "data": {} if datamodule is None else datamodule.hparams}
    return {
        **{part: {name: plain(value) for name, value in hparams.items() if name not in FREE[part] and name[0] != "_"}
           for part, hparams in given.items()},
        "seed": os.environ.get("PL_GLOBAL_SEED"), "precision": str(trainer.precision),
    }  # fmt: skip


def pending_row(trainer: lightning.Trainer) -> dict[str, Any] | None:
    """The epoch's row of the log, which is written after the epoch's checkpoint; None within an epoch."""
    connector: Any = trainer._logger_connector
    loop: Any = trainer.fit_loop
    progress = loop.epoch_progress.current
    if connector._first_loop_iter is not None or progress.processed != progress.completed + 1:
        return None
    logs = [logger for logger in trainer.loggers if isinstance(logger, RowsLogger) and trainer.is_global_zero]
    rows = [row for logger in logs for row in logger.experiment.metrics[-1:]]
    before = rows[0] if rows and rows[0].get("epoch") == trainer.current_epoch else {}
    found = {name: value.item() for name, value in connector.metrics["log"].items() if value.numel() == 1}
    return {**before, **found, "epoch": trainer.current_epoch, "step": loop.epoch_loop._batches_that_stepped - 1}


def carry_log(trainer: lightning.Trainer, path: Path, progress: dict[str, Any]) -> None:
    """Begin this run's metrics.csv with the rows that led to the checkpoint."""
    row = progress["row"]
    end = progress["step"] if row is None else row["step"]
    sources = [path.parent.parent, Path(progress["folder"] or "")]
    there = next((file for folder in sources if (file := folder / "metrics.csv").is_file()), None)
    rows: list[dict[str, Any]] = []
    if there is not None:
        with there.open(newline="") as log:
            rows = [found for found in csv.DictReader(log) if found["step"] and int(found["step"]) < end]
    for logger in trainer.loggers:
        if isinstance(logger, RowsLogger):
            logger.experiment.carry([*rows, *([] if row is None else [row])])


def carry_checkpoints(trainer: lightning.Trainer, path: Path, checkpoint: dict[str, Any]) -> None:
    """Copy the best checkpoints and this one into this run's folder, and let ModelCheckpoint know of them there."""
    for callback in trainer.checkpoint_callbacks:
        state = checkpoint["callbacks"].get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or state is None or callback.dirpath is None:
            continue
        folder = Path(callback.dirpath)
        kept = {old: str(folder / Path(old).name) for old in (*state["best_k_models"], state["best_model_path"]) if old}
        if str(folder) != state["dirpath"] and trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            for old, new in kept.items():
                source = path.with_name(Path(old).name)
                if files.whole(source):
                    write_whole(new, source.read_bytes())
        last = folder / f"{callback.CHECKPOINT_NAME_LAST}{callback.FILE_EXTENSION}"
        if trainer.is_global_zero and callback.save_last and last.resolve() != path.resolve():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(last, path.read_bytes())
        state |= {
            "dirpath": callback.dirpath, "best_k_models": {kept[old]: score for old, score in state["best_k_models"].items()},
            "best_model_path": kept.get(state["best_model_path"], ""),
            "kth_best_model_path": kept.get(state["kth_best_model_path"], ""), "last_model_path": str(last),
        }  # fmt: skip
