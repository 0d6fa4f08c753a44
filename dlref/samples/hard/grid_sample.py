"""Hard samples and wrong calls of manual/nn/grid_sample.py."""

from __future__ import annotations

import itertools

import torch

from ...core.compat import TRICUBIC_GRID_SAMPLE
from ...manual.nn.grid_sample import MODES, PADDINGS, affine_grid, grid_sample
from .register import call, errors, samples


def _image(tensor, *shape):
    return torch.arange(torch.Size(shape).numel()).mul(0.7).sin().reshape(shape).to(tensor([]))


@samples(grid_sample)
def grid_sample_samples(tensor):
    image, volume = _image(tensor, 2, 3, 4, 6), _image(tensor, 1, 2, 3, 2, 4)
    inner = tensor([[[[-0.31, 0.77], [0.9, -0.2], [0.05, 0.4]]], [[[0.6, -0.85], [-0.7, 0.11], [0.33, -0.52]]]])
    outer = inner * 3.7  # beyond every border, some of it twice
    # The borders, pixels' centres, and the middle between two: kinks, where torch's choice is ours.
    edges = tensor(
        [[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [-0.5, 0.25], [1.25, -1.25], [0.8, 0.6], [-3.0, 3.0], [1.5, -2.5]]
    )
    edges = edges.view(1, 2, 4, 2).expand(2, -1, -1, -1)
    deep = tensor([[-0.4, 0.3, 0.2], [0.7, -0.6, 0.9], [1.9, -1.3, 2.1], [-1.0, 1.0, 0.0]]).view(1, 2, 1, 2, 3)
    for mode, padding, align in itertools.product(MODES, PADDINGS, (False, True)):
        yield call(image, inner, mode, padding, align)
        yield call(image, outer, mode, padding, align)
        yield call(image, edges, mode, padding, align)
        if mode != "bicubic" or TRICUBIC_GRID_SAMPLE:
            yield call(volume, deep, mode, padding, align)
    yield call(image[:, :, :1, :1], outer, "bilinear", "reflection", True)  # one pixel has nothing to be mirrored in
    yield call(image[:, :, :1], outer, "bicubic", "reflection", False)
    yield call(image, outer * 1e6, padding_mode="border", align_corners=False)
    yield call(image[:0], inner[:0], align_corners=False)
    yield call(image[:, :0], inner, align_corners=False)
    yield call(image, inner[:, :0], "bicubic", align_corners=False)


@errors(grid_sample)
def grid_sample_errors(tensor):
    x, grid = _image(tensor, 1, 2, 3, 4), tensor([0.0, 0.5]).view(1, 1, 1, 2)
    yield ValueError, call(x, grid, "linear", align_corners=False)
    yield ValueError, call(x, grid, padding_mode="circular", align_corners=False)
    yield RuntimeError, call(x[0], grid[0], align_corners=False)
    yield RuntimeError, call(x, grid.expand(2, 1, 1, 2), align_corners=False)
    yield RuntimeError, call(x, grid[..., :1], align_corners=False)
    yield RuntimeError, call(x, grid.unsqueeze(0), align_corners=False)
    yield RuntimeError, call(x[:, :, :0], grid, align_corners=False)
    yield RuntimeError, call(x, grid.double(), align_corners=False)
    yield NotImplementedError, call(x.long(), grid, align_corners=False)


@samples(affine_grid)
def affine_grid_samples(tensor):
    plane, space = _image(tensor, 2, 2, 3), _image(tensor, 2, 3, 4)
    for align in (False, True):
        yield call(plane, (2, 3, 4, 5), align)
        yield call(space, [2, 1, 3, 2, 4], align)
        yield call(space, (2, 1, 3, 1, 2), align)  # one pixel, in the middle
    yield call(plane, (2, 1, 3, 2))


@errors(affine_grid)
def affine_grid_errors(tensor):
    theta = _image(tensor, 2, 2, 3)
    yield ValueError, call(theta.long(), (2, 1, 3, 3), False)
    yield ValueError, call(theta[0], (2, 1, 3, 3), False)
    yield ValueError, call(theta, (2, 1, 3, 3, 3), False)
    yield ValueError, call(theta, (2, 1, 0, 3), False)
    yield NotImplementedError, call(theta, (2, 1, 3), False)
    yield RuntimeError, call(theta, (1, 1, 3, 3), False)
