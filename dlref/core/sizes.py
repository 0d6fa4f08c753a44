"""Networks that no memory holds: refused before they are made."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Maker = TypeVar("Maker", bound=Callable[..., Any])


def within_memory(make: Maker) -> Maker:
    """Let make(ns, ...) first count a large network's parameters, on the meta device, where they take no memory.

    ValueError where parameters and gradients take more than there is.
    """

    @functools.wraps(make)
    def made(ns: Any, *args: Any, **kwargs: Any) -> Any:
        if large([*args, *kwargs.values()]) and torch.get_default_device().type == "cpu":
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                network = make(ns, *args, **kwargs)
            needed = 2 * sum(p.numel() * p.element_size() for p in network.parameters())
            if needed > (there := available()):
                raise ValueError(f"the network's parameters and gradients must fit into memory; they take {needed / 1e9:,.1f} "
                                 f"GB, there are {there / 1e9:,.1f}: make its layers smaller")  # fmt: skip
        return make(ns, *args, **kwargs)

    return made  # type: ignore[return-value]


def large(values: list[Any]) -> bool:
    """Whether sizes, some of them in lists, may make a network that is worth counting."""
    sizes = [n for v in values for n in (v if isinstance(v, (list, tuple)) else (v,)) if isinstance(n, int)]
    return math.prod(sorted(sizes)[-3:]) > 10**7 or len(sizes) > 100


def available() -> float:
    """Bytes of memory that a process may take; infinite where the system does not tell."""
    try:
        with open("/proc/meminfo") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pages = getattr(os, "sysconf", lambda name: -1)
        try:
            return pages("SC_AVPHYS_PAGES") * pages("SC_PAGE_SIZE")
        except (ValueError, OSError):
            return math.inf
