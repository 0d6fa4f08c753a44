"""Fast forms of linear attention: a chunk of steps at a time, within it by products of matrices."""

from __future__ import annotations

import torch

from ..nn.common import finite, wide
from ..nn.linear_attention import gated_delta_rule, linear_attention

CHUNK = 64  # steps, a power of 2: the products within a chunk grow with it, what is between chunks shrinks


def _long(*values):
    """Whether there are steps enough for products, and finite numbers in each: nought times a later infinity would be NaN."""
    q, *_ = tensors = [t for t in values if isinstance(t, torch.Tensor)]
    return q.shape[-2] > 1 and q.numel() > 0 and all(map(finite, tensors))


def _chunked(t):
    """(*, T, n) as (*, chunks, C, n), of C steps each, with steps of nought behind the last."""
    t, length = wide(t), t.shape[-2]
    size = min(CHUNK, 1 << (length - 1).bit_length())
    if missing := -length % size:
        t = torch.cat((t, t.new_zeros(*t.shape[:-2], missing, t.shape[-1])), -2)
    return t.unflatten(-2, (-1, size))


def _whole(t, like):
    """(*, chunks, C, n) as (*, T, n), T as like's."""
    return t.flatten(-3, -2)[..., : like.shape[-2], :]


def _lower(t, diagonal=0):
    """Zero where the column is later than the row, or not earlier for a diagonal of -1; written over."""
    i = torch.arange(t.shape[-1], device=t.device)
    return t.masked_fill_(i.unsqueeze(1) + diagonal < i, 0)


# --- linear attention -------------------------------------------------------------------------------------------


def _before(terms, dim):
    """At each place along the dimension the sum of all before it."""
    sums = terms.cumsum(dim).roll(1, dim)
    sums.select(dim, 0).zero_()
    return sums


@linear_attention.kernel(where=_long)
def linear_attention_forward(q, k, v, scale):
    Q, K, V = (_chunked(t) for t in (q, k, v))
    o = Q @ _before(K.mT @ V, -3)
    o += _lower(Q @ K.mT) @ V
    return _whole(o.mul_(scale), q).to(q.dtype), ()


@linear_attention.kernel_gradient
def linear_attention_gradient(dy, needs, q, k, v, scale):
    Q, K, V, D = (_chunked(t) for t in (q, k, v, dy))
    D = D * scale
    dq = dk = dv = None
    P = _lower(D @ V.mT)  # of the scores within a chunk
    if needs.q:
        dq = _whole((D @ _before(K.mT @ V, -3).mT).add_(P @ K), q)
    if needs.k or needs.v:
        later = _before((Q.mT @ D).flip(-3), -3).flip(-3)
        dk = _whole((V @ later.mT).add_(P.mT @ Q), k)
        dv = _whole((K @ later).add_(_lower(Q @ K.mT).mT @ D), v)
    return dq, dk, dv


# --- the gated delta rule ---------------------------------------------------------------------------------------


def _decays(g):
    r"""$\Gamma_{ij} = e^{g_{j+1} + \dots + g_i}$ for $j \le i$, else 0, of g (*, C); and $e^{g_1 + \dots + g_i}$.

    Each sum is taken by itself: a difference of two sums from the start has lost what is small beside them.
    """
    n = g.shape[-1]
    i = torch.arange(n, device=g.device)
    each = g.unsqueeze(-1).expand(*g.shape, n).masked_fill(i.unsqueeze(1) <= i, 0)
    return _lower(each.cumsum(-2).exp_()), g.cumsum(-1).exp().unsqueeze(-1)


