"""Whether the chain rule, layer by layer, gives the derivative of each weight."""

from __future__ import annotations

import math

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import differentiate, digits, labelled, made

STEPS = tuple(10.0**-k for k in range(1, 12))
PROBES = 30


class Backpropagation(Experiment):
    """Backpropagation finds the derivative of the error by every weight, by the chain rule from the last layer to the
    first."""

    section = "4.2"
    setup = """A perceptron 64-32-16-10 of tanh units on 50 digits: the gradient by backpropagation against (E(w + h)
    - E(w - h)) / 2h for 30 random weights and h from 0.1 to 1e-11; the largest difference, as a share of the largest
    slope."""
    rules = (
        Rule("log10 of the difference at the best h", at_most=-8),
        Rule("log10 of the difference at h = 1e-05", at_most=-7),
    )

    def measure(self, ns, seed, epochs):
        (x, y), _, _ = digits(seed)
        x, y = x[:50], y[:50]
        network, loss = made(seed, models.mlp, ns, 64, (32, 16), 10, "tanh"), ns.nn.CrossEntropyLoss()
        differentiate(ns, network, (x, y), loss)
        generator = torch.Generator().manual_seed(seed)
        weights = [layer.weight for layer in network if hasattr(layer, "weight")]
        slopes, estimates = [], {h: [] for h in STEPS}
        with torch.no_grad():
            for probe in range(PROBES):
                weight = weights[probe % len(weights)]
                place = int(torch.randint(weight.numel(), (1,), generator=generator))
                cell = weight.view(-1)[place : place + 1]
                slopes.append(weight.grad.flatten()[place].item())
                was = cell.item()
                for h in STEPS:
                    errors = []
                    for side in (h, -h):
                        cell.fill_(was + side)
                        errors.append(loss(network(x), y).item())
                    estimates[h].append((errors[0] - errors[1]) / (2 * h))
                cell.fill_(was)
        largest = max(map(abs, slopes))
        gaps = [max(abs(a - b) for a, b in zip(slopes, found, strict=True)) / largest for found in estimates.values()]
        logs = [math.log10(max(gap, 1e-17)) for gap in gaps]
        varying = {f"log10 of the difference at h = {h:g}": log for h, log in zip(STEPS, logs, strict=True)}
        return Found({}, {"slopes": slopes}, {"log10 of the difference at the best h": min(logs), **varying})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for seed, run in enumerate(runs):
            logs = [run.varying[f"log10 of the difference at h = {h:g}"] for h in STEPS]
            axis.plot(STEPS, logs, "o-", label=f"seed {seed}")
        labelled(axis, "h", "log10 of the difference over the largest slope", xscale="log")
