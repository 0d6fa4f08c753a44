"""Depth against width, at one number of parameters."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, bars, digits, labelled, made, parameters, ratio, train, value

NETWORKS = {1: (64,), 2: (41, 41), 4: (29,) * 4}  # each of 4,795 to 4,810 parameters


class Depth(Experiment):
    """What makes a network good is that it is deep: more layers learn what is more abstract."""

    section = "2.2"
    setup = """Perceptrons of 1, 2 and 4 hidden layers and as many parameters (4,800) on the digits, Adam at 0.003, 30
    epochs; errors on the test part."""
    rules = (Rule("errors, 1 layer over 2", at_least=1.2), Rule("errors, 1 layer over 4", at_least=1.2))
    epochs = 30
    compared = 10  # after more the differences of rounding have grown beyond the agreement

    def measure(self, ns, seed, epochs):
        data, _, test = digits(seed)
        errors, losses, sizes = {}, [], []
        for depth, hidden in NETWORKS.items():
            network = made(seed, models.mlp, ns, 64, hidden, 10)
            train(ns, network, data, "Adam", lr=3e-3, epochs=epochs, seed=seed)
            errors[depth] = 1 - accuracy(network, test)
            losses.append(value(ns, network, test))
            sizes.append(parameters(network))
        numbers = {f"errors, 1 layer over {n}": ratio(errors[1], errors[n], 1 / 360) for n in (2, 4)}
        return Found(numbers, {"errors": list(errors.values()), "losses": losses, "parameters": sizes})

    def plot(self, figure, runs):
        axis = figure.subplots()
        names = [f"{depth} of {hidden[0]}" for depth, hidden in NETWORKS.items()]
        bars(axis, names, [[100 * e for e in run.curves["errors"]] for run in runs])
        labelled(axis, "hidden layers, units in each", "errors on the test part, %", legend=False)
