"""What is written of a run: metrics.csv, a row an epoch, which goes on where the run before it ended, and TensorBoard's events.

A signal waits until a line is written: TensorBoard's are taken by a thread, and a queue that is left while its lock is taken
would never be closed.
"""

from __future__ import annotations

import csv
import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from ..core.files import NotWritten, write_whole
from ..core.interrupt import unbroken


def written(method: Callable[..., Any]) -> Any:
    """A logger's method that no signal breaks off, and that says of a disk which takes no more what it could not write."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **more: Any) -> Any:
        try:
            with unbroken():
                return method(self, *args, **more)
        except OSError as error:
            if args == ("failed",):  # what ended the training is told
                return None
            if isinstance(error, NotWritten):
                raise
            raise NotWritten(
                error.errno, f"the log in {Path(self.log_dir)} can't be written ({error.strerror})"
            ) from None

    return call


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

    def carry(self, rows: list[dict[str, Any]]) -> None:
        """Begin with the rows of the run that this one goes on from; the last may still grow."""
        self.metrics_keys = sorted({name for row in rows for name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.metrics_keys)
        writer.writeheader()
        for row in rows:
            self.whole = len(text.getvalue().encode())
            writer.writerow(row)
        if rows:
            write_whole(self.metrics_file_path, text.getvalue().encode())
        self.metrics = rows[-1:]

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, newline="") as file:
            rows = list(csv.DictReader(file))
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.metrics_file_path, text.getvalue().encode())

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

    log_metrics = written(CSVLogger.log_metrics)
    save = written(CSVLogger.save)
    finalize = written(CSVLogger.finalize)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = Rows(log_dir=self.log_dir)
        return self._experiment


class EventsLogger(TensorBoardLogger):
    """Lightning's TensorBoardLogger."""

    log_metrics = written(TensorBoardLogger.log_metrics)
    log_hyperparams = written(TensorBoardLogger.log_hyperparams)
    save = written(TensorBoardLogger.save)
    finalize = written(TensorBoardLogger.finalize)
