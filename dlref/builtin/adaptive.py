"""The parts of an adaptive softmax, composed from torch's functions; the whole is torch.nn.AdaptiveLogSoftmaxWithLoss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["cluster_log_prob"]


def cluster_log_prob(
    input: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None = None, projection: Tensor | None = None
) -> Tensor:
    """Each row's log-probability of its target by log_softmax of one linear layer or two, 0 of a target of another cluster.

    input (N, D), target (N) int64, weight (classes, D) or with projection (width, D) (classes, width), bias (classes).
    """
    check_cluster(input, target, weight, bias, projection)
    hidden = input if projection is None else F.linear(input, projection)
    log_p = F.log_softmax(F.linear(hidden, weight, bias), 1)
    inside = (target >= 0) & (target < len(weight))
    return torch.where(inside, log_p.gather(1, torch.where(inside, target, 0).unsqueeze(1)).squeeze(1), 0)


def check_cluster(
    input: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None, projection: Tensor | None
) -> None:
    """RuntimeError where the arguments of `cluster_log_prob` do not fit."""
    if target.dtype != torch.int64:
        raise RuntimeError(f"cluster_log_prob(): the target must be int64, it is {target.dtype}: convert it by .long()")
    if input.dim() != 2 or target.shape != input.shape[:1]:
        raise RuntimeError(f"cluster_log_prob(): input and target must be (N, D) and (N,), they are {tuple(input.shape)} and "
                           f"{tuple(target.shape)}")  # fmt: skip
    shape = (weight if projection is None else projection).shape
    if weight.dim() != 2 or not len(weight) or len(shape) != 2 or shape[1] != input.shape[1]:
        raise RuntimeError(f"cluster_log_prob(): weight, or projection, must be (classes, {input.shape[1]}), it has shape "
                           f"{tuple(shape)}")  # fmt: skip
    if projection is not None and weight.shape[1] != len(projection):
        raise RuntimeError(f"cluster_log_prob(): weight must be (classes, {len(projection)}) behind the projection, it has "
                           f"shape {tuple(weight.shape)}")  # fmt: skip
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"cluster_log_prob(): bias must have shape ({len(weight)},), it has {tuple(bias.shape)}")
