"""What no perceptron can do, however many weights it has."""

from __future__ import annotations

import warnings

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, bars, labelled, made, train

CORNERS = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64)
LONGER = 64


class Xor(Experiment):
    """How much a perceptron can represent is a matter of how long its weight vector is."""

    section = "3.5.1"
    setup = """AND and XOR of two signs. A perceptron of 2 weights, and one of 64 whose further inputs are linear maps
    of the two; for XOR also a perceptron with a hidden layer of 8 tanh units (SGD, 500 epochs)."""
    rules = (Rule("AND, 2 weights", at_least=1), Rule("XOR, 64 weights", at_least=1))
    epochs = 500

    def measure(self, ns, seed, epochs):
        both, either = (CORNERS.sum(1) > 1).long(), (CORNERS.prod(1) < 0).long()
        generator = torch.Generator().manual_seed(seed)
        longer = CORNERS @ torch.randn(2, LONGER, generator=generator, dtype=torch.float64)
        found = {}
        for name, x, y in (
            ("AND, 2 weights", CORNERS, both),
            ("XOR, 2 weights", CORNERS, either),
            ("XOR, 64 weights", longer, either),
        ):
            model = ns.nn.Perceptron(x.shape[1], 2, dtype=torch.float64)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "the perceptron still made")
                model.fit(x, y, max_iter=100, seed=seed)
            found[name] = (model.predict(x) == y).double().mean().item()
        network = made(seed, models.mlp, ns, 2, 8, 2, "tanh")
        losses = train(ns, network, (CORNERS, either), lr=0.3, epochs=epochs, batch_size=4, seed=seed)
        found["XOR, hidden layer"] = accuracy(network, (CORNERS, either))
        return Found(found, {"losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        names = list(runs[0].numbers)
        bars(
            axis, [name.replace(", ", ",\n") for name in names], [[run.numbers[name] for name in names] for run in runs]
        )
        labelled(axis, "function, perceptron", "accuracy on the four corners", legend=False)
