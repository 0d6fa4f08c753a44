"""Looking pixels up one tap after the other: of each place one pixel at a time is held, and none is masked.

The image stands in a ring of zeros, one pixel wide, where all that lies outside is looked up.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator

import torch
from torch import Tensor

from ..nn.common import wide
from ..nn.grid_sample import grid_sample, place, scale, taps, weighed
from ..windows import padded


def _looked_up(image: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool):
    """The pixels of each place as flat indices (*K, N, P) in the image with its ring, and of each dimension the weights and
    their slopes, (K, N, P)."""
    index = None
    weights: list[Tensor] = []
    slopes: list[Tensor] = []
    for g, outer in zip(reversed(wide(grid).flatten(1, -2).unbind(-1)), image.shape[2:], strict=True):
        length = outer - 2
        pixel, weight, slope = taps(place(g, length, align_corners), length, mode, padding_mode, align_corners)
        at = pixel.nan_to_num(-1.0).clamp_(-1, length).long().add_(1)
        index = at if index is None else index.unsqueeze(-3).mul(outer) + at
        weights.append(weight)
        slopes.append(slope)
    return index, weights, slopes


def _taps(index: Tensor, channels: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each tap, and where its pixels lie in a flat image, (N, C, P)."""
    for tap in itertools.product(*map(range, index.shape[:-2])):
        yield tap, index[tap].unsqueeze(1).expand(-1, channels, -1)


def _weight(factors: list[Tensor], tap: tuple[int, ...]) -> Tensor:
    """The product of a tap's factors, (N, 1, P)."""
    return functools.reduce(operator.mul, (f[k] for f, k in zip(factors, tap, strict=True))).unsqueeze(1)


def _ringed(input: Tensor) -> Tensor:
    return padded(wide(input), 2, [(1, 1)] * (input.dim() - 2))


@grid_sample.kernel
def grid_sample_forward(input, grid, mode, padding_mode, align_corners):
    x = _ringed(input)
    index, weights, _ = _looked_up(x, grid, mode, padding_mode, align_corners)
    x = x.flatten(2)
    y = x.new_zeros((*x.shape[:2], index.shape[-1]))  # (N, C, P)
    for tap, at in _taps(index, x.shape[1]):
        y.addcmul_(x.gather(2, at), _weight(weights, tap))
    return y.unflatten(2, grid.shape[1:-1]).to(input.dtype)


@grid_sample.kernel_gradient
def grid_sample_gradient(dy, needs, input, grid, mode, padding_mode, align_corners):
    image = _ringed(input)
    index, weights, slopes = _looked_up(image, grid, mode, padding_mode, align_corners)
    dy, x = wide(dy).flatten(2), image.flatten(2)
    dx = dgrid = None
    if needs.input:
        dx = torch.zeros_like(x)
        for tap, at in _taps(index, x.shape[1]):
            dx.scatter_add_(2, at, dy * _weight(weights, tap))
        dx = padded(dx.view(image.shape), 2, [(-1, -1)] * (input.dim() - 2)).contiguous()
    if needs.grid and mode == "nearest":
        dgrid = torch.zeros_like(grid)
    elif needs.grid:
        v, along = x.new_empty((*index.shape[:-2], *dy.shape)), []
        for tap, at in _taps(index, x.shape[1]):
            torch.gather(x, 2, at, out=v[tap])
        for d, length in enumerate(input.shape[2:]):
            dydu = weighed(v.movedim(d, 0), [slopes[d], *(w for e, w in enumerate(weights) if e != d)])
            along.append(dydu.mul_(dy).sum(1).mul_(scale(length, align_corners)))
        dgrid = torch.stack(along[::-1], -1).view(grid.shape)
    return dx, dgrid
