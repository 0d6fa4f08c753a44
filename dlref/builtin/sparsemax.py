"""Projections onto the simplex, by a threshold that is found by halving and differentiated as the root that it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HALVINGS = 60


def sparsemax(input: Tensor, dim: int = -1) -> Tensor:
    return entmax(input, 2.0, dim)


def entmax(input: Tensor, alpha: float = 1.5, dim: int = -1) -> Tensor:
    check_alpha(alpha)
    if alpha == 1 or not input.numel():
        return F.softmax(input, dim)
    x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    x = (alpha - 1) * (x - x.amax(dim, keepdim=True))
    tau = _threshold(x.detach(), alpha, dim)
    for _ in range(2):  # Newton's step at the root has the root's derivative, and two its second
        total = _above(x, tau, 1 / (alpha - 1)).sum(dim, keepdim=True)
        slope = _above(x, tau, 1 / (alpha - 1) - 1).sum(dim, keepdim=True) / (alpha - 1)
        tau = tau + (total - 1) / slope
    p = _above(x, tau, 1 / (alpha - 1)).to(input.dtype)
    return p * torch.where(p.isnan(), p.detach(), 1)  # where there is no value, there is no gradient


def _above(x: Tensor, tau: Tensor, power: float) -> Tensor:
    r"""$[x - \tau]_+$ to the power; without a gradient where it is 0."""
    below = x <= tau
    return torch.where(below, 0, torch.where(below, 1, x - tau).pow(power))


@torch.no_grad()
def _threshold(x: Tensor, alpha: float, dim: int) -> Tensor:
    r"""The largest $\tau$ with $\sum [x - \tau]_+^{1 / (\alpha - 1)} \ge 1$, of x whose largest is 0."""
    largest = x.amax(dim, keepdim=True)
    low, high = largest - 1, largest
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = _above(x, middle, 1 / (alpha - 1)).sum(dim, keepdim=True) >= 1
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low


def check_alpha(alpha: float) -> None:
    """TypeError where alpha is a tensor, ValueError where it is below 1."""
    if isinstance(alpha, Tensor):
        raise TypeError("alpha must be a number, it is a tensor: entmax has no gradient by alpha, pass alpha.item()")
    if not 1 <= alpha < float("inf"):
        raise ValueError(f"alpha must be at least 1 (softmax) and finite, it is {alpha}")
