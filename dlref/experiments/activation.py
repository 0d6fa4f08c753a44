"""Activations in the hidden layers: how fast they are, and how well they learn."""

from __future__ import annotations

import time

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, train

KINDS = {"ReLU": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "none": "Identity"}


def microseconds(ns, kind):
    """The median time of the activation of 256 x 128 numbers and its gradient, by hand or by autograd."""
    module, x = getattr(ns.nn, kind)(), torch.randn(256, 128)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        if hasattr(module, "vjp"):
            y, pullback = module.vjp(x)
            pullback(y)
        else:
            module(x.requires_grad_()).sum().backward()
        times.append(time.perf_counter() - start)
    return 1e6 * sorted(times)[50]


class Activation(Experiment):
    """Which activation is taken matters a great deal for what is learnt; ReLU is quick to compute."""

    section = "4.7"
    setup = """Perceptrons of 3 hidden layers of 32 units on the digits, Adam at 0.002, 15 epochs, with ReLU, tanh,
    sigmoid or none: the loss after 5 epochs, the test accuracy; and the time of the activation and its gradient by
    hand."""
    rules = (
        Rule("loss after 5 epochs, sigmoid over ReLU", at_least=2),
        Rule("test accuracy, ReLU less none", at_least=0.01),
        Rule("time of the activation, tanh over ReLU", at_least=1.5),
    )
    epochs = 15

    def measure(self, ns, seed, epochs):
        data, _, test = digits(seed)
        curves, accuracies, varying = {}, {}, {}
        for name, kind in KINDS.items():
            network = made(seed, models.mlp, ns, 64, (32, 32, 32), 10, kind)
            curves[name] = train(ns, network, data, "Adam", lr=2e-3, epochs=epochs, seed=seed)
            accuracies[name] = accuracy(network, test)
            varying[f"microseconds of {name}"] = microseconds(ns, kind)
        early = min(4, epochs - 1)
        numbers = {
            "loss after 5 epochs, sigmoid over ReLU": curves["sigmoid"][early] / curves["ReLU"][early],
            "test accuracy, ReLU less none": accuracies["ReLU"] - accuracies["none"],
        }
        varying["time of the activation, tanh over ReLU"] = (
            varying["microseconds of tanh"] / varying["microseconds of ReLU"]
        )
        return Found(numbers | {f"test accuracy, {name}": share for name, share in accuracies.items()}, curves, varying)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in KINDS:
            lines = [run.curves[name] for run in runs]
            band(axis, range(1, len(lines[0]) + 1), lines, name)
        labelled(axis, "epoch", "training loss (nats)", yscale="log")
