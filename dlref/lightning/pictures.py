"""Pictures of images."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..core.extras import optional


@optional()
def draw_rows(path: Path, rows: dict[str, Tensor]) -> Path:
    """Write a PNG of rows of images under their names; each row is (N, C, H, W), or (N, H W) for square grey images."""
    from matplotlib.figure import Figure

    number = max(map(len, rows.values()))
    figure = Figure(figsize=(number * 0.7 + 1.5, len(rows) * 0.75), layout="constrained")
    axes = figure.subplots(len(rows), number, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    first = next(iter(rows.values()))
    low, high = float(first.min()), float(first.max())  # one scale, so that rows can be compared
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
        for axis, image in zip(line, images.detach().cpu().float(), strict=False):
            side = round(image.numel() ** 0.5)
            pixels = image.view(1, side, side) if image.dim() == 1 else image
            pixels = ((pixels - low) / (high - low)).clamp(0, 1).movedim(0, -1)
            axis.imshow(pixels.squeeze(-1).numpy(), cmap="gray_r", vmin=0, vmax=1)
    figure.savefig(path, dpi=150)
    return path
