"""Rectifiers that answer to nothing any more."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, digits, labelled, made, train

RATES = (0.01, 0.1, 0.3, 1.0)
KINDS = {"ReLU": "relu", "leaky ReLU": "LeakyReLU"}


@torch.no_grad()
def dead(network, x):
    """The share of the hidden units that are below 0 for every image, on which a rectifier's gradient is 0."""
    return (network[0](x) <= 0).all(0).double().mean().item()


class DeadUnits(Experiment):
    """Hidden layers should be of ReLU."""

    section = "4.7"
    setup = """A perceptron of 128 hidden units on the digits, SGD in batches of 32, 8 epochs at rates from 0.01 to 1:
    the share of hidden units that are off for every training image and learn no more, beside leaky ReLU, whose are
    off but go on learning."""
    rules = (Rule("share of dead units at rate 0.1", at_most=0.02), Rule("share of dead units at rate 1", at_most=0.02))
    epochs = 8

    def measure(self, ns, seed, epochs):
        data, _, _ = digits(seed)
        curves = {name: [] for name in KINDS}
        losses = []
        for name, kind in KINDS.items():
            for rate in RATES:
                network = made(seed, models.mlp, ns, 64, 128, 10, kind)
                losses.append(train(ns, network, data, lr=rate, epochs=epochs, seed=seed)[-1])
                curves[name].append(dead(network, data[0]))
        numbers = {
            "share of dead units at rate 0.1": curves["ReLU"][1],
            "share of dead units at rate 1": curves["ReLU"][-1],
            "share of leaky units that are off at rate 1": curves["leaky ReLU"][-1],
        }
        return Found(numbers, curves | {"losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in KINDS:
            band(axis, RATES, [[100 * s for s in run.curves[name]] for run in runs], name, marker="o")
        labelled(axis, "learning rate", "hidden units off for every image, %", xscale="log")
