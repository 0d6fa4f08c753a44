"""Whether the reference is torch's own: what somebody has put in its place, before a check, at import or in a call.

What torch has under a name is noted when this file is imported. `replaced` says which names hold something else by now,
`put_back` gives them back what they had. What was replaced before that is told by where it was defined.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...core.compat import dump_table, functions_in_c, methods_in_c, registered_kernels

ABSENT = object()
ROOT = str(Path(torch.__file__).parent)
NAMESPACES = ("", "Tensor", "nn.functional", "nn.init", "_C._nn", "_C._linalg", "_C._special", "_C._fft", "linalg",
              "special", "fft", "autograd", "autograd.Function", "nn", "optim", "optim.lr_scheduler")  # fmt: skip


def spaces() -> Iterator[tuple[str, Any]]:
    """The modules and classes that the references are made of, by name."""
    for name in NAMESPACES:
        space = functools.reduce(getattr, filter(None, name.split(".")), torch)
        yield f"torch.{name}".rstrip("."), space
        for n, value in list(vars(space).items()) if name in ("nn", "optim", "optim.lr_scheduler") else ():
            if isinstance(value, type) and value is not torch.Tensor:
                yield f"torch.{name}.{n}", value
    for name, module in list(sys.modules.items()):
        if name.startswith(("torch.optim.", "torch.nn.modules.")):
            yield name, module


def torch_has(space: Any, name: str) -> bool:
    """Whether it is a name of torch's that computes."""
    if space is torch:
        return hasattr(functions_in_c, name)
    return not isinstance(space, types.ModuleType) or not name.startswith("_")


@dataclass(frozen=True)
class Noted:
    """What torch has in a space: the values of its names; inherited: names that may not stand there themselves."""

    where: str
    space: Any
    own: dict[str, Any]
    inherited: frozenset[str]
    read: Callable[[Any], tuple]
    values: tuple

    def untouched(self) -> bool:
        now = vars(self.space)
        try:
            return self.read(now) == self.values and self.inherited.isdisjoint(now)
        except KeyError:
            return False


def noted() -> Iterator[Noted]:
    """Every space, with what is callable in it; of Tensor also the methods that it inherits."""
    for where, space in dict(spaces()).items():
        own = {n: v for n, v in list(vars(space).items()) if torch_has(space, n)
               and (callable(v) or isinstance(v, (staticmethod, classmethod, property)))}  # fmt: skip
        inherited = frozenset(dir(methods_in_c)) - set(vars(space)) if space is torch.Tensor else frozenset()
        if len(own) > 1:
            yield Noted(where, space, own, inherited, operator.itemgetter(*own), tuple(own.values()))


def module_of(value: Any) -> str:
    """The module that the function or class was defined in; of a method, its owner's."""
    value = getattr(value, "__func__", getattr(value, "fget", value))
    if isinstance(value, types.FunctionType):
        return str(value.__globals__.get("__name__"))
    owner = getattr(value, "__self__", value)
    return str((owner if isinstance(owner, type) else type(owner)).__module__)


def foreign(space: Any, name: str, value: Any) -> bool:
    """Whether the value was defined outside of torch and of Python, or is torch's under another name."""
    if value is ABSENT:
        return False
    c_function = getattr(functions_in_c, name, None) if space is torch else None
    if c_function is not None and isinstance(value, types.BuiltinFunctionType):
        return value is not c_function
    top = module_of(value).partition(".")[0]
    return top == "__main__" or top not in {"torch", "typing_extensions", "pybind11_builtins", *sys.stdlib_module_names}


NOTED = list(noted())
FOREIGN = {f"{e.where}.{n}": v for e in NOTED for n, v in e.own.items() if foreign(e.space, n, v)}


FUNCTIONS = [e for e in NOTED if not isinstance(e.space, type) or e.space in (torch.Tensor, torch.autograd.Function)]


def changes(every: bool = True) -> Iterator[tuple[str, Any, str, Any]]:
    """(where, space, name, what torch has there) of every name that holds something else; else of functions alone.

    torch.compile puts wrappers of its own in some places, which compute the same.
    """
    for entry in NOTED if every else FUNCTIONS:
        if entry.untouched():
            continue
        now, space = vars(entry.space), entry.space
        for name, own in {**entry.own, **dict.fromkeys(entry.inherited, ABSENT)}.items():
            new = now.get(name, ABSENT)
            if new is not own and (
                foreign(space, name, new)
                or not (module_of(new).startswith("torch._") or getattr(new, "__name__", name) == name)
            ):
                yield entry.where, space, name, own


def replaced(every: bool = True) -> dict[str, Any]:
    """What is no longer, or never was, torch's own, by its full name: what stands there now."""
    found = {f"{where}.{name}": vars(space).get(name) for where, space, name, _ in changes(every)}
    return {**FOREIGN, **found, **kernels(len(registered_kernels()))}


@functools.lru_cache(1)
def kernels(number: int) -> dict[str, str]:
    """The kernels of torch's operators that somebody has registered by torch.library, of which there are so many in all."""
    found = {}
    for entry in registered_kernels():
        space, name, key = entry.split("/")
        if space == "aten" and key != "Meta":
            lines = dump_table(f"aten::{name}").splitlines()
            place = next((line for line in lines if line.startswith(f"{key}: registered at ")), "")
            if place and ROOT not in place and "pytorch/build" not in place:
                found[f"aten::{name}"] = f"the kernel {place.partition('registered at ')[2].partition(' ')[0]}"
    return found


def put_back() -> list[tuple[Any, str, Any]]:
    """Give every name what torch has there; what stood there instead, for `put`."""
    found = list(changes())
    before = [(space, name, vars(space).get(name, ABSENT)) for _, space, name, _ in found]
    put([(space, name, own) for _, space, name, own in found])
    return before


def put(values: list[tuple[Any, str, Any]]) -> None:
    for space, name, value in values:
        if value is ABSENT:
            delattr(space, name)
        else:
            setattr(space, name, value)


def told(found: dict[str, Any]) -> tuple[str, str]:
    """The names that torch documents, and what stands there, in words."""
    public = [n for n in found if "._" not in n and not n.startswith("torch.nn.modules.")] or list(found)
    now = dict.fromkeys(v if isinstance(v, str) else f"{module_of(v)}.{getattr(v, '__qualname__', type(v).__qualname__)}"
                        for v in found.values())  # fmt: skip
    short = lambda texts: ", ".join(list(texts)[:4]) + (", ..." if len(texts) > 4 else "")  # noqa: E731
    return short(public), f"there stands {short(now)}, and not what torch has: the reference must be torch's own"
