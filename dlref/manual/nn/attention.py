"""Attention: each query's mean of the values, weighted by how well its key fits."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.module import Manual, by_name
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import plain, wide
from .dropout import _kept
from .linear import linear

NAME = "multi_head_attention_forward"


# The scores that are held at once, 4 MB in float32: a block of them stays in the cache between its steps.
BLOCK = 2**20
FEWEST = 16  # queries of a block: products of fewer rows are slow
ALL = slice(None)


def _weights(query, key, attn_mask, first, safe):
    """Softmax over the keys of scaled queries' products; where safe, a row that is masked throughout is 0, else NaN.

    first: the place of the first of these queries, where key j is seen by query i for j <= i; None where all see all.
    """
    scores = query @ key.transpose(-2, -1)
    if first is not None:
        i, j = (torch.arange(max(n, 0), device=query.device) for n in (scores.shape[-2], scores.shape[-1] - first))
        later = i.unsqueeze(1) < j  # the keys before `first` are seen by all of these queries
        if plain():
            scores[..., first:].masked_fill_(later, -math.inf)
        else:  # one block: first is 0
            scores = scores.masked_fill(later, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    if not scores.numel():
        return scores
    into = scores if plain() else None
    top = scores.amax(-1, keepdim=True)
    dead = top == -math.inf if safe else None
    e = torch.exp(torch.sub(scores, top if dead is None else top.masked_fill(dead, 0), out=into), out=into)
    total = e.sum(-1, keepdim=True)
    return torch.div(e, total if dead is None else total.masked_fill(dead, 1), out=into)


def _attention_gradient(dy, dweights, p, needs, query, key, value, kept, share):
    r"""With $O = \tilde P V$, $\tilde P = P \odot m / (1 - p)$, $P = \mathrm{softmax}(S)$, $S = Q K^\top\! s + M$:
    $dV = \tilde P^\top dO,\ d\tilde P = dO\, V^\top,\ dS = P \odot (dP - \sum dP \odot P),\ dM = dS$,
    $dQ = s\, dS\, K,\ dK = s\, dS^\top Q$."""
    dropped = p if kept is None else p * kept * share
    dv = dropped.transpose(-2, -1) @ dy if needs.value else None
    if not (needs.query or needs.key or needs.attn_mask):
        return None, None, dv, None
    dp = dy @ value.transpose(-2, -1)
    into = dp if plain() else None
    if dweights is not None:
        dp = torch.add(dp, dweights, out=into)
    if kept is not None:
        dp = torch.mul(torch.mul(dp, kept, out=into), share, out=into)
    ds = torch.mul(p, torch.sub(dp, (dp * p).sum(-1, keepdim=True), out=into), out=into)
    dq = ds @ key if needs.query else None
    dk = ds.transpose(-2, -1) @ query if needs.key else None
    return dq, dk, dv, ds


@op(builtin=F.scaled_dot_product_attention, autocast="low")
def scaled_dot_product_attention(query, key, value, attn_mask, kept, share, is_causal, scale, groups):
    r"""$O = \mathrm{softmax}(Q K^\top\! s + M)\, V$, the softmax over the keys.

    query (*, L, E), key (*, S, E), value (*, S, V); output (*, L, V). s: scale, $E^{-1/2}$ by default. attn_mask: bool
    (False: not seen) or numbers M to add, broadcast to (*, L, S); is_causal: key j is seen by query i where $j \le i$;
    a query that sees no key gets 0. dropout_p: of the weights. enable_gqa: the heads, the dimension before the last two, of
    query are a multiple of those of key and value. RuntimeError where they do not fit. Vaswani et al. 2017,
    arXiv:1706.03762, eq. 1; Ainslie et al. 2023, arXiv:2305.13245.

    Long sequences go by blocks of queries, so that the (*, L, S) weights are never held; the gradient makes each block's
    weights again: Rabe & Staats 2021, arXiv:2112.05682, Dao et al. 2022, arXiv:2205.14135.
    """
    q, k, v = _heads(query, key, value, groups, scale)
    if (parts := _parts(q, k, v, attn_mask, kept)) is None:
        p = _weights(q, k, attn_mask, 0 if is_causal else None, safe=attn_mask is not None)
        output = ((p if kept is None else p * kept * share) @ v).to(query.dtype)
        # Where the keys are few, the weights take no more than the output, which torch's kernel keeps in their place.
        few = p.shape[-1] * p.itemsize <= output.shape[-1] * output.itemsize
        return output, (p,) if few else ()
    output = q.new_empty([sum(s.stop - s.start for s in dim) for dim in parts] + [v.shape[-1]])
    for rows, keys in _blocks(parts, k, is_causal):
        p = _block_weights(q, k, attn_mask, is_causal, rows, keys)
        dropped = p if kept is None else p * _at(kept, *rows, keys[-1]) * share
        torch.matmul(dropped, _at(v, *keys, ALL), out=_at(output, *rows, ALL))
    return output.to(query.dtype), ()


def _heads(query, key, value, groups, scale):
    """In at least float32, the query scaled, each head of key and value as often as it is asked."""
    k, v = (wide(t) if groups == 1 else wide(t).repeat_interleave(groups, -3) for t in (key, value))
    return wide(query) * scale, k, v


@scaled_dot_product_attention.gradient
def scaled_dot_product_attention_gradient(
    dy, saved, needs, query, key, value, attn_mask, kept, share, is_causal, scale, groups
):
    q, k, v = _heads(query, key, value, groups, scale)
    dy = wide(dy)
    if (parts := _parts(q, k, v, attn_mask, kept, dy)) is None:
        p = saved[0] if saved else _weights(q, k, attn_mask, 0 if is_causal else None, safe=attn_mask is not None)
        dq, dk, dv, dmask = _attention_gradient(dy, None, p, needs, q, k, v, kept, share)
    else:
        wanted = zip((q, k, v, attn_mask), (needs.query, needs.key, needs.value, needs.attn_mask), strict=True)
        dq, dk, dv, dmask = totals = [q.new_zeros(t.shape) if need else None for t, need in wanted]
        for rows, keys in _blocks(parts, k, is_causal):
            p = _block_weights(q, k, attn_mask, is_causal, rows, keys)
            dropped = None if kept is None else _at(kept, *rows, keys[-1])
            asking, asked, both = (*rows, ALL), (*keys, ALL), (*rows, keys[-1])
            found = _attention_gradient(
                _at(dy, *asking), None, p, needs, _at(q, *asking), _at(k, *asked), _at(v, *asked), dropped, share
            )
            for total, grad, place in zip(totals, found, (asking, asked, asked, both), strict=True):
                if total is not None:
                    total = _at(total, *place)
                    total += grad.sum_to_size(total.shape)
    dq = None if dq is None else dq * scale
    if groups != 1:
        dk, dv = (t if t is None else t.unflatten(-3, (key.shape[-3], groups)).sum(-3) for t in (dk, dv))
    return dq, dk, dv, dmask


def _parts(query, key, value, attn_mask, *others):
    """How each dimension of (*, L) is cut so that a block has at most BLOCK scores, the last cut least.

    None where the scores are few, and where derivatives of these very steps may be asked for, which hold them all.
    """
    if not plain():
        return None
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
    """The view at these slices of the last dimensions; one of size 1 stands for all."""
    place = place[len(place) - tensor.dim() :]
    return tensor[tuple(ALL if size == 1 else part for size, part in zip(tensor.shape, place, strict=True))]


def _block_weights(q, k, attn_mask, is_causal, rows, keys):
    mask = None if attn_mask is None else _at(attn_mask, *rows, keys[-1])
    return _weights(
        _at(q, *rows, ALL), _at(k, *keys, ALL), mask, rows[-1].start if is_causal else None, safe=attn_mask is not None
    )


scaled_dot_product_attention.pull.__doc__ = _attention_gradient.__doc__


@scaled_dot_product_attention.prepare
def scaled_dot_product_attention_prepare(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    name = "scaled_dot_product_attention"
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


@op(outputs=("output", "weights"))
def weighted_attention(query, key, value, attn_mask, kept, share):
    r"""Scaled dot-product attention that also returns its weights $\mathrm{softmax}(Q K^\top E^{-1/2} + M)$, after dropout."""
    p = _weights(query * query.shape[-1] ** -0.5, key, attn_mask, None, safe=False)
    if kept is None:
        return (p @ value, p), ()
    dropped = p * kept * share
    return (dropped @ value, dropped), (p,)


@weighted_attention.gradient
def weighted_attention_gradient(dy, weights, saved, needs, query, key, value, attn_mask, kept, share):
    p, scale = saved[0] if saved else weights, query.shape[-1] ** -0.5
    dq, dk, dv, dmask = _attention_gradient(dy[0], dy[1], p, needs, query, key, value, kept, share)
    return None if dq is None else dq * scale, None if dk is None else dk * scale, dv, dmask


weighted_attention.pull.__doc__ = _attention_gradient.__doc__


def _split(x: Tensor, heads: int) -> Tensor:
    """(L, N, E) as (N, heads, L, E / heads)."""
    return x.unflatten(2, (heads, x.shape[2] // heads)).permute(1, 2, 0, 3)


def _merge(x: Tensor) -> Tensor:
    """(N, heads, L, E / heads) as (L, N, E)."""
    return x.permute(2, 0, 1, 3).flatten(2)


class Heads:
    """Multi-head attention with these weights: `forward` computes by run(op, *args), `pull` from the pullbacks of those."""

    def __init__(
        self, embed_dim, num_heads, dropout_p, separate, in_proj_weight, in_proj_bias, q_proj_weight, k_proj_weight,
        v_proj_weight, bias_k, bias_v, add_zero_attn, out_proj_weight, out_proj_bias, static_k=None, static_v=None,
    ):  # fmt: skip
        self.embed_dim, self.heads, self.p, self.packed = embed_dim, num_heads, dropout_p, not separate
        if self.packed and in_proj_weight is None:
            raise AssertionError(f"{NAME}: in_proj_weight must be given without use_separate_proj_weight, it is None")
        self.weights = in_proj_weight.split(embed_dim) if self.packed else (q_proj_weight, k_proj_weight, v_proj_weight)
        if any(w is None for w in self.weights):
            raise AssertionError(f"{NAME}: q_proj_weight, k_proj_weight and v_proj_weight must be given with "
                                 "use_separate_proj_weight")  # fmt: skip
        self.biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.split(embed_dim)
        if (bias_k is None) != (bias_v is None):
            raise AssertionError(f"{NAME}: bias_k and bias_v must be given both or neither")
        if bias_k is not None and (static_k is not None or static_v is not None):
            raise AssertionError(f"{NAME}: bias_k and bias_v must not be given with static_k or static_v")
        self.bias_k, self.bias_v, self.add_zero_attn = bias_k, bias_v, add_zero_attn
        self.static_k, self.static_v = static_k, static_v
        self.out_weight, self.out_bias = out_proj_weight, out_proj_bias

    def masks(self, query, key, key_padding_mask, attn_mask, is_causal, need_weights, n):
        """One mask of numbers, to be added to the scores (N, heads, L, S'), or None; whether attention is causal."""
        if is_causal and attn_mask is None:
            raise RuntimeError(f"{NAME}: attn_mask must be given with is_causal=True, which is a hint on it: take "
                               "Transformer.generate_square_subsequent_mask")  # fmt: skip
        names = {"other_type": None, "other_name": "", "target_type": query.dtype, "check_other": False}
        attn_mask = F._canonical_mask(attn_mask, "attn_mask", **names)
        padding = F._canonical_mask(key_padding_mask, "key_padding_mask", **names)
        length, steps = query.shape[0], key.shape[0]
        extra = (self.bias_k is not None) + bool(self.add_zero_attn)
        if attn_mask is not None:
            expected = {2: (length, steps), 3: (n * self.heads, length, steps)}.get(attn_mask.dim())
            if tuple(attn_mask.shape) != expected:
                raise RuntimeError(f"{NAME}: attn_mask must have shape {(length, steps)} or "
                                   f"{(n * self.heads, length, steps)}, it has {tuple(attn_mask.shape)}")  # fmt: skip
            if is_causal and padding is None and not need_weights:
                return None, True
            attn_mask = attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (n, self.heads))
            attn_mask = torch.cat([attn_mask, attn_mask.new_zeros(*attn_mask.shape[:-1], extra)], -1)
        if padding is not None:
            if tuple(padding.shape) != (n, steps):
                raise AssertionError(f"{NAME}: key_padding_mask must have shape {(n, steps)}, it has "
                                     f"{tuple(padding.shape)}")  # fmt: skip
            padding = torch.cat([padding, padding.new_zeros(n, extra)], 1).view(n, 1, 1, steps + extra)
            attn_mask = padding if attn_mask is None else attn_mask + padding
        return attn_mask, False

    def forward(
        self, run, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
    ):
        """Output and weights, both of the call's shapes; query (L, N, E) or (L, E)."""
        self.batched = batched = F._mha_shape_check(query, key, value, key_padding_mask, attn_mask, self.heads)
        self.need_weights, self.average = need_weights, average_attn_weights
        if not batched:
            query, key, value = (t.unsqueeze(1) for t in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        if query.shape[-1] != self.embed_dim or self.embed_dim % self.heads:
            raise AssertionError(f"{NAME}: query must have {self.embed_dim} features, divisible by {self.heads} heads, it has "
                                 f"{query.shape[-1]}")  # fmt: skip
        if key.shape[:2] != value.shape[:2] or (self.packed and key.shape != value.shape):
            raise AssertionError(f"{NAME}: key and value must have one shape, they have {tuple(key.shape)} and "
                                 f"{tuple(value.shape)}")  # fmt: skip
        n, self.steps, head = query.shape[1], key.shape[0], self.embed_dim // self.heads
        mask, causal = self.masks(query, key, key_padding_mask, attn_mask, is_causal, need_weights, n)
        # A mask of bools has no gradient.
        self.masked = None if attn_mask is None or mask is None or attn_mask.dtype == torch.bool else attn_mask.shape
        self.padded = key_padding_mask is not None and key_padding_mask.dtype != torch.bool
        q, k, v = (run(linear, *args) for args in zip((query, key, value), self.weights, self.biases, strict=True))
        if self.bias_k is not None:
            k, v = (torch.cat([t, b.expand(1, n, -1)]) for t, b in ((k, self.bias_k), (v, self.bias_v)))
        q, k, v = (_split(t, self.heads) for t in (q, k, v))
        k, v = (self.static(name, t, n, head) for name, t in (("static_k", k), ("static_v", v)))
        if self.add_zero_attn:
            k, v = (torch.cat([t, torch.zeros_like(t[:, :, :1])], 2) for t in (k, v))
        p = self.p
        if need_weights:
            kept = _kept(q.new_empty((*q.shape[:3], k.shape[2])), p) if p else None
            output, weight = run(weighted_attention, q, k, v, mask, kept, 1 / (1 - p) if p < 1 else 0.0)
        else:
            output, weight = run(scaled_dot_product_attention, q, k, v, mask, p, causal), None
        output = run(linear, _merge(output), self.out_weight, self.out_bias)
        if weight is not None:
            weight = weight.mean(1) if average_attn_weights else weight
            weight = weight if batched else weight.squeeze(0)
        return output if batched else output.squeeze(1), weight

    def static(self, name, computed, n, head):
        """Keys or values that were given, (N heads, S, head), in place of what the maps made."""
        given = getattr(self, name)
        if given is None:
            return computed
        if given.shape[0] != n * self.heads or given.shape[2] != head:
            raise AssertionError(
                f"{NAME}: {name} must have shape ({n * self.heads}, S, {head}), it has {tuple(given.shape)}"
            )
        return given.unflatten(0, (n, self.heads))

    def pull(self, pulls, dy) -> dict[str, Any]:
        """Gradients by the names of the arguments of multi_head_attention_forward, from those of the output and the weights."""
        doutput, dweight = dy if isinstance(dy, tuple) else (dy, None)
        pull_q, pull_k, pull_v, pull_attention, pull_out = pulls
        grads: dict[str, Any] = {}
        dheads = None
        if doutput is not None:
            dmerged, grads["out_proj_weight"], grads["out_proj_bias"] = pull_out(
                doutput if self.batched else doutput.unsqueeze(1)
            )
            dheads = _split(dmerged, self.heads)
        if dweight is not None:
            dweight = dweight if self.batched else dweight.unsqueeze(0)
            if self.average:
                dweight = dweight.unsqueeze(1).expand(-1, self.heads, -1, -1) / self.heads
        dq, dk, dv, dmask = pull_attention((dheads, dweight) if self.need_weights else dheads)[:4]
        if dmask is not None:
            dmask = dmask[..., : self.steps]
            if self.masked is not None:
                rows = dmask.flatten(0, 1) if len(self.masked) == 3 else dmask
                grads["attn_mask"] = rows.sum_to_size(self.masked)
            if self.padded:
                dpadding = dmask.sum((1, 2))
                grads["key_padding_mask"] = dpadding if self.batched else dpadding.squeeze(0)
        if self.add_zero_attn:
            dk, dv = dk[:, :, :-1], dv[:, :, :-1]
        if self.static_k is not None:
            grads["static_k"], dk = dk.flatten(0, 1), None
        if self.static_v is not None:
            grads["static_v"], dv = dv.flatten(0, 1), None
        dq, dk, dv = (None if d is None else _merge(d) for d in (dq, dk, dv))
        if self.bias_k is not None:
            grads["bias_k"], grads["bias_v"] = (
                d[self.steps].sum(0).view_as(b) for d, b in ((dk, self.bias_k), (dv, self.bias_v))
            )
        found = [(None,) * 3 if d is None else pull(d if pull is pull_q else d[: self.steps])
                 for pull, d in ((pull_q, dq), (pull_k, dk), (pull_v, dv))]  # fmt: skip
        dinputs, weights, biases = zip(*found, strict=True)
        for name, d in zip(("query", "key", "value"), dinputs, strict=True):
            grads[name] = d if self.batched or d is None else d.squeeze(1)
        if self.packed:
            grads["in_proj_weight"] = _joined(weights, self.weights)
        else:
            grads |= zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), weights, strict=True)
        if self.biases[0] is not None:
            grads["in_proj_bias"] = _joined(biases, self.biases)
        return grads


