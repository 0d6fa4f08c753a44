"""Fast forms of attention: the weights are written over the scores, in blocks that a cache holds."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch

from ..nn.common import wide
from ..nn.dot_product_attention import (
    asked,
    attention,
    dropped,
    each_head,
    heads,
    scaled_dot_product_attention,
    weighted_attention,
)
from .common import sech

BLOCK = 2**20  # scores that are held at once, 4 MB in float32
FEWEST = 16  # queries of a block: products of fewer rows are slow
ALL = slice(None)


class Extras(NamedTuple):
    """What `attention` adds to the scores; sinks and slopes as they stand beside them, (H, 1, 1) or (N, H, 1, 1).

    shift: how many keys there are more than queries, by which the place of the last query is that of the last key.
    """

    softcap: float | None = None
    window: tuple[int, int] | None = None
    sinks: torch.Tensor | None = None
    slopes: torch.Tensor | None = None
    shift: int = 0

    def at(self, *place):
        """What of it stands beside these scores."""
        sinks, slopes = (_at(t, *place) for t in (self.sinks, self.slopes))
        return self._replace(sinks=sinks, slopes=slopes)


NONE = Extras()


class Weights(NamedTuple):
    """The weights P, the sinks' own (*, L, 1), and the slope of the cap at the scores; None where there is none."""

    P: torch.Tensor
    of_sinks: torch.Tensor | None = None
    slope: torch.Tensor | None = None


def _places(Z, place, dtype=None):
    """The places of the queries, a column, and of the keys; place: that of the first query, counted from the first key."""
    i, j = (torch.arange(n, dtype=dtype, device=Z.device) for n in Z.shape[-2:])
    return (i + place).unsqueeze(1), j


def _apart(Z, place):
    """How far apart the places of query and key are, as numbers of the scores' dtype."""
    i, j = _places(Z, place, Z.dtype)
    return (j - i).abs_()


def _weights(Q, K, M, place, is_causal, safe, extras=NONE, learns=False):
    """Softmax over the keys; where safe, a row that is masked throughout is 0, else NaN.

    place: that of the first of these queries, counted from the first of these keys. learns: whether the slope is wanted.
    """
    Z, slope = Q @ K.mT, None
    if extras.softcap is not None:
        Z = Z.div_(extras.softcap)
        slope = sech(Z).square_() if learns else None
        Z = Z.tanh_().mul_(extras.softcap)
    if is_causal:
        known = min(max(place, 0), Z.shape[-1])  # keys that all see
        i, j = _places(late := Z[..., known:], place - known)
        late.masked_fill_(i < j, -math.inf)
    if M is not None:  # which may be wider than the scores
        Z = Z.masked_fill(~M, -math.inf) if M.dtype == torch.bool else Z + M
    if extras.slopes is not None:  # which may be too
        Z = Z - extras.slopes * _apart(Z, place + extras.shift)
    if extras.window is not None:
        (left, right), (i, j) = extras.window, _places(Z, place + extras.shift)
        Z = Z if left < 0 else Z.masked_fill_(j < i - left, -math.inf)
        Z = Z if right < 0 else Z.masked_fill_(j > i + right, -math.inf)
    if not Z.numel():
        return Weights(Z, None if extras.sinks is None else Z.new_zeros(*Z.shape[:-1], 1), slope)
    top = Z.amax(-1, keepdim=True)
    if extras.sinks is not None:
        top = torch.maximum(top, extras.sinks)
    dead = top == -math.inf if safe else None
    top = top if dead is None else top.masked_fill_(dead, 0)
    # What has more dimensions than the scores makes them wider.
    P = (Z.sub_(top) if Z.shape[:-1] == top.shape[:-1] else Z - top).exp_()
    total, of_sinks = P.sum(-1, keepdim=True), None
    if extras.sinks is not None:
        of_sinks = (extras.sinks - top).exp_()
        total += of_sinks
    total = total if dead is None else total.masked_fill_(dead, 1)
    return Weights(P.div_(total), None if of_sinks is None else of_sinks.div_(total), slope)


