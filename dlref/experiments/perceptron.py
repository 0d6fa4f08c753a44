"""The perceptron's rule where a line separates the classes."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import labelled

MARGINS = (0.05, 0.1, 0.2, 0.4)


def separable(seed, margin, number=200):
    """Points of the unit disc, none of them nearer than the margin to a line through its middle; x (N, 2), y (N,)."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(1, generator=generator, dtype=torch.float64)
    normal = torch.cat([angle.cos(), angle.sin()])
    x = 2 * torch.rand(20 * number, 2, generator=generator, dtype=torch.float64) - 1
    z = x @ normal
    x = x[(x.norm(dim=1) <= 1) & (z.abs() >= margin)][:number]
    return x, (x @ normal > 0).long()


class Perceptron(Experiment):
    """Correcting its weights by each sample that it gets wrong, the perceptron comes to weights that get none wrong,
    where there are such weights."""

    section = "3.5.1"
    setup = """200 points of the unit disc on both sides of a line, none nearer to it than a margin of 0.05 to 0.4;
    the rule until a pass is without a mistake. Novikoff's bound on the mistakes is (R / margin)^2, here 2 /
    margin^2."""
    rules = (Rule("accuracy in the end", at_least=1), Rule("mistakes over Novikoff's bound, at most", at_most=1))

    def measure(self, ns, seed, epochs):
        mistakes, right = [], []
        for margin in MARGINS:
            x, y = separable(seed, margin)
            model = ns.nn.Perceptron(2, 2, dtype=torch.float64)
            found = model.fit(x, y, seed=seed)
            mistakes.append(float(found.mistakes.sum()))
            right.append((model.predict(x) == y).double().mean().item())
        bounds = [2 / margin**2 for margin in MARGINS]
        worst = max(m / bound for m, bound in zip(mistakes, bounds, strict=True))
        return Found(
            {"accuracy in the end": min(right), "mistakes over Novikoff's bound, at most": worst},
            {"mistakes": mistakes, "bounds": bounds},
        )

    def plot(self, figure, runs):
        axis = figure.subplots()
        for seed, run in enumerate(runs):
            axis.plot(MARGINS, run.curves["mistakes"], "o-", label=f"seed {seed}")
        axis.plot(MARGINS, runs[0].curves["bounds"], "k:", label="Novikoff's bound")
        labelled(axis, "margin", "mistakes until there are none", xscale="log", yscale="log")
        axis.set_xticks(MARGINS, MARGINS)
        axis.minorticks_off()
