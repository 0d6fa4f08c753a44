"""Hard samples, wrong calls and equations of manual/nn/fold.py."""

from __future__ import annotations

import torch

from ...manual.nn.fold import fold, unfold
from .register import call, errors, samples


@samples(unfold)
def unfold_samples(tensor):
    x = torch.arange(60, device=tensor([]).device).sin().reshape(2, 3, 2, 5).to(tensor([]))
    yield call(x, 2)
    yield call(x, (1, 3), (1, 2))
    yield call(x, (2, 1), 1, (1, 0), (2, 3))  # gaps between the blocks
    yield call(x[0], 2, stride=2)


@errors(unfold)
def unfold_errors(tensor):
    x = tensor([0.0] * 12).reshape(1, 1, 3, 4)
    yield RuntimeError, call(x, 4)
    yield RuntimeError, call(x, 2, -1)
    yield RuntimeError, call(x, 2, 1, 0, 0)
    yield RuntimeError, call(x[None], 2)


@samples(fold)
def fold_samples(tensor):
    def ramp(*shape):
        return (
            torch.arange(shape[0] * shape[1] * shape[2], device=tensor([]).device).sin().reshape(shape).to(tensor([]))
        )

    yield call(ramp(2, 8, 4), (3, 3), 2)
    yield call(ramp(1, 6, 3), (2, 7), (2, 3), (1, 1), 0, (1, 2))
    yield call(ramp(1, 2, 4), (3, 4), (2, 1), 1, (1, 0), (2, 2))
    yield call(ramp(2, 8, 4)[0], 3, 2)
    yield call(ramp(1, 8, 9), (4, 5), 2, (1, 2))
    yield call(ramp(1, 8, 4), (4, 6), 2, (2, 3), (1, 0), (2, 2))
    yield call(ramp(2, 8, 4), (4, 7), 2, 1, 0, (2, 3))


@errors(fold)
def fold_errors(tensor):
    x = tensor([0.0] * 32).reshape(1, 8, 4)
    yield RuntimeError, call(x, (3, 3), 3)
    yield RuntimeError, call(x, (4, 4), 2)
    yield RuntimeError, call(x, (3, 3), 2, 0)
