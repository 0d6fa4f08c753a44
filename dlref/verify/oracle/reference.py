"""What a candidate is held to, by name or by the thing itself."""

from __future__ import annotations

from typing import Any

import torch

from ...core.names import one_of
from ...core.pair import OPS
from ...samples import NAMES


def reference_named(against: Any) -> tuple[str, str]:
    """What kind of thing the name, or the thing itself, is: function, module, optimizer or schedule; and its name."""
    from ...manual import nn, optim
    from ...manual.optim import lr_scheduler

    modules = [
        n for n, c in vars(nn).items() if isinstance(c, type) and issubclass(c, torch.nn.Module) and n != "Module"
    ]
    optimizers = [n for n, c in vars(optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)
                  and n != "Optimizer"]  # fmt: skip
    schedules = [n for n in lr_scheduler.__all__ if n != "LRScheduler"]
    if not isinstance(against, str):
        against = next((n for n in NAMES if against in (OPS[n], OPS[n].builtin)), None) or getattr(
            against, "__name__", against
        )
    for kind, known in (("function", NAMES), ("module", modules), ("optimizer", optimizers), ("schedule", schedules)):
        if against in known:
            return kind, against
    one_of("against", against, [*NAMES, *modules, *optimizers, *schedules])
    raise AssertionError


def named(candidate: Any) -> str:
    name = (
        getattr(candidate, "__qualname__", None)
        or getattr(candidate, "_qualname", None)
        or type(candidate).__qualname__
    )
    return name.removesuffix(".apply").removeprefix("_VariableFunctionsClass.")


def dtype_named(dtype: torch.dtype | str) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    known = ("float32", "float64", "bfloat16", "float16", "complex64", "complex128")
    one_of("dtype", str(dtype).removeprefix("torch."), known)
    return getattr(torch, str(dtype).removeprefix("torch."))
