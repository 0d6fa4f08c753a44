"""Attention: each query's mean of the values, weighted by how well its key fits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...builtin import attention as builtin
from ...core.pair import op
from .common import sech, wide
from .dropout import _kept

QUERIES = 512  # of a block: longer sequences go by blocks, so that the (*, L, S) weights are never held


def blocks(query):
    """The places of (*, L, E) as slices of at most QUERIES; None, which is all of them, where they are no more."""
    if query.shape[-2] <= QUERIES:
        return [None]
    return [slice(n * QUERIES, (n + 1) * QUERIES) for n in range(-(-query.shape[-2] // QUERIES))]


def joined(parts):
    """What was computed by blocks of queries, (*, L, E)."""
    return torch.cat(parts, -2) if len(parts) > 1 else parts[0]


def of_mask(parts, M):
    """The gradient of the mask, from that of each block's rows; one row that serves all queries has the sum."""
    return sum(parts) if M.dim() < 2 or M.shape[-2] == 1 else joined(parts)


def of_these(t, rows):
    """These queries' rows of (*, L, E); one row that serves all queries as it is."""
    return t if t is None or rows is None or t.dim() < 2 or t.shape[-2] == 1 else t[..., rows, :]


def heads(query, key, value, scale, groups):
    """Q times scale, K and V, in at least float32, each head of key and value as often as it is asked."""
    K, V = (wide(t) if groups == 1 else wide(t).repeat_interleave(groups, -3) for t in (key, value))
    return wide(query) * scale, K, V


def asked(dK, key, groups):
    """The gradient of a head that is asked by several: the sum of theirs."""
    return dK if groups == 1 else dK.unflatten(-3, (key.shape[-3], groups)).sum(-3)


def masked(Z, M):
    r"""The scores plus M; of bools, $-\infty$ where it is False."""
    if M is None:
        return Z
    return Z.masked_fill(~M, -math.inf) if M.dtype == torch.bool else Z + M


def later(Z, rows, shift=0):
    """How many places key j is behind query i, whose place is i + shift, for the scores (*, L, S) of these queries."""
    first = shift if rows is None else shift + rows.start
    i, j = (torch.arange(n, device=Z.device) for n in Z.shape[-2:])
    return j - (first + i).unsqueeze(1)


def causal(Z, rows):
    r"""The scores of these queries, $-\infty$ where the key is later than the query."""
    return Z.masked_fill(later(Z, rows) > 0, -math.inf)


def softmax(Z, safe, c=None):
    r"""$P = e^{Z - m} / \sum e^{Z - m}$ over the keys, m the largest; of a row masked throughout 0 where safe, else NaN.

    c: scores that count in the sum alone; then P, and their own weights.
    """
    if not Z.numel():
        return Z if c is None else (Z, torch.zeros_like(c))
    m = Z.amax(-1, keepdim=True)
    m = m if c is None else torch.maximum(m, c)
    m = m.masked_fill(m == -math.inf, 0) if safe else m
    e = (Z - m).exp()
    total = e.sum(-1, keepdim=True)  # at least 1 where a key is seen
    total = total if c is None else total + (c - m).exp()
    total = total.masked_fill(total == 0, 1) if safe else total
    return e / total if c is None else (e / total, (c - m).exp() / total)


def weights(Q, K, M, is_causal, rows):
    r"""$P = \mathrm{softmax}(Q K^\top + M)$ of these queries."""
    Z = masked(of_these(Q, rows) @ K.mT, of_these(M, rows))
    return softmax(causal(Z, rows) if is_causal else Z, safe=M is not None)


def of_scores(dP, P):
    r"""$dZ = P \odot (dP - \sum dP \odot P)$ of $P = \mathrm{softmax}(Z)$."""
    return P * (dP - (dP * P).sum(-1, keepdim=True))


def dropped(P, kept, share):
    """The weights after dropout; of their gradient, the one before it."""
    return P if kept is None else P * kept * share


# --- a query's mean of the values -------------------------------------------------------------------------------


