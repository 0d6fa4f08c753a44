"""Interpolation of images and the like: each output is a weighted sum of a few inputs, dimension by dimension."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.module import Manual
from ...core.pair import Op, op
from .common import channels_last, named, warn, widened

# Mode: the number of dimensions that it is for, where that is one.
MODES = {"nearest": None, "nearest-exact": None, "area": None, "linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3,
         "lanczos": 2}  # fmt: skip


def _triangle(x: Tensor, a: float = 0.0) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor, a: float = -0.75) -> Tensor:
    """Keys 1981 (IEEE Trans. ASSP 29), eq. 15, with the free parameter a."""
    x = x.abs()
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def _lanczos(x: Tensor, a: float = 0.0) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0)


# Mode: kernel, its radius, its parameter with antialias.
KERNELS: dict[str, tuple[Callable[[Tensor, float], Tensor], int, float]] = {
    "bilinear": (_triangle, 1, 0.0), "bicubic": (_cubic, 2, -0.5), "lanczos": (_lanczos, 3, 0.0)
}  # fmt: skip


def taps(
    length: int, size: int, factor: float | None, mode: str, align: bool, antialias: bool, like: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Which inputs each output of one dimension is made of, (size, taps), and their weights, None where each is 1."""
    out = torch.arange(size, device=like.device)
    if mode in ("nearest", "nearest-exact"):  # torch takes these steps in float32 for every dtype
        offset = 0.5 if mode == "nearest-exact" else 0.0
        step = torch.tensor(1 / factor if factor else length / size, dtype=torch.float32, device=like.device)
        index = out if size == length else ((out + offset) * step).floor().long().clamp(max=length - 1)
        return index.unsqueeze(1), None
    if mode == "area":  # the mean of a window, as adaptive pooling
        first, end = out * length // size, -(-(out + 1) * length // size)
        number = (end - first).unsqueeze(1)
        index = torch.arange(-(-length // size) + 1, device=like.device)
        weight = (index < number).to(like.dtype) / number.to(like.dtype)
        return (first.unsqueeze(1) + torch.minimum(index, number - 1)), weight
    scale = 1 / factor if factor else length / size
    if align:  # from the first centre to the last
        scale = (length - 1) / (size - 1) if size > 1 else 0.0
    if antialias:
        kernel, radius, a = KERNELS[mode]
        wide = max(scale, 1.0)
        center = scale * (out.to(like.dtype) + 0.5)
        first = (center - radius * wide + 0.5).long().clamp(min=0)
        number = (center + radius * wide + 0.5).long().clamp(max=length) - first
        most = math.ceil(radius * wide) * 2 + 1
        index = first.unsqueeze(1) + torch.arange(most, device=like.device)
        weight = kernel((index.to(like.dtype) - center.unsqueeze(1) + 0.5) / wide, a)
        inside = torch.arange(most, device=like.device) < number.unsqueeze(1)
        weight = torch.where(inside, weight, 0)
        return index.clamp(max=length - 1), weight / weight.sum(1, keepdim=True)
    at = scale * out.to(like.dtype) if align else scale * (out.to(like.dtype) + 0.5) - 0.5
    if mode == "bicubic":
        floor = at.floor()
        steps = torch.arange(-1, 3, device=like.device)
        return (floor.long().unsqueeze(1) + steps).clamp(0, length - 1), _cubic((at - floor).unsqueeze(1) - steps)
    at = at.clamp(min=0)
    first = at.floor().long().clamp(max=length - 1)
    second = (at - first).clamp(0, 1)
    index = torch.stack([first, (first + 1).clamp(max=length - 1)], 1)
    return index, torch.stack([1 - second, second], 1)


def _layout(input, size, scale_factor, mode, align_corners, antialias):
    # The area of a pixel in three dimensions is torch's adaptive mean, which is contiguous.
    return torch.contiguous_format if mode == "area" and input.dim() == 5 else channels_last(input)


@op(builtin=F.interpolate, autocast={"cuda": "float32"}, layout=_layout)
def interpolate(input, size, scale_factor, mode, align_corners, antialias):
    r"""Another number of pixels: $y_o = \sum_k w_{o k}\, x_{i_{o k}}$, one dimension after the other.

    input (N, C, *L) with one to three dimensions, output (N, C, *O), O = size or $\lfloor L \cdot$ scale_factor$\rfloor$.
    mode: "nearest", "nearest-exact" (of the pixels' centres), "area" (means), "linear", "bilinear", "trilinear", "bicubic",
    "lanczos". align_corners: the outer pixels' centres stay, instead of their edges. antialias: of "bilinear", "bicubic"
    and "lanczos", the kernel widened where the image shrinks. ValueError where the options do not fit each other,
    NotImplementedError where the mode is none of the dimensions', TypeError for a size of no integers, RuntimeError for one of
    0. "bicubic": Keys 1981 (IEEE ASSP 29).
    """
    x = widened(input)
    for dim, (length, out, factor) in enumerate(zip(input.shape[2:], size, scale_factor, strict=True), 2):
        index, weight = taps(length, out, factor, mode, align_corners, antialias, x)
        parts = (
            x.index_select(dim, index[:, t]) * (1 if weight is None else _along(weight[:, t], x, dim))
            for t in range(index.shape[1])
        )
        x = sum(parts, next(parts))
    return x.to(input.dtype)


def _along(weight: Tensor, x: Tensor, dim: int) -> Tensor:
    return weight.view(-1, *(1,) * (x.dim() - dim - 1))


@interpolate.gradient
def interpolate_gradient(dy, shapes, size, scale_factor, mode, align_corners, antialias):
    r"""The transpose, the last dimension first: $dx_i = \sum_{o, k:\, i_{o k} = i} w_{o k}\, dy_o$."""
    g = widened(dy)
    for dim in range(len(shapes.input) - 1, 1, -1):
        length, out, factor = shapes.input[dim], size[dim - 2], scale_factor[dim - 2]
        index, weight = taps(length, out, factor, mode, align_corners, antialias, g)
        dx = g.new_zeros((*g.shape[:dim], length, *g.shape[dim + 1 :]))
        for t in range(index.shape[1]):
            dx = dx.index_add(dim, index[:, t], g if weight is None else g * _along(weight[:, t], g, dim))
        g = dx
    return g


class Upsample(Manual, torch.nn.Upsample):
    """The module of `interpolate`: to a size, or by a factor, in the mode it is given."""

    op = interpolate
    attributes = {name: name for name in ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")}


class UpsamplingNearest2d(Manual, torch.nn.UpsamplingNearest2d):
    """`interpolate` of images (N, C, H, W) by the nearest pixel."""

    op = interpolate
    attributes = Upsample.attributes


class UpsamplingBilinear2d(Manual, torch.nn.UpsamplingBilinear2d):
    """`interpolate` of images (N, C, H, W), bilinear, with the corners aligned."""

    op = interpolate
    attributes = Upsample.attributes


@interpolate.prepare
def interpolate_prepare(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    n = input.dim() - 2
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError(f"align_corners must not be given with mode {mode!r}, which has no corners to align")
    if (size is None) == (scale_factor is None):
        raise ValueError("one of size and scale_factor must be given, and not both")
    for name, value in (("size", size), ("scale_factor", scale_factor)):
        if isinstance(value, (tuple, list)) and len(value) != n:
            raise ValueError(f"{name} must be one number or {n}, one for each dimension of the input "
                             f"{tuple(input.shape)}, it is {value}")  # fmt: skip
    sizes: tuple = tuple(size) if isinstance(size, (tuple, list)) else (size,) * n
    if size is not None and not all(isinstance(s, (int, torch.SymInt)) for s in sizes):
        raise TypeError(f"size must be whole numbers, it is {size}")
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor must not be given with size: it is of scale_factor")
    factors: tuple = (None,) * n
    if scale_factor is not None:
        factors = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
        if not all(map(math.isfinite, factors)):
            raise RuntimeError(f"scale_factor must be finite, it is {scale_factor}")
        sizes = tuple(math.floor(float(length * f)) for length, f in zip(input.shape[2:], factors, strict=True))
        if recompute_scale_factor or mode == "area":
            factors = (None,) * n
    if antialias and not (mode in KERNELS and n == 2):
        raise ValueError(f"antialias must be used with bilinear, bicubic or lanczos and an input of 4 dimensions, the mode "
                         f"is {mode!r} and the input has {input.dim()}")  # fmt: skip
    if n not in (1, 2, 3) or mode not in MODES or MODES[mode] not in (None, n):
        raise NotImplementedError(f"the input must have 3, 4 or 5 dimensions and the mode be one for it, the input has "
                                  f"{input.dim()} and the mode is {mode!r}: take linear for 3, bilinear, bicubic for 4, "
                                  "trilinear for 5, or nearest, nearest-exact, area")  # fmt: skip
    if mode == "lanczos" and (align_corners or not antialias):
        raise ValueError("mode 'lanczos' must be used with antialias=True and without align_corners")
    if min(sizes) < 1 or min(input.shape[1:]) < 1:
        raise RuntimeError(
            f"the input and the output must have no size of 0, they have {tuple(input.shape)} and {sizes}"
        )
    if not (input.is_floating_point() or (input.dtype == torch.uint8 and mode.startswith("nearest"))):
        raise NotImplementedError(f"the input must be floating point, or uint8 with a nearest mode, it is {input.dtype} with "
                                  f"{mode!r}: convert it first")  # fmt: skip
    return input, sizes, factors, mode, bool(align_corners), antialias


# --- its names of old -------------------------------------------------------------------------------------------


def _of_old(builtin: Callable, meaning: str) -> Op:
    forward = named(interpolate.__wrapped__, builtin.__name__)  # type: ignore[attr-defined]
    forward.__doc__ = rf"""`interpolate` by a name that torch gave up: $y_o = \sum_k w_{{o k}}\, x_{{i_{{o k}}}}$. It warns.

    input (N, C, *L), output (N, C, *O); {meaning}. ValueError, NotImplementedError, TypeError, RuntimeError as there.
    """
    old = op(builtin=builtin, autocast=interpolate.policy, layout=interpolate.layout)(forward)
    old.gradient(named(interpolate.pull, f"{builtin.__name__}_gradient"))
    return old


upsample = _of_old(F.upsample, "in the mode it is given")
upsample_nearest = _of_old(F.upsample_nearest, "each output is the nearest input")
upsample_bilinear = _of_old(F.upsample_bilinear, "bilinear, with the corners aligned")
OLD = "{}() is a name that torch has given up: call interpolate()"


@upsample.prepare
def upsample_prepare(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    warn(OLD.format("upsample"))
    return interpolate_prepare(input, size, scale_factor, mode, align_corners)


@upsample_nearest.prepare
def upsample_nearest_prepare(input, size=None, scale_factor=None):
    warn(OLD.format("upsample_nearest"))
    return interpolate_prepare(input, size, scale_factor)


@upsample_bilinear.prepare
def upsample_bilinear_prepare(input, size=None, scale_factor=None):
    warn(OLD.format("upsample_bilinear"))
    return interpolate_prepare(input, size, scale_factor, "bilinear", True)
