"""Rates for each coordinate, in a valley along an axis and in one aslant."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import contours, descend, steps_to
from .momentum import CURVATURES, valley_of

TURNS = {
    "along the axes": torch.eye(2, dtype=torch.float64),
    "aslant": torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / 2**0.5,  # by 45 degrees
}
RATES = (0.003, 0.01, 2 / 101, 0.03, 0.1, 0.3, 1.0)  # 2/101 is the best for plain descent
OPTIMIZERS = ("SGD", "Adagrad", "RMSprop", "Adam")
LOOK = 100


def walk(ns, matrix, start, steps, optimizer, rate):
    """The path of an optimizer over f = p.M p/2, and f along it."""
    path = descend(ns, lambda p: 0.5 * p @ matrix @ p, lambda p: matrix @ p, start, steps, optimizer, lr=rate)
    return path, 0.5 * ((path @ matrix) * path).sum(1)


class Valley(Experiment):
    """Adagrad, RMSprop and Adam give each parameter a rate of its own, and so overcome that a valley is steep one way
    and flat the other."""

    section = "3.4"
    setup = """f of curvatures 1 and 100, its axes along the coordinates or turned by 45 degrees, from random starts:
    steps until f is below a thousandth of its start, 400 at most; each optimizer at the one of seven rates whose f is
    least after 100 steps."""
    rules = (
        Rule("steps along the axes, SGD over the best of the three", at_least=2),
        Rule("steps aslant, SGD over the best of the three", at_least=2),
    )
    epochs = 400

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.rand(2, generator=generator, dtype=torch.float64) + 0.5).tolist()
        numbers, paths = {}, {}
        for how, turn in TURNS.items():
            matrix = turn @ torch.diag(CURVATURES) @ turn.t()
            start = (turn @ torch.tensor([-x, y], dtype=torch.float64)).tolist()
            steps = {}
            for name in OPTIMIZERS:
                look = min(LOOK, epochs)
                rate = min(RATES, key=lambda r: walk(ns, matrix, start, look, name, r)[1][-1].item())
                path, values = walk(ns, matrix, start, epochs, name, rate)
                steps[name] = max(steps_to(values, 1e-3 * values[0].item()), 1)
                paths[f"{name}, {how}"] = path[: LOOK + 1].tolist()
            numbers[f"steps {how}, SGD over the best of the three"] = steps.pop("SGD") / min(steps.values())
        return Found(numbers, paths)

    def plot(self, figure, runs):
        paths = {name: path for name, path in runs[0].curves.items() if name.endswith("aslant")}

        def slanting(x, y):
            return valley_of((x + y) / 2**0.5, (y - x) / 2**0.5)

        contours(figure, paths, slanting, (-2.2, 1.2), (-3.0, 1.2), columns=2)
