"""How hard a loss pulls where the answer is badly wrong."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import band, differentiate, labelled, made, train

LOGITS = tuple(range(-10, 11))


class Saturation(Experiment):
    """Cross entropy answers to wrong outputs as wrong as they are: the worse the output, the larger the loss and its
    pull."""

    section = "3.3"
    setup = """One sigmoid unit whose target is 1. The gradient of cross entropy and of squared error at logits from
    -10 to 10; and how many steps of rate 1 lead out of -8 (seeds: ± 0.5) to an output above 0.9, 2,000 at most."""
    rules = (
        Rule("gradient at logit -10, cross entropy over squared error", at_least=100),
        Rule("steps out of -8, squared error over cross entropy", at_least=10),
    )
    epochs = 2000

    def measure(self, ns, seed, epochs):
        one = torch.ones(1, 1, dtype=torch.float64)
        start = torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() - 8.5
        losses = {
            "cross entropy": ([], ns.nn.BCEWithLogitsLoss()),
            "squared error": ([ns.nn.Sigmoid()], ns.nn.MSELoss()),
        }
        gradients, steps = {}, {}
        for name, (after, loss) in losses.items():
            unit = made(seed, ns.nn.Linear, 1, 1, bias=False)  # of input 1: its weight is the logit
            network = ns.nn.Sequential(unit, *after)
            gradients[name] = []
            for logit in LOGITS:
                torch.nn.init.constant_(unit.weight, logit)
                differentiate(ns, network, (one, one), loss)
                gradients[name].append(unit.weight.grad.abs().item())
            torch.nn.init.constant_(unit.weight, start)
            steps[name] = 0

            def arrived(record, unit=unit, name=name):
                steps[name] = record["epoch"]
                return torch.sigmoid(unit.weight).item() > 0.9

            train(ns, network, (one, one), lr=1.0, epochs=epochs, loss=loss, callback=arrived)
        entropy, squared = gradients.values()
        numbers = {
            "gradient at logit -10, cross entropy over squared error": entropy[0] / squared[0],
            "steps out of -8, squared error over cross entropy": steps["squared error"] / steps["cross entropy"],
        }
        return Found(numbers, gradients)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, line in runs[0].curves.items():
            band(axis, LOGITS, [line], name)
        labelled(axis, "logit of a unit whose target is 1", "size of the gradient", yscale="log")
