"""Newton and Schulz's iteration, composed from torch's functions; and the errors that both sides raise."""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Muon: the largest slope at 0 for which five steps stay near 1


def newton_schulz(
    matrix: Tensor, steps: int = 5, coefficients: tuple[float, float, float] = COEFFICIENTS, eps: float = 1e-7
) -> Tensor:
    check(matrix, steps, coefficients)
    a, b, c = coefficients
    m = matrix.float() if matrix.dtype in (torch.float16, torch.bfloat16) else matrix
    x = m / torch.linalg.matrix_norm(m, keepdim=True).clamp(min=eps)
    tall = m.size(-2) > m.size(-1)
    x = x.mH if tall else x
    for _ in range(steps):
        gram = x @ x.mH
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mH if tall else x).to(matrix.dtype)


def check(matrix: Tensor, steps: int, coefficients: tuple[float, float, float]) -> None:
    """ValueError where the arguments are not those of newton_schulz."""
    if matrix.dim() < 2:
        raise ValueError("newton_schulz(): the matrix must have at least two dimensions, it has "
                         f"{matrix.dim()}: give a batch of vectors as matrices of one row")  # fmt: skip
    if not 0 <= steps < 100:
        raise ValueError(f"newton_schulz(): steps must be 0 to 99, they are {steps}")
    if len(coefficients) != 3:
        raise ValueError(f"newton_schulz(): coefficients must be three numbers, they are {coefficients}")
