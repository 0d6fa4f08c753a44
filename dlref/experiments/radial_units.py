"""Radial units and a hidden layer, against how many there are and what they are to fit."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, labelled, made, train

UNITS = (5, 10, 20, 40, 80)
TARGETS = {
    "smooth": lambda x: torch.sin(3 * x) * torch.exp(-x / 2),
    "with a jump": lambda x: torch.sin(3 * x) + (x > 0.3),
}


class RadialUnits(Experiment):
    """A network of radial basis functions comes as near as one likes to any smooth function, with units enough; a
    perceptron of one hidden layer fits nonlinear data too."""

    section = "3.5.2"
    setup = """400 points of a smooth function and of one with a jump on [-2, 2]; 5 to 80 Gaussian units on a regular
    grid with the last layer by least squares, and as many tanh units by Adam (80 epochs); root mean square error at
    1,000 points. Off the data is [2, 3]."""
    rules = (
        Rule("log10 error of 80 radial units, smooth", at_most=-3),
        Rule("log10 error of 80 tanh units, smooth", at_most=-3),
    )
    epochs = 80

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x = 4 * torch.rand(400, 1, generator=generator, dtype=torch.float64) - 2
        z = torch.linspace(-2, 2, 1000, dtype=torch.float64).unsqueeze(1)
        curves = {}

        def error(network, f, z):
            with torch.no_grad():
                return torch.log10((network(z) - f(z)).square().mean().sqrt()).item()

        for name, f in TARGETS.items():
            curves[f"radial, {name}"] = []
            for units in UNITS:
                network = made(seed, models.rbf_network, ns, 1, units, 1)
                with torch.no_grad():
                    network[0].centers.copy_(torch.linspace(-2, 2, units).unsqueeze(1))
                network[0].fit_widths(scale=2)
                models.least_squares(network, x, f(x), ridge=1e-10)
                curves[f"radial, {name}"].append(error(network, f, z))
            if name == "smooth":
                away = error(network, f, z / 4 + 2.5)
        smooth = TARGETS["smooth"]
        curves["tanh, smooth"] = []
        for units in UNITS:
            network = made(seed, models.mlp, ns, 1, units, 1, "tanh")
            train(
                ns,
                network,
                (x, smooth(x)),
                "Adam",
                lr=0.1,
                epochs=epochs,
                batch_size=50,
                seed=seed,
                loss=ns.nn.MSELoss(),
                schedule=lambda rule: ns.optim.lr_scheduler.CosineAnnealingLR(rule, epochs),
            )
            curves["tanh, smooth"].append(error(network, smooth, z))
        numbers = {
            "log10 error of 80 radial units, smooth": curves["radial, smooth"][-1],
            "log10 error of 80 tanh units, smooth": curves["tanh, smooth"][-1],
            "log10 error of 80 radial units, with a jump": curves["radial, with a jump"][-1],
            "log10 error of 80 radial units off the data": away,
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in runs[0].curves:
            band(axis, UNITS, [run.curves[name] for run in runs], name, marker="o")
        labelled(axis, "units", "log10 of the root mean square error", xscale="log")
        axis.set_xticks(UNITS, UNITS)
        axis.minorticks_off()
