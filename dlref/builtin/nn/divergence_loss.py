"""The modules of the divergences of log-probabilities."""

from __future__ import annotations

from torch import Tensor, nn

from .. import functional as F


class JSDivLoss(nn.Module):
    """The generalised Jensen-Shannon divergence."""

    def __init__(self, beta: float = 0.5, reduction: str = "batchmean"):
        super().__init__()
        self.beta, self.reduction = beta, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.js_div(input, target, self.beta, self.reduction)


class TVDistanceLoss(nn.Module):
    """The total variation distance."""

    def __init__(self, reduction: str = "batchmean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.tv_distance(input, target, self.reduction)
