"""How the time of a training step grows with the batch, the width and the depth of a multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import builtin, manual, models
from ..core.extras import optional
from .measure import measure
from .steps import SGD, Network, step_parts

# What grows: its sizes; the others stay at (batch, width, depth) of BASE.
SIZES: dict[str, tuple[int, ...]] = {
    "batch": (8, 16, 32, 64, 128, 256, 512, 1024, 2048),
    "width": (16, 32, 64, 128, 256, 512, 1024),
    "depth": (1, 2, 4, 8, 16, 32, 64),
}
BASE = {"batch": 128, "width": 128, "depth": 2}
SIDES = {"manual": manual, "builtin": builtin}


def time_growth(
    what: str,
    sizes: Sequence[int] | None = None,
    *,
    device: torch.device | str = "cpu",
    rounds: int = 10,
    seconds: float | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    r"""Seconds of a step against "batch", "width" or "depth", with the exponent $k$ of $t \propto n^k$ on both sides.

    A step of SGD on an MLP of `depth` hidden layers of `width` units. ValueError where there are fewer than three sizes.
    """
    sizes = SIZES[what] if sizes is None else sizes
    if len(sizes) < 3:
        raise ValueError(f"sizes must be three or more, to fit an exponent to; they are {sizes}")
    found: dict[str, Any] = {"what": what, "sizes": list(sizes), **{side: [] for side in SIDES}}
    for size in sizes:
        batch, width, depth = ({**BASE, what: size}[key] for key in ("batch", "width", "depth"))
        case = Network(lambda ns, w=width, d=depth: models.mlp(ns, w, (w,) * d, 10), (width,))  # type: ignore[misc]
        x, y = case.data(batch, device)
        steps = {}
        for side, space in SIDES.items():
            parts = step_parts(case, space, SGD, device)
            steps[side] = lambda space=space, parts=parts: space.training.step(*parts, x, y)  # noqa: B023
        times = measure(steps, rounds, seconds, threads)
        for side in SIDES:
            found[side].append(times.median(side))
    found["exponents"] = {side: exponent(sizes, found[side]) for side in SIDES}
    return found


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    r"""The $k$ of $v \approx c\,n^k$ by least squares of $\log v$ over the larger half of the sizes, at least three of them.

    The smaller half is left out: there the cost of the calls rules, which does not grow.
    """
    number = max(3, math.ceil(len(sizes) / 2))
    x, y = (torch.tensor(v[-number:], dtype=torch.float64).log() for v in (list(sizes), list(values)))
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x))


@optional()
def draw_growth(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write a PNG of the times, both sides, one panel for what grows; both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(records), 3.6), layout="constrained")
    for axis, record in zip(figure.subplots(1, len(records), squeeze=False)[0], records, strict=True):
        for side, marker in zip(SIDES, "os", strict=True):
            label = f"{side}, exponent {record['exponents'][side]:.2f}"
            axis.loglog(record["sizes"], [1e3 * t for t in record[side]], marker=marker, markersize=4, label=label)
        others = ", ".join(f"{key} {value}" for key, value in BASE.items() if key != record["what"])
        axis.set(title=others, xlabel=record["what"], ylabel="a step, ms")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=150)
    return path
