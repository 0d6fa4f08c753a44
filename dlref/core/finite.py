"""Numbers that are not finite: found in data before the first step, and named where a step makes them."""

from __future__ import annotations


class NotFinite(ArithmeticError):
    """A loss, a gradient, a parameter or a number of the data that is not finite; its text is one line, with what to try."""
