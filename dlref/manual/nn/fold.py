"""Sliding blocks of images as columns, and columns added back to images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from ..windows import ntuple, overlap_add, padded, windows
from .common import widened


def _columns(x, kernel, dilation, padding, stride):
    """(N, C, H, W) to (N, C * K, blocks)."""
    w = windows(padded(x, 2, [(p, p) for p in padding]), 2, kernel, stride, dilation)  # (N, C, *O, *K)
    return w.permute(0, 1, 4, 5, 2, 3).reshape(len(x), x.shape[1] * kernel[0] * kernel[1], w.shape[2] * w.shape[3])


def _images(columns, size, kernel, dilation, padding, stride):
    """The transpose of `_columns`: (N, C * K, blocks) to (N, C, *size)."""
    blocks = _blocks(size, kernel, dilation, padding, stride)
    channels = columns.shape[1] // (kernel[0] * kernel[1])
    w = widened(columns).reshape(len(columns), channels, *kernel, *blocks).permute(0, 1, 4, 5, 2, 3)
    grown = [length + 2 * p for length, p in zip(size, padding, strict=True)]
    return padded(overlap_add(w, 2, grown, stride, dilation), 2, [(-p, -p) for p in padding]).to(columns.dtype)


def _blocks(size, kernel, dilation, padding, stride):
    options = zip(size, kernel, dilation, padding, stride, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in options)


def _options(name, kernel_size, dilation, padding, stride):
    options = [ntuple(o, 2) for o in (kernel_size, dilation, padding, stride)]
    for what, values, least in zip(
        ("kernel_size", "dilation", "padding", "stride"), options, (1, 1, 0, 1), strict=True
    ):
        if len(values) != 2 or min(values) < least:
            raise RuntimeError(f"{name}(): {what} must be one number of at least {least} or two, it is {values}")
    return options


def _batched(x, dims):
    return x if x.dim() == dims else x.unsqueeze(0)


@op(builtin=F.unfold)
def unfold(input, kernel_size, dilation, padding, stride):
    r"""Every block of K places as a column: $y_{(c, k), o} = x_{c,\, o s + k d - p}$.

    input (N, C, H, W) or (C, H, W); output (N, C * K, blocks) or (C * K, blocks). RuntimeError where options do not fit.
    Chellapilla et al. 2006 (IWFHR 10).
    """
    y = _columns(_batched(input, 4), kernel_size, dilation, padding, stride)
    return y if input.dim() == 4 else y.squeeze(0)


@unfold.gradient
def unfold_gradient(dy, shapes, kernel_size, dilation, padding, stride):
    r"""$dx_{c, l} = \sum_{o s + k d - p = l} dy_{(c, k), o}$: `fold`."""
    return _images(_batched(dy, 3), tuple(shapes.input[-2:]), kernel_size, dilation, padding, stride)


class Unfold(Manual, torch.nn.Unfold):
    """The module of `unfold`: images (N, C, H, W) to columns (N, C * K, O)."""

    op = unfold


@unfold.prepare
def unfold_prepare(input, kernel_size, dilation=1, padding=0, stride=1):
    kernel, dilation, padding, stride = _options("unfold", kernel_size, dilation, padding, stride)
    if input.dim() not in (3, 4) or 0 in input.shape[input.dim() - 3 :]:
        raise RuntimeError(f"unfold(): the input must be (N, C, H, W) or (C, H, W), with nothing but the batch empty, it has "
                           f"shape {tuple(input.shape)}")  # fmt: skip
    blocks = _blocks(input.shape[-2:], kernel, dilation, padding, stride)
    if min(blocks) < 1:
        raise RuntimeError(
            f"unfold(): the kernel must not be larger than the padded input, {kernel} leaves {blocks} blocks"
        )
    return input, kernel, dilation, padding, stride


@op(builtin=F.fold)
def fold(input, output_size, kernel_size, dilation, padding, stride):
    r"""Columns of blocks added where they overlap: $y_{c, l} = \sum_{o s + k d - p = l} x_{(c, k), o}$.

    input (N, C * K, blocks) or (C * K, blocks); output (N, C, *output_size) or (C, *output_size). RuntimeError where the
    number of blocks or columns does not fit. Chellapilla et al. 2006 (IWFHR 10).
    """
    y = _images(_batched(input, 3), output_size, kernel_size, dilation, padding, stride)
    return y if input.dim() == 3 else y.squeeze(0)


@fold.gradient
def fold_gradient(dy, kernel_size, dilation, padding, stride):
    r"""$dx_{(c, k), o} = dy_{c,\, o s + k d - p}$: `unfold`."""
    return _columns(_batched(dy, 4), kernel_size, dilation, padding, stride)


class Fold(Manual, torch.nn.Fold):
    """The module of `fold`: columns (N, C * K, O) to images (N, C, H, W), overlaps added."""

    op = fold


@fold.prepare
def fold_prepare(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    kernel, dilation, padding, stride = _options("fold", kernel_size, dilation, padding, stride)
    size = ntuple(output_size, 2)
    if input.dim() not in (2, 3) or 0 in input.shape[input.dim() - 2 :]:
        raise RuntimeError(f"fold(): the input must be (N, C * K, blocks) or (C * K, blocks), with nothing but the batch "
                           f"empty, it has shape {tuple(input.shape)}")  # fmt: skip
    if input.shape[-2] % (kernel[0] * kernel[1]):
        raise RuntimeError(
            f"fold(): the columns' length must be a multiple of {kernel[0] * kernel[1]}, it is {input.shape[-2]}"
        )
    blocks = _blocks(size, kernel, dilation, padding, stride)
    if min(blocks) < 1 or input.shape[-1] != blocks[0] * blocks[1]:
        raise RuntimeError(f"fold(): the input must have a column for each of the {blocks} blocks of {size}, it has "
                           f"{input.shape[-1]}")  # fmt: skip
    return input, size, kernel, dilation, padding, stride
