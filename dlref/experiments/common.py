"""What experiments share: the digits, a training, a walk over a surface, and lines with the spread of the seeds."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import builtin, data

Pair = tuple[Tensor, Tensor]
# How the worked example trains its network.
EXAMPLE: dict[str, Any] = {"lr": 0.01, "batch_size": 200, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
CEILING = 1e3  # what a loss counts that has grown beyond it, or is no number any more


@functools.cache
def digits(seed: int, images: bool = False, scale: str | None = "global") -> tuple[Pair, Pair, Pair]:
    """scikit-learn's digits in float64: 1,257 images to train on, 180 to validate, 360 to test; (x, y) each."""
    split = data.digits(images, seed=seed, scale=scale, dtype=torch.float64)
    return split.train.tensors, split.validation.tensors, split.test.tensors  # type: ignore[return-value]


def made(seed: int, make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """make(...) in float64, with the initial weights of the seed, which are the same in both namespaces."""
    torch.manual_seed(seed)
    return make(*arguments, **options).double()


def train(
    ns: Any, network: Any, pair: Pair, optimizer: str = "SGD", *, epochs: int, batch_size: int = 32, seed: int = 0,
    loss: Any = None, schedule: Callable[[Any], Any] | None = None, callback: Any = None, **arguments: Any,
) -> list[float]:  # fmt: skip
    """The training loss of each epoch, at most CEILING; arguments: of the optimizer. A training that diverges is no error."""
    criterion = ns.nn.CrossEntropyLoss() if loss is None else loss
    rule = getattr(ns.optim, optimizer)(network.parameters(), **arguments)

    def ends(record: dict[str, float]) -> bool:
        return bool(callback and callback(record)) or not math.isfinite(record["loss"])

    history = ns.training.fit(
        network, criterion, rule, pair, epochs=epochs, batch_size=batch_size, seed=seed, tolerance=None,
        on_nonfinite="ignore", schedule=schedule and schedule(rule), callback=ends,
    )  # fmt: skip
    losses = [bounded(record["loss"]) for record in history]
    return losses + [CEILING] * (epochs - len(losses))


def bounded(loss: float) -> float:
    return min(loss, CEILING) if math.isfinite(loss) else CEILING


def differentiate(ns: Any, network: Any, pair: Pair, loss: Any = None) -> None:
    """Put the gradient of the loss of the whole data into the parameters' .grad: a step of rate 0."""
    ns.training.step(network, loss or ns.nn.CrossEntropyLoss(), ns.optim.SGD(network.parameters(), lr=0.0), *pair)


@torch.no_grad()
def accuracy(network: Any, pair: Pair) -> float:
    """Share of right answers."""
    return (network(pair[0]).argmax(1) == pair[1]).double().mean().item()


@torch.no_grad()
def value(ns: Any, network: Any, pair: Pair, loss: Any = None) -> float:
    """The loss of the whole data, at most CEILING."""
    return bounded((loss or ns.nn.CrossEntropyLoss())(network(pair[0]), pair[1]).item())


def ratio(a: float, b: float, least: float) -> float:
    """a / b, each counted as no less than the least that can be told apart, as one image of a test part."""
    return max(a, least) / max(b, least)


def descend(
    ns: Any, function: Callable[[Tensor], Tensor], gradient: Callable[[Tensor], Tensor], start: Sequence[float],
    steps: int, optimizer: str = "SGD", **arguments: Any,
) -> Tensor:  # fmt: skip
    """The path (steps + 1, n) of an optimizer over a function: by the gradient as written, on the built-in side by autograd."""
    point = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    rule = getattr(ns.optim, optimizer)([point], **arguments)
    path = [point.detach().clone()]
    for _ in range(steps):
        if ns is builtin:
            rule.zero_grad()
            function(point).backward()
        else:
            point.grad = gradient(point.detach())
        rule.step()
        path.append(point.detach().clone().nan_to_num(CEILING, CEILING, -CEILING).clamp(-CEILING, CEILING))
    return torch.stack(path)


def steps_to(values: Sequence[float] | Tensor, goal: float) -> int:
    """How many steps it takes until a value is below the goal and stays there; all of them where it never does."""
    above = [i for i, value in enumerate(values) if not value <= goal]
    return above[-1] + 1 if above else 0


def parameters(network: Any) -> int:
    return sum(p.numel() for p in network.parameters())


def band(axis: Any, x: Sequence[float] | range, runs: Iterable[Sequence[float]], label: str, **style: Any) -> None:
    """A line of the mean over the seeds, and round it a band from the least to the most."""
    y = np.array([list(run) for run in runs])
    (line,) = axis.plot(x, y.mean(0), label=label, **style)
    axis.fill_between(x, y.min(0), y.max(0), alpha=0.2, color=line.get_color(), linewidth=0)


def bars(axis: Any, names: Sequence[str], runs: Iterable[Sequence[float]]) -> None:
    """A bar of the mean for each name, a dot for each seed."""
    y = np.array([list(run) for run in runs])
    axis.bar(names, y.mean(0), color="#9db8d9")
    for i in range(len(names)):
        axis.plot([i] * len(y), y[:, i], "k.", markersize=4)
    axis.grid(axis="y", alpha=0.3)


def contours(
    figure: Any, paths: dict[str, Any], function: Callable[[Tensor, Tensor], Tensor], xs: tuple[float, float],
    ys: tuple[float, float], columns: int = 3,
) -> None:  # fmt: skip
    """A panel for each path, over the levels of the function."""
    x, y = torch.meshgrid(torch.linspace(xs[0], xs[1], 120), torch.linspace(ys[0], ys[1], 120), indexing="xy")
    values = torch.log10(function(x, y) + 1e-3)
    rows = -(-len(paths) // columns)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(paths) :]:
        axis.set_axis_off()
    for axis, (name, path) in zip(axes.flat, paths.items(), strict=False):
        axis.contour(x, y, values, levels=12, colors="#bbbbbb", linewidths=0.7)
        axis.plot(*zip(*path, strict=True), ".-", markersize=3, linewidth=1)
        axis.plot(*path[0], "go", markersize=5)
        axis.set_title(name, fontsize=8)
        axis.set(xlim=xs, ylim=ys)
    figure.supxlabel("x (green: the start; levels of log f)", fontsize=9)
    figure.supylabel("y", fontsize=9)


def labelled(axis: Any, x: str, y: str, legend: bool = True, **options: Any) -> None:
    """Names of the axes, a grid, a legend; options: as those of axis.set."""
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
    axis.set(**options)
    axis.grid(alpha=0.3)
    if legend:
        axis.legend(fontsize=8)
