"""The manual class that stands for another: torch's, a user's subclass of it, a parametrized one."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import nn

from .module import COUNTERPARTS, Manual
from .pair import OPS

# What a subclass may define and still compute what its base does.
HARMLESS = {"__init__", "__doc__", "__module__", "__qualname__", "__annotations__", "__constants__", "__dict__", "__weakref__",
            "__repr__", "extra_repr", "_get_name", "reset_parameters", "__abstractmethods__", "_abc_impl",
            "__static_attributes__", "__firstlineno__", "__parameters__", "__orig_bases__"}  # fmt: skip


def counterpart(function: Any, to: str) -> Any:
    """The function of the same name in the other namespace; the function itself where it has none."""
    name = getattr(function, "__name__", "")
    if to == "builtin":
        return getattr(function, "builtin", function)
    known = (getattr(nn.functional, name, None), getattr(torch, name, None))
    return OPS.get(name, function) if function in known else function


def by_hand(cls: type) -> type | None:
    """The manual class for a class; None where it has none, or is one."""
    if issubclass(cls, Manual):
        return None
    if cls in COUNTERPARTS:
        return COUNTERPARTS[cls]
    base = next((b for b in cls.__mro__ if b in COUNTERPARTS), None)
    if base is None:
        return None
    if is_parametrized(cls):
        inner = by_hand(cls.__bases__[0])
        return None if inner is None else parametrized(cls, inner)
    between = cls.__mro__[: cls.__mro__.index(base)]
    for step in between:
        if any(name not in HARMLESS and hasattr(base, name) for name in vars(step)):
            return None  # it overrides what its base does
    return joined(COUNTERPARTS[base], cls)  # type: ignore[arg-type]


def is_parametrized(cls: type) -> bool:
    """Whether torch.nn.utils.parametrize made the class, with the parametrized tensors as properties."""
    return cls.__name__.startswith("Parametrized") and len(cls.__bases__) == 1 and any(
        isinstance(v, property) for v in vars(cls).values())  # fmt: skip


def parametrized(cls: type, base: type) -> type:
    """The parametrized class over another base."""
    content = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(f"Parametrized{base.__name__}", (base,), content)


@functools.cache
def joined(ours: type, theirs: type) -> type:
    """The user's subclass with the manual mathematics in front: an instance of both, which pickles."""
    free = {name: inspect.getattr_static(theirs, name) for name in ("op", "attributes") if hasattr(theirs, name)}
    content = {
        **free,
        "joined_to": theirs,
        "__module__": theirs.__module__,
        "__doc__": theirs.__doc__,
        "__reduce_ex__": reduced,
    }
    return type(theirs.__name__, (ours, theirs), content)


def reduced(self: nn.Module, protocol: Any) -> tuple:
    ours, theirs = type(self).__bases__
    state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
    return remade, (ours, theirs), state


def remade(ours: type, theirs: type) -> nn.Module:
    cls = joined(ours, theirs)
    return cls.__new__(cls)  # type: ignore[call-overload]


def adopt(module: nn.Module) -> None:
    """Let what torch's constructor has made inside be derived by hand: each class changes, its tensors do not."""
    for part in module.modules():
        if (ours := by_hand(type(part))) is not None:
            part.__class__ = ours
    turn_functions(module, "manual")


def turn_functions(module: nn.Module, to: str) -> None:
    """Take the other namespace's function where a part has one as its `activation`: a transformer's layer, and no module."""
    for part in module.modules():
        activation = getattr(part, "activation", None)
        if activation is not None and not isinstance(activation, nn.Module):
            part.activation = counterpart(activation, to)
