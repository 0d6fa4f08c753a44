"""Whether a probability that cross entropy has taught is one."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, labelled, made, train, value

EVERY = 10


def miscalibration(p, y, bins=10):
    """Mean distance of what is claimed from what comes true, over bins of the claim, each by how many are in it."""
    edges = (p * bins).long().clamp(max=bins - 1)
    counts = torch.bincount(edges, minlength=bins)
    gaps = (torch.bincount(edges, p, bins) - torch.bincount(edges, y.double(), bins)).abs()
    return (gaps.sum() / counts.sum()).item()


class Calibration(Experiment):
    """Trained by cross entropy, the model's distribution comes to be the true one: what it calls likely at 70 % is so
    in 70 of 100 cases."""

    section = "3.3"
    setup = """Two overlapping classes in the plane, 300 samples to train on and 4,000 to try; a perceptron of 64 tanh
    units, Adam at 0.01. Mean distance of the claimed from the true frequency after 10 epochs and at the end of
    300."""
    rules = (Rule("miscalibration after 10 epochs", at_most=0.05), Rule("miscalibration at the end", at_most=0.05))
    epochs = 300

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x = 1.5 * torch.randn(4300, 2, generator=generator, dtype=torch.float64)
        truth = torch.sigmoid(2 * torch.sin(2 * x[:, :1]) + x[:, 1:])
        y = (torch.rand(4300, 1, generator=generator, dtype=torch.float64) < truth).double()
        network, loss = made(seed, models.mlp, ns, 2, 64, 1, "tanh"), ns.nn.BCEWithLogitsLoss()
        curves = {"miscalibration": [], "training loss": [], "loss on other data": []}

        def watch(record):
            if record["epoch"] % EVERY == 0 or record["epoch"] == epochs:
                with torch.no_grad():
                    p = torch.sigmoid(network(x[300:]))
                curves["training loss"].append(record["loss"])
                curves["miscalibration"].append(miscalibration(p[:, 0], y[300:, 0]))
                curves["loss on other data"].append(value(ns, network, (x[300:], y[300:]), loss))

        train(ns, network, (x[:300], y[:300]), "Adam", lr=0.01, epochs=epochs, seed=seed, loss=loss, callback=watch)
        numbers = {
            "miscalibration after 10 epochs": curves["miscalibration"][0],
            "miscalibration at the end": curves["miscalibration"][-1],
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        left, right = figure.subplots(1, 2)
        epochs = range(EVERY, EVERY * len(runs[0].curves["miscalibration"]) + 1, EVERY)
        band(left, epochs, [run.curves["miscalibration"] for run in runs], "mean and range of the seeds")
        labelled(left, "epoch", "miscalibration", ylim=(0, None))
        for name in ("training loss", "loss on other data"):
            band(right, epochs, [run.curves[name] for run in runs], name)
        labelled(right, "epoch", "cross entropy (nats)")
