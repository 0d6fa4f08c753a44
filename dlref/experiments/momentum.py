"""What momentum does in a narrow valley."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .common import descend, steps_to
from .experiment import Experiment, Found, Rule

CURVATURES = torch.tensor([1.0, 100.0], dtype=torch.float64)
# Of the best rate and momentum for curvatures a < b (Polyak 1964): rate 4 / (sqrt a + sqrt b)^2, momentum ((sqrt b - sqrt a) /
# (sqrt b + sqrt a))^2; without momentum the best rate is 2 / (a + b).
WAYS = {
    "plain, best rate": (2 / 101, 0.0),
    "momentum 0.9, the same rate": (2 / 101, 0.9),
    "momentum 0.67, best rate": (4 / 121, (9 / 11) ** 2),
}


def valley(point):
    return 0.5 * (CURVATURES * point**2).sum()


def valley_gradient(point):
    return CURVATURES * point


class Momentum(Experiment):
    """Momentum, which goes on along former gradients, makes descent faster and damps its swinging from side to
    side."""

    section = "3.4"
    setup = """f = (x^2 + 100 y^2)/2 from random starts: steps until f is below a millionth of its start, and how far
    y travels in all; plain descent at its best rate, momentum 0.9 at the same rate, and both numbers at their
    best."""
    rules = (
        Rule("steps, plain over momentum at its best", at_least=2),
        Rule("steps, plain over momentum 0.9", at_least=1.2),
        Rule("way across the valley, momentum 0.9 over plain", at_most=1),
    )
    epochs = 800

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.rand(2, generator=generator, dtype=torch.float64) + 0.5).tolist()
        paths, steps, ways = {}, {}, {}
        for name, (rate, momentum) in WAYS.items():
            path = descend(ns, valley, valley_gradient, (-x, y), epochs, lr=rate, momentum=momentum)
            values = 0.5 * (CURVATURES * path**2).sum(1)
            steps[name] = steps_to(values, 1e-6 * values[0].item())
            ways[name] = path[:, 1].diff().abs().sum().item()
            paths[name] = path[:61].tolist()
        plain, same, best = steps.values()
        names = list(WAYS)
        numbers = {
            "steps, plain over momentum at its best": plain / best,
            "steps, plain over momentum 0.9": plain / same,
            "way across the valley, momentum 0.9 over plain": ways[names[1]] / ways[names[0]],
            "way across the valley, momentum at its best over plain": ways[names[2]] / ways[names[0]],
        }
        return Found(numbers, paths)

    def plot(self, figure, runs):
        contours(figure, runs[0].curves, valley_of, (-1.6, 1.0), (-4.0, 4.0))


def valley_of(x, y):
    return 0.5 * (x**2 + 100 * y**2)


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
