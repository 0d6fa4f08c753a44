"""What ends a training before its end, without importing torch: a signal, and a number that is not finite."""

from __future__ import annotations


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
