"""Things that are asked for by name, from a configuration or a command line."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .ranges import check_number

if TYPE_CHECKING:
    import torch


def find(what: str, name: Any, known: Iterable[str]) -> str:
    """The known name that is meant, in any case: itself, else the first of its letters; else the error of `one_of`."""
    names = list(known)
    found = name if name in names else next((n for n in names if n.lower() == str(name).lower()), name)
    one_of(what, found, names)
    return found


def one_of(what: str, name: Any, known: Iterable[str]) -> None:
    """ValueError with the nearest names, in any case, where the name is not among the known ones."""
    names = list(known)
    if name not in names:
        keys = dict.fromkeys(n.lower() for n in names)
        near = difflib.get_close_matches(str(name).lower(), keys, n=3, cutoff=0.4) or sorted(keys)[:20]
        found = [n for key in near for n in names if n.lower() == key]
        raise ValueError(f"{what} must be a known name, it is {name!r}; near it: {', '.join(found)}")


def called(what: str, function: Any, first: Any, **arguments: Any) -> Any:
    """function(first, **arguments); ValueError where it takes no such arguments."""
    name = getattr(function, "__name__", None) or repr(function)
    check_number(f"{what}_args", arguments)
    try:
        taken = inspect.signature(function)
        taken.bind(first, **arguments)
    except TypeError as error:
        raise ValueError(f"{what}_args must be arguments of {name}: {error}") from None
    for option, value in arguments.items():
        if option in taken.parameters:
            check_kind(f"{what}_args.{option}", taken.parameters[option].default, value)
    try:
        return function(first, **arguments)
    except ValueError:
        raise
    except MISTAKES as error:
        raise ValueError(f"{what}_args must be what {name} takes, they are {arguments}: {reason(error)}") from None


def check_kind(name: str, default: Any, value: Any) -> None:
    """ValueError where what is a flag by its default, or by its name, is given something else, or a number a text: torch would
    ask of them no more than whether they are empty."""
    if isinstance(default, bool) or name.endswith((".foreach", ".fused")):
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, it is {value!r}")
    elif isinstance(default, (int, float)) and isinstance(value, str):
        raise ValueError(f"{name} must be a number, it is {value!r}")


# What torch and Python raise where arguments of a wrong type, size or number reach them.
MISTAKES = (
    TypeError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    ValueError,
)


def reason(error: BaseException) -> str:
    """What an exception says, in one short line."""
    if found := re.search(r"(?:tried to allocate|allocate) ([\d.]+ ?\w+)", str(error)):
        return f"there is no memory for {found[1]}: make what needs it smaller"
    lines = str(error).strip().splitlines()
    return f"{lines[0][:300]}" if lines else type(error).__name__


def device_named(name: str) -> torch.device:
    """The device of that name, or "auto": the GPU where there is one. ValueError where it can't be had."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device must be one that this machine has, as cpu or auto; it is {name!r}: {reason}"
        ) from None
    return device
