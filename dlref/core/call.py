"""Signatures: how a call becomes a tuple of arguments, and what a wrong one is told."""

from __future__ import annotations

import functools
import inspect
import linecache
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import _reduction

from .compat import schemas as schemas_of

TENSORS = frozenset((Tensor, torch.nn.Parameter))  # almost all there are: isinstance is slow for a parameter
TUPLES_TOO = {"input_lengths", "target_lengths"}  # that torch says are tensors, and takes as tuples of integers


def signature_of(builtin: Callable | None) -> inspect.Signature | None:
    """torch's signature without its annotations; None where it has none of its own."""
    try:
        signature = inspect.signature(builtin)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
        return None  # torch's dispatch on a flag
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def tensor_arguments(builtin: Callable | None, signature: inspect.Signature) -> dict[str, bool]:
    """The arguments that torch says are tensors, and whether they may be None; none of an operation that only ours call."""
    if builtin is None:
        return {}
    first = next(iter(signature.parameters))
    try:
        said = {name: str(p.annotation) for name, p in inspect.signature(builtin).parameters.items()}
    except ValueError:  # written in C++: its schema says
        schemas = schemas_of(f"aten::{builtin.__name__}")
        said = {a.name: str(a.type) for a in schemas[0].arguments}
    said = {n: kind for n, kind in said.items() if "Tensor" in kind and "float" not in kind and n not in TUPLES_TOO}
    return {first: False} | {n: "None" in said[n] or "Opt" in said[n] for n in signature.parameters if n in said}


def binder(name: str, signature: inspect.Signature, wanted: tuple[str, ...], tensors: dict[str, bool]) -> Callable:
    """A function of the public signature that returns the wanted arguments as a tuple, and whether to work in place.

    The arguments that mean the same in every operation of torch's end here: size_average and reduce are folded into
    reduction, inplace is told apart, _stacklevel is dropped. It has the operation's name, which a wrong call's error then
    says, and is compiled once, as a call through inspect.Signature.bind takes longer than a small operation.
    """
    public = signature.parameters
    folded = {"size_average", "reduce", "inplace", "_stacklevel"} - set(wanted)
    if set(public) - folded != set(wanted):  # until its `prepare` is registered, an operation cannot be called

        def refuse(*args, **kwargs):
            raise TypeError(f"the operation must take {sorted(set(public) - folded)}, it takes {sorted(wanted)}: give it "
                            "a prepare that takes the former and returns the latter")  # fmt: skip

        return refuse
    values = {name: name for name in wanted}
    if "size_average" in folded and "size_average" in public:
        values["reduction"] = "_fold_reduction(size_average, reduce, reduction)"
    inplace = "inplace" if "inplace" in public else "False"
    namespace: dict[str, Any] = {f"_{name}": p.default for name, p in public.items()}
    optional = {argument for argument, may_be_none in tensors.items() if may_be_none}
    refuse_others = functools.partial(_refuse, name, tuple(public), optional)
    namespace |= {"_fold_reduction": _fold_reduction, "_TENSORS": TENSORS, "_refuse": refuse_others,
                  "_is_compiling": torch.compiler.is_compiling}  # fmt: skip
    parts, star = [], False
    for parameter, p in public.items():
        if p.kind is p.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        parts.append(parameter if p.default is p.empty else f"{parameter}=_{parameter}")
    lines = [f"def {name}({', '.join(parts)}):"]
    if tensors:
        checks = [f"({t} is None or type({t}) in _TENSORS)" if t in optional else f"type({t}) in _TENSORS"
                  for t in tensors]  # fmt: skip
        lines += [
            f"    if not (_is_compiling() or {' and '.join(checks)}):",
            f"        _refuse({', '.join(f'{t}={t}' for t in tensors)})",
        ]
    lines += [f"    return ({''.join(f'{values[n]}, ' for n in wanted)}), {inplace}"]
    return define("\n".join(lines) + "\n", namespace)


def _refuse(name: str, order: tuple[str, ...], optional: set[str], **tensors: Any) -> None:
    """Say which argument is no tensor, in torch's words; what answers for itself (a proxy of torch.fx) may pass."""
    for argument, value in tensors.items():
        if not (isinstance(value, Tensor) or (value is None and argument in optional)
                or hasattr(type(value), "__torch_function__")):  # fmt: skip
            raise TypeError(f"{name}(): argument '{argument}' (position {order.index(argument) + 1}) must be Tensor, not "
                            f"{type(value).__name__}")  # fmt: skip


def _fold_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that torch's deprecated pair of flags means (with torch's warning)."""
    if size_average is None and reduce is None:
        return reduction
    return _reduction.legacy_get_string(size_average, reduce)


def define(source: str, namespace: dict[str, Any] | None = None) -> Callable:
    """The function that the source defines, with a name and lines that a traceback, a profile and a debugger show."""
    name = source[len("def ") : source.index("(")]
    file = f"<generated: {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace = {} if namespace is None else namespace
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]


def name_function(function: Any, name: str) -> None:
    """Give a function that was written as `_` the name that a traceback and a profile show."""
    if getattr(function, "__name__", "") == "_":
        function.__name__ = function.__qualname__ = name
        function.__code__ = function.__code__.replace(co_name=name)
