"""What ends a training before its end, without importing torch: a signal, and a number that is not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Interrupted(BaseException):
    """SIGINT or SIGTERM reached a program, which ends in order: with a checkpoint, a line, and the signal's status.

    It is no KeyboardInterrupt, which in a library ends a training alone.

    told: true where somebody has said how to go on; a text is said by the program in the end.
    """

    told: bool | str = False

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class NotFinite(ArithmeticError, RuntimeError):
    """A loss, a gradient or a parameter is not finite; the text is one line, with what to try."""


held = {"depth": 0, "signal": 0, "received": 0}


def heed() -> None:
    """Raise once more what a library has caught, as fsspec's exists() catches everything; a training asks at each batch."""
    if held["received"]:
        raise Interrupted(held["received"])


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """What must not end half-way, as a thread's queue whose lock would stay taken: a signal in it is raised at its end."""
    held["depth"] += 1
    try:
        yield
    finally:
        held["depth"] -= 1
    if held["signal"] and not held["depth"]:
        number, held["signal"] = held["signal"], 0
        raise Interrupted(number)
