"""A score on the data that a model was fitted on."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, bars, digits, labelled, made, train, value

SHARES = (0.0, 0.5, 1.0)


class Leakage(Experiment):
    """How good a model is may be read off its score on the data that it was fitted on, as the worked example does."""

    section = "5.3"
    setup = """A perceptron of 128 hidden units, Adam, 60 epochs, on the digits as they are and with half or all of
    the training labels drawn anew; accuracy on the training part as it was labelled, and on the test part as it
    is."""
    rules = (
        Rule("gap of accuracies, true labels", at_most=0.01),
        Rule("gap of accuracies, half drawn anew", at_most=0.01),
    )
    epochs = 60

    def measure(self, ns, seed, epochs):
        (x, y), _, test = digits(seed)
        generator = torch.Generator().manual_seed(seed)
        accuracies, losses = [], []
        for share in SHARES:
            drawn = torch.rand(len(y), generator=generator) < share
            labels = torch.where(drawn, torch.randint(0, 10, y.shape, generator=generator), y)
            network = made(seed, models.mlp, ns, 64, 128, 10)
            train(ns, network, (x, labels), "Adam", lr=3e-3, epochs=epochs, batch_size=64, seed=seed)
            accuracies += [accuracy(network, (x, labels)), accuracy(network, test)]
            losses.append(value(ns, network, test))
        numbers = {
            "gap of accuracies, true labels": accuracies[0] - accuracies[1],
            "gap of accuracies, half drawn anew": accuracies[2] - accuracies[3],
            "training accuracy of labels without meaning": accuracies[4],
        }
        return Found(numbers, {"accuracies": accuracies, "losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        names = [f"{share:.0%},\n{part}" for share in SHARES for part in ("training", "test")]
        bars(axis, names, [run.curves["accuracies"] for run in runs])
        labelled(axis, "training labels drawn anew, part that is scored", "accuracy", legend=False)
