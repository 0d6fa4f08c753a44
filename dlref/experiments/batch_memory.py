"""What of the memory of a training step grows with the batch."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import labelled, made

SIZES = (1, 8, 64, 512, 4096)
NETWORKS = {"MLP 64-128-10": lambda ns: models.mlp(ns, 64, 128, 10), "CNN": lambda ns: models.cnn(ns)}


class BatchMemory(Experiment):
    """Large batches take so much memory that large networks cannot be trained."""

    section = "4.6"
    setup = """Bytes of the layers' outputs, which the gradient needs, for batches of 1 to 4,096 digits, over the
    bytes of parameters, their gradients and Adam's two averages; float32."""
    rules = (
        Rule("CNN, batch 512: outputs over parameters and the rest", at_least=1),
        Rule("MLP, batch 512: outputs over parameters and the rest", at_least=1),
        Rule("CNN, outputs at batch 512 over 64", at_least=7.9, at_most=8.1),
    )

    def measure(self, ns, seed, epochs):
        curves = {}
        for name, make in NETWORKS.items():
            network = made(seed, make, ns).float()
            fixed = 4 * sum(p.nbytes for p in network.parameters())
            curves[name] = []
            for size in SIZES:
                x = torch.randn(size, *((64,) if name.startswith("MLP") else (1, 8, 8)))
                outputs = 0
                with torch.no_grad():
                    for layer in network:
                        x = layer(x)
                        outputs += x.nbytes
                curves[name].append(outputs / fixed)
        (dense, convolutional), at = curves.values(), SIZES.index(512)
        numbers = {
            "CNN, batch 512: outputs over parameters and the rest": convolutional[at],
            "MLP, batch 512: outputs over parameters and the rest": dense[at],
            "CNN, outputs at batch 512 over 64": convolutional[at] / convolutional[at - 1],
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, line in runs[0].curves.items():
            axis.plot(SIZES, line, "o-", label=name)
        axis.axhline(1, color="grey", linestyle=":", label="as much as parameters, gradients and averages")
        labelled(axis, "batch size", "bytes of the outputs, over those that do not grow", xscale="log", yscale="log")
