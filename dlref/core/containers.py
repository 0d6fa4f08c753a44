"""Sequential with the chain rule, and the containers that are torch's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from .in_place import held, watching
from .modes import graphless
from .module import Manual, vjp_of
from .pullback import Pullback, spent


class Sequential(Manual, nn.Sequential):
    r"""torch.nn.Sequential, whose pullback is the chain rule, $dx_l = J_l^\top dx_{l+1}$, from the last layer to the first.

    Input and output of any shape, those of the first and the last layer. A layer that stands in it twice gets the sum of its
    two gradients. Rumelhart et al. 1986 (Nature 323).
    """

    __module__ = "dlref.manual.nn"  # the path that a pickle holds
    forward = nn.Sequential.forward  # type: ignore[assignment]

    def explicit(self, input: Any) -> tuple[Any, Pullback]:
        return through(map(vjp_of, self), input)

    def __add__(self, other: nn.Sequential) -> Sequential:
        return type(self)(*super().__add__(other))

    def __mul__(self, other: int) -> Sequential:
        return type(self)(*super().__mul__(other))

    __rmul__ = __mul__


def through(vjps: Iterable[Callable[..., tuple[Any, Pullback]]], input: Any) -> tuple[Any, Pullback]:
    """Output and pullback of layers, given by their `vjp`, one after the other.

    Where a layer works in place, those before it keep copies of what it overwrites and they would read.
    """
    pullbacks: list[Pullback] = []
    with watching(functools.partial(_part, pullbacks)):
        for vjp in vjps:
            input, pullback = vjp(input)
            pullbacks.append(pullback)
    return input, chain(pullbacks)


def _part(pullbacks: list[Pullback], overwritten: Tensor, later: list[Tensor]) -> None:
    for pullback in pullbacks:
        for kept in held(pullback):
            kept.part_from(overwritten)


def chain(pullbacks: list[Pullback]) -> Pullback:
    """The pullback of a composition: each one's answer is the upstream gradient of the one before it."""
    trains = [getattr(pullback, "trains", False) for pullback in pullbacks]

    @graphless
    def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
        wanted, once = needs is None or any(needs), spent()
        # Where nobody wants the input's gradient, the chain ends at the first layer that learns.
        first = 0 if wanted else next((i for i, trained in enumerate(trains) if trained), len(pullbacks))
        for i in range(len(trains) - 1, first - 1, -1):
            pull = pullbacks.pop() if once else pullbacks[i]
            dy = (pull(dy) if i > first or wanted else pull(dy, needs=(False,)))[0]
            del pull
        return (dy if wanted else None,)

    pullback.trains = any(trains)  # type: ignore[attr-defined]
    # The list itself, which shrinks as they are spent.
    pullback.held = pullbacks  # type: ignore[attr-defined]
    return pullback


ModuleList, ModuleDict = nn.ModuleList, nn.ModuleDict
ParameterList, ParameterDict = nn.ParameterList, nn.ParameterDict
