"""Projections onto the simplex that leave zeros: entmax, from softmax to sparsemax and beyond."""

from __future__ import annotations

import torch

from ...builtin import functional as builtin
from ...builtin.nn import sparsemax as builtin_nn
from ...builtin.sparsemax import check_alpha
from ...core.module import Manual
from ...core.pair import op
from .common import wide
from .softmax import shifted, softmax

HALVINGS = {torch.float32: 26, torch.float64: 55}


def exponential(z, c, alpha):
    r"""$e_\alpha(z / c)$, with Tsallis's exponential $e_\alpha(x) = [1 + (\alpha - 1)\,x]_+^{1 / (\alpha - 1)}$, which tends to
    $e^x$ with $\alpha \to 1$; as $\exp(\log(1 + (\alpha - 1)\,x) / (\alpha - 1))$ it is as exact there.
    """
    outside = (alpha - 1) * z <= -c
    z = torch.where(outside, 0, z)
    if alpha == 2:
        e = (c + z) / c
    elif alpha == 1.5:
        e = ((c + z / 2) / c).square()
    else:
        e = torch.exp(torch.log1p((alpha - 1) * z / c) / (alpha - 1))
    return torch.where(outside, 0, e)


def slope(y, alpha):
    r"""$y^{2 - \alpha}$ in the support; 0 outside, where y is."""
    inside = y > 0
    return torch.where(inside, torch.where(inside, y, 1).pow(2 - alpha), 0)


def base(z, alpha, dim):
    r"""The c > 0 with $\sum_j [(\alpha - 1)\,z_j + c]_+^{1 / (\alpha - 1)} = 1$, of z whose largest is 0: in the order of size
    for $\alpha$ 2 and 1.5, where with the k largest in the support c has a closed form; else by halving its logarithm.
    """
    n = z.size(dim) if z.dim() else 1
    if alpha in (1.5, 2):
        z = ((alpha - 1) * z.sort(dim, descending=True).values).clamp(min=-1)  # below are none of the support
        k = torch.arange(1, n + 1, device=z.device, dtype=z.dtype)
        k = k.view(-1, *(1 for _ in z.shape[dim:][1:])) if z.dim() else k.squeeze()
        total = z.cumsum(dim)
        if alpha == 2:
            c = (1 - total) / k
            inside = z > -c
        else:
            mean = total / k
            spread = z.square().cumsum(dim) - k * mean.square()
            c = ((1 - spread) / k).clamp(min=0).sqrt() - mean
            inside = z >= -c
        return c.gather(dim, inside.sum(dim, keepdim=True).clamp(min=1) - 1)
    high = torch.ones_like(z.amax(dim, keepdim=True))
    low = high * n ** (1 - alpha)
    for _ in range(HALVINGS[z.dtype]):
        middle = (low * high).sqrt()
        enough = (middle.pow(1 / (alpha - 1)) * exponential(z, middle, alpha)).sum(dim, keepdim=True) >= 1
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


@op(builtin=builtin.entmax)
def entmax(input, alpha=1.5, dim=-1):
    r"""Softmax's kin with zeros: $y_i = [(\alpha - 1)\,x_i - \tau]_+^{1 / (\alpha - 1)}$ over the dimension, $\tau$ such that
    $\sum y_i = 1$.

    It is the y of the simplex with the largest $\sum x_i y_i + H_\alpha(y)$, of Tsallis's entropy: softmax for $\alpha$ = 1,
    `sparsemax` for 2; the larger $\alpha$, the more zeros. Computed as $e_\alpha(z_i / c) / \sum_j e_\alpha(z_j / c)$, $z = x
    - m$ with m the largest and $c = (\alpha - 1)\,m - \tau$, which for $\alpha \to 1$ is 1: nothing cancels, and the sum is
    1. c is found exactly for 1.5 and 2, by sorting, else by halving; Newton's steps $c - (\alpha - 1)(\sum y - 1) / \sum y^{2
    - \alpha}$ then take off the rounding, and carry c's derivative. Any shape; output as input. TypeError where alpha is a
    tensor, ValueError where it is below 1, IndexError where there is no such dimension. Peters et al. 2019, arXiv:1905.05702,
    eq. 10; $e_\alpha$: Tsallis 1988.
    """
    if alpha == 1 or not input.numel():
        return softmax.forward(input, dim, None)
    z = shifted(input, dim, None)
    c = base(z.detach(), alpha, dim)
    for _ in range(2):
        y = c.pow(1 / (alpha - 1)) * exponential(z, c, alpha)
        c = c - (alpha - 1) * (y.sum(dim, keepdim=True) - 1) / slope(y, alpha).sum(dim, keepdim=True)
    e = exponential(z, c, alpha)
    return (e / e.sum(dim, keepdim=True)).to(input.dtype)


@entmax.gradient
def entmax_gradient(dy, output, alpha, dim):
    r"""$dx = s \odot (dy - \sum s\,dy / \sum s),\quad s = y^{2 - \alpha}$ where y > 0, else 0: only the output is kept.

    Differentials of $y_i^{\alpha - 1} = (\alpha - 1)\,x_i - \tau$: $dy_i = s_i\,(dx_i - d\tau / (\alpha - 1))$, and $\sum
    dy_i = 0$ gives $d\tau / (\alpha - 1) = \sum s\,dx / \sum s$; the matrix is symmetric. What all dy have in common does not
    count, so that of the largest y is taken off first.
    """
    y, dy = wide(output), wide(dy)
    s = slope(y, alpha)
    if y.numel():
        dy = dy - dy.gather(dim, y.argmax(dim, keepdim=True))
    return s * (dy - (s * dy).sum(dim, keepdim=True) / s.sum(dim, keepdim=True))


class Entmax(Manual, builtin_nn.Entmax):
    """The module of `entmax`."""

    op = entmax


@entmax.prepare
def entmax_prepare(input, alpha, dim):
    check_alpha(alpha)
    return input, alpha, dim


@op(builtin=builtin.sparsemax)
def sparsemax(input, dim=-1):
    r"""The nearest point of the simplex: $y = \arg\min_{y \ge 0,\ \sum y = 1} \lVert y - x \rVert^2 = \max(x - \tau, 0)$.

    $\tau$ such that $\sum y = 1$: with the k largest in the support $\tau = (\sum_{j \le k} x_{(j)} - 1) / k$, k the most with
    $x_{(k)} > \tau$. Any shape; output as input; `entmax` for $\alpha$ = 2. IndexError where there is no such dimension.
    Martins & Astudillo 2016, arXiv:1602.02068, proposition 1.
    """
    return entmax.forward(input, 2, dim)


@sparsemax.gradient
def sparsemax_gradient(dy, output, dim):
    r"""$dx_i = dy_i - \frac{1}{|S|} \sum_{j \in S} dy_j$ in the support $S = \{y_j > 0\}$, 0 outside."""
    return entmax_gradient(dy, output, 2, dim)


class Sparsemax(Manual, builtin_nn.Sparsemax):
    """The module of `sparsemax`."""

    op = sparsemax
