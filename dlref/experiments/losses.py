"""The digits by cross entropy, by KL divergence and by squared error."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, train


class Losses(Experiment):
    """The choice of the loss matters much for training; KL divergence only compares distributions, cross entropy and
    squared error are the ones to train with."""

    section = "4.4"
    setup = """A perceptron of 64 hidden units on the digits, SGD with momentum at 0.02, 30 epochs, from the same
    weights: by cross entropy, by KL divergence of the log-softmax from one-hot rows, by squared error of the
    softmax."""
    rules = (
        Rule("spread of the test accuracies", at_least=0.02),
        Rule("difference of the losses of KL and cross entropy", at_least=1e-3),
    )
    epochs = 30

    def measure(self, ns, seed, epochs):
        (x, y), _, test = digits(seed)
        rows = torch.eye(10, dtype=torch.float64)[y]
        ways = {
            "cross entropy": (y, [], ns.nn.CrossEntropyLoss()),
            "KL divergence": (rows, [ns.nn.LogSoftmax(1)], ns.nn.KLDivLoss(reduction="batchmean")),
            "squared error": (rows, [ns.nn.Softmax(1)], ns.nn.MSELoss()),
        }
        curves, accuracies = {}, {}
        for name, (target, after, loss) in ways.items():
            network = ns.nn.Sequential(*made(seed, models.mlp, ns, 64, 64, 10), *after)
            curves[name] = train(ns, network, (x, target), lr=0.02, momentum=0.9, epochs=epochs, seed=seed, loss=loss)
            accuracies[name] = accuracy(network, test)
        apart = max(abs(a - b) for a, b in zip(curves["cross entropy"], curves["KL divergence"], strict=True))
        apart = round(apart, 12)  # beyond it is rounding
        numbers = {
            "spread of the test accuracies": max(accuracies.values()) - min(accuracies.values()),
            "difference of the losses of KL and cross entropy": apart,
        }
        return Found(numbers | {f"test accuracy, {name}": share for name, share in accuracies.items()}, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for (name, losses), style in zip(runs[0].curves.items(), ("-", ":", "-"), strict=True):
            lines = [run.curves[name] for run in runs]
            band(axis, range(1, len(losses) + 1), lines, name, linestyle=style, linewidth=3 if style == ":" else 1.5)
        labelled(axis, "epoch", "training loss (each in its own unit)", yscale="log")
