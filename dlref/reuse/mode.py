"""Inside `with dlref.manual_mode():`, torch's functions are the manual ones, whoever calls them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._contextlib import context_decorator

from ..core.compat import networks_in_c, schemas, whole
from ..manual import functional as M

# The library, whose own steps are what the operations are made of, and a mode that has left a call to torch.
LIBRARY = ("dlref.manual.", "dlref.estimators.", __name__)
# Names that mean another thing in torch and Tensor, or a view, which has no gradient of ours there.
OTHERS = {"embedding_bag", "flatten", "fractional_max_pool2d", "fractional_max_pool3d", "unflatten", "unfold"}
# torch's own names of arguments, numpy's that it takes too, and those of kernels, which do not matter here (None).
NAMES = {"self": "input", "a": "input", "x": "input", "x1": "input", "axis": "dim", "keepdims": "keepdim", "hx": "h",
         "train": "training", "cudnn_enable": None, "cudnn_enabled": None}  # fmt: skip
REDUCTIONS = ("none", "mean", "sum")


class manual_mode(TorchFunctionMode):  # named as torch.no_grad is
    """Route torch.nn.functional, and the torch functions and Tensor methods that mean the same, to the manual ones.

    For any code inside, in this thread: modules of torch.nn, other libraries, models that call functions in their forward;
    as a decorator, `@dlref.manual_mode()`, for a function or a generator. Every call that torch takes is taken (`out=`,
    keywords, numpy's names). What has no counterpart by hand is torch's own: recurrent layers of torch.nn.LSTM, arithmetic,
    tensors that are sparse, quantised or nested, and subclasses that say themselves what a function means.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ours, kwargs = TABLE.get(func), whole(func, kwargs)
        # A compiler sees the library's steps routed too, which takes it longer and gives the same.
        if ours is None or (
            not torch.compiler.is_compiling() and (_called_by_the_library() or _only_torchs(types, args, kwargs))
        ):
            return func(*args, **kwargs)
        return ours(*args, **kwargs)

    def __call__(self, function: Callable) -> Callable:
        return context_decorator(lambda: type(self)(), function)


def _called_by_the_library() -> bool:
    """Whether torch's function was called by a step of an operation, a manual module or an optimizer."""
    return sys._getframe(2).f_globals.get("__name__", "").startswith(LIBRARY)


def _only_torchs(types: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether there is a tensor with which only torch, or a class of its own, can compute."""
    default = Tensor.__torch_function__.__func__  # type: ignore[attr-defined]
    return any(getattr(t.__torch_function__, "__func__", None) is not default for t in types) or any(
        isinstance(a, Tensor) and (a.layout is not torch.strided or a.is_quantized or a.is_nested)
        for a in (*args, *kwargs.values())
    )


def _table() -> dict[Any, Callable]:
    """torch's function: the manual one under its signature."""
    ours = {name: f for name, f in vars(M).items() if callable(f) and not isinstance(f, type) and name[-1] != "_"}
    found: dict[Any, Callable] = {getattr(F, name): f for name, f in ours.items() if hasattr(F, name)}
    for name, function in ours.items():
        for space in (F, torch, torch.special, networks_in_c, Tensor):
            for theirs in _written_in_c(space, name) if name not in OTHERS else ():
                found[theirs] = _of_schema(theirs, function)
        if "max_pool" in name and not name.endswith("_with_indices"):
            found[getattr(F, f"_{name}")] = _without_indices(function)
    found[torch.special.expit] = found[torch.sigmoid]
    return found


def _written_in_c(space: Any, name: str) -> Iterator[Callable]:
    """The function of the name and its form in place, where torch parses their arguments by a schema."""
    for theirs in (getattr(space, name, None), getattr(space, f"{name}_", None)):
        if theirs is not None and not inspect.isfunction(theirs) and not name.startswith("max_unpool"):
            yield theirs


def _without_indices(function: Callable) -> Callable:
    """The function that torch makes of `return_indices=False`."""

    def pool(*args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
        return function(*args, return_indices=False, **kwargs)

    return pool


def _of_schema(theirs: Any, function: Callable) -> Callable:
    """The manual function called as torch's, whose names, order and defaults its schema tells.

    A call that fits not, or has an argument that the manual function lacks, is torch's to answer.
    """
    name, known = theirs.__name__, inspect.signature(function).parameters
    arguments = schemas(f"aten::{name}")[0].arguments
    first = next(iter(known))

    def renamed(theirs: str) -> str | None:
        argument = theirs if theirs in known else NAMES.get(theirs, theirs)
        if name == "embedding" and argument == "indices":
            return "input"
        return first if argument == "input" and argument not in known else argument

    order = [renamed(a.name) for a in arguments if not a.kwarg_only]
    required = {renamed(a.name) for a in arguments if not a.has_default_value()} - {None}

    def routed(*args: Any, **kwargs: Any) -> Any:
        named: dict[Any, Any] = dict(zip(order, args))  # noqa: B905  (too many are torch's to refuse)
        for key, value in kwargs.items():
            named |= {(renamed(key) if key != "out" else key): value}
        number = len(named)
        out = named.pop("out", None)
        named.pop(None, None)
        fits = (
            number == len(args) + len(kwargs) and all(n in named for n in required) and all(n in known for n in named)
        )
        if not fits or isinstance(out, tuple):
            return theirs(*args, **kwargs)
        if "reduction" in order:  # torch's parser reads the default, at::Reduction::Mean, as 0
            named["reduction"] = REDUCTIONS[named.get("reduction", 0)]
        if "kernel_size" in named and named.get("stride") in ((), []):
            named["stride"] = None  # the kernel's size
        if named.get("padding_idx", 0) is not None and named.get("padding_idx", 0) < 0:
            named["padding_idx"] = None
        if name == "lstm_cell":  # whose state is a list of two
            named["h"], named["c"] = named["h"]
        if name.startswith("adaptive_max_pool"):
            named["return_indices"] = True
        if name.endswith("_"):
            overwritten = named[first]
            return overwritten.copy_(function(**{**named, first: overwritten.clone()}))
        result = function(**named)
        return result if out is None else _written(out, result, name)

    return routed


def _written(out: Tensor, result: Tensor, name: str) -> Tensor:
    if torch.is_grad_enabled() and (result.requires_grad or out.requires_grad):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of "
                           "the arguments requires grad: call it under torch.no_grad()")  # fmt: skip
    return torch.mul(result, 1, out=out)  # of the size, the dtypes and the warning of every `out`


TABLE = _table()
