"""Attention without a softmax, as a recurrence of a matrix, composed from torch's functions; and the errors of both sides."""

from __future__ import annotations

import torch
from torch import Tensor

from .sequence import check_one_dtype


def linear_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    check_linear_attention("linear_attention", q, k, v)
    wide = torch.promote_types(q.dtype, torch.float32)
    Q, K, V = (t.to(wide) for t in (q, k, v))
    S = Q.new_zeros(()).expand(*q.shape[:-2], q.shape[-1], v.shape[-1])
    outputs = []
    for q_t, k_t, v_t in zip(*(t.unbind(-2) for t in (Q, K, V)), strict=True):
        S = S + k_t.unsqueeze(-1) @ v_t.unsqueeze(-2)
        outputs.append((q_t.unsqueeze(-2) @ S).squeeze(-2))
    return of_steps(outputs, q, v, scale)


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor, scale: float | None = None) -> Tensor:
    check_linear_attention("gated_delta_rule", q, k, v, beta=beta, g=g)
    wide = torch.promote_types(q.dtype, torch.float32)
    Q, K, V, B, G = (t.to(wide) for t in (q, k, v, beta, g))
    S = Q.new_zeros(()).expand(*q.shape[:-2], q.shape[-1], v.shape[-1])
    outputs = []
    for q_t, k_t, v_t, b_t, a_t in zip(
        *(t.unbind(-2) for t in (Q, K, V)), B.unbind(-1), G.exp().unbind(-1), strict=True
    ):
        S = a_t[..., None, None] * S
        u = b_t.unsqueeze(-1) * (v_t - (k_t.unsqueeze(-2) @ S).squeeze(-2))
        S = S + k_t.unsqueeze(-1) @ u.unsqueeze(-2)
        outputs.append((q_t.unsqueeze(-2) @ S).squeeze(-2))
    return of_steps(outputs, q, v, scale)


def of_steps(outputs: list[Tensor], q: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """The outputs of all steps, times the scale."""
    if not outputs:
        return (q.sum() * 0 + v.sum() * 0) + v.new_zeros(v.shape)
    return (torch.stack(outputs, -2) * of_size(q, scale)).to(q.dtype)


def of_size(q: Tensor, scale: float | None) -> float:
    r"""The scale, by default $D^{-1/2}$."""
    return max(q.shape[-1], 1) ** -0.5 if scale is None else scale


def check_linear_attention(name: str, q: Tensor, k: Tensor, v: Tensor, **each: Tensor) -> None:
    if q.dim() < 2 or q.shape != k.shape or q.dim() != v.dim() or q.shape[:-1] != v.shape[:-1]:
        raise RuntimeError(f"{name}(): q and k must be (*, T, D) and v (*, T, D_v), they have shapes "
                           f"{[tuple(t.shape) for t in (q, k, v)]}")  # fmt: skip
    for which, tensor in each.items():
        if tensor.shape != q.shape[:-1]:
            raise RuntimeError(f"{name}(): {which} must be (*, T), here {tuple(q.shape[:-1])}, it has shape "
                               f"{tuple(tensor.shape)}")  # fmt: skip
    check_one_dtype(name, q=q, k=k, v=v)
