"""What losses cost."""

from __future__ import annotations

import time

import torch

from .. import builtin, models
from .base import Experiment, Found, Rule
from .common import bars, labelled, made

ROUNDS = 200
NAMES = ("squared error", "cross entropy", "KL divergence")


def seconds(action, rounds):
    """The median time of an action."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def both_ways(ns, loss, z, y):
    """The loss and its gradient."""
    if ns is builtin:
        z = z.clone().requires_grad_()
        loss(z, y).backward()
        return z.grad
    return loss.vjp(z, y)[1]()[0]


class LossCost(Experiment):
    """Cross entropy is dear to compute, and KL divergence dearer still, with probabilities that must be normalised
    first."""

    section = "4.4"
    setup = """Loss and gradient of 256 rows of 10 outputs, by hand, and a step of a perceptron of 128 hidden units on
    them; medians of 200. The step's time is what the cost of a loss is measured by."""
    rules = (
        Rule("time of cross entropy over squared error", at_least=1.5),
        Rule("share of cross entropy in a step", at_least=0.25),
    )
    epochs = ROUNDS

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(256, 64, generator=generator)
        y = torch.randint(0, 10, (256,), generator=generator)
        network = made(seed, models.mlp, ns, 64, 128, 10).float()
        with torch.no_grad():
            z = network(x)
        rows = torch.eye(10)[y]
        entropy = ns.nn.CrossEntropyLoss()
        normalise, divergence = ns.nn.LogSoftmax(1), ns.nn.KLDivLoss(reduction="batchmean")

        def kl():
            if ns is builtin:
                return both_ways(ns, lambda a, b: divergence(normalise(a), b), z, rows)
            log_q, back = normalise.vjp(z)
            return back(divergence.vjp(log_q, rows)[1]()[0])[0]

        actions = {
            "squared error": lambda: both_ways(ns, ns.nn.MSELoss(), z, rows),
            "cross entropy": lambda: both_ways(ns, entropy, z, y),
            "KL divergence": kl,
        }
        rule = ns.optim.SGD(network.parameters(), lr=0.0)
        varying = {name: seconds(action, epochs) for name, action in actions.items()}
        varying["a step"] = seconds(lambda: ns.training.step(network, entropy, rule, x, y), epochs)
        varying["time of cross entropy over squared error"] = varying["cross entropy"] / varying["squared error"]
        varying["share of cross entropy in a step"] = varying["cross entropy"] / varying["a step"]
        same = (kl() - actions["cross entropy"]()).abs().max().item()
        return Found({"largest difference of the gradients of KL and cross entropy": round(same, 6)}, varying=varying)

    def plot(self, figure, runs):
        axis = figure.subplots()
        names = (*NAMES, "a step")
        bars(axis, names, [[1e6 * run.varying[name] for name in names] for run in runs])
        labelled(axis, "loss and its gradient, and a whole step", "microseconds", legend=False)
