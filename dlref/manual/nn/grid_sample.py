"""An image looked at in places that a grid says, and the grid of an affine map: a spatial transformer's two steps.

One body serves images and volumes: L stands for the sizes of the input, O for those of the grid, P for their product, K for
the pixels that a place is made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.dtypes import Dtypes
from ...core.pair import op
from .common import contiguous, warn, wide

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
A = -0.75  # the free parameter of the cubic kernel


def scale(length: int, align_corners: bool) -> float:
    """Pixels for each unit of the grid: its -1 and 1 are the centres of the outer pixels, or their outer edges."""
    return (length - 1) / 2 if align_corners else length / 2


def place(g: Tensor, length: int, align_corners: bool) -> Tensor:
    """$u = (g + 1) s$, less 1/2 where -1 and 1 are edges: the centre of pixel i lies at i."""
    u = (g + 1) * scale(length, align_corners)
    return u if align_corners else u - 0.5


def within(u: Tensor, length: int, padding_mode: str, align_corners: bool) -> tuple[Tensor, Tensor]:
    r"""Where a place u is looked up, and the slope of that in u.

    "border": $\min(\max(u, 0), L - 1)$. "reflection": $l + |t - 2 s\,\mathrm{round}(t / 2 s)|$ first, $t = u - l$, in a mirror
    at l and l + s, the centres of the outer pixels or their outer edges. The slope at a border is 0, and NaN is looked up at 0.
    """
    slope = torch.ones_like(u)
    if padding_mode == "zeros":
        return u, slope
    if padding_mode == "reflection":
        low, span = (0.0, length - 1) if align_corners else (-0.5, length)
        if span == 0:
            return torch.zeros_like(u), torch.zeros_like(u)
        t = u - low
        t = t - 2 * span * (t / (2 * span)).round()
        u, slope = low + t.abs(), t.sign()
    inner = (u > 0) & (u < length - 1)
    outer = torch.where(u > 0, length - 1.0, torch.zeros_like(u))
    return torch.where(inner, u, outer), torch.where(inner, slope, 0)


def cubic(x: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel of Keys 1981 (IEEE Trans. ASSP 29), eq. 15, and its slope."""
    r = x.abs()
    near, far = ((A + 2) * r - (A + 3)) * r * r + 1, ((A * r - 5 * A) * r + 8 * A) * r - 4 * A
    dnear, dfar = (3 * (A + 2) * r - 2 * (A + 3)) * r, (3 * A * r - 10 * A) * r + 8 * A
    return torch.where(r <= 1, near, far), x.sign() * torch.where(r <= 1, dnear, dfar)


