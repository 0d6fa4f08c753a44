"""Rates for each coordinate, in a valley along an axis and in one aslant."""

from __future__ import annotations

import torch

from .common import descend, steps_to
from .experiment import Experiment, Found, Rule
from .momentum import CURVATURES, contours, valley_of

TURN = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / 2**0.5  # by 45 degrees
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
OPTIMIZERS = {"SGD": {}, "Adagrad": {}, "RMSprop": {}, "Adam": {}}


class Valley(Experiment):
    """Adagrad, RMSprop and Adam give each parameter a rate of its own, and so overcome that a valley is steep one way and flat
    the other."""

    section = "3.4"
    setup = ("f of curvatures 1 and 100, its axes along the coordinates or turned by 45 degrees, from random starts: steps until f is "
             "below a thousandth of its start, 1,500 at most, each optimizer at the best of six rates (SGD: and at its best).")  # fmt: skip
    rules = (Rule("steps along the axes, SGD over the best of the three", at_least=2),
             Rule("steps aslant, SGD over the best of the three", at_least=2))  # fmt: skip
    epochs = 1500

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.rand(2, generator=generator, dtype=torch.float64) + 0.5).tolist()
        steps, paths = {}, {}
        for how, turn in (("along", torch.eye(2, dtype=torch.float64)), ("aslant", TURN)):
            matrix = turn @ torch.diag(CURVATURES) @ turn.t()
            start = turn @ torch.tensor([-x, y], dtype=torch.float64)
            for name in OPTIMIZERS:
                found = []
                for rate in (*RATES, 2 / 101) if name == "SGD" else RATES:
                    length = 100 if epochs > 100 else epochs  # a first look tells which rates may be the best
                    path = descend(ns, lambda p, m=matrix: 0.5 * p @ m @ p, lambda p, m=matrix: m @ p, start.tolist(), length,
                                   name, lr=rate)  # fmt: skip
                    values = 0.5 * ((path @ matrix) * path).sum(1)
                    found.append((values[-1].item(), rate))
                rate = min(found)[1]
                path = descend(ns, lambda p, m=matrix: 0.5 * p @ m @ p, lambda p, m=matrix: m @ p, start.tolist(),
                               min(epochs, 400), name, lr=rate)  # fmt: skip
                values = 0.5 * ((path @ matrix) * path).sum(1)
                steps[how, name] = max(steps_to(values, 1e-3 * values[0].item()), 1)
                paths[f"{name}, {how}"] = path[:101].tolist()
        numbers = {}
        for how, words in (("along", "along the axes"), ("aslant", "aslant")):
            best = min(steps[how, name] for name in OPTIMIZERS if name != "SGD")
            numbers[f"steps {words}, SGD over the best of the three"] = steps[how, "SGD"] / best
        return Found(numbers, paths)

    def plot(self, figure, runs):
        paths = {name: path for name, path in runs[0].curves.items() if name.endswith("aslant")}

        def slanting(x, y):
            return valley_of((x + y) / 2**0.5, (y - x) / 2**0.5)

        contours(figure, paths, slanting, (-2.2, 1.2), (-1.6, 1.2), columns=2)
