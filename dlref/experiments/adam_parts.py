"""What Adam is made of."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import band, descend, labelled

RATE = 0.01


class AdamParts(Experiment):
    """Adam is Adagrad and RMSprop joined, descent whose rate is rescaled."""

    section = "3.4"
    setup = """A slope of constant gradient with noise, 500 steps of rate 0.01: the length of each step, in rates.
    Without its momentum Adam should step as RMSprop once both have settled; and as Adagrad does, shorter and
    shorter."""
    rules = (
        Rule("late steps, Adam without momentum over RMSprop, less 1", at_most=0.02),
        Rule("Adam's late steps over its early ones", at_most=0.5),
    )
    epochs = 500

    def measure(self, ns, seed, epochs):
        ways = {
            "Adagrad": ("Adagrad", {}),
            "RMSprop": ("RMSprop", {"alpha": 0.99}),
            "Adam without momentum": ("Adam", {"betas": (0.0, 0.99)}),
            "Adam": ("Adam", {}),
        }
        curves = {}
        for name, (optimizer, arguments) in ways.items():
            generator = torch.Generator().manual_seed(seed)
            tilts = iter(1 + 0.3 * torch.randn(epochs, 10, generator=generator, dtype=torch.float64))
            path = descend(
                ns,
                lambda p, tilts=tilts: (next(tilts) * p).sum(),
                lambda p, tilts=tilts: next(tilts),
                (0.0,) * 10,
                epochs,
                optimizer,
                lr=RATE,
                **arguments,
            )
            curves[name] = (path.diff(dim=0).abs().mean(1) / RATE).tolist()
        late = slice(-max(epochs // 5, 1), None)
        early = slice(0, max(epochs // 50, 1))
        mean = lambda name, part: sum(curves[name][part]) / len(curves[name][part])  # noqa: E731
        numbers = {
            "late steps, Adam without momentum over RMSprop, less 1": abs(
                mean("Adam without momentum", late) / mean("RMSprop", late) - 1
            ),
            "Adam's late steps over its early ones": mean("Adam", late) / mean("Adam", early),
            "Adagrad's late steps over its early ones": mean("Adagrad", late) / mean("Adagrad", early),
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, line in runs[0].curves.items():
            band(axis, range(1, len(line) + 1), [run.curves[name] for run in runs], name)
        labelled(axis, "step", "length of a step, in rates", yscale="log")
