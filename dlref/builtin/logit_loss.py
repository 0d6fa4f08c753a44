"""Losses of logits beyond torch's cross_entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .reduction import check_at_least, check_reduction, reduced


def z_loss(input: Tensor, coefficient: float = 1e-4, reduction: str = "mean") -> Tensor:
    check_z_loss(input, reduction)
    return reduced(coefficient * input.logsumexp(-1).square(), reduction)


def focal_loss(
    input: Tensor, target: Tensor, gamma: float = 2.0, alpha: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    dim = check_focal_loss(input, target, gamma, alpha, reduction)
    index = target.long().unsqueeze(dim)
    others = classes_marked(input, dim, index, -torch.inf).logsumexp(dim, keepdim=True)
    z = input.gather(dim, index) - others  # the log-odds: p and 1 - p are its sigmoid and that of -z
    loss = -F.logsigmoid(z)
    if gamma:
        loss = loss * torch.exp(gamma * F.logsigmoid(-z))
    if alpha is not None:
        loss = loss * alpha[index]
    return reduced(loss.squeeze(dim), reduction)


def check_z_loss(input: Tensor, reduction: str) -> None:
    """ValueError where the arguments of z_loss do not fit."""
    if not input.dim():
        raise ValueError("input must be (*, C), with a dimension of classes, it is a single number")
    check_reduction(reduction)


def check_focal_loss(input: Tensor, target: Tensor, gamma: float, alpha: Tensor | None, reduction: str) -> int:
    """The dimension of the classes; ValueError where the arguments of focal_loss do not fit together."""
    if not input.dim():
        raise ValueError("input must have a dimension of classes, it is a single number")
    dim = min(input.dim() - 1, 1)
    expected = tuple(n for d, n in enumerate(input.shape) if d != dim)
    if tuple(target.shape) != expected or target.dtype not in (torch.int64, torch.uint8):
        raise ValueError(f"target must hold class indices (int64 or uint8) of shape {expected} for an input of shape "
                         f"{tuple(input.shape)}, it is {target.dtype} of shape {tuple(target.shape)}")  # fmt: skip
    if alpha is not None and tuple(alpha.shape) != (input.shape[dim],):
        raise ValueError(f"alpha must be ({input.shape[dim]},), one weight a class, it is {tuple(alpha.shape)}")
    check_at_least("gamma", gamma, 0)
    check_reduction(reduction)
    return dim


def classes_marked(input: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """The input with this value at the classes; IndexError, as torch's losses raise it, where there is no such class."""
    try:
        return input.scatter(dim, index, value)
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        raise IndexError(f"class indices must lie in [0, {input.shape[dim]}): {error}") from None
