"""Weights that all places share, on digits that do not stand still."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, bars, digits, labelled, made, parameters, ratio, train, value

SIZE = 12
NETWORKS = {
    "shared (CNN)": lambda ns: models.cnn(ns, size=SIZE, channels=(6, 12), hidden=24),
    "not shared": lambda ns: models.locally_connected(ns, size=SIZE, channels=(4, 4)),
    "all to all (MLP)": lambda ns: ns.nn.Sequential(ns.nn.Flatten(), *models.mlp(ns, SIZE**2, 32, 10)),
}


def shifted(pair, seed):
    """Each image of 8 x 8 somewhere in one of 12 x 12, the rest of which is of the same background."""
    x, y = pair
    generator = torch.Generator().manual_seed(seed)
    canvas = x.new_full((len(x), 1, SIZE, SIZE), float(x.min()))
    for image, big, (row, column) in zip(x, canvas, torch.randint(0, 5, (len(x), 2), generator=generator), strict=True):
        big[:, row : row + 8, column : column + 8] = image
    return canvas, y


class WeightSharing(Experiment):
    """A convolutional network makes use of where things are in an image: sharing its weights over all places, it
    knows a digit wherever it stands."""

    section = "2.1"
    setup = """Digits of 8 x 8, each at a random place of 12 x 12, to train and to test; a CNN, a network of the same
    kind of windows whose weights are not shared, and a perceptron, of 5,200, 12,500 and 5,000 parameters; Adam, 8
    epochs."""
    rules = (Rule("errors, MLP over CNN", at_least=2), Rule("errors, not shared over CNN", at_least=1.5))
    epochs = 8

    def measure(self, ns, seed, epochs):
        data, _, test = digits(seed, images=True)
        data, test = shifted(data, seed), shifted(test, seed + 1000)
        errors, losses, sizes = [], [], []
        for make in NETWORKS.values():
            network = made(seed, make, ns)
            train(ns, network, data, "Adam", lr=3e-3, epochs=epochs, seed=seed)
            errors.append(1 - accuracy(network, test))
            losses.append(value(ns, network, test))
            sizes.append(parameters(network))
        shared, local, dense = errors
        numbers = {
            "errors, MLP over CNN": ratio(dense, shared, 1 / 360),
            "errors, not shared over CNN": ratio(local, shared, 1 / 360),
        }
        return Found(numbers, {"errors": errors, "losses": losses, "parameters": sizes})

    def plot(self, figure, runs):
        axis = figure.subplots()
        sizes = runs[0].curves["parameters"]
        names = [f"{name}\n{size:,} parameters" for name, size in zip(NETWORKS, sizes, strict=True)]
        bars(axis, names, [[100 * e for e in run.curves["errors"]] for run in runs])
        labelled(axis, "network", "errors on shifted test images, %", legend=False)
