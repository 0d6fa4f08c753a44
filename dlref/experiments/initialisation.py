"""With which weights training begins, and what becomes of the error that is passed back."""

from __future__ import annotations

import math

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, differentiate, digits, labelled, made, train

LAYERS = 8
WAYS = ("zeros", "normal, 0.01", "Xavier", "normal, 1")


def start(ns, network, way):
    """Fill the weights; the biases are 0."""
    for layer in network:
        if hasattr(layer, "weight"):
            ns.init.zeros_(layer.bias)
            if way == "Xavier":
                ns.init.xavier_uniform_(layer.weight)
            else:
                ns.init.normal_(layer.weight, 0.0, 0.0 if way == "zeros" else float(way.split()[1]))


class Initialisation(Experiment):
    """The error that is passed back should die down on its way through the layers."""

    section = "4.2"
    setup = """A perceptron of 8 hidden layers of 32 tanh units on the digits, Adam at 0.001, 15 epochs, from four
    kinds of weights: size of the error that is passed back at the first layer over that at the last before training
    (by the biases' gradients), and the loss after it (chance: 2.303). By Xavier's rule it should keep its size, by
    normal weights of 0.01 die down."""
    rules = (
        Rule("loss in the end, dying down over keeping its size", at_most=1),
        Rule("log10 of first over last error, Xavier", at_most=-2),
    )
    epochs = 15
    compared = 1  # an error that has died down to rounding is made large by Adam

    def measure(self, ns, seed, epochs):
        data, _, _ = digits(seed)
        numbers, curves = {}, {}
        for way in WAYS:
            network = made(seed, models.mlp, ns, 64, (32,) * LAYERS, 10, "tanh")
            torch.manual_seed(seed)
            start(ns, network, way)
            differentiate(ns, network, data)
            norms = [layer.bias.grad.norm().item() for layer in network if hasattr(layer, "weight")]
            numbers[f"log10 of first over last error, {way}"] = math.log10(max(norms[0], 1e-16) / norms[-1])
            curves[way] = train(ns, network, data, "Adam", lr=1e-3, epochs=epochs, batch_size=64, seed=seed)
        ends = {way: losses[-1] for way, losses in curves.items()}
        numbers["loss in the end, dying down over keeping its size"] = ends["normal, 0.01"] / ends["Xavier"]
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for way in WAYS:
            lines = [run.curves[way] for run in runs]
            style = {"linestyle": "--", "zorder": 3} if way == "zeros" else {}
            band(axis, range(1, len(lines[0]) + 1), lines, way, **style)
        labelled(axis, "epoch", "training loss (nats)", yscale="log")
