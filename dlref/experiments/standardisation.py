"""What the pixels are standardised by."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import EXAMPLE, accuracy, bars, digits, labelled, made, ratio, train, value

SCALES = {"nothing": None, "all pixels": "global", "each pixel": "feature", "each image": "global"}


def by_image(pair):
    x, y = pair
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0), y


class Standardisation(Experiment):
    """Pixels are standardised so that training becomes easier; subtracting each row's mean and dividing by its
    deviation is what the example does."""

    section = "5.2"
    setup = """The example's network (128 hidden units, SGD with Nesterov momentum 0.9 at 0.01, batches of 200), 30
    epochs, on pixels from 0 to 16 as they are, standardised by one mean and deviation of all, by those of each pixel,
    or of each image. A step on pixels that are k times as large does what one at k squared times the rate does."""
    rules = (
        Rule("test errors, nothing over all pixels", at_least=1.2),
        Rule("training loss, nothing over all pixels", at_least=1.2),
    )
    epochs = 30

    def measure(self, ns, seed, epochs):
        errors, losses, ends = {}, [], {}
        for name, scale in SCALES.items():
            data, _, test = digits(seed, scale=scale)
            if name == "each image":
                data, test = by_image(data), by_image(test)
            network = made(seed, models.mlp, ns, 64, 128, 10)
            ends[name] = train(ns, network, data, epochs=epochs, seed=seed, **EXAMPLE)[-1]
            errors[name] = 1 - accuracy(network, test)
            losses.append(value(ns, network, test))
        numbers = {
            "test errors, nothing over all pixels": ratio(errors["nothing"], errors["all pixels"], 1 / 360),
            "training loss, nothing over all pixels": ends["nothing"] / ends["all pixels"],
        }
        return Found(numbers, {"errors": list(errors.values()), "losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        bars(axis, list(SCALES), [[100 * e for e in run.curves["errors"]] for run in runs])
        labelled(
            axis,
            "the mean and deviation that pixels are standardised by are those of",
            "errors on the test part, %",
            legend=False,
        )
