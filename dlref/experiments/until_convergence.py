"""The loop of backpropagation: does each of its rounds make the error less?"""

from __future__ import annotations

import itertools

from .. import models
from .base import Experiment, Found, Rule
from .common import band, digits, labelled, made, value

RATE, BATCH = 0.1, 32


class UntilConvergence(Experiment):
    """Forward, error, chain rule, update, batch after batch: each round makes the error less, until it has converged."""

    section = "4.1"
    setup = """A perceptron of 64 hidden units on the digits, plain SGD at 0.1 in batches of 32, 12 epochs. After each step
    the error of all training data: how many steps made it less, how many epochs did, and by what the last epoch did."""
    rules = (
        Rule("share of epochs that make the error less", at_least=0.99),
        Rule("share of steps that make the error less", at_least=0.99),
        Rule("error after the last epoch over before it", at_least=0.99, at_most=1.01),
    )
    epochs = 12

    def measure(self, ns, seed, epochs):
        data, _, _ = digits(seed)
        network, loss = made(seed, models.mlp, ns, 64, 64, 10), ns.nn.CrossEntropyLoss()
        rule = ns.optim.SGD(network.parameters(), lr=RATE)
        errors = [value(ns, network, data)]
        for epoch in range(1, epochs + 1):
            for x, y in ns.training.minibatches(data, BATCH, seed, epoch):
                ns.training.step(network, loss, rule, x, y)
                errors.append(value(ns, network, data))
        by_epoch = errors[:: (len(errors) - 1) // epochs]
        numbers = {
            "share of epochs that make the error less": falling(by_epoch),
            "share of steps that make the error less": falling(errors),
            "error after the last epoch over before it": by_epoch[-1] / by_epoch[-2],
        }
        return Found(numbers, {"error of all data": errors})

    def plot(self, figure, runs):
        axis = figure.subplots()
        lines = [run.curves["error of all data"] for run in runs]
        band(axis, range(len(lines[0])), lines, "mean and range of the seeds")
        labelled(axis, "step", "error of all training data (nats)", yscale="log")


def falling(errors):
    """The share of its steps that a row of numbers goes down."""
    return sum(b < a for a, b in itertools.pairwise(errors)) / (len(errors) - 1)
