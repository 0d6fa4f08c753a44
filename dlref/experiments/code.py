"""Autoencoders against principal components."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, digits, labelled, made, train, value

CODES = (2, 8, 16)


def principal_components(x, x_test, number):
    """x_test through the first principal components of x."""
    mean = x.mean(0)
    _, _, rows = torch.linalg.svd(x - mean, full_matrices=False)
    return mean + (x_test - mean) @ rows[:number].t() @ rows[:number]


class Code(Experiment):
    """An autoencoder learns a short code of its input; because it is not linear, a better one than principal
    components are."""

    section = "2.1"
    setup = """Digits through 2, 8 and 16 numbers and back: 64-128-code-128-64 with rectifiers, the same without, and
    principal components; Adam with a cosine, 25 epochs; mean square error of test images, in variances of all
    pixels."""
    rules = (
        Rule("error of code 8, autoencoder over components", at_most=0.9),
        Rule("error of code 8, components over linear autoencoder", at_least=0.9),
    )
    epochs = 25

    def measure(self, ns, seed, epochs):
        (x, _), _, (x_test, _) = digits(seed)
        found = {"autoencoder": [], "linear autoencoder": [], "principal components": []}
        for code in CODES:
            for name, activation in (("autoencoder", "relu"), ("linear autoencoder", "Identity")):
                network = made(seed, models.autoencoder, ns, code=code, activation=activation)
                train(
                    ns,
                    network,
                    (x, x),
                    "Adam",
                    lr=3e-3,
                    epochs=epochs,
                    batch_size=64,
                    seed=seed,
                    loss=ns.nn.MSELoss(),
                    schedule=lambda rule: ns.optim.lr_scheduler.CosineAnnealingLR(rule, epochs),
                )
                found[name].append(value(ns, network, (x_test, x_test), ns.nn.MSELoss()))
            found["principal components"].append(
                (principal_components(x, x_test, code) - x_test).square().mean().item()
            )
        ours, linear, components = (values[1] for values in found.values())
        numbers = {
            "error of code 8, autoencoder over components": ours / components,
            "error of code 8, components over linear autoencoder": components / linear,
        }
        return Found(numbers, found)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name in runs[0].curves:
            band(axis, CODES, [run.curves[name] for run in runs], name, marker="o")
        labelled(axis, "numbers in the code", "mean square error of test images", yscale="log", xticks=CODES)
