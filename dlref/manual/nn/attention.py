"""Attention: each query's mean of the values, weighted by how well its key fits."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..module import Manual, accumulate, by_name
from ..op import call, op
from .common import wide
from .dropout import _kept
from .linear import linear


def _weights(query, key, attn_mask, is_causal, scale, safe):
    """Softmax over the keys of the scaled products; a row that is masked throughout is 0 where safe, else NaN."""
    root = math.sqrt(abs(scale))  # half of the scale to each: the products of large numbers stay in range
    scores = (query * math.copysign(root, scale)) @ (key * root).transpose(-2, -1)
    if is_causal:
        i, j = (torch.arange(n, device=query.device) for n in scores.shape[-2:])
        scores = scores.masked_fill(i.unsqueeze(1) < j, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    if not scores.numel():
        return scores
    top = scores.amax(-1, keepdim=True)
    if safe:
        dead = top == -math.inf
        e = torch.exp(scores - torch.where(dead, 0, top))
        return e / torch.where(dead, 1, e.sum(-1, keepdim=True))
    e = torch.exp(scores - top)
    return e / e.sum(-1, keepdim=True)


def _attention_gradient(dy, dweights, p, needs, query, key, value, kept, share, scale):
    r"""With $O = \tilde P V$, $\tilde P = P \odot m / (1 - p)$, $P = \mathrm{softmax}(S)$, $S = Q K^\top\! s + M$:
    $dV = \tilde P^\top dO,\ d\tilde P = dO\, V^\top,\ dS = P \odot (dP - \sum dP \odot P),\ dM = dS$,
    $dQ = s\, dS\, K,\ dK = s\, dS^\top Q$."""
    dropped = p if kept is None else p * kept * share
    dv = dropped.transpose(-2, -1) @ dy if needs.value else None
    if not (needs.query or needs.key or needs.attn_mask):
        return None, None, dv, None
    dp = dy @ value.transpose(-2, -1)
    if dweights is not None:
        dp = dp + dweights
    if kept is not None:
        dp = dp * kept * share
    ds = p * (dp - (dp * p).sum(-1, keepdim=True))
    dq = ds @ key * scale if needs.query else None
    dk = ds.transpose(-2, -1) @ query * scale if needs.key else None
    return dq, dk, dv, ds


@op(builtin=F.scaled_dot_product_attention, autocast="low")
def scaled_dot_product_attention(query, key, value, attn_mask, kept, share, is_causal, scale, groups):
    r"""$O = \mathrm{softmax}(Q K^\top\! s + M)\, V$, the softmax over the keys.

    query (*, L, E), key (*, S, E), value (*, S, V); output (*, L, V). s: scale, $E^{-1/2}$ by default. attn_mask: bool
    (False: not seen) or numbers M to add, broadcast to (*, L, S); is_causal: key j is seen by query i where $j \le i$;
    a query that sees no key gets 0. dropout_p: of the weights. enable_gqa: the heads, the dimension before the last two, of
    query are a multiple of those of key and value. RuntimeError where they do not fit. Vaswani et al. 2017,
    arXiv:1706.03762, eq. 1; Ainslie et al. 2023, arXiv:2305.13245.
    """
    q, k, v = _heads(query, key, value, groups)
    p = _weights(q, k, attn_mask, is_causal, scale, safe=True)
    return ((p if kept is None else p * kept * share) @ v).to(query.dtype), (p,)


def _heads(query, key, value, groups):
    """In at least float32, each head of key and value as often as it is asked."""
    k, v = (wide(t) if groups == 1 else wide(t).repeat_interleave(groups, -3) for t in (key, value))
    return wide(query), k, v


@scaled_dot_product_attention.gradient
def _(dy, saved, needs, query, key, value, attn_mask, kept, share, scale, groups):
    q, k, v = _heads(query, key, value, groups)
    dq, dk, dv, ds = _attention_gradient(wide(dy), None, saved[0], needs, q, k, v, kept, share, scale)
    if groups > 1:
        dk, dv = (t if t is None else t.unflatten(-3, (t.shape[-3] // groups, groups)).sum(-3) for t in (dk, dv))
    return dq, dk, dv, ds


scaled_dot_product_attention.pull.__doc__ = _attention_gradient.__doc__


@scaled_dot_product_attention.prepare
def _(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
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
        if any(t.dim() < 3 for t in tensors) or query.shape[-3] % key.shape[-3] or key.shape[-3] != value.shape[-3]:
            raise RuntimeError(f"{name}(): with enable_gqa the heads of key must be those of value and divide those of query, "
                               f"the shapes are {[tuple(t.shape) for t in tensors]}")  # fmt: skip
        groups = query.shape[-3] // key.shape[-3]
    kept, share = None, 1.0
    if dropout_p > 0:
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2] if groups == 1 else query.shape[:-2])
        kept = _kept(query.new_empty((*batch, query.shape[-2], key.shape[-2])), dropout_p)
        share = 1 / (1 - dropout_p) if dropout_p < 1 else 0.0
    scale = query.shape[-1] ** -0.5 if scale is None and query.shape[-1] else scale or 0.0
    return query, key, value, attn_mask, kept, share, is_causal, scale, groups


@scaled_dot_product_attention.hard_samples
def _(tensor):
    q = tensor([[[0.1, 2.0], [-1.0, 0.5], [30.0, -20.0]]])
    k, v = tensor([[[1.0, 0.0], [0.0, 1.0]]]), tensor([[[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]])
    seen = tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]) > 0  # a row that sees nothing
    yield call(q, k, v)
    yield call(q, k, v, seen)
    yield call(q, k, v, seen.to(q.dtype).log())  # the same as numbers
    yield call(q, k, v, None, 0.0, True, scale=0.3)
    yield call(q[0], k[0], v[0], None, 0.0, True)
    yield call(q * 1e3, k, v)  # saturated
    yield call(q.expand(4, 3, 2), k.expand(2, 2, 2), v.expand(2, 2, 3), enable_gqa=True)


@scaled_dot_product_attention.error_samples
def _(tensor):
    q = tensor([[[1.0, 2.0], [3.0, 4.0]]])
    yield RuntimeError, call(q, q[..., :1], q)
    yield RuntimeError, call(q, q, q, q[0] > 0, 0.0, True)
    yield RuntimeError, call(q[0, 0], q, q)
    yield RuntimeError, call(q, q.double(), q)


@op(outputs=("output", "weights"))
def weighted_attention(query, key, value, attn_mask, kept, share):
    r"""Scaled dot-product attention that also returns its weights $\mathrm{softmax}(Q K^\top E^{-1/2} + M)$, after dropout."""
    p = _weights(query, key, attn_mask, False, query.shape[-1] ** -0.5, safe=False)
    if kept is None:
        return (p @ value, p), ()
    dropped = p * kept * share
    return (dropped @ value, dropped), (p,)


@weighted_attention.gradient
def _(dy, weights, saved, needs, query, key, value, attn_mask, kept, share):
    p, scale = saved[0] if saved else weights, query.shape[-1] ** -0.5
    return _attention_gradient(dy[0], dy[1], p, needs, query, key, value, kept, share, scale)


weighted_attention.pull.__doc__ = _attention_gradient.__doc__


def _split(x: Tensor, heads: int) -> Tensor:
    """(L, N, E) as (N, heads, L, E / heads)."""
    return x.unflatten(2, (heads, x.shape[2] // heads)).permute(1, 2, 0, 3)


def _merge(x: Tensor) -> Tensor:
    """(N, heads, L, E / heads) as (L, N, E)."""
    return x.permute(2, 0, 1, 3).flatten(2)


class MultiheadAttention(Manual, torch.nn.MultiheadAttention):
    r"""$\mathrm{MHA}(Q, K, V) = [O_1 \dots O_h] W_o + b_o$ with $O_i = \mathrm{attention}(Q W_i^q, K W_i^k, V W_i^v)$.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    attributes: dict[str, str] = {}

    def projections(self):
        """Weight and bias of each of the maps of query, key and value: tensors that hold parameters' rows."""
        e = self.embed_dim
        if self._qkv_same_embed_dim:
            weights = self.in_proj_weight.split(e)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        return weights, (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.split(e)

    def masks(self, query, key, key_padding_mask, attn_mask, is_causal, need_weights, n):
        """One mask of numbers, to be added to the scores (N, heads, L, S'), or None; whether attention is causal."""
        if is_causal and attn_mask is None:
            raise RuntimeError("MultiheadAttention(): attn_mask must be given with is_causal=True, which is a hint on it: take "
                               "Transformer.generate_square_subsequent_mask")  # fmt: skip
        names = {"other_type": None, "other_name": "", "target_type": query.dtype, "check_other": False}
        attn_mask = F._canonical_mask(attn_mask, "attn_mask", **names)
        padding = F._canonical_mask(key_padding_mask, "key_padding_mask", **names)
        length, steps = query.shape[0], key.shape[0]
        extra = (self.bias_k is not None) + bool(self.add_zero_attn)
        if attn_mask is not None:
            expected = {2: (length, steps), 3: (n * self.num_heads, length, steps)}.get(attn_mask.dim())
            if tuple(attn_mask.shape) != expected:
                raise RuntimeError(f"MultiheadAttention(): attn_mask must have shape {(length, steps)} or "
                                   f"{(n * self.num_heads, length, steps)}, it has {tuple(attn_mask.shape)}")  # fmt: skip
            if is_causal and padding is None and not need_weights:
                return None, True
            attn_mask = attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (n, self.num_heads))
            attn_mask = torch.cat([attn_mask, attn_mask.new_zeros(*attn_mask.shape[:-1], extra)], -1)
        if padding is not None:
            if tuple(padding.shape) != (n, steps):
                raise AssertionError(f"MultiheadAttention(): key_padding_mask must have shape {(n, steps)}, it has "
                                     f"{tuple(padding.shape)}")  # fmt: skip
            padding = torch.cat([padding, padding.new_zeros(n, extra)], 1).view(n, 1, 1, steps + extra)
            attn_mask = padding if attn_mask is None else attn_mask + padding
        return attn_mask, False

    def through(
        self, run, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
    ):
        """The computation, by run(op, *args); returns output and weights, both of the call's shapes."""
        batched = F._mha_shape_check(query, key, value, key_padding_mask, attn_mask, self.num_heads)
        if not batched and key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        query, key, value = (self.steps_first(t, batched) for t in (query, key, value))
        if query.shape[-1] != self.embed_dim:
            raise AssertionError(
                f"MultiheadAttention(): query must have {self.embed_dim} features, it has {query.shape[-1]}"
            )
        if key.shape[:2] != value.shape[:2] or (self._qkv_same_embed_dim and key.shape != value.shape):
            raise AssertionError(f"MultiheadAttention(): key and value must have one shape, they have {tuple(key.shape)} and "
                                 f"{tuple(value.shape)}")  # fmt: skip
        n = query.shape[1]
        mask, causal = self.masks(query, key, key_padding_mask, attn_mask, is_causal, need_weights, n)
        weights, biases = self.projections()
        q, k, v = (run(linear, *args) for args in zip((query, key, value), weights, biases, strict=True))
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (torch.cat([t, b.expand(1, n, -1)]) for t, b in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (torch.cat([t, torch.zeros_like(t[:1])]) for t in (k, v))
        q, k, v = (_split(t, self.num_heads) for t in (q, k, v))
        p = self.dropout if self.training else 0.0
        if need_weights:
            kept = _kept(q.new_empty((*q.shape[:3], k.shape[2])), p) if p else None
            output, weight = run(weighted_attention, q, k, v, mask, kept, 1 / (1 - p) if p < 1 else 0.0)
        else:
            output, weight = run(scaled_dot_product_attention, q, k, v, mask, p, causal), None
        output = run(linear, _merge(output), self.out_proj.weight, self.out_proj.bias)
        if weight is not None:
            weight = weight.mean(1) if average_attn_weights else weight
            weight = weight if batched else weight.squeeze(0)
        return self.steps_first(output, batched, back=True), weight

    def steps_first(self, x, batched, back=False):
        """(L, N, E) of a tensor of the call, or back."""
        if not batched:
            return x.squeeze(1) if back else x.unsqueeze(1)
        return x.transpose(0, 1) if self.batch_first else x

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                average_attn_weights=True, is_causal=False):  # fmt: skip
        def run(op, *args):
            return op(*args)

        return self.through(
            run, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )

    @by_name
    def explicit(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                 average_attn_weights=True, is_causal=False):  # fmt: skip
        pulls = []

        def run(op, *args):
            output, pull = op.vjp(*args)
            pulls.append(pull)
            return output

        output, weight = self.through(
            run, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )
        batched, heads = query.dim() == 3, self.num_heads
        steps = key.shape[0 if not (batched and self.batch_first) else 1]

        def pullback(dy):
            doutput, dweight = dy if isinstance(dy, tuple) else (dy, None)
            pull_q, pull_k, pull_v, pull_attention, pull_out = pulls
            if doutput is not None:
                dmerged, dw, db = pull_out(self.steps_first(doutput, batched))
                self.learn(self.out_proj.weight, dw)
                self.learn(self.out_proj.bias, db)
                dheads = _split(dmerged, heads)
            else:
                dheads = None
            if dweight is not None:
                dweight = dweight if batched else dweight.unsqueeze(0)
                dweight = dweight.unsqueeze(1).expand(-1, heads, -1, -1) / heads if average_attn_weights else dweight
            upstream = (dheads, dweight) if need_weights else dheads
            dq, dk, dv = map(_merge, pull_attention(upstream)[:3])
            if self.bias_k is not None and self.bias_v is not None:
                self.learn(self.bias_k, dk[steps].sum(0).view_as(self.bias_k))
                self.learn(self.bias_v, dv[steps].sum(0).view_as(self.bias_v))
            found = [pull(d) for pull, d in ((pull_q, dq), (pull_k, dk[:steps]), (pull_v, dv[:steps]))]
            dinputs, weights, biases = zip(*found, strict=True)
            if self._qkv_same_embed_dim:
                self.learn(self.in_proj_weight, torch.cat(weights))
            else:
                for parameter, dw in zip(
                    (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight), weights, strict=True
                ):
                    self.learn(parameter, dw)
            if self.in_proj_bias is not None:
                self.learn(self.in_proj_bias, torch.cat(biases))
            named = zip(("query", "key", "value"), dinputs, strict=True)
            return {name: self.steps_first(d, batched, back=True) for name, d in named}

        return (output, weight), pullback

    @staticmethod
    def learn(parameter: Any, grad: Tensor | None) -> None:
        if parameter is not None and parameter.requires_grad and grad is not None:
            accumulate(parameter, grad)
