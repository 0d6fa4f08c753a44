"""Recurrent models: a classifier that reads an image row by row, and a language model of characters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.modes import finest
from ..core.names import one_of
from ..core.sizes import within_memory

KINDS = ("RNN", "LSTM", "GRU")


@within_memory
def row_classifier(
    ns: Any, kind: str = "LSTM", features: int = 8, classes: int = 10, hidden: int = 64, layers: int = 1
) -> Any:
    r"""A recurrent layer over the rows of an image, one affine layer after the last row.

    kind: "RNN", "LSTM" or "GRU". Input (N, C, rows, features), the channels' rows one after the other; output (N, classes).
    ValueError for another kind.
    """
    one_of("kind", kind, KINDS)
    rnn = getattr(ns.nn, kind)(features, hidden, layers, batch_first=True)
    return ns.nn.Sequential(ns.nn.Flatten(1, 2), ns.nn.LastStep(rnn), ns.nn.Linear(hidden, classes))


@within_memory
def language_model(
    ns: Any, symbols: int, kind: str = "LSTM", embedding: int = 32, hidden: int = 128, layers: int = 1
) -> Any:
    r"""A recurrent model of $p(x_{t+1} \mid x_1, \dots, x_t)$ over `symbols` characters.

    Input (N, T) integers, output (N, symbols, T) logits, to be trained by CrossEntropyLoss against the input shifted by
    one. ValueError for another kind than those of `row_classifier`. Graves 2013, arXiv:1308.0850, section 2.
    """
    one_of("kind", kind, KINDS)
    rnn = getattr(ns.nn, kind)(embedding, hidden, layers, batch_first=True)
    return ns.nn.SequenceModel(ns.nn.Embedding(symbols, embedding), rnn, ns.nn.Linear(hidden, symbols))


@torch.no_grad()
def sample(
    model: Any,
    prompt: Tensor,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Symbols drawn one by one, each fed back: $x_{t+1} \sim \mathrm{softmax}(z_t / \tau)$, (N, length).

    prompt: (N, T) integers, T at least 1. temperature: $\tau > 0$; near 0 the likeliest symbol, 1 the model's own
    distribution. top_k: draw among the k likeliest only. ValueError where a number is out of its range.
    """
    if prompt.dim() != 2 or not prompt.shape[1]:
        raise ValueError(f"the prompt must be (N, T) with at least one symbol, it is {tuple(prompt.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, it is {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, it is {top_k}")
    training = model.training
    model.eval()
    drawn, state, symbol = [], None, prompt
    for _ in range(length):
        logits, state = model.step(symbol, state)
        z = logits[:, -1].to(finest(logits.device)) / temperature
        if top_k is not None:
            least = z.topk(min(top_k, z.shape[1])).values[:, -1:]
            z = torch.where(z < least, -torch.inf, z)
        p = torch.exp(z - z.amax(1, keepdim=True))
        symbol = torch.multinomial(p, 1, generator=generator)
        drawn.append(symbol)
    model.train(training)
    return torch.cat(drawn, 1) if drawn else prompt[:, :0]
