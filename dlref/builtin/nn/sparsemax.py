"""The modules of the projections onto the simplex."""

from __future__ import annotations

from torch import Tensor, nn

from .. import functional as F


class Entmax(nn.Module):
    """The alpha-entmax of a dimension."""

    def __init__(self, alpha: float = 1.5, dim: int = -1):
        super().__init__()
        self.alpha, self.dim = alpha, dim

    def forward(self, input: Tensor) -> Tensor:
        return F.entmax(input, self.alpha, self.dim)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, dim={self.dim}"


class Sparsemax(nn.Module):
    """The nearest point of the simplex, over a dimension."""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.sparsemax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
