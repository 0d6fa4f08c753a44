"""The modules of losses of the overlap of regions."""

from __future__ import annotations

from torch import Tensor, nn

from .. import functional as F


class DiceLoss(nn.Module):
    """Less than Dice's coefficient."""

    def __init__(self, smooth: float = 1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.dice_loss(input, target, self.smooth)


class TverskyLoss(nn.Module):
    """Less than Tversky's index."""

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0):
        super().__init__()
        self.alpha, self.beta, self.smooth = alpha, beta, smooth

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.tversky_loss(input, target, self.alpha, self.beta, self.smooth)
