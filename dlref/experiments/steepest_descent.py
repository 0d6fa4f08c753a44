"""Which way is down, and how far that is worth knowing."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import descend, labelled

SIZES = (1e-3, 1e-2, 1e-1, 1.0)
DIRECTIONS = 2000
CURVATURES = torch.tensor([1.0, 100.0], dtype=torch.float64)


class SteepestDescent(Experiment):
    """Against the gradient the error falls fastest, so that this is the way to the best parameters."""

    section = "3.4"
    setup = """A valley, f = (x^2 + 100 y^2)/2, from points on the circle of radius 1: of 2,000 random directions, how
    many get lower than the one against the gradient, for steps of 0.001 to 1; and the cosine of that direction with
    the one to the minimum."""
    rules = (
        Rule("share of directions that get lower, step 0.001", at_most=0.01),
        Rule("share of directions that get lower, step 1", at_most=0.01),
        Rule("cosine with the direction to the minimum", at_least=0.9),
    )

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        unit = lambda v: v / v.norm(dim=-1, keepdim=True)  # noqa: E731
        f = lambda v: 0.5 * (CURVATURES * v**2).sum(-1)  # noqa: E731
        starts = unit(torch.randn(50, 1, 2, generator=generator, dtype=torch.float64))
        others = unit(torch.randn(DIRECTIONS, 2, generator=generator, dtype=torch.float64))
        steep = unit(
            torch.stack(
                [
                    descend(ns, f, lambda v: CURVATURES * v, start.tolist(), 1, lr=1e-3).diff(dim=0)
                    for start in starts[:, 0]
                ]
            )
        )
        better = [
            (f(starts + size * others) < f(starts + size * steep) - 1e-12).double().mean().item() for size in SIZES
        ]
        numbers = {
            "share of directions that get lower, step 0.001": better[0],
            "share of directions that get lower, step 1": better[-1],
            "cosine with the direction to the minimum": -(steep * starts).sum(-1).mean().item(),
        }
        return Found(numbers, {"better": better})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for seed, run in enumerate(runs):
            axis.plot(SIZES, [100 * share for share in run.curves["better"]], "o-", label=f"seed {seed}")
        labelled(axis, "length of the step", "random directions that get lower, %", xscale="log")
