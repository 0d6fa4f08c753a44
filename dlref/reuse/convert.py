"""A model's modules in the other namespace, in place: the class of each changes, its tensors, hooks and state do not."""

from __future__ import annotations

import functools
import warnings
from typing import TypeVar

import torch
from torch import nn

from .. import manual  # noqa: F401  (whose classes are the counterparts)
from ..core.counterpart import by_hand, is_parametrized, parametrized, turn_functions
from ..core.module import COUNTERPARTS, Manual
from ..core.names import one_of

M = TypeVar("M", bound=nn.Module)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


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
    turn_functions(model, to)
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
    ours = {
        name
        for base in cls.__mro__
        if base.__module__.startswith(("dlref.manual.", "dlref.core."))
        for name in vars(base)
    }
    torchs = {name for base in cls.__mro__ if base.__module__.startswith("torch.") for name in vars(base)}
    return {name for name in ours - torchs if not name.startswith("__")} - {"op", "attributes"}


def builtin(cls: type) -> type | None:
    """The class that a manual class stands for; None where it is not one."""
    if not issubclass(cls, Manual):
        return None
    if is_parametrized(cls):
        inner = builtin(cls.__bases__[0])
        return None if inner is None else parametrized(cls, inner)
    if "joined_to" in vars(cls):
        return cls.joined_to  # type: ignore[attr-defined]
    return next((theirs for theirs, ours in COUNTERPARTS.items() if ours is cls), None)


def computes(module: nn.Module) -> bool:
    """Whether a module that is not converted is a layer: scripted, quantised, a torch module's subclass, a leaf of torch.nn or
    with parameters of its own."""
    where = type(module).__module__
    if isinstance(module, (Manual, *CONTAINERS)) or where.startswith("torch.nn.utils"):
        return False
    if isinstance(module, torch.jit.ScriptModule) or ".quantized." in where:
        return True
    leaf = next(module.children(), None) is None and type(module) is not nn.Module
    known = any(cls in COUNTERPARTS for cls in type(module).__mro__)
    return known or (leaf and (where.startswith("torch.nn") or bool(module._parameters)))
