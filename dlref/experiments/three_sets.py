"""Why what was chosen on a validation set is not judged by it."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, train, value

CANDIDATES = 24
FEW = 60


class ThreeSets(Experiment):
    """A validation set serves to choose hyperparameters, and a test set of its own to judge what was chosen: the
    score by which the best was chosen is too good."""

    section = "3.2"
    setup = """24 small networks (8 units, rates from 0.003 to 0.1, seeds) on 300 digits; the best on 60 validation
    images is chosen. Its validation accuracy against its accuracy on the 360 test images, and that of a mean
    candidate."""
    rules = (
        Rule("validation over test accuracy of the chosen", at_least=0.01),
        Rule("test accuracy, chosen over mean candidate", at_least=0.0),
    )
    epochs = 8

    def measure(self, ns, seed, epochs):
        (x, y), (x_validation, y_validation), test = digits(seed)
        validation = x_validation[:FEW], y_validation[:FEW]
        scores, losses = [], []
        for candidate in range(CANDIDATES):
            network = made(100 * seed + candidate, models.mlp, ns, 64, 8, 10)
            rate = 0.003 * (0.1 / 0.003) ** (candidate % 8 / 7)
            train(ns, network, (x[:300], y[:300]), "Adam", lr=rate, epochs=epochs, seed=candidate)
            scores.append((accuracy(network, validation), accuracy(network, test)))
            losses.append(value(ns, network, test))
        best = [max(scores[: n + 1]) for n in range(CANDIDATES)]
        numbers = {
            "validation over test accuracy of the chosen": best[-1][0] - best[-1][1],
            "test accuracy, chosen over mean candidate": best[-1][1] - sum(b for _, b in scores) / CANDIDATES,
        }
        return Found(
            numbers,
            {
                "validation part, by which it is chosen": [a for a, _ in best],
                "test part": [b for _, b in best],
                "losses": losses,
            },
        )

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in ("validation part, by which it is chosen", "test part"):
            band(axis, range(1, CANDIDATES + 1), [run.curves[name] for run in runs], name)
        labelled(axis, "candidates among which the best is chosen", "accuracy of the best")
