"""A rate that falls, against one that stays."""

from __future__ import annotations

from .. import models
from .base import Experiment, Found, Rule
from .common import accuracy, band, digits, labelled, made, train, value

EPOCHS = 20


class LearningRateDecay(Experiment):
    """A rate that is made smaller step by step leads to the optimum in the end, where one that stays does not."""

    section = "4.5"
    setup = """Softmax regression with weight decay 0.01 on the digits, whose least loss is one; batches of 8, 20
    epochs; rate 0.1 throughout, 0.1 falling to 0 as a cosine, and 0.002 throughout. The loss on all training data
    above the least."""
    rules = (
        Rule("excess loss, 0.1 throughout over falling", at_least=3),
        Rule("excess loss, 0.002 throughout over falling", at_least=1.5),
    )
    epochs = EPOCHS

    def measure(self, ns, seed, epochs):
        data, _, test = digits(seed)
        decay = 0.01

        def objective(network):
            squares = sum(p.square().sum().item() for p in network.parameters())
            return value(ns, network, data) + 0.5 * decay * squares

        best = made(seed, models.softmax_regression, ns, 64, 10)
        whole = dict(batch_size=len(data[0]), momentum=0.95, weight_decay=decay, seed=seed)
        train(ns, best, data, lr=0.3, epochs=20 * epochs, **whole)
        least, curves = objective(best), {}
        for name, rate, falls in (("0.1", 0.1, False), ("0.1, falling to 0", 0.1, True), ("0.002", 0.002, False)):
            network, curves[name] = made(seed, models.softmax_regression, ns, 64, 10), []

            def watch(record, network=network, name=name):
                curves[name].append(max(objective(network) - least, 1e-9))

            cosine = lambda rule: ns.optim.lr_scheduler.CosineAnnealingLR(rule, epochs)  # noqa: E731
            train(
                ns,
                network,
                data,
                lr=rate,
                epochs=epochs,
                batch_size=8,
                seed=seed,
                weight_decay=decay,
                schedule=cosine if falls else None,
                callback=watch,
            )
        stays, falls, small = (curve[-1] for curve in curves.values())
        numbers = {
            "excess loss, 0.1 throughout over falling": stays / falls,
            "excess loss, 0.002 throughout over falling": small / falls,
        }
        return Found(numbers | {"test accuracy at the least loss": accuracy(best, test)}, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, losses in runs[0].curves.items():
            band(axis, range(1, len(losses) + 1), [run.curves[name] for run in runs], f"rate {name}")
        labelled(axis, "epoch", "loss above the least (nats)", yscale="log")
