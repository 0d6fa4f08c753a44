"""Learning curves and the matrix of what was taken for what."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.extras import optional
from .images import entitle


@optional()
def draw_curves(path: Path, history: Sequence[Mapping[str, Any]], title: str = "") -> Path:
    """What was measured over the epochs: a panel for each measure, a curve for each part that it was measured on.

    history: a record an epoch, {"epoch": number, "loss": ..., "validation_accuracy": ...}: the last word is the measure, what
    stands before it is the part, training where there is none. What is missing in an epoch is left out of the curve; what
    equals the loss throughout is drawn with it.
    """
    from matplotlib.figure import Figure

    keys = dict.fromkeys(key for record in history for key in record if key not in ("epoch", "step"))
    measures: dict[str, dict[str, list[tuple[int, float]]]] = (
        {"loss": {}} if any(k.endswith("loss") for k in keys) else {}
    )
    for key in keys:
        measure = key.rpartition("_")[2]
        measures.setdefault(measure, {})[key.removesuffix(measure)] = [
            (int(record["epoch"]), float(record[key])) for record in history if record.get(key) not in (None, "")
        ]
    same = [measure for measure, curves in measures.items() if curves == measures.get("loss")]
    for measure in same[1:]:
        del measures[measure]
    figure = Figure(figsize=(5 * max(len(measures), 1), 4))
    figure.set_layout_engine("constrained", w_pad=0.1)  # so that no label touches the panel beside it
    panels = figure.subplots(1, max(len(measures), 1), squeeze=False)[0]
    for axis, (measure, curves) in zip(panels, measures.items(), strict=False):
        seen = [value for points in curves.values() for _, value in points]
        for part, points in curves.items():
            part = part.rstrip("_").replace("_", " ")
            part = "training" if part in ("", "train") else part
            axis.plot(*zip(*points, strict=True), label=part, marker="o" if len(points) < 3 else "")
        name = " and ".join(same) if measure == "loss" else measure
        axis.set(xlabel="epoch", ylabel=name, title=name.capitalize())
        axis.xaxis.get_major_locator().set_params(integer=True)
        if measure == "loss" and min(seen, default=0) > 0 and max(seen) > 10 * min(seen):
            axis.set(yscale="log", ylabel=f"{name}, logarithmic scale")
        axis.grid(alpha=0.3)
        axis.legend()
    entitle(figure, title)
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
    axis = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's, of the tensor that it passes to matplotlib
        matrix.plot(ax=axis, cmap="Blues")
    axis.tick_params(rotation=0)  # numbers are short
    right = int((target == predicted).sum())
    entitle(figure, f"{part} {right} of {len(target)} are right: {right / max(len(target), 1):.2%}".strip())
    figure.savefig(path, dpi=120)
    return path


@optional()
@torch.no_grad()
def draw_activations(path: Path, network: torch.nn.Module, x: Tensor) -> Path:
    """What each layer makes of a batch: the distribution of its numbers, and the share of its units that are 0 for all of x."""
    from matplotlib.figure import Figure

    found: list[tuple[str, str, Tensor]] = []

    def seen(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            while isinstance(output, tuple) and output:  # of a recurrent layer, or of attention
                output = output[0]
            if isinstance(output, Tensor) and output.is_floating_point():
                found.append((name, type(module).__name__, output.detach().float().cpu()))

        return hook

    hooks = [module.register_forward_hook(seen(name)) for name, module in network.named_modules()]
    training = network.training
    network.eval()
    try:
        network(x)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    # What holds layers that were called is none itself: attention does not call the projection that it has.
    layers = [
        (f"{name} {kind}".strip(), output) for name, kind, output in found
        if not any(other != name and f"{other}.".startswith(f"{name}." if name else "") for other, _, _ in found)
    ]  # fmt: skip
    figure = Figure(figsize=(7, 1 + 0.45 * len(layers)), layout="constrained")
    axis = figure.subplots()
    values = [output.flatten()[:: max(output.numel() // 20_000, 1)].numpy() for _, output in layers]
    axis.boxplot(values, orientation="horizontal", whis=(1, 99), showfliers=False)
    labels = []
    for name, output in layers:
        dead = (output.reshape(len(output), -1) == 0).all(0).double().mean().item()
        labels.append(name + (f", {dead:.0%} dead" if dead else ""))
    axis.set_yticks(range(1, len(labels) + 1), labels)
    axis.invert_yaxis()
    figure.supxlabel(f"output for {len(x)} inputs: quartiles, and the 1st and 99th percentile", fontsize=10)
    axis.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=120)
    return path
