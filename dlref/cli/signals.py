"""Ctrl-C and SIGTERM: while a program is imported it ends at once, afterwards in order; its status is 128 + the signal.

A script imports this first, before what takes seconds. Where another program imports it, as pytest does, nothing is heeded.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from ..core.interrupt import Interrupted, held

HEEDED = (signal.SIGINT, signal.SIGTERM)
state = {"process": 0, "ready": False}


def is_program() -> bool:
    """Whether the script that sys.argv names is what Python was started with."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return not name.startswith("-") and any(os.path.basename(argument) == name for argument in sys.orig_argv[1:])


def first_process() -> bool:
    """Whether this process is the first of those that torchrun, SLURM or Lightning started; the only one is."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


def heed() -> None:
    """Handle the signals of this process from now on; what ignores SIGINT, as a job in the background does, goes on so."""
    if threading.current_thread() is not threading.main_thread() or state["process"]:
        return
    state["process"] = os.getpid()
    for number in HEEDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def ready() -> None:
    """What was to be imported is there: a signal raises Interrupted."""
    state["ready"] = True


def handle(number: int, frame: Any) -> None:
    if os.getpid() != state["process"]:  # of a worker, which dies of it
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    elif not state["ready"] or held["received"]:  # at the second time at once
        if not state["ready"] and first_process():
            name = os.path.basename(sys.argv[0]).replace("__main__.py", "dlref")
            os.write(2, f"{name}: interrupted before it began, nothing was written: start it again\n"
                     .encode())  # fmt: skip
        os._exit(128 + number)
    else:
        held["received"] = number
        if held["depth"]:
            held["signal"] = number
            return
        raise Interrupted(number)


if is_program():
    heed()
