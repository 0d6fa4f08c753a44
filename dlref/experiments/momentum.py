"""What momentum does in a narrow valley."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import contours, descend, steps_to

CURVATURES = torch.tensor([1.0, 100.0], dtype=torch.float64)
# Of the best rate and momentum for curvatures a < b (Polyak 1964): rate 4 / (sqrt a + sqrt b)^2, momentum ((sqrt b - sqrt a) /
# (sqrt b + sqrt a))^2; without momentum the best rate is 2 / (a + b).
WAYS = {
    "plain, best rate": (2 / 101, 0.0),
    "momentum 0.9, the same rate": (2 / 101, 0.9),
    "momentum 0.67, best rate": (4 / 121, (9 / 11) ** 2),
}


def valley(point):
    return 0.5 * (CURVATURES * point**2).sum()


def valley_gradient(point):
    return CURVATURES * point


class Momentum(Experiment):
    """Momentum, which goes on along former gradients, makes descent faster and damps its swinging from side to
    side."""

    section = "3.4"
    setup = """f = (x^2 + 100 y^2)/2 from random starts: steps until f is below a millionth of its start, and how far
    y travels in all; plain descent at its best rate, momentum 0.9 at the same rate, and both numbers at their
    best."""
    rules = (
        Rule("steps, plain over momentum at its best", at_least=2),
        Rule("steps, plain over momentum 0.9", at_least=1.2),
        Rule("way across the valley, momentum 0.9 over plain", at_most=1),
    )
    epochs = 800

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.rand(2, generator=generator, dtype=torch.float64) + 0.5).tolist()
        paths, steps, ways = {}, {}, {}
        for name, (rate, momentum) in WAYS.items():
            path = descend(ns, valley, valley_gradient, (-x, y), epochs, lr=rate, momentum=momentum)
            values = 0.5 * (CURVATURES * path**2).sum(1)
            steps[name] = steps_to(values, 1e-6 * values[0].item())
            ways[name] = path[:, 1].diff().abs().sum().item()
            paths[name] = path[:61].tolist()
        plain, same, best = steps.values()
        names = list(WAYS)
        numbers = {
            "steps, plain over momentum at its best": plain / best,
            "steps, plain over momentum 0.9": plain / same,
            "way across the valley, momentum 0.9 over plain": ways[names[1]] / ways[names[0]],
            "way across the valley, momentum at its best over plain": ways[names[2]] / ways[names[0]],
        }
        return Found(numbers, paths)

    def plot(self, figure, runs):
        contours(figure, runs[0].curves, valley_of, (-1.6, 1.0), (-5.5, 5.5))


def valley_of(x, y):
    return 0.5 * (x**2 + 100 * y**2)
