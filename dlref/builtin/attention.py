"""Attention with what language models add to it, composed from torch's functions; and the errors of both sides."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Window = int | tuple[int, int] | None


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, *, softcap: float | None = None,
    window: Window = None, sinks: Tensor | None = None, alibi_slopes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    window = both_sides(window)
    if is_causal and attn_mask is not None:  # which torch refuses where it computes by some of its kernels
        raise RuntimeError("attention(): attn_mask must not be given with is_causal=True")
    if softcap is None and window is None and sinks is None and alibi_slopes is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    check_attention(query, key, enable_gqa, softcap, sinks, alibi_slopes)
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k, v = (t.to(wide) for t in (query, key, value))
    if enable_gqa:
        k, v = (t.repeat_interleave(q.shape[-3] // max(t.shape[-3], 1), -3) for t in (k, v))
    z = q @ k.mT * (max(q.shape[-1], 1) ** -0.5 if scale is None else scale)
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    rows, columns = z.shape[-2:]
    i, j = (torch.arange(n, device=z.device) for n in (rows, columns))
    if attn_mask is not None:
        z = z.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else z + attn_mask
    if is_causal:
        z = z.masked_fill(i.unsqueeze(1) < j, -math.inf)
    behind = j - (i + columns - rows).unsqueeze(1)
    if alibi_slopes is not None:
        z = z - alibi_slopes[..., None, None] * behind.abs()
    if window is not None:
        left, right = window
        z = z if left < 0 else z.masked_fill(behind < -left, -math.inf)
        z = z if right < 0 else z.masked_fill(behind > right, -math.inf)
    if sinks is not None:
        z = torch.cat((z, sinks[:, None, None].expand(*z.shape[:-1], 1)), -1)
    if attn_mask is None and window is None:
        p = z.softmax(-1)
    else:
        nothing = (z == -math.inf).all(-1, keepdim=True)
        p = z.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)
    p = p if sinks is None else p[..., :-1]
    return (F.dropout(p, dropout_p).to(v.dtype) @ v).to(query.dtype)


# --- errors ---------------------------------------------------------------------------------------------------


def both_sides(window: Window) -> tuple[int, int] | None:
    """The keys before and after the query's place that it sees; None where it sees all. RuntimeError where they are none."""
    if window is None:
        return None
    left, right = window if isinstance(window, (tuple, list)) and len(window) == 2 else (window, window)
    if not all(isinstance(n, int) and n >= -1 for n in (left, right)):
        raise RuntimeError(f"attention(): window must be a number of keys on either side or two, each at least 0, or -1 for no "
                           f"end, it is {window}")  # fmt: skip
    return None if left == right == -1 else (left, right)


def check_attention(
    query: Tensor, key: Tensor, enable_gqa: bool, softcap: float | None, sinks: Tensor | None, slopes: Tensor | None
) -> None:
    """RuntimeError where softcap, the heads, sinks or alibi_slopes do not fit."""
    if softcap is not None and not softcap > 0:
        raise RuntimeError(f"attention(): softcap must be greater than 0, it is {softcap}: None is for no cap")
    if enable_gqa and query.dim() > 2 and key.dim() > 2:
        many, few = query.shape[-3], key.shape[-3]
        if many % few if few else many:
            raise RuntimeError(f"attention(): with enable_gqa the heads of key must divide those of query, they are {few} and "
                               f"{many}")  # fmt: skip
    if sinks is None and slopes is None:
        return
    batch = torch.broadcast_shapes(query.shape[:-2], query.shape[:-2] if enable_gqa else key.shape[:-2])
    if not batch:
        raise RuntimeError("attention(): sinks and alibi_slopes are one a head, the dimension before the last two: query has "
                           f"shape {tuple(query.shape)}")  # fmt: skip
    heads, whole = tuple(batch[-1:]), tuple(batch[-2:])
    if sinks is not None and tuple(sinks.shape) != heads:
        raise RuntimeError(f"attention(): sinks must have shape {heads}, one a head, they have {tuple(sinks.shape)}")
    if slopes is not None and tuple(slopes.shape) not in (heads, whole):
        raise RuntimeError(f"attention(): alibi_slopes must have shape {' or '.join(map(str, dict.fromkeys((heads, whole))))}, "
                           f"one a head, they have {tuple(slopes.shape)}")  # fmt: skip
