"""Classes in the plane: where a network decides what, and where an encoder puts what it encodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.extras import optional

POINTS = 200  # of the plane's raster, along each side


def principal(x: Tensor) -> tuple[Tensor, Tensor, float]:
    r"""Mean (D), the first two principal directions (2, D) of x (N, D), and their share of the variance.

    Of two dimensions or fewer the axes themselves, which lose nothing.
    """
    x = x.double()
    mean = x.mean(0)
    if x.shape[1] <= 2:
        return torch.zeros_like(mean), torch.eye(2, x.shape[1], dtype=x.dtype, device=x.device), 1.0
    values, vectors = torch.linalg.eigh((x - mean).T.cov())
    return mean, vectors[:, -2:].flip(1).T, float(values[-2:].sum() / values.sum().clamp(min=1e-300))


def _scatter(axis: Any, at: Tensor, y: Tensor, classes: int) -> None:
    for c in range(classes):
        chosen = at[y == c]
        axis.scatter(
            *chosen.T.numpy(), s=14, color=colours(classes)[c], edgecolors="black", linewidths=0.1, label=str(c)
        )


def colours(classes: int) -> Any:
    import matplotlib

    return matplotlib.colormaps["tab10" if classes <= 10 else "tab20" if classes <= 20 else "hsv"].resampled(classes)(
        range(classes)
    )


def _axes(kept: float) -> dict[str, str]:
    if kept == 1:
        return {"xlabel": "first dimension", "ylabel": "second dimension"}
    return {"xlabel": f"first principal component ({kept:.0%} of the variance in both)", "ylabel": "second"}


@optional()
@torch.no_grad()
def draw_boundaries(path: Path, scores: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, classes: int) -> Path:
    """Which class has the largest score in the plane of the first two principal components of x, and x (N, *) in it.

    scores: (N, *) to (N, classes). Points of more than two dimensions lie off the plane, so that their own class may be
    another than their place's.
    """
    from matplotlib.figure import Figure

    flat = x.detach().cpu().flatten(1)
    mean, axes, kept = principal(flat)
    at = (flat.double() - mean) @ axes.T
    low, high = at.amin(0), at.amax(0)
    margin = (0.05 * (high - low)).clamp(min=1e-3)
    low, high = low - margin, high + margin
    u, v = (
        torch.linspace(float(a), float(b), POINTS, dtype=axes.dtype, device="cpu")
        for a, b in zip(low, high, strict=True)
    )
    raster = torch.cartesian_prod(u, v) @ axes + mean
    found = [scores(part.to(x).view(-1, *x.shape[1:])).argmax(1).cpu() for part in raster.split(2000)]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axis = figure.subplots()
    shown = torch.cat(found).view(POINTS, POINTS).T
    axis.imshow(colours(classes)[shown.numpy()], origin="lower", aspect="auto", alpha=0.35,
                extent=(float(low[0]), float(high[0]), float(low[1]), float(high[1])))  # fmt: skip
    _scatter(axis, at, y.cpu(), classes)
    axis.set(title="The class that is decided for, in the plane", **_axes(kept))
    figure.legend(title="class", loc="outside right center")
    figure.savefig(path, dpi=120)
    return path


@optional()
def draw_codes(path: Path, codes: Tensor, y: Tensor, classes: int) -> Path:
    """Codes (N, code) by class y (N), in their first two principal components where they are longer."""
    from matplotlib.figure import Figure

    codes = codes.detach().cpu().flatten(1)
    mean, axes, kept = principal(codes)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axis = figure.subplots()
    _scatter(axis, (codes.double() - mean) @ axes.T, y.cpu(), classes)
    axis.set(title=f"Codes of {codes.shape[1]} numbers", **_axes(kept))
    figure.legend(title="class", loc="outside right center")
    figure.savefig(path, dpi=120)
    return path
