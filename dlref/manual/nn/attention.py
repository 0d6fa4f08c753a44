"""Multi-head attention: linear maps of query, key and value to several heads, attention in each, one map of all."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.module import Manual, by_name
from ...core.pullback import accumulate, made_of
from .dot_product_attention import scaled_dot_product_attention, weighted_attention
from .dropout import _kept
from .linear import linear

NAME = "multi_head_attention_forward"


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

    query (L, N, E) or (L, E), key and value (S, N, E) or (S, E); outputs: query's shape, and the weights (N, L, S), or None.
    AssertionError or RuntimeError where they do not fit. The arguments of torch's function of this name. Not an operation of
    its own: it is put together from linear and attention, each of which autocast may compute in another precision.
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
    """The module of `multi_head_attention_forward`; with batch_first (N, L, E) stands for (L, N, E)."""

    attributes: dict[str, str] = {}
    _reads_layers = True

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
