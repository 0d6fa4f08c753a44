"""Fast forms of attention: the weights are written over the scores, in blocks that a cache holds."""

from __future__ import annotations

import itertools
import math

import torch

from ..nn.common import wide
from ..nn.dot_product_attention import asked, dropped, heads, scaled_dot_product_attention, weighted_attention

BLOCK = 2**20  # scores that are held at once, 4 MB in float32
FEWEST = 16  # queries of a block: products of fewer rows are slow
ALL = slice(None)


def _weights(Q, K, M, first, safe):
    """Softmax over the keys; where safe, a row that is masked throughout is 0, else NaN.

    first: the place of the first of these queries, where key j is seen by query i for j <= i; None where all see all.
    """
    Z = Q @ K.mT
    if first is not None:
        i, j = (torch.arange(max(n, 0), device=Z.device) for n in (Z.shape[-2], Z.shape[-1] - first))
        Z[..., first:].masked_fill_(i.unsqueeze(1) < j, -math.inf)  # the keys before `first` are seen by all
    if M is not None:  # which may be wider than the scores
        Z = Z.masked_fill(~M, -math.inf) if M.dtype == torch.bool else Z + M
    if not Z.numel():
        return Z
    top = Z.amax(-1, keepdim=True)
    dead = top == -math.inf if safe else None
    P = Z.sub_(top if dead is None else top.masked_fill_(dead, 0)).exp_()
    total = P.sum(-1, keepdim=True)
    return P.div_(total if dead is None else total.masked_fill_(dead, 1))


def _gradients(dY, dW, P, needs, Q, K, V, kept, share):
    """Of Q, K, V and the mask; None where nobody wants it."""
    dV = dropped(P, kept, share).mT @ dY if needs.value else None
    if not (needs.query or needs.key or needs.attn_mask):
        return None, None, dV, None
    dZ = dY @ V.mT
    if dW is not None:
        dZ = dZ.add_(dW)
    if kept is not None:
        dZ = dZ.mul_(kept).mul_(share)
    dZ = dZ.sub_((dZ * P).sum(-1, keepdim=True)).mul_(P)
    return dZ @ K if needs.query else None, dZ.mT @ Q if needs.key else None, dV, dZ


def _parts(query, key, value, attn_mask):
    """How each dimension of (*, L) is cut, the last least, into blocks of at most BLOCK scores; None where they are few."""
    length, steps = query.shape[-2], key.shape[-2]
    if max(query.shape[:-1].numel() * steps, key.shape[:-1].numel() * length) <= BLOCK:
        return None
    batch = torch.broadcast_shapes(*(t.shape[:-2] for t in (query, key, value, attn_mask) if t is not None))
    room, parts = max(FEWEST, BLOCK // steps), list[list[slice]]()
    for size in (length, *reversed(batch)):
        n = max(1, min(size, room))
        parts.insert(0, [slice(start, min(start + n, size)) for start in range(0, size, n)])
        room //= n
    return parts


def _blocks(parts, key, is_causal):
    """Which queries meet which keys, each as the slices of (*, L) and of (*, S); keys that no query sees are left out."""
    for rows in itertools.product(*parts):
        steps = key.shape[-2]
        yield rows, (*rows[:-1], slice(0, min(rows[-1].stop, steps) if is_causal else steps))


def _at(tensor, *place):
    """The view at these slices of the last dimensions; one of size 1 stands for all. None of None."""
    if tensor is None:
        return None
    place = place[len(place) - tensor.dim() :]
    return tensor[tuple(ALL if size == 1 else part for size, part in zip(tensor.shape, place, strict=True))]


@scaled_dot_product_attention.kernel
def scaled_dot_product_attention_forward(query, key, value, attn_mask, kept, share, is_causal, scale, groups):
    Q, K, V = heads(query, key, value, scale, groups)
    safe = attn_mask is not None
    if (parts := _parts(Q, K, V, attn_mask)) is None:
        P = _weights(Q, K, attn_mask, 0 if is_causal else None, safe)
        output = (dropped(P, kept, share) @ V).to(query.dtype)
        # Where the keys are few, the weights take no more than the output, which torch's kernel keeps in their place.
        few = P.shape[-1] * P.itemsize <= output.shape[-1] * output.itemsize
        return output, (P,) if few else ()
    output = Q.new_empty([sum(s.stop - s.start for s in dim) for dim in parts] + [V.shape[-1]])
    for rows, keys in _blocks(parts, K, is_causal):
        M, first = _at(attn_mask, *rows, keys[-1]), rows[-1].start if is_causal else None
        P = _weights(_at(Q, *rows, ALL), _at(K, *keys, ALL), M, first, safe)
        P = dropped(P, _at(kept, *rows, keys[-1]), share)
        torch.matmul(P, _at(V, *keys, ALL), out=_at(output, *rows, ALL))
    return output.to(query.dtype), ()


@scaled_dot_product_attention.kernel_gradient
def scaled_dot_product_attention_gradient(
    dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups
):
    Q, K, V = heads(query, key, value, scale, groups)
    dY, safe = wide(dy), attn_mask is not None
    if (parts := _parts(Q, K, V, attn_mask)) is None:
        P = saved[0] if saved else _weights(Q, K, attn_mask, 0 if is_causal else None, safe)
        dQ, dK, dV, dM = _gradients(dY, None, P, needs, Q, K, V, kept, share)
    else:
        wanted = zip((Q, K, V, attn_mask), (needs.query, needs.key, needs.value, needs.attn_mask), strict=True)
        dQ, dK, dV, dM = totals = [Q.new_zeros(t.shape) if need else None for t, need in wanted]
        for rows, keys in _blocks(parts, K, is_causal):
            asking, seen, both = (*rows, ALL), (*keys, ALL), (*rows, keys[-1])
            q, k, v, d = _at(Q, *asking), _at(K, *seen), _at(V, *seen), _at(dY, *asking)
            P = _weights(q, k, _at(attn_mask, *both), rows[-1].start if is_causal else None, safe)
            found = _gradients(d, None, P, needs, q, k, v, _at(kept, *both), share)
            for total, grad, place in zip(totals, found, (asking, seen, seen, both), strict=True):
                if total is not None:
                    part = _at(total, *place)
                    part += grad.sum_to_size(part.shape)
    dQ = None if dQ is None else dQ * scale
    return dQ, *(t if t is None else asked(t, key, groups) for t in (dK, dV)), dM


@weighted_attention.kernel
def weighted_attention_forward(query, key, value, attn_mask, kept, share):
    P = _weights(query * query.shape[-1] ** -0.5, key, attn_mask, None, safe=False)
    W = dropped(P, kept, share)
    return (W @ value, W), () if kept is None else (P,)


@weighted_attention.kernel_gradient
def weighted_attention_gradient(dy, weights, saved, needs, query, key, value, attn_mask, kept, share):
    P, s = saved[0] if saved else weights, query.shape[-1] ** -0.5
    dQ, dK, dV, dM = _gradients(dy[0], dy[1], P, needs, query, key, value, kept, share)
    return None if dQ is None else dQ * s, None if dK is None else dK * s, dV, dM
