"""Images in rows: reconstructions, mistakes, the weights of a first layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.extras import optional

MOST = 24  # mistakes that are drawn
TILES = 64  # filters that are drawn


def pixels(image: Tensor, low: float, high: float) -> Any:
    """An image (C, H, W), or (H W) where it is square and grey, as numbers in [0, 1] of (H, W) or (H, W, C)."""
    side = math.isqrt(image.numel())
    image = image.view(1, side, side) if image.dim() == 1 else image
    shown = ((image - low) / max(high - low, 1e-12)).clamp(0, 1).movedim(0, -1)
    return shown.squeeze(-1).numpy()


def _grid(number: int, columns: int, height: float = 0.75) -> tuple[Any, Any]:
    """A figure, and an axis for each of the tiles."""
    from matplotlib.figure import Figure

    rows = -(-number // columns)
    figure = Figure(figsize=(columns * 0.85, rows * height + 0.6), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def entitle(figure: Any, title: str, **options: Any) -> None:
    """A title above all, and the figure as wide as it must be for that. options: of the text."""
    text = figure.suptitle(title, **options)
    figure.set_figwidth(max(figure.get_figwidth(), text.get_window_extent().width / figure.dpi + 0.3))


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
            axis.imshow(pixels(image, low, high), cmap="gray_r", vmin=0, vmax=1)
    figure.savefig(path, dpi=150)
    return path


@optional()
def draw_mistakes(path: Path, images: Tensor, target: Tensor, scores: Tensor, part: str = "") -> Path:
    """The images whose class of the largest score is wrong, the surest first, with their class and what they were taken for.

    images (N, C, H, W), or (N, H W) for square grey ones; target (N); scores (N, classes), of which softmax makes
    probabilities; part: the images' name.
    """
    images, target, scores = (t.detach().cpu() for t in (images, target, scores))
    probability, predicted = scores.double().softmax(1).max(1)
    wrong = (predicted != target).nonzero().squeeze(1)
    shown = wrong[probability[wrong].argsort(descending=True)][:MOST]
    figure, axes = _grid(max(len(shown), 1), min(8, max(len(shown), 3)), 1.15)
    low, high = float(images.min()), float(images.max())
    for axis, i in zip(axes, shown.tolist(), strict=False):
        axis.imshow(pixels(images[i].float(), low, high), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"{int(target[i])} as {int(predicted[i])}\n{probability[i]:.2f}", fontsize=8)
    surest = f", the {len(shown)} surest" if len(shown) < len(wrong) else ""
    entitle(figure, f"{part} {len(wrong)} of {len(target)} are mistaken{surest}".strip(), fontsize=10)
    figure.savefig(path, dpi=150)
    return path


@optional()
def draw_first_weights(path: Path, network: torch.nn.Module) -> Path:
    """The first weights of a network: filters and rows that are square images as tiles, others as one matrix.

    Of a locally connected layer the first filter at each place. One scale for all, blue below 0 and red above.
    """
    matrices = [(name, p.detach().cpu().float()) for name, p in network.named_parameters() if p.dim() > 1]
    # The first, but not what is added to each of a batch, (1, L, C), as positions are.
    name, weight = min(matrices, key=lambda named: named[1].dim() == 3 and len(named[1]) == 1)
    wide = float(weight.abs().max()) or 1.0
    side, first = math.isqrt(weight.shape[1]), ""
    if weight.dim() == 6:  # (O1, O2, out, in, K1, K2)
        tiles, first = weight[:, :, 0, 0].flatten(0, 1), ", the first filter at each place"
    elif weight.dim() > 3:  # (out, in, K1, K2), or more
        tiles = weight.flatten(0, -3)
    elif weight.dim() == 2 and side > 2 and side**2 == weight.shape[1]:
        tiles = weight.view(-1, side, side)
    else:
        tiles = weight.flatten(1).unsqueeze(0)
    number = min(len(tiles), TILES)
    if len(tiles) == 1:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes: Any = [figure.subplots()]
        axes[0].set(xlabel="input", ylabel="row")
    else:
        figure, axes = _grid(number, min(8, number))
    for axis, tile in zip(axes, tiles[:number], strict=False):
        drawn = axis.imshow(tile.numpy(), cmap="coolwarm", vmin=-wide, vmax=wide, interpolation="nearest",
                            aspect="equal" if len(tiles) > 1 else "auto")  # fmt: skip
    figure.colorbar(drawn, ax=list(axes), shrink=0.6, label="weight")
    first += f", the first {number}" if number < len(tiles) else ""
    entitle(figure, f"{name}, {' x '.join(map(str, weight.shape))}{first}", fontsize=10)
    figure.savefig(path, dpi=150)
    return path
