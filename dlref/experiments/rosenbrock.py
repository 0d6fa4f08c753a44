"""A bent valley, by five optimizers."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import band, contours, descend, labelled

# Name: optimizer, its arguments and the rates that are tried.
OPTIMIZERS = {
    "SGD": ("SGD", {}, (3e-4, 1e-3, 2e-3)),
    "momentum": ("SGD", {"momentum": 0.9}, (1e-4, 3e-4, 1e-3)),
    "Adagrad": ("Adagrad", {}, (0.03, 0.1, 0.3)),
    "RMSprop": ("RMSprop", {}, (0.001, 0.003, 0.01)),
    "Adam": ("Adam", {}, (0.01, 0.03, 0.1)),
}


def rosenbrock(point):
    return (1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2


def rosenbrock_gradient(point):
    x, y = point
    return torch.stack([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])


def surface(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


class Rosenbrock(Experiment):
    """Of the optimizers Adam, which joins the others' advantages, is the one that gets furthest."""

    section = "3.4"
    title = "Of five optimizers Adam gets furthest down Rosenbrock's valley"
    setup = """Rosenbrock's function (1 - x)^2 + 100 (y - x^2)^2 from about (-1.2, 1), 1,000 steps, each optimizer at
    the best of three rates; the value that is reached."""
    rules = (
        Rule("log10 of the value, SGD less Adam", at_least=1),
        Rule("log10 of the value, best other less Adam", at_least=0),
    )
    epochs = 1000

    def measure(self, ns, seed, epochs):
        jitter = 0.2 * torch.rand(2, generator=torch.Generator().manual_seed(seed)) - 0.1
        start, reached, curves = (-1.2 + jitter[0].item(), 1 + jitter[1].item()), {}, {}
        for name, (optimizer, arguments, rates) in OPTIMIZERS.items():
            paths = [
                descend(ns, rosenbrock, rosenbrock_gradient, start, epochs, optimizer, lr=rate, **arguments)
                for rate in rates
            ]
            path = min(paths, key=lambda p: surface(*p[-1]).item())
            values = torch.log10(surface(path[:, 0], path[:, 1]).clamp(1e-12, 1e6))
            reached[name] = values[-1].item()
            curves[name], curves[f"path of {name}"] = values[::10].tolist(), path[::5].tolist()
        numbers = {
            "log10 of the value, SGD less Adam": reached["SGD"] - reached["Adam"],
            "log10 of the value, best other less Adam": min(v for n, v in reached.items() if n != "Adam")
            - reached["Adam"],
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
        axis = above.subplots()
        for name in OPTIMIZERS:
            lines = [run.curves[name] for run in runs]
            band(axis, range(0, 10 * len(lines[0]), 10), lines, name)
        labelled(axis, "step", "log10 of the value", legend=False)
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))  # the curves fill the panel
        paths = {name: runs[0].curves[f"path of {name}"] for name in OPTIMIZERS}
        contours(below, paths, surface, (-1.7, 1.5), (-0.6, 1.9), columns=5)
