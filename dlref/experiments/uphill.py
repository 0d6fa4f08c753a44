"""Which way the signal points that is passed back."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, digits, labelled, made

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


class Uphill(Experiment):
    """What is passed back to a unit, the derivative of the error by its input, points down the error, where it falls
    fastest."""

    section = "4.2"
    setup = """A perceptron of 32 hidden units on 200 digits: the error after its weights have gone a step along the
    gradient and a step against it, over the error before, at rates from 0.001 to 0.1."""
    rules = (
        Rule("error after over before, along, rate 0.01", at_most=1),
        Rule("error after over before, along, rate 0.1", at_most=1),
    )

    def measure(self, ns, seed, epochs):
        (x, y), _, _ = digits(seed)
        x, y = x[:200], y[:200]
        curves = {"along": [], "against": []}
        loss = ns.nn.CrossEntropyLoss()
        for rate in RATES:
            for name, maximize in (("along", True), ("against", False)):
                network = made(seed, models.mlp, ns, 64, 32, 10)
                rule = ns.optim.SGD(network.parameters(), lr=rate, maximize=maximize)
                before = ns.training.step(network, loss, rule, x, y).item()
                with torch.no_grad():
                    curves[name].append(loss(network(x), y).item() / before)
        numbers = {
            f"error after over before, {name}, rate {rate:g}": curves[name][RATES.index(rate)]
            for name in curves
            for rate in (0.01, 0.1)
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in runs[0].curves:
            band(axis, RATES, [run.curves[name] for run in runs], f"{name} the gradient", marker="o")
        axis.axhline(1, color="grey", linestyle=":")
        labelled(axis, "rate of one step", "error after over error before", xscale="log")