def _gradients(dY, dW, weights, needs, Q, K, V, kept, share, place=0, shift=0):
    """Of Q, K, V, the mask, the sinks and the slopes; None where nobody wants it."""
    P, of_sinks, slope = weights
    dV = dropped(P, kept, share).mT @ dY if needs.value else None
    of_sinks, of_slopes = (of_sinks if needs.sinks else None), needs.alibi_slopes
    if not (needs.query or needs.key or needs.attn_mask or of_slopes or of_sinks is not None):
        return None, None, dV, None, None, None
    dZ = dY @ V.mT
    if dW is not None:
        dZ = dZ.add_(dW)
    if kept is not None:
        dZ = dZ.mul_(kept).mul_(share)
    along = (dZ * P).sum(-1, keepdim=True)
    dZ = dZ.sub_(along).mul_(P)
    dsinks = None if of_sinks is None else of_sinks.mul(along).neg_()
    dslopes = (_apart(dZ, place + shift) * dZ).neg_() if of_slopes else None
    dR = dZ if slope is None else dZ * slope
    return dR @ K if needs.query else None, dR.mT @ Q if needs.key else None, dV, dZ, dsinks, dslopes


def _parts(query, key, value, attn_mask, extras):
    """How each dimension of (*, L) is cut, the last least, into blocks of at most BLOCK scores; None where they are few."""
    length, steps = query.shape[-2], key.shape[-2]
    if max(query.shape[:-1].numel() * steps, key.shape[:-1].numel() * length) <= BLOCK:
        return None
    batch = torch.broadcast_shapes(*(t.shape[:-2] for t in (query, key, value, attn_mask) if t is not None))
    most: float = length
    if extras.window is not None and min(extras.window) >= 0:
        most = max(FEWEST, sum(extras.window))  # of as many queries the keys are twice as many
        steps = min(steps, 2 * most + 1)
    room, parts = max(FEWEST, BLOCK // steps), list[list[slice]]()
    for size in (length, *reversed(batch)):
        n = max(1, min(size, room, most))
        parts.insert(0, [slice(start, min(start + n, size)) for start in range(0, size, n)])
        room, most = room // n, math.inf
    return parts


def _blocks(parts, key, is_causal, extras):
    """Which queries meet which keys, each as the slices of (*, L) and of (*, S), and the place of the first query, counted from
    the first key; keys that no query sees are left out."""
    for rows in itertools.product(*parts):
        first, stop = 0, key.shape[-2]
        if is_causal:
            stop = min(rows[-1].stop, stop)
        if extras.window is not None:
            left, right = extras.window
            first = first if left < 0 else min(max(rows[-1].start + extras.shift - left, 0), stop)
            stop = stop if right < 0 else max(min(rows[-1].stop + extras.shift + right, stop), first)
        yield rows, (*rows[:-1], slice(first, stop)), rows[-1].start - first


def _at(tensor, *place):
    """The view at these slices of the last dimensions; one of size 1 stands for all. None of None."""
    if tensor is None:
        return None
    place = place[len(place) - tensor.dim() :]
    return tensor[tuple(ALL if size == 1 else part for size, part in zip(tensor.shape, place, strict=True))]


def _forward(query, key, value, attn_mask, kept, share, is_causal, scale, groups, extras):
    Q, K, V = heads(query, key, value, scale, groups)
    safe = attn_mask is not None or extras.window is not None
    if (parts := _parts(Q, K, V, attn_mask, extras)) is None:
        P = _weights(Q, K, attn_mask, 0, is_causal, safe, extras).P
        output = (dropped(P, kept, share) @ V).to(query.dtype)
        # Where the keys are few, the weights take no more than the output, which torch's kernel keeps in their place.
        few = extras is NONE and P.shape[-1] * P.itemsize <= output.shape[-1] * output.itemsize
        return output, (P,) if few else ()
    output = Q.new_empty([sum(s.stop - s.start for s in dim) for dim in parts] + [V.shape[-1]])
    for rows, keys, place in _blocks(parts, K, is_causal, extras):
        q, k, both = _at(Q, *rows, ALL), _at(K, *keys, ALL), (*rows, keys[-1])
        P = _weights(q, k, _at(attn_mask, *both), place, is_causal, safe, extras.at(*both)).P
        torch.matmul(dropped(P, _at(kept, *both), share), _at(V, *keys, ALL), out=_at(output, *rows, ALL))
    return output.to(query.dtype), ()


def _gradient(dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups, extras):
    Q, K, V = heads(query, key, value, scale, groups)
    dY, safe = wide(dy), attn_mask is not None or extras.window is not None
    if (parts := _parts(Q, K, V, attn_mask, extras)) is None:
        weights = Weights(*saved) if saved else _weights(Q, K, attn_mask, 0, is_causal, safe, extras, True)
        found = _gradients(dY, None, weights, needs, Q, K, V, kept, share, 0, extras.shift)
    else:
        of = (Q, K, V, attn_mask, extras.sinks, extras.slopes)
        wanted = (needs.query, needs.key, needs.value, needs.attn_mask, needs.sinks, needs.alibi_slopes)
        found = tuple(Q.new_zeros(t.shape) if need else None for t, need in zip(of, wanted, strict=True))
        for rows, keys, place in _blocks(parts, K, is_causal, extras):
            asking, seen, both = (*rows, ALL), (*keys, ALL), (*rows, keys[-1])
            q, k, v, d = _at(Q, *asking), _at(K, *seen), _at(V, *seen), _at(dY, *asking)
            weights = _weights(q, k, _at(attn_mask, *both), place, is_causal, safe, extras.at(*both), True)
            grads = _gradients(d, None, weights, needs, q, k, v, _at(kept, *both), share, place, extras.shift)
            for total, grad, at in zip(found, grads, (asking, seen, seen, both, both, both), strict=True):
                if total is not None:
                    part = _at(total, *at)
                    part += grad.sum_to_size(part.shape)
    dQ, dK, dV, dM, dsinks, dslopes = found
    dQ = None if dQ is None else dQ * scale
    dK, dV = (t if t is None else asked(t, key, groups) for t in (dK, dV))
    return dQ, dK, dV, dM, *(t if t is None else t.sum((-2, -1)) for t in (dsinks, dslopes))


@scaled_dot_product_attention.kernel
def scaled_dot_product_attention_forward(query, key, value, attn_mask, kept, share, is_causal, scale, groups):
    return _forward(query, key, value, attn_mask, kept, share, is_causal, scale, groups, NONE)


@scaled_dot_product_attention.kernel_gradient
def scaled_dot_product_attention_gradient(
    dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups
):
    needs = attention.Each(*needs, *(False,) * 4)
    return _gradient(dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups, NONE)[:4]


def _extras(query, key, softcap, window, sinks, alibi_slopes):
    if softcap is None and window is None and sinks is None and alibi_slopes is None:
        return NONE
    return Extras(softcap, window, each_head(sinks), each_head(alibi_slopes), key.shape[-2] - query.shape[-2])


@attention.kernel
def attention_forward(
    query, key, value, attn_mask, kept, share, is_causal, scale, groups, softcap, window, sinks, alibi_slopes
):  # fmt: skip
    extras = _extras(query, key, softcap, window, sinks, alibi_slopes)
    return _forward(query, key, value, attn_mask, kept, share, is_causal, scale, groups, extras)


@attention.kernel_gradient
def attention_gradient(
    dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups, softcap, window, sinks,
    alibi_slopes,
):  # fmt: skip
    extras = _extras(query, key, softcap, window, sinks, alibi_slopes)
    *grads, dsinks, dslopes = _gradient(
        dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups, extras
    )
    return *grads, *(None,) * 7, dsinks, dslopes


@weighted_attention.kernel
def weighted_attention_forward(query, key, value, attn_mask, kept, share):
    P = _weights(query * query.shape[-1] ** -0.5, key, attn_mask, 0, False, False).P
    W = dropped(P, kept, share)
    return (W @ value, W), () if kept is None else (P,)


@weighted_attention.kernel_gradient
def weighted_attention_gradient(dy, weights, saved, needs, query, key, value, attn_mask, kept, share):
    P, s, needs = saved[0] if saved else weights, query.shape[-1] ** -0.5, attention.Each(*needs, *(False,) * 7)
    dQ, dK, dV, dM, *_ = _gradients(dy[0], dy[1], Weights(P), needs, query, key, value, kept, share)
    return None if dQ is None else dQ * s, None if dK is None else dK * s, dV, dM