def _inverse(L):
    r"""$(I + L)^{-1}$ of L (*, n, n), strictly lower triangular, n a power of 2: from blocks of 1 to one of n, by
    $\begin{pmatrix} A & 0 \\ B & C \end{pmatrix}^{-1} = \begin{pmatrix} A^{-1} & 0 \\ -C^{-1} B A^{-1} & C^{-1} \end{pmatrix}$.
    """
    n = L.shape[-1]
    T = torch.eye(n, dtype=L.dtype, device=L.device).expand(L.shape).clone()
    size = 1
    while size < n:
        blocks = T.view(*T.shape[:-2], n // (2 * size), 2 * size, n // (2 * size), 2 * size).diagonal(0, -4, -2)
        of_L = L.view(*L.shape[:-2], n // (2 * size), 2 * size, n // (2 * size), 2 * size).diagonal(0, -4, -2)
        blocks, of_L = blocks.movedim(-1, -3), of_L.movedim(-1, -3)
        first, second = slice(0, size), slice(size, 2 * size)
        blocks[..., second, first] = -(
            blocks[..., second, second] @ of_L[..., second, first] @ blocks[..., first, first]
        )
        size *= 2
    return T


class _Chunks:
    r"""What the steps of all chunks are by themselves, whatever state they begin with.

    With $S_0$ the state before a chunk and $u_i = \beta_i (v_i - A_i^\top k_i)$ what step i writes, $S_i = e^{\gamma_i} S_0 +
    \sum_{j \le i} \Gamma_{ij} k_j u_j^\top$, and so $(I + L)\,U = \beta \odot (V - e^\gamma \odot K S_0)$ with
    $L_{ij} = \beta_i \Gamma_{ij}\,k_i^\top k_j$ for j < i. Its inverse T gives all u of a chunk at once.
    """

    def __init__(self, q, k, v, beta, g):
        self.Q, self.K, self.V, self.B, G = (_chunked(t) for t in (q, k, v, beta.unsqueeze(-1), g.unsqueeze(-1)))
        self.decay, self.first = _decays(G.squeeze(-1))
        self.last = self.decay[..., -1, :].unsqueeze(-1)  # from each step to the chunk's end
        self.similar = (self.K @ self.K.mT).mul_(self.decay)
        self.L = _lower(self.similar * self.B, -1)
        self.T = _inverse(self.L)
        self.scores = (self.Q @ self.K.mT).mul_(self.decay)

    def states(self):
        """The state before each chunk, and what its steps write to it, U."""
        W, U = self.T @ (self.B * self.first * self.K), self.T @ (self.B * self.V)
        S, states = U.new_zeros(*U.shape[:-3], self.K.shape[-1], U.shape[-1]), []
        keys = (self.last * self.K).mT
        for n in range(U.shape[-3]):
            states.append(S)
            u = U[..., n, :, :].sub_(W[..., n, :, :] @ S)
            S = self.first[..., n, -1:, :] * S + keys[..., n, :, :] @ u
        return torch.stack(states, -3), U


@gated_delta_rule.kernel(where=_long)
def gated_delta_rule_forward(q, k, v, beta, g, scale):
    chunks = _Chunks(q, k, v, beta, g)
    S, U = chunks.states()
    o = (chunks.first * chunks.Q) @ S
    return _whole(o.add_(chunks.scores @ U).mul_(scale), q).to(q.dtype), ()


@gated_delta_rule.kernel_gradient
def gated_delta_rule_gradient(dy, q, k, v, beta, g, scale):
    c = _Chunks(q, k, v, beta, g)
    S, U = c.states()
    D = _chunked(dy) * scale
    rate = c.B * c.first
    # Back from the last chunk: R is the gradient of what T is applied to, H that of the state behind the chunk.
    R, H = c.scores.mT @ D, torch.empty_like(S)
    dS = torch.zeros_like(S[..., 0, :, :])
    keys, read, rated = c.last * c.K, (c.first * c.Q).mT, (rate * c.K).mT
    for n in reversed(range(S.shape[-3])):
        H[..., n, :, :] = dS
        du = R[..., n, :, :].add_(keys[..., n, :, :] @ dS)
        R[..., n, :, :] = r = c.T[..., n, :, :].mT @ du
        dS = c.first[..., n, -1:, :] * dS
        dS += read[..., n, :, :] @ D[..., n, :, :]
        dS -= rated[..., n, :, :] @ r
    of_scores, of_L = _lower(D @ U.mT), _lower(R @ U.mT, -1).neg_()
    state = c.K @ S  # what the state before the chunk has of each key
    in_scores, in_L = of_scores * c.decay, of_L * c.decay * c.B
    past, written = D @ S.mT, U @ H.mT
    dq = past * c.first + in_scores @ c.K
    dk = in_scores.mT @ c.Q + in_L @ c.K + in_L.mT @ c.K + c.last * written - rate * (R @ S.mT)
    dv = c.B * R
    dbeta = (R * (c.V - c.first * state)).sum(-1) + (of_L * c.similar).sum(-1)
    # g_l is in the decay from j to i for j < l <= i, from the chunk's start to i for l <= i, from j to its end for j < l.
    pairs = of_scores.mul_(c.scores).add_(of_L.mul_(c.L))
    begun = c.first.squeeze(-1) * ((past * c.Q).sum(-1) - c.B.squeeze(-1) * (R * state).sum(-1))
    ended = c.last.squeeze(-1) * (c.K * written).sum(-1)
    whole = c.first[..., -1, :] * (S * H).sum((-2, -1)).unsqueeze(-1)
    dg = _lower(_before(pairs, -1)).sum(-2) + begun.flip(-1).cumsum(-1).flip(-1) + _before(ended, -1) + whole
    return (
        _whole(dq, q), _whole(dk, k), _whole(dv, v),
        *(_whole(t.unsqueeze(-1), q).squeeze(-1) for t in (dbeta, dg)),
    )  # fmt: skip
