"""What cross entropy is where the model is right, and what it asks of p times q."""

from __future__ import annotations

import torch

from .. import models
from .base import Experiment, Found, Rule
from .common import band, labelled, made, train

SHARPNESS = {
    "0.5": 0.5,
    "1": 1.0,
    "2": 2.0,
    "5": 5.0,
    "one-hot": 1e9,
}  # what the true distribution's logits are multiplied by


class EntropyFloor(Experiment):
    """Where the model's distribution is the true one, each product p q is 1 and the cross entropy is zero."""

    section = "3.3"
    setup = """The true distribution is the softmax of a linear map of the input, from nearly even to one-hot; a
    linear model learns it by cross entropy (Adam, 100 epochs). What it ends at, beside the entropy of p and the KL
    divergence."""
    rules = (
        Rule("cross entropy in the end, soft targets", at_most=0.01),
        Rule("cross entropy in the end, one-hot targets", at_most=0.05),
        Rule("largest p q, soft targets", at_least=0.99),
    )
    epochs = 100

    def measure(self, ns, seed, epochs):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(400, 4, generator=generator, dtype=torch.float64)
        scores = x @ torch.randn(4, 3, generator=generator, dtype=torch.float64)
        curves = {"cross entropy in the end": [], "entropy of p": [], "KL divergence in the end": []}
        products = []
        for sharpness in SHARPNESS.values():
            log_p = torch.log_softmax(sharpness * scores, 1)
            p = log_p.exp()
            network = made(seed, models.softmax_regression, ns, 4, 3)
            train(ns, network, (x, p), "Adam", lr=0.3, epochs=epochs, batch_size=100, seed=seed)
            with torch.no_grad():
                log_q = torch.log_softmax(network(x), 1)
            curves["cross entropy in the end"].append(-(p * log_q).sum(1).mean().item())
            curves["entropy of p"].append(-torch.where(p > 0, p * log_p, 0).sum(1).mean().item())
            curves["KL divergence in the end"].append(torch.where(p > 0, p * (log_p - log_q), 0).sum(1).mean().item())
            products.append((p * log_q.exp()).max().item())
        numbers = {
            "cross entropy in the end, soft targets": curves["cross entropy in the end"][0],
            "cross entropy in the end, one-hot targets": curves["cross entropy in the end"][-1],
            "KL divergence in the end, soft targets": curves["KL divergence in the end"][0],
            "largest p q, soft targets": products[0],
        }
        return Found(numbers, curves)

    def plot(self, figure, runs):
        axis = figure.subplots()
        for name, style in zip(runs[0].curves, ("-", ":", "--"), strict=True):
            band(axis, range(len(SHARPNESS)), [run.curves[name] for run in runs], name, linestyle=style, marker="o")
        labelled(axis, "sharpness of the true distribution (from even to one-hot)", "nats")
        axis.set_xticks(range(len(SHARPNESS)), SHARPNESS)
