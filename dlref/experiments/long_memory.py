"""What recurrent networks remember: a symbol at the beginning, asked for at the end."""

from __future__ import annotations

import torch

from .base import Experiment, Found, Rule
from .common import accuracy, band, labelled, made, train, value

LENGTHS = (5, 20, 40)
SYMBOLS = 2


def sequences(length, seed, number=640):
    """A symbol, then noise in another channel: (N, length, SYMBOLS + 1), and the symbol (N,)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, SYMBOLS, (number,), generator=generator)
    x = torch.zeros(number, length, SYMBOLS + 1, dtype=torch.float64)
    x[torch.arange(number), 0, y] = 1
    x[:, 1:, SYMBOLS] = torch.randn(number, length - 1, generator=generator, dtype=torch.float64)
    return x, y


def reader(ns, kind):
    """A recurrent layer of 16 units, and an affine layer after its last step."""
    recurrent = getattr(ns.nn, kind)(SYMBOLS + 1, 16, batch_first=True)
    if kind == "LSTM":
        with torch.no_grad():
            recurrent.bias_ih_l0[16:32] = 5  # the forget gates begin open, as is usual
    return ns.nn.Sequential(ns.nn.LastStep(recurrent), ns.nn.Linear(16, SYMBOLS))


class LongMemory(Experiment):
    """In a recurrent network what came before bears on what comes after; recurrent networks, whichever their kind,
    are fit for sequences."""

    section = "2.2"
    setup = """One of two symbols, then noise, for 5, 20 or 40 steps; which symbol was it? RNN and LSTM of 16 units,
    Adam at 0.01, 8 epochs of 640 sequences; accuracy on 640 others, where guessing gives 0.5."""
    rules = (
        Rule("accuracy of the LSTM over 40 steps", at_least=0.95),
        Rule("accuracy of the RNN over 40 steps", at_least=0.95),
    )
    epochs = 8
    compared = 2  # an early gradient over 40 steps is hardly more than rounding, which Adam makes large

    def measure(self, ns, seed, epochs):
        found, losses = {}, []
        for kind in ("RNN", "LSTM"):
            found[kind] = []
            for length in LENGTHS:
                network = made(seed, reader, ns, kind)
                train(ns, network, sequences(length, seed), "Adam", lr=0.01, epochs=epochs, seed=seed)
                others = sequences(length, seed + 1000)
                found[kind].append(accuracy(network, others))
                losses.append(value(ns, network, others))
        numbers = {f"accuracy of the {kind} over 40 steps": values[-1] for kind, values in found.items()}
        return Found(numbers, found | {"losses": losses})

    def plot(self, figure, runs):
        axis = figure.subplots()
        for kind in ("RNN", "LSTM"):
            band(axis, LENGTHS, [run.curves[kind] for run in runs], kind, marker="o")
        axis.axhline(1 / SYMBOLS, color="grey", linestyle=":", label="guessing")
        labelled(axis, "steps between the symbol and the question", "accuracy on other sequences", ylim=(0, 1.05))