def _joined(grads, parts):
    """One gradient of the parts of a tensor, zeros for those that nobody used."""
    return torch.cat([torch.zeros_like(p) if g is None else g for g, p in zip(grads, parts, strict=True)])


def _recorded(pulls: list):
    """run(op, *args) without autograd that keeps the pullbacks."""

    def run(op, *args):
        output, pull = op.vjp(*args)
        pulls.append(pull)
        return output

    return run


def _plain(op, *args):
    return op(*args)


class MultiHeadAttentionForward:
    r"""$\mathrm{MHA}(Q, K, V) = [O_1 \dots O_h] W_o + b_o$ with $O_i = \mathrm{attention}(Q W_i^q, K W_i^k, V W_i^v)$.

    The arguments, shapes and errors of torch.nn.functional.multi_head_attention_forward. Not an operation of its own: it is
    put together from linear and attention, each of which autocast may compute in another precision.
    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    __name__ = "multi_head_attention_forward"
    builtin = staticmethod(F.multi_head_attention_forward)
    __signature__ = inspect.signature(F.multi_head_attention_forward)

    def bound(self, args, kwargs):
        call = self.__signature__.bind(*args, **kwargs)
        passed = (*tuple(self.__signature__.parameters)[: len(args)], *kwargs)  # the pullback answers in this order
        call.apply_defaults()
        a = call.arguments
        heads = Heads(
            a["embed_dim_to_check"], a["num_heads"], a["dropout_p"] if a["training"] else 0.0, a["use_separate_proj_weight"],
            *(a[name] for name in ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight",
                                   "bias_k", "bias_v", "add_zero_attn", "out_proj_weight", "out_proj_bias", "static_k",
                                   "static_v")),
        )  # fmt: skip
        inputs = [a[name] for name in ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask",
                                       "average_attn_weights", "is_causal")]  # fmt: skip
        return heads, inputs, passed

    def __call__(self, *args, **kwargs):
        heads, inputs, _ = self.bound(args, kwargs)
        return heads.forward(_plain, *inputs)

    def vjp(self, *args, **kwargs):
        """Output and pullback, without autograd; see Op.vjp."""
        with torch.no_grad():
            heads, inputs, passed = self.bound(args, kwargs)
            pulls: list = []
            result = heads.forward(_recorded(pulls), *inputs)

        def pullback(dy=None, needs=None):
            with torch.no_grad():
                grads = heads.pull(pulls, dy)
            wanted = (True,) * len(passed) if needs is None else needs
            return tuple(grads.get(name) if need else None for name, need in zip(passed, wanted, strict=True))

        return result, pullback


multi_head_attention_forward = MultiHeadAttentionForward()


class MultiheadAttention(Manual, torch.nn.MultiheadAttention):
    r"""The module of multi_head_attention_forward."""

    attributes: dict[str, str] = {}

    def maps(self) -> Heads:
        return Heads(
            self.embed_dim, self.num_heads, self.dropout if self.training else 0.0, not self._qkv_same_embed_dim,
            self.in_proj_weight, self.in_proj_bias, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight, self.bias_k,
            self.bias_v, self.add_zero_attn, self.out_proj.weight, self.out_proj.bias,
        )  # fmt: skip

    def steps_first(self, x):
        """(L, N, E) of a tensor of the call, or back."""
        return x.transpose(0, 1) if self.batch_first and x is not None and x.dim() == 3 else x

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                average_attn_weights=True, is_causal=False):  # fmt: skip
        query, key, value = map(self.steps_first, (query, key, value))
        output, weight = self.maps().forward(
            _plain, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )
        return self.steps_first(output), weight

    @by_name
    def explicit(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                 average_attn_weights=True, is_causal=False):  # fmt: skip
        maps, pulls = self.maps(), list[Any]()
        query, key, value = map(self.steps_first, (query, key, value))
        output, weight = maps.forward(
            _recorded(pulls),
            query,
            key,
            value,
            key_padding_mask,
            need_weights,
            attn_mask,
            average_attn_weights,
            is_causal,
        )

        def pullback(dy):
            doutput, dweight = dy if isinstance(dy, tuple) else (dy, None)
            grads = maps.pull(pulls, (self.steps_first(doutput), dweight))
            for name, parameter in self.named_parameters():
                grad = grads.get(name.replace(".", "_"))
                if parameter.requires_grad and grad is not None:
                    accumulate(parameter, grad)
            return {name: self.steps_first(g) if name in ("query", "key", "value") else g for name, g in grads.items()}

        return (self.steps_first(output), weight), made_of(pullback, *pulls)
