"""Newton and Schulz's iteration to the nearest orthogonal matrix, which is all products, as Muon takes it."""

from __future__ import annotations

from ...builtin import newton_schulz as builtin
from ...core.pair import op
from .common import wide
from .distance import norm, norm_gradient

MATRIX = (-2, -1)


@op(builtin=builtin.newton_schulz)
def newton_schulz(matrix, steps=5, coefficients=builtin.COEFFICIENTS, eps=1e-7):
    r"""Nearly $U V^\top$ of $M = U \Sigma V^\top$: all singular values are brought near 1, by products alone.

    $$X_0 = M / \max(\lVert M \rVert_F, \epsilon), \qquad
    X_{k+1} = a X_k + (b A_k + c A_k^2) X_k, \qquad A_k = X_k X_k^\top$$

    Each step takes every singular value s to $a s + b s^3 + c s^5$; with Muon's coefficients they do not converge, but five
    steps bring those above 0.002 of the norm into (0.68, 1.21). matrix (*, m, n), output as it; where m > n the matrix is
    transposed, so that A is the smaller product. Computed in the matrix's dtype, half precision in float32 and rounded once.
    ValueError: a matrix of fewer than two dimensions, steps but 0 to 99, coefficients but three.
    Jordan et al. 2024, kellerjordan.github.io/posts/muon; Björck and Bowie 1971 (SIAM Journal on Numerical Analysis 8).
    """
    a, b, c = coefficients
    m = wide(matrix)
    x, xs = m / norm(m, 2, MATRIX).clamp(min=eps), []
    x = turned(x)
    for _ in range(steps):
        xs.append(x)
        A = x @ x.mH
        x = a * x + (b * A + c * A @ A) @ x
    return turned(x, matrix).to(matrix.dtype), tuple(xs)


@newton_schulz.gradient
def newton_schulz_gradient(dy, saved, matrix, coefficients, eps):
    r"""Step by step backwards, and through the norm as in `normalize`.

    With $B = b A + c A^2$, symmetric: $dB = dX_{k+1} X^\top$, $dA = b\,dB + c\,(dB\,A + A\,dB)$, and X is in A twice:
    $dX_k = a\,dX_{k+1} + B\,dX_{k+1} + (dA + dA^\top) X_k$, where $dA + dA^\top = b S + c (S A + A S)$, $S = dB + dB^\top$.
    """
    a, b, c = coefficients
    m = wide(matrix)
    dx = turned(wide(dy))
    for x in reversed(saved):
        A = x @ x.mH
        S = dx @ x.mH
        S = S + S.mH
        P = c * S @ A
        dx = a * dx + (b * A + c * A @ A) @ dx + (b * S + P + P.mH) @ x
    dx = turned(dx, matrix)
    size = norm(m, 2, MATRIX)
    n = size.clamp(min=eps)
    along = (dx * (m / n).conj()).real.sum(MATRIX, keepdim=True) * (size >= eps)
    return (dx - along * norm_gradient(m, size, 2, MATRIX)) / n


def turned(x, like=None):
    """x, transposed where the matrix, x itself or the one it was turned from, has more rows than columns."""
    rows, columns = (x if like is None else like).shape[-2:]
    return x.mH if rows > columns else x


@newton_schulz.prepare
def newton_schulz_prepare(matrix, steps=5, coefficients=builtin.COEFFICIENTS, eps=1e-7):
    builtin.check(matrix, steps, coefficients)
    return matrix, steps, coefficients, eps
