"""All samples at once, one, or some."""

from __future__ import annotations

import time

from .. import models
from .base import Experiment, Found, Rule
from .common import band, digits, labelled, made, train

BATCHES = {"all (1,257)": (1257, 0.5), "some (32)": (32, 0.1), "one": (1, 0.01)}  # batch size, rate


class SingleSamples(Experiment):
    """Stochastic gradient descent, which takes one sample an update, suits large data better than all samples an
    update."""

    section = "3.4"
    setup = """A perceptron of 64 hidden units on the digits, plain SGD, 5 passes, with all samples, 32 or one in an
    update, each at a rate that suits it (0.5, 0.1, 0.01). In practice some are taken: that is tried too."""
    rules = (
        Rule("loss after 5 passes, all over one", at_least=2),
        Rule("loss after 5 passes, some over one", at_least=0.8),
        Rule("time of a pass, one over some", at_most=2),
    )
    epochs = 5

    def measure(self, ns, seed, epochs):
        data, _, _ = digits(seed)
        curves, varying = {}, {}
        for name, (size, rate) in BATCHES.items():
            network = made(seed, models.mlp, ns, 64, 64, 10)
            start = time.perf_counter()
            curves[name] = train(ns, network, data, lr=rate, epochs=epochs, batch_size=size, seed=seed)
            varying[name] = time.perf_counter() - start
        every, some, one = (losses[-1] for losses in curves.values())
        numbers = {"loss after 5 passes, all over one": every / one, "loss after 5 passes, some over one": some / one}
        return Found(numbers, curves, {"time of a pass, one over some": varying["one"] / varying["some (32)"]})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, losses in runs[0].curves.items():
            label = f"{name} in an update"
            band(axis, range(1, len(losses) + 1), [run.curves[name] for run in runs], label, marker="o")
        labelled(axis, "passes through the data", "training loss (nats)", yscale="log")
