"""Learning rates over five powers of ten."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import band, digits, labelled, made, train

RATES = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)


class LearningRate(Experiment):
    """A rate that is too large makes training swing and not converge; with one that is too small it does not
    arrive."""

    section = "4.5"
    setup = """A perceptron of 64 hidden units on the digits, plain SGD in batches of 32, 15 epochs, rates from 0.0001
    to 10; the last training loss, at most 1,000, over that of the best rate."""
    rules = (
        Rule("loss at the largest rate over the best", at_least=10),
        Rule("loss at the smallest rate over the best", at_least=10),
    )
    epochs = 15

    def measure(self, ns, seed, epochs):
        data, _, _ = digits(seed)
        losses = [
            train(ns, made(seed, models.mlp, ns, 64, 64, 10), data, lr=rate, epochs=epochs, seed=seed) for rate in RATES
        ]
        ends = [curve[-1] for curve in losses]
        numbers = {
            "loss at the largest rate over the best": ends[-1] / min(ends),
            "loss at the smallest rate over the best": ends[0] / min(ends),
        }
        return Found(numbers, {f"{rate:g}": curve for rate, curve in zip(RATES, losses, strict=True)})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, losses in runs[0].curves.items():
            band(axis, range(1, len(losses) + 1), [run.curves[name] for run in runs], f"rate {name}")
        labelled(axis, "epoch", "training loss (nats; 1,000: diverged)", yscale="log")
