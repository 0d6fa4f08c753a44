"""What kind of point gradient descent ends at."""

from __future__ import annotations

import math

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import differentiate, labelled, made, train

X = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64)
Y = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]], dtype=torch.float64)
STARTS = 5


class WhereTrainingEnds(Experiment):
    """Gradient descent goes on until it has come to a local minimum."""

    section = "3.5.3"
    setup = """XOR by 2 and by 8 tanh units and squared error, all four corners a step, rate 0.3, 500 steps, 5
    starts: the gradient in the end, as the mean of its logarithm, and how many starts end with an error above
    0.01."""
    rules = (
        Rule("log10 of the gradient in the end, 2 units", at_most=-6),
        Rule("share of starts with 2 units that end high", at_least=0.05),
    )
    epochs = 500
    compared = 50  # a gradient of 1e-12 is rounding

    def measure(self, ns, seed, epochs):
        lengths, highs, curves = {}, {}, {}
        loss = ns.nn.MSELoss()
        for units in (2, 8):
            lengths[units], curves[f"{units} units"] = [], []
            for start in range(STARTS):
                network = made(STARTS * seed + start, models.mlp, ns, 2, units, 1, "tanh")
                curves[f"{units} units"].append(
                    train(ns, network, (X, Y), lr=0.3, epochs=epochs, batch_size=4, loss=loss)
                )
                differentiate(ns, network, (X, Y), loss)
                square = sum(p.grad.square().sum().item() for p in network.parameters())
                lengths[units].append(0.5 * math.log10(max(square, 1e-40)))
            highs[units] = sum(losses[-1] > 0.01 for losses in curves[f"{units} units"]) / STARTS
        numbers = {
            "log10 of the gradient in the end, 2 units": sum(lengths[2]) / STARTS,
            "share of starts with 2 units that end high": highs[2],
            "share of starts with 8 units that end high": highs[8],
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axes = figure.subplots(1, 2, sharey=True)
        for axis, name in zip(axes, runs[0].curves, strict=True):
            for run in runs:
                for losses in run.curves[name]:
                    axis.plot(range(1, len(losses) + 1), losses, color="#3b7dd8", alpha=0.4, linewidth=0.8)
            labelled(
                axis, "step", "mean square error", legend=False, yscale="log", title=f"{name}, all starts of all seeds"
            )
