"""A model's modules in the other namespace, in place: the class of each changes, its tensors, hooks and state do not."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any, TypeVar

import torch
from torch import nn

from . import manual
from .builtin import nn as builtin_nn
from .names import one_of

M = TypeVar("M", bound=nn.Module)
# What a subclass may define and still compute what its base does.
HARMLESS = {"__init__", "__doc__", "__module__", "__qualname__", "__annotations__", "__constants__", "__dict__", "__weakref__",
            "__repr__", "extra_repr", "_get_name", "reset_parameters", "__abstractmethods__", "_abc_impl",
            "__static_attributes__", "__firstlineno__", "__parameters__", "__orig_bases__"}  # fmt: skip
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@functools.cache
def pairs_of_classes() -> dict[type, type]:
    """torch's class, or the composed one: the manual class."""
    found = {}
    for name, by_hand in vars(manual.nn).items():
        theirs = getattr(builtin_nn, name, None)
        if (
            isinstance(by_hand, type)
            and isinstance(theirs, type)
            and by_hand is not theirs
            and issubclass(by_hand, nn.Module)
        ):
            found[theirs] = by_hand
    return found


def convert(model: M, to: str = "manual", strict: bool = False) -> M:
    """Turn every module of a model, in place, into the other namespace's class; returns the model.

    to: "manual" or "builtin". Parameters, buffers, hooks, parametrizations, shared modules and tied weights stay what they
    are, so that optimizers, state_dicts and checkpoints go on working. A subclass of a torch module is converted where it
    changes nothing that is computed (it stays an instance of its class), and left alone where it does, or where it has an
    attribute of a name that the manual class needs. Modules that compute and have no counterpart (quantised, scripted,
    somebody's own layers) are left alone and named: in a warning, or with `strict` in a ValueError before anything is changed.
    Modules that only call others, or functions, are not meant.
    """
    one_of("to", to, ("manual", "builtin"))
    changes, left = [], []
    for name, module in model.named_modules():
        target = (by_hand if to == "manual" else builtin)(type(module))
        if target is not None and to == "manual" and (taken := its_own(module) & needed(target)):
            left.append(
                f"{name or 'the model'} ({type(module).__name__}, which has {', '.join(sorted(taken))} of its own)"
            )
        elif target is not None:
            changes.append((module, target))
        elif to == "manual" and computes(module):
            left.append(f"{name or 'the model'} ({type(module).__name__})")
    if left:
        text = f"{len(left)} modules have no counterpart by hand and stay as they are: {', '.join(left[:20])}"
        if strict:
            raise ValueError(f"every module must have a counterpart with strict=True; {text}")
        warnings.warn(text, stacklevel=2)
    for module, target in changes:
        module.__class__ = target
    for module in model.modules():
        activation = getattr(module, "activation", None)  # of a transformer's layer: a function, which is no module
        if activation is not None and not isinstance(activation, nn.Module):
            module.activation = counterpart(activation, to)
    return model


def its_own(module: nn.Module) -> set[str]:
    """The names that the module, or its class where that is not torch's, has its own things under."""
    theirs = [
        vars(cls) for cls in type(module).__mro__ if not cls.__module__.startswith(("torch.", "dlref.", "builtins"))
    ]
    return {
        name
        for names in (vars(module), module._parameters, module._buffers, module._modules, *theirs)
        for name in names
    }


@functools.cache
def needed(cls: type) -> set[str]:
    """The names that a manual class adds to torch's."""
    ours = {name for base in cls.__mro__ if base.__module__.startswith("dlref.manual.") for name in vars(base)}
    torchs = {name for base in cls.__mro__ if base.__module__.startswith("torch.") for name in vars(base)}
    return {name for name in ours - torchs if not name.startswith("__")} - {"op", "attributes"}


def counterpart(function: Any, to: str) -> Any:
    """The function of the same name in the other namespace; the function itself where it has none."""
    from .manual import functional

    name = getattr(function, "__name__", "")
    if to == "builtin":
        return getattr(function, "builtin", function)
    known = (getattr(nn.functional, name, None), getattr(torch, name, None))
    return getattr(functional, name, function) if function in known else function


def by_hand(cls: type) -> type | None:
    """The manual class for a class; None where it has none, or is one."""
    if issubclass(cls, manual.nn.Manual):
        return None
    known = pairs_of_classes()
    if cls in known:
        return known[cls]
    base = next((b for b in cls.__mro__ if b in known), None)
    if base is None:
        return None
    if is_parametrized(cls):
        inner = by_hand(cls.__bases__[0])
        return None if inner is None else parametrized(cls, inner)
    between = cls.__mro__[: cls.__mro__.index(base)]
    for step in between:
        if any(name not in HARMLESS and hasattr(base, name) for name in vars(step)):
            return None  # it overrides what its base does
    return joined(known[base], cls)  # type: ignore[arg-type]


def builtin(cls: type) -> type | None:
    """The class that a manual class stands for; None where it is not one."""
    if not issubclass(cls, manual.nn.Manual):
        return None
    if is_parametrized(cls):
        inner = builtin(cls.__bases__[0])
        return None if inner is None else parametrized(cls, inner)
    if "joined_to" in vars(cls):
        return cls.joined_to  # type: ignore[attr-defined]
    return next((theirs for theirs, ours in pairs_of_classes().items() if ours is cls), None)


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


def computes(module: nn.Module) -> bool:
    """Whether a module that is not converted is a layer: scripted, quantised, a torch module's subclass, a leaf of torch.nn or
    with parameters of its own."""
    where = type(module).__module__
    if isinstance(module, (manual.nn.Manual, *CONTAINERS)) or where.startswith("torch.nn.utils"):
        return False
    if isinstance(module, torch.jit.ScriptModule) or ".quantized." in where:
        return True
    leaf = next(module.children(), None) is None and type(module) is not nn.Module
    known = any(cls in pairs_of_classes() for cls in type(module).__mro__)
    return known or (leaf and (where.startswith("torch.nn") or bool(module._parameters)))
