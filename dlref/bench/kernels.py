"""What each kernel gains over its definition, in time and in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..core.modes import definitions
from ..core.names import one_of
from ..core.pair import OPS
from ..samples import NAMES
from .measure import measure
from .memory import peak_of
from .operations import operation_variants

KERNELS = tuple(name for name in NAMES if OPS[name].fast is not None)


def time_kernel(
    name: str,
    *,
    device: torch.device | str = "cpu",
    rounds: int = 20,
    seconds: float | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Seconds of an operation's forward and gradient by its kernel and by its definition, and the peak of either's memory.

    The ratios are kernel over definition: below 0.8 of one of them a kernel pays. ValueError where the operation has none.
    """
    one_of("kernel", name, KERNELS)
    by_kernel = operation_variants(name, device)["manual vjp"]

    def by_definition() -> Any:
        with definitions():
            return by_kernel()

    ways: dict[str, Callable[[], Any]] = {"kernel": by_kernel, "definition": by_definition}
    times = measure(ways, rounds, seconds, threads)
    peak = {way: peak_of(work, torch.device(device)) for way, work in ways.items()}
    ratio = vars(times.ratio("kernel", ("definition",)))
    return {"name": name, "times": times.as_dict(), "ratios": {"kernel": ratio}, "peak": peak}
