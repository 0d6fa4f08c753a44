"""Times of several ways to do one piece of work, taken in turn in one process, and their ratios."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # what it says where there is no GPU
from torch.utils.benchmark import Timer  # noqa: E402

BLOCK = 1e-3  # seconds that one measurement lasts at least: the clock and the loop round it are far below
FEWEST = 3  # rounds, whatever the budget of seconds


@dataclass(frozen=True)
class Ratio:
    """How many times longer one variant takes than another: the median of the rounds' ratios, and its uncertainty.

    low, high: 95 % interval of the median by bootstrap over the rounds. quartiles: of the rounds' ratios. base: what it
    was divided by.
    """

    value: float
    low: float
    high: float
    quartiles: tuple[float, float]
    base: str


@dataclass(frozen=True)
class Times:
    """Seconds of one call by variant, one entry a round; the entries of one round were taken side by side."""

    seconds: dict[str, list[float]]

    def median(self, variant: str) -> float:
        return statistics.median(self.seconds[variant])

    def quartiles(self, variant: str) -> tuple[float, float]:
        return _quartiles(self.seconds[variant])

    def fastest(self, variants: Iterable[str]) -> str:
        """The variant of the smallest median; those that were not measured are left out."""
        return min((v for v in variants if v in self.seconds), key=self.median)

    def ratio(self, variant: str, bases: Iterable[str]) -> Ratio:
        """Of a variant to the fastest of the others."""
        base = self.fastest(bases)
        ratios = [a / b for a, b in zip(self.seconds[variant], self.seconds[base], strict=True)]
        low, high = _interval(ratios)
        return Ratio(statistics.median(ratios), low, high, _quartiles(ratios), base)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """{variant: seconds (median), quartiles, rounds}."""
        return {
            variant: {"seconds": self.median(variant), "quartiles": self.quartiles(variant), "rounds": len(entries)}
            for variant, entries in self.seconds.items()
        }


def measure(
    variants: Mapping[str, Callable[[], Any]], rounds: int = 20, seconds: float | None = None, threads: int = 1
) -> Times:
    """Time each variant once a round, in an order that turns from round to round, so that drift falls on all alike.

    rounds: at most. seconds: a budget for all of it; at least three rounds are taken. A variant is called before it is
    timed, so that what it compiles or allocates once is no part of its time. ValueError where rounds are not positive.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, they are {rounds}")
    # glibc returns freed memory to the system at once until a block as large as it ever keeps was freed: without this one
    # the times would depend on what the process did before, by the page faults of each large tensor.
    torch.empty(31 << 20, dtype=torch.uint8)
    start = time.perf_counter()
    timers, calls = {}, {}
    for name, work in variants.items():
        # The collector runs as it does in training: timeit turns it off, and what is released late would pile up.
        timers[name] = timer = Timer("work()", "gc.enable()", globals={"work": work, "gc": gc}, num_threads=threads)
        once = min(timer.timeit(1).median for _ in range(2))
        calls[name] = max(1, math.ceil(BLOCK / max(once, 1e-9)))
    takes = {name: lambda name=name: timers[name].timeit(calls[name]).median for name in timers}
    return in_turn(takes, rounds, None if seconds is None else seconds - (time.perf_counter() - start))


def in_turn(takes: Mapping[str, Callable[[], float]], rounds: int, seconds: float | None = None) -> Times:
    """Ask each variant for its seconds once a round, in an order that turns; rounds and seconds as in `measure`."""
    start, order = time.perf_counter(), list(takes)
    found: dict[str, list[float]] = {name: [] for name in takes}
    for number in range(rounds):
        if seconds is not None and number >= FEWEST and time.perf_counter() - start > seconds:
            break
        for name in order:
            found[name].append(takes[name]())
        order = [*order[1:], order[0]]
    return Times(found)


def environment(device: torch.device, threads: int, **settings: Any) -> dict[str, Any]:
    """Where and how it was measured: machine, versions, date."""
    from .. import __version__

    card = device.type in ("cuda", "xpu")
    machine = getattr(torch, device.type).get_device_name(device) if card else _processor()
    return {"machine": machine, "device": str(device), "threads": threads, "torch": torch.__version__, "dlref": __version__,
            "python": platform.python_version(), "system": platform.system(),
            "date": datetime.now(timezone.utc).date().isoformat(), **settings}  # fmt: skip


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _interval(values: list[float], draws: int = 1000) -> tuple[float, float]:
    """The middle 95 % of the medians of samples drawn from the values with replacement."""
    t = torch.tensor(values, dtype=torch.float64)
    index = torch.randint(len(t), (draws, len(t)), generator=torch.Generator().manual_seed(0))
    low, high = t[index].quantile(0.5, dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
