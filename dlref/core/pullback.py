"""What pullbacks share: where the parameters' gradients go, and what a pullback tells of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from .compat import CONTEXT_IN_GRAPHS
from .in_place import inference_mode

Pullback = Callable[..., tuple]


def made_of(pullback: Any, *parts: Pullback, trains: bool = False) -> Pullback:
    """Let a pullback tell of those that it calls: whether one of them trains parameters, and what they hold."""
    pullback.held = parts
    pullback.trains = trains or any(getattr(part, "trains", False) for part in parts)
    return pullback


# Where the parameters' gradients go while somebody collects them: {parameter: gradient}.
_collected: ContextVar[dict[nn.Parameter, Tensor] | None] = ContextVar("collected", default=None)


@contextlib.contextmanager
def collecting() -> Iterator[dict[nn.Parameter, Tensor]]:
    """Let the parameters' gradients go into a dictionary instead of their `.grad`; no hook of theirs is called."""
    found: dict[nn.Parameter, Tensor] = {}
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def collects() -> bool:
    """Whether somebody collects the parameters' gradients."""
    return _collected.get() is not None


_again: ContextVar[bool] = ContextVar("again", default=False)


def again() -> bool:
    """Whether a call is computed a second time: what it changed beside its output, it has changed already."""
    return _told(_again)


def _told(variable: ContextVar[bool]) -> bool:
    """A context variable's value; False in a graph that is compiled where Dynamo cannot read it."""
    return (CONTEXT_IN_GRAPHS or not torch.compiler.is_compiling()) and variable.get()


_spending: ContextVar[bool] = ContextVar("spending", default=False)


def spent() -> bool:
    """Whether a chain's pullback is called once, and frees as it goes."""
    return _told(_spending)


class spending:
    """With it, each layer of a chain frees what it saved as soon as its gradient is done: its pullback is called once."""

    def __enter__(self) -> None:
        self.token = _spending.set(True)

    def __exit__(self, *_: Any) -> None:
        _spending.reset(self.token)


def gradients(network: Any, criterion: Any, x: Any, y: Any) -> tuple[Any, Tensor]:
    """Output and error, a number, of a batch; the parameters' gradients are added to their `.grad`."""
    z, network_pullback = network.vjp(x)  # a. forward
    error, error_pullback = criterion.vjp(z, y)  # b. error
    with spending():
        network_pullback(error_pullback()[0], needs=(False,))  # c. chain rule; nobody wants dE/dx
    return z, error


def place_of(parameter: nn.Parameter) -> Tensor | None:
    """Where the parameter's gradient may be written: a tensor that becomes its `.grad`; None where it has one already.

    In a flattened model it is the place that was kept for it (flat.py), else it is new memory.
    """
    if parameter.grad is not None or _collected.get() is not None or parameter.is_sparse:
        return None
    slot = parameter.__dict__.get("grad_slot")
    return torch.empty_like(parameter) if slot is None else slot


def accumulate(parameter: nn.Parameter, grad: Tensor, place: Tensor | None = None) -> None:
    """Add to a parameter's `.grad` as autograd does, its tensor hooks and post-accumulate hooks included.

    place: what `place_of` gave; the gradient is in it, or is copied to it.
    """
    if (found := _collected.get()) is not None:
        found[parameter] = found[parameter] + grad if parameter in found else grad
        return None
    if torch.is_grad_enabled() or inference_mode():  # a .grad is an ordinary tensor, without a graph
        with torch.inference_mode(False), torch.no_grad():
            return accumulate(parameter, grad)
    for hook in tuple((parameter._backward_hooks or {}).values()):
        changed = hook(grad)
        grad = grad if changed is None else changed
    if grad.is_sparse and (parameter.grad is None or parameter.grad.is_sparse):
        parameter.grad = grad if parameter.grad is None else parameter.grad + grad
    elif parameter.grad is not None:
        parameter.grad.add_(grad)
    else:
        # A tensor of its own, in the parameter's layout: the gradient may be a view of somebody's upstream gradient.
        place = place_of(parameter) if place is None else place
        parameter.grad = place if grad is place else place.copy_(grad)  # type: ignore[union-attr]
    for hook in tuple((parameter._post_accumulate_grad_hooks or {}).values()):  # type: ignore[attr-defined]
        hook(parameter)
    return None
