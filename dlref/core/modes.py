"""What computes here: definitions or kernels, with a graph or without, for now or to be played back, and how finely."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from .compat import in_dual_level, is_tracing, maybe_current_level

_definitions: ContextVar[bool] = ContextVar("definitions", default=False)


def kernels_run() -> bool:
    """Whether kernels compute: one by one, on tensors that stand for themselves; not in a transform, nor for a compiler, nor
    where tensors may carry tangents."""
    return not (torch.compiler.is_compiling() or is_tracing() or _definitions.get()) and (
        maybe_current_level() is None and not in_dual_level()
    )


@contextlib.contextmanager
def said(what: ContextVar[bool]) -> Iterator[None]:
    token = what.set(True)
    try:
        yield
    finally:
        what.reset(token)


def definitions() -> contextlib.AbstractContextManager:
    """Inside, definitions alone compute, and no kernel."""
    return said(_definitions)


_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


def recorded() -> contextlib.AbstractContextManager:
    """Say that what is computed now will be played back with other values, at which nobody may look."""
    return said(_recorded)


def values_hidden() -> bool:
    """Whether nobody may look at the values, as what is computed now stands for what is computed of others."""
    return torch.compiler.is_compiling() or _recorded.get()


def concrete(tensor: Tensor) -> bool:
    """Whether its values can be looked at: not while it is compiled, recorded, faked, or inside a transform of torch.func."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not values_hidden()
    return plain and maybe_current_level() is None


WITHOUT_FLOAT64 = {"mps"}  # kinds of devices


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64; Apple's does not, nor do Intel's smaller ones."""
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type not in WITHOUT_FLOAT64


def finest(device: torch.device) -> torch.dtype:
    """float64; float32 on a device that has none."""
    return torch.float64 if has_float64(device) else torch.float32


def in_float64(t: Tensor) -> Tensor:
    """The tensor in float64: on its device, or on the CPU where that has none."""
    return (t if has_float64(t.device) else t.cpu()).double()


def graphless(function: Callable) -> Callable:
    """The function under no_grad. One that called itself there would hold itself, and what it saved, in a cycle."""

    def called(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return called


_NOTHING = contextlib.nullcontext()


def without_graph():
    """torch.no_grad(), at no cost where it is on already."""
    return torch.no_grad() if torch.is_grad_enabled() else _NOTHING
