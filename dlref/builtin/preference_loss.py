"""Losses of a language model's preferences, of the log-probabilities of its answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .reduction import check_at_least, check_between, check_one_shape, check_reduction, reduced


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float = 0.1,
    label_smoothing: float = 0.0, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    check_dpo_loss(chosen, rejected, reference_chosen, reference_rejected, label_smoothing, reduction)
    z = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    loss = -(1 - label_smoothing) * F.logsigmoid(z)
    return reduced(loss - label_smoothing * F.logsigmoid(-z) if label_smoothing else loss, reduction)


def kto_loss(
    logps: Tensor, reference_logps: Tensor, desirable: Tensor, kl: Tensor | float, beta: float = 0.1,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    check_kto_loss(logps, reference_logps, desirable, kl, reduction)
    z = beta * (logps - reference_logps - (kl.detach() if isinstance(kl, Tensor) else kl))
    return reduced(torch.sigmoid(torch.where(desirable, -z, z)).to(z.dtype), reduction)


def simpo_loss(
    chosen: Tensor, rejected: Tensor, beta: float = 2.0, gamma: float = 0.5, reduction: str = "mean"
) -> Tensor:
    check_pair(chosen, rejected, reduction)
    return reduced(-F.logsigmoid(beta * (chosen - rejected) - gamma), reduction)


def orpo_loss(chosen: Tensor, rejected: Tensor, weight: float = 0.1, reduction: str = "mean") -> Tensor:
    check_pair(chosen, rejected, reduction)
    return reduced(-weight * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected)), reduction)


def _log_odds(logp: Tensor) -> Tensor:
    return logp - torch.log(-torch.expm1(logp))


def grpo_loss(
    logps: Tensor, old_logps: Tensor, reference_logps: Tensor, advantages: Tensor, mask: Tensor | None = None,
    beta: float = 0.04, epsilon: float = 0.2, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    check_grpo_loss(logps, old_logps, reference_logps, advantages, mask, epsilon, reduction)
    counted = torch.ones_like(logps, dtype=torch.bool) if mask is None else mask != 0
    logps, old_logps, reference_logps = (torch.where(counted, t, 0) for t in (logps, old_logps, reference_logps))
    a, change = advantages.unsqueeze(1), logps - old_logps
    sign = torch.where(a >= 0, torch.ones_like(a), -1)
    clipped = sign * (change.exp() - 1) > epsilon
    bound = torch.where(clipped, 1 + epsilon * sign, torch.where(clipped, 0, change).exp())
    d = reference_logps - logps
    loss = torch.where(counted, beta * (d.exp() - d - 1) - bound * a, 0)
    return reduced(loss.sum(1) / counted.sum(1).clamp(min=1), reduction)


# --- errors ---------------------------------------------------------------------------------------------------


def check_pair(chosen: Tensor, rejected: Tensor, reduction: str) -> None:
    """ValueError where chosen and rejected answers do not fit together."""
    check_one_shape(chosen=chosen, rejected=rejected)
    check_reduction(reduction)


def check_dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, label_smoothing: float,
    reduction: str,
) -> None:  # fmt: skip
    """ValueError where the arguments of dpo_loss do not fit together."""
    check_one_shape(chosen=chosen, rejected=rejected, reference_chosen=reference_chosen,
                    reference_rejected=reference_rejected)  # fmt: skip
    check_between("label_smoothing", label_smoothing, 0, 1)
    check_reduction(reduction)


def check_kto_loss(
    logps: Tensor, reference_logps: Tensor, desirable: Tensor, kl: Tensor | float, reduction: str
) -> None:
    """ValueError where the arguments of kto_loss do not fit together."""
    check_one_shape(logps=logps, reference_logps=reference_logps, desirable=desirable)
    if desirable.dtype != torch.bool:
        raise ValueError(f"desirable must be bool, it is {desirable.dtype}: convert it, as by desirable > 0")
    if isinstance(kl, Tensor) and kl.dim() and kl.shape != logps.shape:
        raise ValueError(
            f"kl must be a number or have the shape of logps {tuple(logps.shape)}, it is {tuple(kl.shape)}"
        )
    check_reduction(reduction)


def check_grpo_loss(
    logps: Tensor, old_logps: Tensor, reference_logps: Tensor, advantages: Tensor, mask: Tensor | None, epsilon: float,
    reduction: str,
) -> None:  # fmt: skip
    """ValueError where the arguments of grpo_loss do not fit together."""
    if logps.dim() != 2 or tuple(advantages.shape) != tuple(logps.shape[:1]):
        raise ValueError(f"logps must be (N, T), a token's each, and advantages (N,), they are {tuple(logps.shape)} and "
                         f"{tuple(advantages.shape)}")  # fmt: skip
    check_one_shape(logps=logps, old_logps=old_logps, reference_logps=reference_logps)
    if mask is not None:
        check_one_shape(logps=logps, mask=mask)
        if mask.is_floating_point() or mask.is_complex():
            raise ValueError(f"mask must be bool or integers, not 0 where a token counts, it is {mask.dtype}")
    check_at_least("epsilon", epsilon, 0)
    check_reduction(reduction)
