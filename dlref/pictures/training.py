"""Learning curves and the matrix of what was taken for what."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.extras import optional


@optional()
def draw_curves(path: Path, history: Sequence[Mapping[str, Any]], title: str = "") -> Path:
    """What was measured over the epochs: a panel for each measure, a curve for each part that it was measured on.

    history: a record an epoch, {"epoch": number, "loss": ..., "validation_accuracy": ...}: the last word is the measure, what
    stands before it is the part, training where there is none. What is missing in an epoch is left out of the curve.
    """
    from matplotlib.figure import Figure

    keys = dict.fromkeys(key for record in history for key in record if key not in ("epoch", "step"))
    measures: dict[str, list[str]] = {"loss": []} if any(key.endswith("loss") for key in keys) else {}
    for key in keys:
        measures.setdefault(key.rpartition("_")[2], []).append(key)
    figure = Figure(figsize=(5 * max(len(measures), 1), 4), layout="constrained")
    panels = figure.subplots(1, max(len(measures), 1), squeeze=False)[0]
    for axis, (measure, of_it) in zip(panels, measures.items(), strict=False):
        seen: list[float] = []
        for key in of_it:
            points = [
                (int(record["epoch"]), float(record[key])) for record in history if record.get(key) not in (None, "")
            ]
            seen += [value for _, value in points]
            part = key.removesuffix(measure).rstrip("_").replace("_", " ")
            part = "training" if part in ("", "train") else part
            axis.plot(*zip(*points, strict=True), label=part, marker="o" if len(points) < 3 else "")
        axis.set(xlabel="epoch", ylabel=measure, title=measure.capitalize())
        axis.xaxis.get_major_locator().set_params(integer=True)
        if measure == "loss" and min(seen, default=0) > 0 and max(seen) > 10 * min(seen):
            axis.set(yscale="log", ylabel="loss, logarithmic scale")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    return path


@optional()
def draw_confusion(path: Path, target: Tensor, predicted: Tensor, classes: int, part: str = "") -> Path:
    """How many of each class (rows) were taken for which (columns). target, predicted (N) class indices; part: their name."""
    from matplotlib.figure import Figure
    from torchmetrics.classification import MulticlassConfusionMatrix

    matrix = MulticlassConfusionMatrix(classes, sync_on_compute=False)  # by one of several processes
    matrix.update(predicted.detach().cpu(), target.detach().cpu())
    side = 1.5 + 0.5 * classes
    figure = Figure(figsize=(side, side), layout="constrained")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's, of the tensor that it passes to matplotlib
        matrix.plot(ax=figure.subplots(), cmap="Blues")
    right = int((target == predicted).sum())
    figure.suptitle(f"{part} {right} of {len(target)} are right: {right / max(len(target), 1):.2%}".strip())
    figure.savefig(path, dpi=120)
    return path


@optional()
@torch.no_grad()
def draw_activations(path: Path, network: torch.nn.Module, x: Tensor) -> Path:
    """What each layer makes of a batch: the distribution of its numbers, and the share of its units that are 0 for all of x."""
    from matplotlib.figure import Figure

    found: list[tuple[str, Tensor]] = []

    def seen(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                found.append((f"{name} {type(module).__name__}".strip(), output.detach().float().cpu()))

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(seen(name)) for name, module in leaves]
    training = network.training
    network.eval()
    try:
        network(x)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    figure = Figure(figsize=(7, 1 + 0.45 * len(found)), layout="constrained")
    axis = figure.subplots()
    values = [output.flatten()[:: max(output.numel() // 20_000, 1)].numpy() for _, output in found]
    axis.boxplot(values, orientation="horizontal", whis=(1, 99), showfliers=False)
    labels = []
    for name, output in found:
        dead = (output.reshape(len(output), -1) == 0).all(0).double().mean().item()
        labels.append(name + (f", {dead:.0%} dead" if dead else ""))
    axis.set_yticks(range(1, len(labels) + 1), labels)
    axis.invert_yaxis()
    axis.set(xlabel=f"output for {len(x)} inputs: quartiles, and the 1st and 99th percentile")
    axis.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=120)
    return path
