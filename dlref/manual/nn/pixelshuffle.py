"""Channels and places exchanged: permutations, whose gradient is the inverse permutation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from .common import channels_last


def _shuffled(x, r):
    """(*, C r r, H, W) to (*, C, H r, W r)."""
    c, h, w = x.shape[-3:]
    n = x.dim() - 3
    y = x.reshape(*x.shape[:-3], c // (r * r), r, r, h, w).permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return y.reshape(*x.shape[:-3], c // (r * r), h * r, w * r)


def _unshuffled(x, r):
    """(*, C, H r, W r) to (*, C r r, H, W)."""
    c, h, w = x.shape[-3:]
    n = x.dim() - 3
    y = x.reshape(*x.shape[:-3], c, h // r, r, w // r, r).permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return y.reshape(*x.shape[:-3], c * r * r, h // r, w // r)


def _image(name, input, factor, what):
    if input.dim() < 3:
        raise RuntimeError(f"{name}(): the input must have at least 3 dimensions, it has {input.dim()}")
    if factor < 1:
        raise RuntimeError(f"{name}(): {what} must be at least 1, it is {factor}")


@op(builtin=F.pixel_shuffle)
def pixel_shuffle(input, upscale_factor):
    r"""Channels as places: $y_{c,\, h r + i,\, w r + j} = x_{c r^2 + i r + j,\, h,\, w}$.

    input (*, C r², H, W), output (*, C, H r, W r). RuntimeError where r² does not divide the channels. Shi et al. 2016,
    arXiv:1609.05158, eq. 4.
    """
    return _shuffled(input, upscale_factor).clone()


@pixel_shuffle.gradient
def pixel_shuffle_gradient(dy, upscale_factor):
    r"""$dx_{c r^2 + i r + j,\, h,\, w} = dy_{c,\, h r + i,\, w r + j}$."""
    return _unshuffled(dy, upscale_factor)


class PixelShuffle(Manual, torch.nn.PixelShuffle):
    """The module of `pixel_shuffle`."""

    op = pixel_shuffle


@pixel_shuffle.prepare
def pixel_shuffle_prepare(input, upscale_factor):
    _image("pixel_shuffle", input, upscale_factor, "upscale_factor")
    if input.shape[-3] % upscale_factor**2:
        raise RuntimeError(f"pixel_shuffle(): the channels must be a multiple of {upscale_factor**2}, they are "
                           f"{input.shape[-3]}")  # fmt: skip
    return input, upscale_factor


@op(builtin=F.pixel_unshuffle)
def pixel_unshuffle(input, downscale_factor):
    r"""The inverse of pixel_shuffle: $y_{c r^2 + i r + j,\, h,\, w} = x_{c,\, h r + i,\, w r + j}$.

    input (*, C, H r, W r), output (*, C r², H, W). RuntimeError where r does not divide height and width.
    Shi et al. 2016, arXiv:1609.05158.
    """
    return _unshuffled(input, downscale_factor).clone()


@pixel_unshuffle.gradient
def pixel_unshuffle_gradient(dy, downscale_factor):
    r"""$dx_{c,\, h r + i,\, w r + j} = dy_{c r^2 + i r + j,\, h,\, w}$."""
    return _shuffled(dy, downscale_factor)


class PixelUnshuffle(Manual, torch.nn.PixelUnshuffle):
    """The module of `pixel_unshuffle`."""

    op = pixel_unshuffle


@pixel_unshuffle.prepare
def pixel_unshuffle_prepare(input, downscale_factor):
    _image("pixel_unshuffle", input, downscale_factor, "downscale_factor")
    if input.shape[-1] % downscale_factor or input.shape[-2] % downscale_factor:
        raise RuntimeError(f"pixel_unshuffle(): height and width must be multiples of {downscale_factor}, they are "
                           f"{tuple(input.shape[-2:])}")  # fmt: skip
    return input, downscale_factor


def _exchanged(x, groups):
    """Channels (g, C / g) as (C / g, g)."""
    parts = x.unflatten(1, (groups, x.shape[1] // groups)).transpose(1, 2)
    return parts.clone(memory_format=torch.contiguous_format).flatten(1, 2)


@op(builtin=F.channel_shuffle, layout=channels_last)
def channel_shuffle(input, groups):
    r"""Channels dealt out over the groups: $y_{j g + i} = x_{i C / g + j}$.

    input (N, C, *), g divides C; output as input. RuntimeError where it does not. Zhang et al. 2017, arXiv:1707.01083,
    section 3.1.
    """
    return _exchanged(input, groups)


@channel_shuffle.gradient
def channel_shuffle_gradient(dy, groups):
    r"""$dx_{i C / g + j} = dy_{j g + i}$."""
    return _exchanged(dy, max(dy.shape[1] // groups, 1))


class ChannelShuffle(Manual, torch.nn.ChannelShuffle):
    """The module of `channel_shuffle`."""

    op = channel_shuffle


@channel_shuffle.prepare
def channel_shuffle_prepare(input, groups):
    if input.dim() < 3:
        raise RuntimeError(
            f"channel_shuffle(): the input must be (N, C, *) with places, it has {input.dim()} dimensions"
        )
    if groups < 1 or input.shape[1] % groups:
        raise RuntimeError(f"channel_shuffle(): groups must divide the {input.shape[1]} channels, it is {groups}")
    return input, groups
