"""Features that training finds, against features that were drawn."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, bars, digits, labelled, made, ratio, train, value

HIDDEN = (8, 32)


class LearnedFeatures(Experiment):
    """Training finds the features of the data by itself; a hidden layer that learns is better than one that does
    not."""

    section = "2.2"
    setup = """Perceptrons of one hidden layer on the digits, Adam, 30 epochs: all layers learn, or the hidden layer
    stays as it was drawn and the last layer alone learns."""
    rules = (
        Rule("errors of 32 units, drawn over learnt", at_least=2),
        Rule("accuracy of 32 units, learnt", at_least=0.95),
    )
    epochs = 30

    def measure(self, ns, seed, epochs):
        data, _, test = digits(seed)
        found, losses = {}, []
        for hidden in HIDDEN:
            for kind in ("learnt", "drawn"):
                network = made(seed, models.mlp, ns, 64, hidden, 10)
                network[0].requires_grad_(kind == "learnt")
                train(ns, network, data, "Adam", lr=3e-3, epochs=epochs, seed=seed)
                found[hidden, kind] = accuracy(network, test)
                losses.append(value(ns, network, test))
        errors = [1 - found[32, kind] for kind in ("drawn", "learnt")]
        numbers = {
            "errors of 32 units, drawn over learnt": ratio(errors[0], errors[1], 1 / 360),
            "accuracy of 32 units, learnt": found[32, "learnt"],
        }
        return Found(numbers, {"errors": [1 - share for share in found.values()], "losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        names = [f"{hidden},\n{kind}" for hidden in HIDDEN for kind in ("learnt", "drawn")]
        bars(axis, names, [[100 * e for e in run.curves["errors"]] for run in runs])
        labelled(axis, "hidden units, and whether their weights learn", "errors on the test part, %", legend=False)
