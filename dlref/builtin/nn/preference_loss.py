"""The modules of losses of a language model's preferences."""

from __future__ import annotations

from torch import Tensor, nn

from .. import functional as F


class DPOLoss(nn.Module):
    """Direct preference optimisation."""

    def __init__(self, beta: float = 0.1, label_smoothing: float = 0.0, reduction: str = "mean"):
        super().__init__()
        self.beta, self.label_smoothing, self.reduction = beta, label_smoothing, reduction

    def forward(self, chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor) -> Tensor:
        return F.dpo_loss(
            chosen, rejected, reference_chosen, reference_rejected, self.beta, self.label_smoothing, self.reduction
        )


class KTOLoss(nn.Module):
    """Kahneman-Tversky optimisation."""

    def __init__(self, beta: float = 0.1, reduction: str = "mean"):
        super().__init__()
        self.beta, self.reduction = beta, reduction

    def forward(self, logps: Tensor, reference_logps: Tensor, desirable: Tensor, kl: Tensor | float) -> Tensor:
        return F.kto_loss(logps, reference_logps, desirable, kl, self.beta, self.reduction)


class SimPOLoss(nn.Module):
    """Preference without a reference."""

    def __init__(self, beta: float = 2.0, gamma: float = 0.5, reduction: str = "mean"):
        super().__init__()
        self.beta, self.gamma, self.reduction = beta, gamma, reduction

    def forward(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return F.simpo_loss(chosen, rejected, self.beta, self.gamma, self.reduction)


class ORPOLoss(nn.Module):
    """The odds-ratio term of ORPO."""

    def __init__(self, weight: float = 0.1, reduction: str = "mean"):
        super().__init__()
        self.weight, self.reduction = weight, reduction

    def forward(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return F.orpo_loss(chosen, rejected, self.weight, self.reduction)


class GRPOLoss(nn.Module):
    """Group relative policy optimisation."""

    def __init__(self, beta: float = 0.04, epsilon: float = 0.2, reduction: str = "mean"):
        super().__init__()
        self.beta, self.epsilon, self.reduction = beta, epsilon, reduction

    def forward(
        self, logps: Tensor, old_logps: Tensor, reference_logps: Tensor, advantages: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        return F.grpo_loss(logps, old_logps, reference_logps, advantages, mask, self.beta, self.epsilon, self.reduction)
