"""Fitting as the search for the least error, where the answer is known."""

from __future__ import annotations

import torch

from .. import data, models
from .base import Experiment, Found, Rule
from .common import band, labelled, made, train

STARTS = 5


class Fitting(Experiment):
    """To fit a model is to make its error on the data least; step by step, gradient descent comes to the best
    parameters."""

    section = "3.1"
    setup = """Least squares by gradient descent. First a linear model of 5 variables, against the solution of the
    normal equations; then a network of 4 tanh units and a sine, from five starts: do they end at the same error?"""
    rules = (
        Rule("distance from the linear model's solution", at_most=1e-3),
        Rule("spread of the network's five errors", at_most=0.01),
    )
    epochs = 1000

    def measure(self, ns, seed, epochs):
        x, y = data.noisy_line(features=5, seed=seed, dtype=torch.float64).train.tensors
        x1 = torch.cat([x, torch.ones_like(y)], 1)
        solution = torch.linalg.lstsq(x1, y).solution[:, 0]
        least = (x1 @ solution - y[:, 0]).square().mean().item()
        network = made(seed, models.linear_regression, ns, 5)
        descent = dict(lr=0.1, batch_size=len(x), loss=ns.nn.MSELoss(), seed=seed)
        linear = train(ns, network, (x, y), epochs=min(epochs, 200), **descent)
        found = torch.cat([p.detach().flatten() for p in network.parameters()])
        z = torch.linspace(-3, 3, 50, dtype=torch.float64).unsqueeze(1)
        curves = {"linear": [max(loss - least, 1e-16) for loss in linear]}
        for start in range(STARTS):
            network = made(STARTS * seed + start, models.mlp, ns, 1, 4, 1, "tanh")
            curves[f"start {start}"] = train(ns, network, (z, torch.sin(2 * z)), epochs=epochs, **descent)
        ends = torch.tensor([curves[f"start {start}"][-1] for start in range(STARTS)])
        numbers = {
            "distance from the linear model's solution": (found - solution).norm().item(),
            "spread of the network's five errors": (ends.std(correction=0) / ends.mean()).item(),
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        left, right = figure.subplots(1, 2)
        curves = [run.curves["linear"] for run in runs]
        band(left, range(1, len(curves[0]) + 1), curves, "mean over seeds")
        labelled(left, "step", "error above the least", yscale="log", title="linear model")
        for start in range(STARTS):
            losses = runs[0].curves[f"start {start}"]
            right.plot(range(1, len(losses) + 1), losses, label=f"start {start}")
        labelled(right, "step", "mean square error", yscale="log", title="network, seed 0")
