"""The modules of losses of logits beyond torch's cross entropy."""

from __future__ import annotations

from torch import Tensor, nn

from .. import functional as F


class FocalLoss(nn.Module):
    """Cross entropy that heeds easy examples less."""

    alpha: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: Tensor | None = None, reduction: str = "mean"):
        super().__init__()
        self.gamma, self.reduction = gamma, reduction
        self.register_buffer("alpha", alpha)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.focal_loss(input, target, self.gamma, self.alpha, self.reduction)


class ZLoss(nn.Module):
    """The penalty of logits whose sum drifts."""

    def __init__(self, coefficient: float = 1e-4, reduction: str = "mean"):
        super().__init__()
        self.coefficient, self.reduction = coefficient, reduction

    def forward(self, input: Tensor) -> Tensor:
        return F.z_loss(input, self.coefficient, self.reduction)
