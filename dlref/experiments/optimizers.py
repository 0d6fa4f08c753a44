"""Five optimizers on the digits."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, ratio, train, value

# Name: optimizer, its arguments, and the rates among which the validation part chooses.
OPTIMIZERS = {
    "SGD": ("SGD", {}, (0.03, 0.1, 0.3)),
    "momentum": ("SGD", {"momentum": 0.9}, (0.01, 0.03, 0.1)),
    "Adagrad": ("Adagrad", {}, (0.01, 0.03, 0.1)),
    "RMSprop": ("RMSprop", {}, (0.0003, 0.001, 0.003)),
    "Adam": ("Adam", {}, (0.001, 0.003, 0.01)),
}


class Optimizers(Experiment):
    """Momentum and Adam are better than plain gradient descent."""

    section = "3.4"
    setup = """A perceptron of 64 hidden units on the digits, batches of 32, 10 epochs, each optimizer at the one of
    three rates whose validation loss is least; errors on the test part, and the training loss after 3 epochs."""
    rules = (
        Rule("loss after 3 epochs, SGD over Adam", at_least=1.2),
        Rule("loss after 3 epochs, SGD over momentum", at_least=1.2),
        Rule("test errors, SGD over Adam", at_least=1.2),
    )
    epochs = 10

    def measure(self, ns, seed, epochs):
        data, validation, test = digits(seed)
        curves, errors = {}, {}
        for name, (optimizer, arguments, rates) in OPTIMIZERS.items():
            tried = []
            for rate in rates:
                network = made(seed, models.mlp, ns, 64, 64, 10)
                losses = train(ns, network, data, optimizer, lr=rate, epochs=epochs, seed=seed, **arguments)
                tried.append((value(ns, network, validation), rate, losses, 1 - accuracy(network, test)))
            _, _, curves[name], errors[name] = min(tried)
        early = {name: losses[min(2, epochs - 1)] for name, losses in curves.items()}
        numbers = {
            "loss after 3 epochs, SGD over Adam": early["SGD"] / early["Adam"],
            "loss after 3 epochs, SGD over momentum": early["SGD"] / early["momentum"],
            "test errors, SGD over Adam": ratio(errors["SGD"], errors["Adam"], 1 / 360),
        }
        return Found(numbers | {f"test errors, {name}": share for name, share in errors.items()}, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, losses in runs[0].curves.items():
            band(axis, range(1, len(losses) + 1), [run.curves[name] for run in runs], name)
        labelled(axis, "epoch", "training loss (nats)", yscale="log")
