"""How far a batch's gradient is from that of all data."""

from __future__ import annotations

import math

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, differentiate, digits, labelled, made, train

SIZES = (1, 4, 16, 64, 256)
DRAWS = 40


def gradient(ns, network, x, y):
    """The gradient of the mean loss, as one row."""
    differentiate(ns, network, (x, y))
    return torch.cat([p.grad.flatten() for p in network.parameters()])


class GradientNoise(Experiment):
    """With small batches training swings: the smaller, the further its gradient is from that of all data."""

    section = "4.6"
    setup = """A perceptron of 32 hidden units after 2 epochs on the digits: gradients of 40 batches drawn with
    replacement, of 1 to 256 images, less that of all data; root mean square length over the whole's. Theory: it falls
    as size to the -1/2."""
    rules = (
        Rule("noise of batch 1 over noise of batch 256", at_least=4),
        Rule("power of the size", at_least=-0.55, at_most=-0.45),
    )
    epochs = 2

    def measure(self, ns, seed, epochs):
        (x, y), _, _ = digits(seed)
        network = made(seed, models.mlp, ns, 64, 32, 10)
        train(ns, network, (x, y), lr=0.1, epochs=epochs, seed=seed)
        whole = gradient(ns, network, x, y).clone()
        generator = torch.Generator().manual_seed(seed)
        noises = []
        for size in SIZES:
            total = 0.0
            for _ in range(DRAWS):
                drawn = torch.randint(len(x), (size,), generator=generator)
                total += (gradient(ns, network, x[drawn], y[drawn]) - whole).square().sum().item()
            noises.append(math.sqrt(total / DRAWS) / whole.norm().item())
        logs = torch.tensor([[math.log(s), 1.0] for s in SIZES])
        power = torch.linalg.lstsq(logs, torch.tensor([[math.log(noise)] for noise in noises])).solution[0].item()
        numbers = {"noise of batch 1 over noise of batch 256": noises[0] / noises[-1], "power of the size": power}
        return Found(numbers, {"noise": noises})

    def plot(self, figure, runs):
        axis = figure.subplots()
        band(axis, SIZES, [run.curves["noise"] for run in runs], "measured", marker="o")
        first = sum(run.curves["noise"][0] for run in runs) / len(runs)
        axis.plot(SIZES, [first / size**0.5 for size in SIZES], "k:", label="as the size to the -1/2")
        labelled(axis, "batch size", "distance from the whole gradient, over its length", xscale="log", yscale="log")
