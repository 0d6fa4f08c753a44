"""Losses of the overlap of regions, of probabilities."""

from __future__ import annotations

from torch import Tensor

from .reduction import check_one_shape


def dice_loss(input: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    p, t = per_sample(input, target)
    return (1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)).mean()


def tversky_loss(input: Tensor, target: Tensor, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0) -> Tensor:
    p, t = per_sample(input, target)
    hit, false, missed = (p * t).sum(1), (p * (1 - t)).sum(1), ((1 - p) * t).sum(1)
    return (1 - (hit + smooth) / (hit + alpha * false + beta * missed + smooth)).mean()


def per_sample(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Each as (N, D); ValueError where they do not fit together."""
    check_one_shape(input=input, target=target)
    if not input.dim():
        raise ValueError("input and target must be (N, *), they are single numbers")
    return input.unsqueeze(-1).flatten(1), target.unsqueeze(-1).flatten(1)
