"""What more examples are worth."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, train, value

SIZES = (40, 80, 160, 320, 640, 1257)


class TrainingSize(Experiment):
    """A trained network generalises: on data that it has not seen it is as good as on those that it has."""

    section = "2.2"
    setup = """A perceptron of 64 hidden units on the first 40 to 1,257 training digits, Adam, 1,500 steps each;
    accuracy on what it was trained on and on the test part."""
    rules = (
        Rule("gap of accuracies with 1,257 images", at_most=0.03),
        Rule("gap of accuracies with 40 images", at_most=0.03),
    )
    epochs = 38

    def measure(self, ns, seed, epochs):
        (x, y), _, test = digits(seed)
        curves = {"training part": [], "test part": []}
        losses = []
        for size in SIZES:
            part = x[:size], y[:size]
            network = made(seed, models.mlp, ns, 64, 64, 10)
            train(ns, network, part, "Adam", lr=3e-3, epochs=epochs * SIZES[-1] // size if epochs > 1 else 1, seed=seed)
            curves["training part"].append(accuracy(network, part))
            curves["test part"].append(accuracy(network, test))
            losses.append(value(ns, network, test))
        gaps = [a - b for a, b in zip(*curves.values(), strict=True)]
        numbers = {"gap of accuracies with 1,257 images": gaps[-1], "gap of accuracies with 40 images": gaps[0]}
        return Found(numbers, curves | {"losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in ("training part", "test part"):
            band(axis, SIZES, [run.curves[name] for run in runs], name, marker="o")
        labelled(axis, "training images", "accuracy", xscale="log")
        axis.set_xticks(SIZES, SIZES)
        axis.minorticks_off()