@op(builtin=F.scaled_dot_product_attention, autocast="low")
def scaled_dot_product_attention(query, key, value, attn_mask, kept, share, is_causal, scale, groups):
    r"""$Y = P V,\quad P = \mathrm{softmax}(Z),\quad Z = s\,Q K^\top + M$, the softmax over the keys.

    query Q (*, L, E), key K (*, S, E), value V (*, S, E_v); output Y (*, L, E_v). scale: s, $E^{-1/2}$ by default. attn_mask:
    bool (False: not seen) or numbers M to add, broadcast to (*, L, S); is_causal: key j is seen by query i where $j \le i$;
    a query that sees no key gets 0. dropout_p: of the weights. enable_gqa: the heads, the dimension before the last two, of
    query are a multiple of those of key and value. RuntimeError where they do not fit. Vaswani et al. 2017,
    arXiv:1706.03762, eq. 1; Ainslie et al. 2023, arXiv:2305.13245.

    The (*, L, S) weights are not kept, and of long sequences never held: they go by blocks of queries, and the gradient
    makes each block's weights again. Rabe & Staats 2021, arXiv:2112.05682; Dao et al. 2022, arXiv:2205.14135.
    """
    Q, K, V = heads(query, key, value, scale, groups)
    Y = [dropped(weights(Q, K, attn_mask, is_causal, rows), of_these(kept, rows), share) @ V for rows in blocks(Q)]
    return joined(Y).to(query.dtype)


@scaled_dot_product_attention.gradient
def scaled_dot_product_attention_gradient(
    dy, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups
):
    r"""$dV = \tilde P^\top dY,\ d\tilde P = dY\, V^\top$, with $\tilde P = P \odot D / (1 - p)$ after dropout (D: kept) and
    $dP = d\tilde P \odot D / (1 - p)$ before it; $dZ = P \odot (dP - \sum dP \odot P),\ dM = dZ,\ dQ = s\, dZ\, K,\
    dK = s\, dZ^\top Q$.
    """
    Q, K, V = heads(query, key, value, scale, groups)
    dQ, dK, dV, dM = [], 0, 0, []
    for rows in blocks(Q):
        q, dY, D = (of_these(t, rows) for t in (Q, wide(dy), kept))
        P = weights(Q, K, attn_mask, is_causal, rows)
        if needs.value:
            dV = dropped(P, D, share).mT @ dY + dV
        if needs.query or needs.key or needs.attn_mask:
            dZ = of_scores(dropped(dY @ V.mT, D, share), P)
        if needs.query:
            dQ.append(dZ @ K * scale)
        if needs.key:
            dK = dZ.mT @ q + dK
        if needs.attn_mask:
            dM.append(dZ.sum_to_size(of_these(attn_mask, rows).shape))
    return (
        joined(dQ) if needs.query else None,
        asked(dK, key, groups) if needs.key else None,
        asked(dV, key, groups) if needs.value else None,
        of_mask(dM, attn_mask) if needs.attn_mask else None,
    )


@scaled_dot_product_attention.prepare
def scaled_dot_product_attention_prepare(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    return _prepared(
        "scaled_dot_product_attention", query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
    )


def _prepared(name, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa):
    tensors = (query, key, value)
    if any(t.dim() < 2 for t in tensors):
        raise RuntimeError(f"{name}(): query, key and value must have at least 2 dimensions, they have "
                           f"{[t.dim() for t in tensors]}")  # fmt: skip
    if len({t.dtype for t in tensors}) > 1 and not torch.is_autocast_enabled(query.device.type):
        raise RuntimeError(
            f"{name}(): query, key and value must have one dtype, they have {[t.dtype for t in tensors]}"
        )
    if len({t.device for t in tensors}) > 1:
        raise RuntimeError(
            f"{name}(): query, key and value must be on one device, they are on {[t.device for t in tensors]}"
        )
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise RuntimeError(f"{name}(): query (*, L, E), key (*, S, E) and value (*, S, V) must share E and S, they have "
                           f"{[tuple(t.shape) for t in tensors]}")  # fmt: skip
    if is_causal and attn_mask is not None:
        raise RuntimeError(f"{name}(): attn_mask must not be given with is_causal=True")
    mixed = torch.is_autocast_enabled(query.device.type)
    if attn_mask is not None and not mixed and attn_mask.dtype not in (torch.bool, query.dtype, torch.float32):
        raise RuntimeError(f"{name}(): attn_mask must be bool or {query.dtype}, it is {attn_mask.dtype}")
    groups = 1
    if enable_gqa:
        heads, few = (t.shape[-3] if t.dim() > 2 else None for t in (query, key))
        if any(t.dim() < 3 for t in tensors) or (heads % few if few else heads) or few != value.shape[-3]:
            raise RuntimeError(f"{name}(): with enable_gqa the heads of key must be those of value and divide those of query, "
                               f"the shapes are {[tuple(t.shape) for t in tensors]}")  # fmt: skip
        groups = heads // few if few else 1
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"{name}(): dropout_p must lie in [0, 1], it is {dropout_p}")
    kept, share = None, 1.0
    if dropout_p > 0:
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2] if groups == 1 else query.shape[:-2])
        kept = _kept(query.new_empty((*batch, query.shape[-2], key.shape[-2])), dropout_p)
        share = 1 / (1 - dropout_p) if dropout_p < 1 else 0.0
    scale = query.shape[-1] ** -0.5 if scale is None and query.shape[-1] else scale or 0.0
    return query, key, value, attn_mask, kept, share, is_causal, scale, groups


