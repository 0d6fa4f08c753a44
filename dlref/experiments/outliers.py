"""What a few wrong values do to squared error."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, labelled, made, train

SHARES = (0.0, 0.05, 0.1, 0.2)
LOSSES = {"squared": "MSELoss", "absolute": "L1Loss", "Huber": "HuberLoss"}


class Outliers(Experiment):
    """Squared error is easily carried away by outliers; other losses are not."""

    section = "4.4"
    setup = """A line through 200 points with noise of deviation 0.3, of which 0 to 20 % are moved up by 10; Adam with
    a cosine, 80 epochs; how far the fitted line is from the true one (root mean square over the inputs)."""
    rules = (
        Rule("distance with 10 % outliers, squared over Huber", at_least=3),
        Rule("distance without outliers, Huber over squared", at_least=0.8),
    )
    epochs = 80

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(200, 1, generator=generator, dtype=torch.float64)
        truth = 2 * x - 1
        noisy = truth + 0.3 * torch.randn(200, 1, generator=generator, dtype=torch.float64)
        order = torch.rand(200, 1, generator=generator, dtype=torch.float64)
        curves = {name: [] for name in LOSSES}
        for share in SHARES:
            y = torch.where(order < share, noisy + 10, noisy)
            for name, loss in LOSSES.items():
                network = made(seed, models.linear_regression, ns, 1)
                train(
                    ns,
                    network,
                    (x, y),
                    "Adam",
                    lr=0.1,
                    epochs=epochs,
                    batch_size=50,
                    seed=seed,
                    loss=getattr(ns.nn, loss)(),
                    schedule=lambda rule: ns.optim.lr_scheduler.CosineAnnealingLR(rule, epochs),
                )
                with torch.no_grad():
                    curves[name].append((network(x) - truth).square().mean().sqrt().item())
        squared, _, huber = curves.values()
        numbers = {
            "distance with 10 % outliers, squared over Huber": squared[2] / huber[2],
            "distance without outliers, Huber over squared": huber[0] / squared[0],
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in LOSSES:
            band(axis, [100 * s for s in SHARES], [run.curves[name] for run in runs], f"{name} error", marker="o")
        labelled(axis, "outliers, %", "distance from the true line", yscale="log")
