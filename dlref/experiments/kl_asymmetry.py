"""The two directions of the Kullback-Leibler divergence."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import band, descend, labelled

GRID = torch.linspace(-8, 8, 161, dtype=torch.float64)


def log_q(point):
    """A bell curve on the grid, of mean m and deviation e^s for the point (m, s)."""
    return torch.log_softmax(-0.5 * ((GRID - point[0]) / point[1].exp()) ** 2, 0)


def slopes(point):
    """d log q / d(m, s), (2, grid): of the exponent, less its mean under q."""
    u = (GRID - point[0]) / point[1].exp()
    dz = torch.stack([u / point[1].exp(), u**2])
    return dz - (log_q(point).exp() * dz).sum(1, keepdim=True)


class KlAsymmetry(Experiment):
    """KL divergence is a similarity of two distributions, a distance that does not ask which of them is the
    model's."""

    section = "3.3"
    setup = """A bell curve q is fitted to a p of two hills, by D(p || q) and by D(q || p), with Adam from deviation 1
    and a mean 1 to 2 off the middle. Each direction's value for the same pair, and the two fits' deviations."""
    rules = (
        Rule("difference of the two directions, as a share", at_most=0.05),
        Rule("deviation of the fits, D(p || q) over D(q || p)", at_most=1.1),
    )
    epochs = 600

    def measure(self, ns, seed, epochs):
        hills = torch.stack([-0.5 * ((GRID - c) / 0.7) ** 2 for c in (-2.5, 2.5)])
        log_p = torch.log_softmax(torch.logsumexp(hills + torch.tensor([[0.0], [-0.3]]), 0), 0)
        p = log_p.exp()

        def forwards(point):
            return (p * (log_p - log_q(point))).sum()

        def forwards_gradient(point):
            return -(p * slopes(point)).sum(1)

        def backwards(point):
            return (log_q(point).exp() * (log_q(point) - log_p)).sum()

        def backwards_gradient(point):  # d(q log q - q log p) = q dlog q (log q - log p), as q dlog q sums to 0
            return (log_q(point).exp() * (log_q(point) - log_p) * slopes(point)).sum(1)

        offset = 1 + torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()
        start = (offset if seed % 2 else -offset, 0.0)
        ends = [
            descend(ns, f, g, start, epochs, "Adam", lr=0.02)[-1]
            for f, g in ((forwards, forwards_gradient), (backwards, backwards_gradient))
        ]
        there, back = forwards(ends[0]).item(), backwards(ends[0]).item()
        numbers = {
            "difference of the two directions, as a share": abs(there - back) / max(there, back),
            "deviation of the fits, D(p || q) over D(q || p)": (ends[0][1] - ends[1][1]).exp().item(),
        }
        return Found(
            numbers,
            {
                "p": p.tolist(),
                "D(p || q) least: covers both": log_q(ends[0]).exp().tolist(),
                "D(q || p) least: takes one": log_q(ends[1]).exp().tolist(),
            },
        )

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, line in runs[0].curves.items():
            band(axis, GRID.tolist(), [line], name, linewidth=3 if name == "p" else 1.5)
        labelled(axis, "x", "probability of a cell of the grid (seed 0)")