# --- with what language models add -------------------------------------------------------------------------------


def each_head(t):
    """A number for each head, (H,) or (N, H), beside scores (N, H, L, S)."""
    return None if t is None else wide(t)[..., None, None]


def seen(Z, rows, shift, window):
    r"""The scores of these queries, $-\infty$ where the key is not among those round the query's place."""
    if window is None:
        return Z
    (left, right), behind = window, later(Z, rows, shift)
    Z = Z if left < 0 else Z.masked_fill(behind < -left, -math.inf)
    return Z if right < 0 else Z.masked_fill(behind > right, -math.inf)


def extended_weights(Q, K, M, is_causal, rows, softcap, window, sinks, slopes):
    """The scores R of these queries, the weights P that are made of them, and those of the sinks, None where there are none."""
    R, shift = of_these(Q, rows) @ K.mT, K.shape[-2] - Q.shape[-2]
    Z = masked(R if softcap is None else softcap * torch.tanh(R / softcap), of_these(M, rows))
    Z = Z if slopes is None else Z - each_head(slopes) * later(Z, rows, shift).abs()
    Z = seen(causal(Z, rows) if is_causal else Z, rows, shift, window)
    safe = M is not None or window is not None
    return R, *(softmax(Z, safe, each_head(sinks)) if sinks is not None else (softmax(Z, safe), None))


@op(builtin=builtin.attention, autocast="low")
def attention(
    query, key, value, attn_mask, kept, share, is_causal, scale, groups, softcap, window, sinks, alibi_slopes
):  # fmt: skip
    r"""`scaled_dot_product_attention` with what language models add to it: $Y = P V,\quad
    P_{ij} = e^{Z_{ij}} / (e^{c} + \sum_j e^{Z_{ij}}),\quad Z = t \tanh(s\,Q K^\top / t) + M - m\,|i + S - L - j|$.

    softcap: t, which bounds the scores before anything is added or masked (Gemma Team 2024, arXiv:2408.00118, section 2).
    alibi_slopes: m, of shape (H,) or (N, H) for H heads (Press et al. 2022, arXiv:2108.12409, eq. 1 for i = j at the end).
    window: (left, right) or one number for both; query i sees the keys j from i + S - L - left to i + S - L + right, -1 being
    without an end (Beltagy et al. 2020, arXiv:2004.05150, section 3.1). sinks: c, (H,), a score for each head that takes
    its share of the weights and has no value (Xiao et al. 2023, arXiv:2309.17453, section 3.3; OpenAI 2025, arXiv:2508.10925).
    A query that sees no key gets 0.

    window and alibi_slopes count from the last query, which stands at the last key, as flash-attention does; is_causal counts
    from the first, as torch does: where L and S differ, flash-attention's causal mask is window=(-1, 0). query (*, L, E), key
    (*, S, E), value (*, S, E_v), output (*, L, E_v), H the dimension before the last two. Without these four it is
    `scaled_dot_product_attention`, in all else too; RuntimeError where they do not fit. (*, L, S) is never held there nor here.
    """
    Q, K, V = heads(query, key, value, scale, groups)
    Y = []
    for rows in blocks(Q):
        _, P, _ = extended_weights(Q, K, attn_mask, is_causal, rows, softcap, window, sinks, alibi_slopes)
        Y.append(dropped(P, of_these(kept, rows), share) @ V)
    return joined(Y).to(query.dtype)


