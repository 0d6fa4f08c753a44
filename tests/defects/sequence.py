"""Errors of kernels for sequences: rotary positions, gates, attention with what language models add to it, delta rules."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

import dlref.builtin.functional as B

from . import Kernel, defect
from .reports import FLOAT32


@defect("rotary_embedding", "value", "", **FLOAT32)
def halves_for_pairs(input, cos, sin, interleaved=False):
    first, second = input.chunk(2, -1)  # whatever interleaved says
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


@defect("rotary_embedding", "gradient", "", **FLOAT32)
class turns_on(Kernel):
    @staticmethod
    def forward(ctx, input, cos, sin, interleaved=False):
        Kernel.keep(ctx, cos, sin, interleaved)
        return B.rotary_embedding(input, cos, sin, interleaved)

    @staticmethod
    def backward(ctx, dy):
        return B.rotary_embedding(dy, *ctx.args), None, None, None  # forward again, and not back


@defect("swiglu", "gradient", "", **FLOAT32)
class gate_without_its_sigmoid(Kernel):
    @staticmethod
    def forward(ctx, gate, up):
        Kernel.keep(ctx, gate, up)
        return F.silu(gate) * up

    @staticmethod
    def backward(ctx, dy):
        gate, up = ctx.args
        s = torch.sigmoid(gate)
        return dy * up * s * (1 + gate * (1 - s)), dy * gate  # of up: silu(gate), not gate


def scores(query, key, attn_mask, is_causal, scale, enable_gqa, window, alibi_slopes, *, cap, first=True, shift=None):
    """The scores as `attention` has them, but for where the cap goes and what the places count from."""
    key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3) if enable_gqa else key
    z = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    z = cap(z) if first else z
    rows, columns = z.shape[-2:]
    behind = torch.arange(columns) - torch.arange(rows).unsqueeze(1) - (columns - rows if shift is None else shift)
    if attn_mask is not None:
        z = z.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else z + attn_mask
    if is_causal:
        z = z.masked_fill(torch.arange(rows).unsqueeze(1) < torch.arange(columns), -math.inf)
    if alibi_slopes is not None:
        z = z - alibi_slopes[..., None, None] * behind.abs()
    if (window := B.attention.__globals__["both_sides"](window)) is not None:
        z = z if window[0] < 0 else z.masked_fill(behind < -window[0], -math.inf)
        z = z if window[1] < 0 else z.masked_fill(behind > window[1], -math.inf)
    return z if first else cap(z)


def as_attention(safe=True, **how):
    """`attention`, with its scores another way."""

    def function(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False, *, softcap=None,
        window=None, sinks=None, alibi_slopes=None,
    ):  # fmt: skip
        cap = (lambda z: z) if softcap is None else (lambda z: softcap * torch.tanh(z / softcap))
        z = scores(query, key, attn_mask, is_causal, scale, enable_gqa, window, alibi_slopes, cap=cap, **how)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3) if enable_gqa else value
        if sinks is not None:
            z = torch.cat((z, sinks[:, None, None].expand(*z.shape[:-1], 1)), -1)
        nothing = (z == -math.inf).all(-1, keepdim=True) & safe
        p = z.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)
        return F.dropout(p if sinks is None else p[..., :-1], dropout_p) @ value

    return function


def attention_defect(kind, told, name, **how):
    candidate = as_attention(**how)
    candidate.__name__ = name
    return defect("attention", kind, told, where="dropout_p == 0 and key.numel() > 0", **FLOAT32)(candidate)


attention_defect("value", "window|alibi_slopes|index", "from_the_first_query", shift=0)
attention_defect(
    "value", "softcap|index|nan", "cap_over_the_mask", first=False
)  # tanh makes a number of minus infinity
attention_defect("value", "nan|index|mask|window", "nothing_to_see", safe=False)  # 0 / 0


@defect("attention", "gradient", "", where="sinks is not None and window is None and attn_mask is None and softcap is None "
        "and alibi_slopes is None and dropout_p == 0 and not enable_gqa and key.numel() > 0", **FLOAT32)  # fmt: skip
class sink_in_the_row_sum(Kernel):
    @staticmethod
    def forward(ctx, q, k, v, sinks):
        z = q @ k.mT * q.shape[-1] ** -0.5
        p = torch.cat((z, sinks[:, None, None].expand(*z.shape[:-1], 1)), -1).softmax(-1)
        Kernel.keep(ctx, q, k, v, p[..., :-1], p[..., -1:])
        return p[..., :-1] @ v

    @staticmethod
    def backward(ctx, dy):
        q, k, v, p, c = ctx.args
        s, dp = q.shape[-1] ** -0.5, dy @ v.mT
        along = (dp * p).sum(-1, keepdim=True) + c  # the sink has no value, and no part in it
        dz = p * (dp - along) * s
        return dz @ k, dz.mT @ q, p.mT @ dy, -(c * along).sum((0, 2, 3))


@defect("gated_delta_rule", "value", "", **FLOAT32)
def fades_after_the_update(q, k, v, beta, g, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    S, outputs = q.new_zeros(*q.shape[:-2], q.shape[-1], v.shape[-1]), [v[..., :0, :]]
    for t in range(q.shape[-2]):
        u = beta[..., t, None] * (v[..., t, :] - (k[..., t, None, :] @ S).squeeze(-2))
        S = g[..., t, None, None].exp() * (S + k[..., t, :, None] * u[..., None, :])  # and what is new with the old
        outputs.append(scale * q[..., t, None, :] @ S)
    return torch.cat(outputs, -2)
