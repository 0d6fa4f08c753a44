"""Divergences of log-probabilities beyond torch's kl_div."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .reduction import REDUCTIONS, check_between, check_one_shape, check_reduction, reduced


def js_div(input: Tensor, target: Tensor, beta: float = 0.5, reduction: str = "batchmean") -> Tensor:
    check_divergence(input, target, reduction)
    check_between("beta", beta, 0, 1)
    if beta == 0:
        return F.kl_div(input, target, reduction=reduction, log_target=True)
    if beta == 1:
        return F.kl_div(target, input, reduction=reduction, log_target=True)
    there = torch.maximum(input, target) != -math.inf  # logaddexp has no gradient elsewhere
    log_p, log_q = torch.where(there, target, 0), torch.where(there, input, 0)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    loss = beta * _kl(target, log_m) + (1 - beta) * _kl(input, log_m)
    return reduced(loss, reduction)


def _kl(log_p: Tensor, log_m: Tensor) -> Tensor:
    """The terms of KL(p || m); 0 where p is."""
    there = log_p != -math.inf
    difference = torch.where(there, log_p, 0) - torch.where(there, log_m, 0)
    return torch.where(there, log_p.exp() * difference, 0)


def tv_distance(input: Tensor, target: Tensor, reduction: str = "batchmean") -> Tensor:
    check_divergence(input, target, reduction)
    return reduced((input.exp() - target.exp()).abs() / 2, reduction)


def check_divergence(input: Tensor, target: Tensor, reduction: str) -> None:
    """ValueError where the arguments of a divergence do not fit together."""
    check_one_shape(input=input, target=target)
    check_reduction(reduction, (*REDUCTIONS, "batchmean"))
