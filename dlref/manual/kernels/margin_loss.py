"""A fast form of the multi-label hinge: as many targets as the longest list has, not as many as there are classes."""

from __future__ import annotations

import math

import torch

from ..nn.common import concrete, widened
from ..nn.margin_loss import multilabel_margin_loss
from ..nn.reduction import reduce_loss, unreduced


def _seen(input, target, reduction):
    return concrete(target) and input.dim() > 0 and input.numel() > 0


def _hinges(x, target):
    """z (N, T, C) of each target and each class, where the pair does not count -inf, or NaN of an infinite x; the targets."""
    target = target.reshape(x.shape)
    there = (target < 0).cumsum(-1) == 0
    most = int(there.sum(-1).max())
    there = there[..., :most]
    index = torch.where(there, target[..., :most], 0)
    inside = torch.zeros_like(x).scatter_add_(-1, index, there.to(x.dtype)) > 0
    bound = (1 - x.gather(-1, index)).masked_fill_(~there, -math.inf)
    return bound.unsqueeze(-1) + x.masked_fill(inside, -math.inf).unsqueeze(-2), index


@multilabel_margin_loss.kernel(where=_seen)
def multilabel_margin_loss_forward(input, target, reduction):
    x = widened(input)
    hinges, _ = _hinges(x, target)
    loss = hinges.nan_to_num_(0, math.inf).clamp_(min=0).sum((-2, -1)) / x.shape[-1]
    return reduce_loss(loss, reduction).to(input.dtype)


@multilabel_margin_loss.kernel_gradient
def multilabel_margin_loss_gradient(dy, input, target, reduction):
    x = widened(input)
    s = unreduced(dy, math.prod(x.shape[:-1]), reduction)
    s = s.unsqueeze(-1) if reduction == "none" else s
    hinges, index = _hinges(x, target)
    active = hinges.gt_(0)
    return active.sum(-2).scatter_add_(-1, index, -active.sum(-1)).mul_(s / x.shape[-1])
