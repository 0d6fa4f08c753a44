"""What activations leave of a gradient that goes through many layers."""

from __future__ import annotations

import math

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, differentiate, digits, labelled, made

LAYERS, WIDTH = 20, 64
KINDS = {"ReLU": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}


class ActivationDepth(Experiment):
    """The drawback of ReLU is that gradients vanish or explode."""

    section = "4.7"
    setup = """Perceptrons of 20 hidden layers of 64 units on 200 digits, weights by Kaiming's rule for ReLU and
    Xavier's for the others: the length of the first hidden layer's weights' gradient over the last one's
    (logarithm)."""
    rules = (
        Rule("log10 of first over last gradient, ReLU less sigmoid", at_most=-1),
        Rule("size of log10 of first over last gradient, ReLU", at_least=2),
    )

    def measure(self, ns, seed, epochs):
        (x, y), _, _ = digits(seed)
        x, y = x[:200], y[:200]
        curves = {}
        for name, kind in KINDS.items():
            network = made(seed, models.mlp, ns, 64, (WIDTH,) * LAYERS, 10, kind)
            torch.manual_seed(seed)
            layers = [layer for layer in network if hasattr(layer, "weight")]
            for layer in layers:
                ns.init.zeros_(layer.bias)
                if kind == "relu":
                    ns.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    ns.init.xavier_normal_(layer.weight)
            differentiate(ns, network, (x, y))
            norms = [layer.weight.grad.norm().item() for layer in layers[:-1]]
            curves[name] = [math.log10(norm / norms[-1]) for norm in norms]
        relu, _, sigmoid = (line[0] for line in curves.values())
        numbers = {
            "log10 of first over last gradient, ReLU less sigmoid": relu - sigmoid,
            "size of log10 of first over last gradient, ReLU": abs(relu),
        }
        return Found(
            numbers | {f"log10 of first over last gradient, {name}": line[0] for name, line in curves.items()}, curves
        )

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in KINDS:
            band(axis, range(1, LAYERS + 1), [run.curves[name] for run in runs], name)
        labelled(axis, "hidden layer", "log10 of its gradient over the last one's", xticks=range(1, LAYERS + 1, 3))
