"""Batch size at one rate, and at a rate that grows with it."""

from __future__ import annotations

import time

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, train

SIZES = (4, 16, 64, 256, 1257)


class BatchSize(Experiment):
    """Small batches make training take long."""

    section = "4.6"
    setup = """A perceptron of 64 hidden units on the digits, SGD at rate 0.05, batches of 4 to 1,257: seconds of 8
    epochs, the training loss after them, and the test accuracy."""
    rules = (
        Rule("time of an epoch, batch 4 over 256", at_least=3),
        Rule("loss after 8 epochs, batch 4 over 256", at_least=1),
    )
    epochs = 8

    def measure(self, ns, seed, epochs):
        data, _, test = digits(seed)
        losses, accuracies, seconds = [], [], []
        for size in SIZES:
            network = made(seed, models.mlp, ns, 64, 64, 10)
            start = time.perf_counter()
            losses.append(train(ns, network, data, lr=0.05, epochs=epochs, batch_size=size, seed=seed)[-1])
            seconds.append((time.perf_counter() - start) / epochs)
            accuracies.append(accuracy(network, test))
        varying = {f"seconds of an epoch, batch {size}": second for size, second in zip(SIZES, seconds, strict=True)}
        varying["time of an epoch, batch 4 over 256"] = seconds[0] / seconds[3]
        numbers = {"loss after 8 epochs, batch 4 over 256": losses[0] / losses[3]}
        return Found(numbers, {"training loss": losses, "test accuracy": accuracies}, varying)

    def plot(self, figure, runs):
        left, right = figure.subplots(1, 2)
        band(left, SIZES, [run.curves["training loss"] for run in runs], "mean and range of the seeds", marker="o")
        labelled(left, "batch size", "training loss after 8 epochs (nats)", xscale="log", yscale="log")
        seconds = [[1e3 * run.varying[f"seconds of an epoch, batch {size}"] for size in SIZES] for run in runs]
        band(right, SIZES, seconds, "mean and range of the seeds", marker="o")
        labelled(right, "batch size", "milliseconds of an epoch", xscale="log", yscale="log")