def taps(u: Tensor, length: int, mode: str, padding_mode: str, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of one dimension: the pixels that the places u (N, P) are made of, (K, N, P), their weights, the weights' slopes in u."""
    if mode == "bicubic":  # a place is where it is, its four pixels are looked up each for itself
        first = u.floor()
        steps = torch.arange(-1, 3, device=u.device).view(-1, *(1,) * u.dim())
        pixel, _ = within(first + steps, length, padding_mode, align_corners)
        return pixel, *cubic(u - first - steps)
    v, slope = within(u, length, padding_mode, align_corners)
    if mode == "nearest":  # of two that are as near the even one
        return v.round().unsqueeze(0), torch.ones_like(u).unsqueeze(0), torch.zeros_like(u).unsqueeze(0)
    first = v.floor()
    t = v - first
    return torch.stack([first, first + 1]), torch.stack([1 - t, t]), torch.stack([-slope, slope])


def looked_up(input: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool):
    """The pixels of each place as flat indices (*K, N, P), which of them the input has, and of each dimension the weights and
    their slopes, (K, N, P)."""
    size, places = (
        input.shape[2:],
        wide(grid).flatten(1, -2).flip(-1).unbind(-1),
    )  # a grid names the last dimension first
    index, there = torch.zeros_like(places[0]).long(), torch.ones_like(places[0]).bool()
    weights: list[Tensor] = []
    slopes: list[Tensor] = []
    for g, length in zip(places, size, strict=True):
        pixel, weight, slope = taps(place(g, length, align_corners), length, mode, padding_mode, align_corners)
        held = (pixel >= 0) & (pixel < length)
        index = index.unsqueeze(-3) * length + torch.where(held, pixel, 0).long()  # K after K, before N
        there = there.unsqueeze(-3) & held
        weights.append(weight)
        slopes.append(slope)
    return index, there, weights, slopes


def pixels_at(input: Tensor, index: Tensor, there: Tensor) -> Tensor:
    """The input's values at the flat indices, 0 where it has none: (*K, N, C, P)."""
    x, at = input.flatten(2), index.unsqueeze(-2)
    kinds = index.shape[:-2]
    values = x.expand(*kinds, *x.shape).gather(-1, at.expand(*kinds, *x.shape[:2], at.shape[-1]))
    return torch.where(there.unsqueeze(-2), values, 0)


def across(factor: Tensor, n: int) -> Tensor:
    """A factor (K, N, P) of the first of n dimensions of pixels, to be multiplied with (*K, N, C, P)."""
    return factor.unsqueeze(-2).reshape(len(factor), *(1,) * (n - 1), factor.shape[1], 1, factor.shape[2])


def weighed(v: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """The sum of values (*K, N, C, P), each times a factor (K, N, P) of each dimension, of the first dimension first."""
    for n, factor in zip(range(len(factors), 0, -1), factors, strict=True):
        v = (v * across(factor, n)).sum(0)
    return v


def spread(v: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """The transpose of `weighed`: a number (N, C, P) times the factors, (*K, N, C, P)."""
    for n, factor in enumerate(reversed(factors), 1):
        v = v.unsqueeze(0) * across(factor, n)
    return v


@op(
    builtin=F.grid_sample,
    autocast={"cpu": "float32", "cuda": "promote"},
    dtypes=Dtypes(one=("input", "grid")),
    layout=contiguous,
)
def grid_sample(input, grid, mode, padding_mode, align_corners):
    r"""The input where the grid points to: $y_o = \sum_k w_k(u_o)\, x_{i_k(u_o)}$, the weight a product of one a dimension.

    $u = (g + 1)(L - 1) / 2$ with align_corners, else $((g + 1) L - 1) / 2$; "bilinear" $w = 1 - |u - i|$ of the two pixels
    $i$ beside u, "nearest" 1 of the nearest, the even one of two, "bicubic" Keys's of the four round it.

    input (N, C, *L) of two or three dimensions, grid (N, *O, 2 or 3), in which x, along the last dimension, comes first; output
    (N, C, *O). What lies outside is 0, or with padding_mode "border" the nearest pixel, "reflection" the mirrored one. NaN in
    the grid gives NaN; but "nearest" takes it as outside, and with another padding than zeros it and "bilinear" as -1.
    ValueError for another mode or padding_mode, RuntimeError where shapes or dtypes do not fit,
    NotImplementedError for integers. Jaderberg et al. 2015, arXiv:1506.02025, section 3.3; Keys 1981 (IEEE Trans. ASSP 29).
    """
    index, there, weights, _ = looked_up(input, grid, mode, padding_mode, align_corners)
    y = weighed(pixels_at(wide(input), index, there), weights)  # (N, C, P)
    return y.unflatten(2, grid.shape[1:-1]).to(input.dtype)


@grid_sample.gradient
def grid_sample_gradient(dy, needs, input, grid, mode, padding_mode, align_corners):
    r"""$dx_i = \sum_{o, k:\, i_k = i} w_k\, dy_o$; $dg_d = s_d \sum_c dy \sum_k x_{i_k}\, \partial w_k / \partial u_d$,
    $s = \partial u / \partial g$, $(L - 1) / 2$ or $L / 2$.

    The slope of $w_k$ is that of its factor in d times the others; the sum over d comes first, so that what cancels does so
    before it is rounded. It is 0 where a place was clamped, that of the cell on the right where u is a pixel's centre, and 0
    everywhere of "nearest".
    """
    index, there, weights, slopes = looked_up(input, grid, mode, padding_mode, align_corners)
    dy = wide(dy).flatten(2)  # (N, C, P)
    dx = dgrid = None
    if needs.input:
        parts = torch.where(there.unsqueeze(-2), spread(dy, weights), 0).flatten(0, -4)  # (K, N, C, P)
        at = index.flatten(0, -3).unsqueeze(-2).expand(parts.shape)
        dx = dy.new_zeros((*input.shape[:2], input.shape[2:].numel()))
        for i, part in zip(at, parts, strict=True):
            dx = dx.scatter_add(2, i, part)
        dx = dx.view(input.shape)
    if needs.grid and mode == "nearest":
        dgrid = torch.zeros_like(grid)
    elif needs.grid:
        v, along = pixels_at(wide(input), index, there), []
        for d, length in enumerate(input.shape[2:]):
            others = [w for e, w in enumerate(weights) if e != d]
            dydu = weighed(v.movedim(d, 0), [slopes[d], *others])  # (N, C, P)
            along.append((dy * dydu).sum(1) * scale(length, align_corners))
        dgrid = torch.stack(along, -1).flip(-1).view(grid.shape)
    return dx, dgrid


CORNERS = "{}(): align_corners should be given; without it, it is False, which it was not before torch 1.3"


@grid_sample.prepare
def grid_sample_prepare(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    for what, value, known in (("mode", mode, MODES), ("padding_mode", padding_mode, PADDINGS)):
        if value not in known:
            raise ValueError(f"grid_sample(): {what} must be one of {', '.join(known)}, it is {value!r}")
    if align_corners is None:
        warn(CORNERS.format("grid_sample"))
    n = input.dim() - 2
    if n not in (2, 3) or grid.dim() != input.dim() or grid.shape[0] != input.shape[0] or grid.shape[-1] != n:
        raise RuntimeError("grid_sample(): the input must be (N, C, H, W) or (N, C, D, H, W) and the grid (N, H', W', 2) or "
                           f"(N, D', H', W', 3), they have shapes {tuple(input.shape)} and {tuple(grid.shape)}")  # fmt: skip
    if 0 in input.shape[2:]:
        raise RuntimeError(f"grid_sample(): the input must have pixels, it has shape {tuple(input.shape)}")
    if not input.is_floating_point():
        raise NotImplementedError(
            f"grid_sample(): the input must be floating point, it is {input.dtype}: convert it first"
        )
    return input, grid, mode, padding_mode, bool(align_corners)


# --- the grid of an affine map ----------------------------------------------------------------------------------


def base(size: Sequence[int], align_corners: bool, like: Tensor) -> Tensor:
    """The places of an image of the size in its own grid, each with a 1 behind it: (*O, n + 1)."""
    lines = []
    for length in size:
        i = torch.arange(length, device=like.device).to(like.dtype)
        unit = 2 * scale(length, align_corners) or 1.0  # one pixel is in the middle
        lines.append((2 * i - (length - 1)) / unit)
    places = torch.meshgrid(lines, indexing="ij")
    return torch.stack([*reversed(places), torch.ones_like(places[0])], -1)


@op(builtin=F.affine_grid, autocast="low")
def affine_grid(theta, size, align_corners):
    r"""The grid of an affine map for `grid_sample`: $g_{n o} = \theta_n\,(b_o, 1)$, b the place of o in $[-1, 1]^n$.

    theta (N, n, n + 1), n 2 or 3; size (N, C, *O) of the output that is wanted; output (N, *O, n). With align_corners -1 and 1
    are the centres of the outer pixels, else their outer edges; one pixel lies at 0. ValueError where theta does not fit
    the size or is no floating point, NotImplementedError for a size of other than 4 or 5 numbers. Jaderberg et al. 2015,
    arXiv:1506.02025, eq. 1.
    """
    b = base(size, align_corners, wide(theta))
    g = b.flatten(0, -2) @ wide(theta).mT  # (N, P, n)
    return g.unflatten(1, b.shape[:-1]).to(theta.dtype)


@affine_grid.gradient
def affine_grid_gradient(dy, shapes, size, align_corners):
    r"""$d\theta_n = \sum_o dy_{n o}\,(b_o, 1)^\top$."""
    b = base(size, align_corners, wide(dy)).flatten(0, -2)
    return wide(dy).flatten(1, -2).mT @ b


@affine_grid.prepare
def affine_grid_prepare(theta, size, align_corners=None):
    if align_corners is None:
        warn(CORNERS.format("affine_grid"))
    size, n = tuple(size), len(size) - 2
    if not theta.is_floating_point():
        raise ValueError(f"affine_grid(): theta must be floating point, it is {theta.dtype}: convert it first")
    if n not in (2, 3):
        raise NotImplementedError(f"affine_grid(): size must be (N, C, H, W) or (N, C, D, H, W), it is {size}")
    if theta.dim() != 3 or theta.shape[1:] != (n, n + 1):
        raise ValueError(
            f"affine_grid(): theta must be (N, {n}, {n + 1}) for a size of {size}, it has shape {tuple(theta.shape)}"
        )
    if min(size) < 1:
        raise ValueError(f"affine_grid(): size must hold positive numbers, it is {size}")
    if theta.shape[0] != size[0]:
        raise RuntimeError(
            f"affine_grid(): theta must hold a map for each of {size[0]} images, it holds {theta.shape[0]}"
        )
    if align_corners and 1 in size[2:]:
        warn("affine_grid(): one pixel has no corners to align, it is put at 0, which it was not before torch 1.3")
    return theta, size[2:], bool(align_corners)