@attention.gradient
def attention_gradient(
    dy, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups, softcap, window, sinks, alibi_slopes
):  # fmt: skip
    r"""That of `scaled_dot_product_attention` as far as $dZ = P \odot (dP - \sum dP \odot P)$, of a P with $\sum P < 1$ where
    there is a sink: its own weight C has dC = 0, and so $dc = -\sum_i C_i \sum_j dP_{ij} P_{ij}$. Then $dM = dZ,\quad
    dm = -\sum dZ_{ij} |i + S - L - j|$, and of the scores R before the cap
    $dR = dZ \odot \mathrm{sech}^2(R / t),\quad dQ = s\,dR\,K,\quad dK = s\,dR^\top Q$.
    """
    Q, K, V = heads(query, key, value, scale, groups)
    dQ, dK, dV, dM, dsinks, dslopes = [], 0, 0, [], 0, 0
    for rows in blocks(Q):
        q, dY, D = (of_these(t, rows) for t in (Q, wide(dy), kept))
        R, P, C = extended_weights(Q, K, attn_mask, is_causal, rows, softcap, window, sinks, alibi_slopes)
        if needs.value:
            dV = dropped(P, D, share).mT @ dY + dV
        dP = dropped(dY @ V.mT, D, share)
        dZ = of_scores(dP, P)
        dR = dZ if softcap is None else dZ * sech(R / softcap).square()
        if needs.query:
            dQ.append(dR @ K * scale)
        if needs.key:
            dK = dR.mT @ q + dK
        if needs.attn_mask:
            dM.append(dZ.sum_to_size(of_these(attn_mask, rows).shape))
        if needs.sinks:
            dsinks = dsinks - (C * (dP * P).sum(-1, keepdim=True)).sum((-2, -1))
        if needs.alibi_slopes:
            dslopes = dslopes - (dZ * later(dZ, rows, K.shape[-2] - Q.shape[-2]).abs()).sum((-2, -1))
    return (
        joined(dQ) if needs.query else None,
        asked(dK, key, groups) if needs.key else None,
        asked(dV, key, groups) if needs.value else None,
        of_mask(dM, attn_mask) if needs.attn_mask else None,
        *(None for _ in range(7)),
        dsinks if needs.sinks else None,
        dslopes if needs.alibi_slopes else None,
    )


@attention.prepare
def attention_prepare(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False, softcap=None,
    window=None, sinks=None, alibi_slopes=None,
):  # fmt: skip
    values = _prepared("attention", query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    builtin.check_attention(query, key, enable_gqa, softcap, sinks, alibi_slopes)
    return *values, softcap, builtin.both_sides(window), sinks, alibi_slopes


# --- and its weights ---------------------------------------------------------------------------------------------


@op(outputs=("output", "weights"))
def weighted_attention(query, key, value, attn_mask, kept, share):
    r"""Scaled dot-product attention that also returns its weights $\mathrm{softmax}(Q K^\top E^{-1/2} + M)$, after dropout."""
    P = softmax(masked(query * query.shape[-1] ** -0.5 @ key.mT, attn_mask), safe=False)
    W = dropped(P, kept, share)
    return (W @ value, W), () if kept is None else (P,)


@weighted_attention.gradient
def weighted_attention_gradient(dy, weights, saved, needs, query, key, value, attn_mask, kept, share):
    r"""That of scaled_dot_product_attention, and dW of the weights: $dP = dY\, V^\top + dW$."""
    (dY, dW), P, s = dy, saved[0] if saved else weights, query.shape[-1] ** -0.5
    dV = dropped(P, kept, share).mT @ dY if needs.value else None
    dZ = of_scores(dropped(dY @ value.mT + dW, kept, share), P)
    return dZ @ key * s if needs.query else None, dZ.mT @ query * s if needs.key else None, dV, dZ
