"""Routing of tokens to experts: each goes to the few that its gate gives most."""

from __future__ import annotations

import torch

from ...builtin import sequence as builtin
from ...builtin.nn import sequence as builtin_nn
from ...core.module import Manual
from ...core.pair import op
from .common import marked, wide
from .softmax import softmax


def _share(p, indices):
    r"""$f_e$: of the T k assignments the fraction that expert e gets, (E,)."""
    return marked(p, -1, indices).flatten(0, -2).mean(0) / indices.shape[-1]


@op(builtin=builtin.top_k_routing, outputs=("weights", "indices", "loss"))
def top_k_routing(logits, k):
    r"""Each token's k most probable experts, by how much it listens to each, and how evenly tokens are spread:
    $p = \mathrm{softmax}(z),\quad w_i = p_i / \sum_{j \in \mathrm{top}_k} p_j,\quad \ell = E \sum_e f_e P_e$.

    logits z (*, T, E) of T tokens and E experts, k of 1 to E; (weights (*, T, k), the largest first; indices (*, T, k); the
    balance loss $\ell$, a number over the tokens of all *). $P_e$ is the mean of $p_e$ over the tokens; $f_e$ the fraction that
    expert e gets of all assignments, k a token, so that $\sum_e f_e = 1$, and $\ell = 1$ where all are even, whatever k.
    (As a fraction of the tokens f and the loss are k times as large.) Which of equal logits goes first is `torch.topk`'s
    choice. RuntimeError where there is no such k, or no dimension of tokens. Shazeer et al. 2017, arXiv:1701.06538, eq. 3 to 5;
    Fedus et al. 2021, arXiv:2101.03961, eq. 4 to 6.
    """
    z = wide(logits)
    indices = logits.topk(k).indices
    p, w = softmax(z, -1), softmax(z.gather(-1, indices), -1)  # that of the k is that of all over their sum
    loss = z.shape[-1] * (_share(p, indices) * p.flatten(0, -2).mean(0)).sum()
    return (w.to(logits.dtype), indices, loss.to(logits.dtype)), ()


@top_k_routing.gradient
def top_k_routing_gradient(dy, indices, logits):
    r"""$dz = p \odot (dp - \sum dp \odot p)$ of the loss, with $dp_e = d\ell\,E f_e / T$ for each of T tokens (f counts, and
    has no derivative); and, at the chosen, $w \odot (dw - \sum dw \odot w)$ of the weights.
    """
    dw, _, dloss = dy
    z, dw = wide(logits), wide(dw)
    p, w = softmax(z, -1), softmax(z.gather(-1, indices), -1)
    tokens = max(z.shape[:-1].numel(), 1)
    dp = wide(dloss) * (z.shape[-1] / tokens) * _share(p, indices)
    return softmax.pull(dp.expand(z.shape), p, -1) + torch.zeros_like(z).scatter(-1, indices, softmax.pull(dw, w, -1))


class TopKRouting(Manual, builtin_nn.TopKRouting):
    """The module of `top_k_routing`."""

    op, attributes = top_k_routing, {"k": "k"}


@top_k_routing.prepare
def top_k_routing_prepare(logits, k):
    builtin.check_top_k_routing(logits, k)
    return logits, k
