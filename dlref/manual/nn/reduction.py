"""The mean or the sum that a loss of many elements is reduced to."""

from __future__ import annotations

from .common import widened


def reduce_loss(loss, reduction):
    """The elementwise losses, their mean or their sum."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    return loss


def unreduced(dy, elements, reduction):
    """The upstream gradient of each element's loss, where the loss was reduced."""
    dy = widened(dy)
    return dy / max(elements, 1) if reduction == "mean" else dy


def check_reduction(reduction):
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', it is {reduction!r}")
