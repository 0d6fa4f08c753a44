"""Implementations with one planted error each: what `dlref.check` must find, and how it must name it.

Each is registered with the name that it is held to and two patterns: of the finding's kind, and of its text. They are kernels
as people write them, forward and backward; the error is in the line that has a comment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Defect:
    name: str
    candidate: Any
    against: str
    kind: str
    told: str
    options: dict[str, Any]


DEFECTS: list[Defect] = []


def defect(against: str, kind: str, told: str = "", **options: Any) -> Callable[[Any], Any]:
    """Register a candidate; `kind` and `told` are patterns of the finding, `options` are `check`'s."""

    def register(candidate: Any) -> Any:
        DEFECTS.append(Defect(f"{against}-{candidate.__name__}", candidate, against, kind, told, options))
        return candidate

    return register


class Kernel(torch.autograd.Function):
    """A base that keeps the arguments: backward(ctx, dy) finds them in ctx.args."""

    @classmethod
    def keep(cls, ctx: Any, *args: Any, **more: Any) -> None:
        ctx.args = args
        for name, value in more.items():
            setattr(ctx, name, value)


from . import meetings, memory, modules, numbers, optimizers, reports, sequence  # noqa: E402, F401
