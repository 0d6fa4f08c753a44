"""The processes that Lightning starts beside this one, watched in place of its own watch, which kills this one with no word."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from typing import Any

from .common import tell, tell_interrupted
from .signals import HEEDED


class Others(threading.Thread):
    """Ends this process in one line, with status 1 or a signal's, where one of the others has ended badly and this one goes on.

    It may be waiting for that one where it hears nothing, neither an error nor a signal, as until all are there.

    launcher: Lightning's, whose `procs` they are. patience: seconds within which this process may notice by itself.
    """

    def __init__(self, launcher: Any, patience: float = 3.0):
        super().__init__(daemon=True)
        self.launcher, self.patience = launcher, patience
        self.processes: list[subprocess.Popen] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.1):
            self._take()
            bad = next((status for process in self.processes if (status := process.poll())), 0)
            if bad and not self.over.wait(self.patience):
                self._end_this(bad)

    def end(self, seconds: float) -> None:
        """Wait so long for the others, which are ending, and end those that do not."""
        self.over.set()
        self._take()
        last = time.monotonic() + seconds
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, last - time.monotonic()))
            process.kill()

    def _take(self) -> None:
        while self.launcher.procs:
            self.processes.append(self.launcher.procs.pop())

    def _end_this(self, status: int) -> None:
        self.end(0)
        number = next((number for number in HEEDED if status in (-number, 128 + number)), None)
        if number is None:
            tell(f"error: another of the processes that train together has ended, with status {status}")
        else:
            tell_interrupted()
        sys.stderr.flush()
        os._exit(1 if number is None else 128 + number)
