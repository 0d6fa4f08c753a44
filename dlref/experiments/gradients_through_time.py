"""What is left of a gradient after many steps back in time."""

from __future__ import annotations

import torch

from .. import builtin
from .base import Experiment, Found, Rule
from .common import band, labelled, made

STEPS, HIDDEN = 100, 32
NETWORKS = ("RNN, radius 0.8", "RNN, radius 1.5", "LSTM, forget bias 5")


def recurrent(ns, name):
    """An RNN whose recurrent weights have that spectral radius, or an LSTM whose forget gates begin open."""
    if name.startswith("LSTM"):
        network = ns.nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        with torch.no_grad():
            network.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 5
        return network
    network = ns.nn.RNN(HIDDEN, HIDDEN, nonlinearity="relu", batch_first=True)
    weight = network.weight_hh_l0
    with torch.no_grad():
        weight *= float(name.split()[-1]) / torch.linalg.eigvals(weight).abs().max()
    return network


def gradient(ns, network, x, direction):
    """dE/dx (N, T, I) of E = the last output times a direction."""
    if ns is builtin:
        x = x.clone().requires_grad_()
        (network(x)[0][:, -1] * direction).sum().backward()
        return x.grad
    (outputs, _), pullback = network.vjp(x)
    dy = torch.zeros_like(outputs)
    dy[:, -1] = direction
    return pullback((dy, None))[0]


class GradientsThroughTime(Experiment):
    """In a recurrent network what came out before bears on what comes out later."""

    section = "2.2"
    setup = """The norm of dE/dx t steps before the error, for RNNs (rectifier) of recurrent weights of spectral
    radius 0.8 and 1.5 and an LSTM whose forget gates begin open; 32 units, 100 steps, untrained. That gradient is how
    much the input of then bears on the output of now."""
    rules = (
        Rule("gradient 50 steps back over the last, RNN, radius 0.8", at_least=1e-3),
        Rule("gradient 50 steps back over the last, LSTM, forget bias 5", at_least=1e-3),
    )

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x = 0.1 * torch.randn(8, STEPS, HIDDEN, generator=generator, dtype=torch.float64)
        direction = torch.randn(8, HIDDEN, generator=generator, dtype=torch.float64)
        numbers, curves = {}, {}
        for name in NETWORKS:
            network = made(seed, recurrent, ns, name)
            norms = gradient(ns, network, x, direction).norm(dim=2).mean(0).flip(0)
            curves[name] = (norms / norms[0]).tolist()
            numbers[f"gradient 50 steps back over the last, {name}"] = curves[name][50]
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in NETWORKS:
            band(axis, range(STEPS), [run.curves[name] for run in runs], name)
        labelled(axis, "steps back from the error", "norm of the gradient, over that of the last step", yscale="log")
