"""What a signal raises in a program, so that it ends in order: with a checkpoint, a line, and the signal's status."""

from __future__ import annotations


class Interrupted(BaseException):
    """SIGINT or SIGTERM reached a program. No KeyboardInterrupt, which in a library ends a training alone.

    told: true where somebody has said how to go on; a text is said by the program in the end.
    """

    told: bool | str = False

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
