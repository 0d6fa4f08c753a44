"""Hard samples, wrong calls and equations of manual/nn/padding.py."""

from __future__ import annotations

from ...manual.nn.padding import pad
from .register import call, errors, samples


@samples(pad)
def pad_samples(tensor):
    x = tensor([[[1.0, -2.0, 3.0, float("inf")], [5.0, 6.0, -7.0, 8.0]]])
    for mode in ("reflect", "replicate", "circular"):
        yield call(x, (3, 0), mode)  # as far as it goes
        yield call(x, (-1, 2), mode)
        yield call(x, [0, 0], mode)
        yield call(x, (1, 2, 1, 1), mode)
        yield call(x.unsqueeze(0), (1, 1, 0, 1, 0, 0), mode)
    yield call(x, (5, 1), "replicate")  # further than the input
    yield call(x, (1, -4, 0, 0, 2, 1), "constant", -1.5)
    yield call(x, ())
    yield call(x[:0], (1, 1))


@errors(pad)
def pad_errors(tensor):
    x = tensor([[[1.0, 2.0, 3.0]]])
    yield RuntimeError, call(x, (1,))
    yield RuntimeError, call(x, (1, 1) * 4)
    yield NotImplementedError, call(x, (1, 1), "mirror")
    yield RuntimeError, call(x, (3, 0), "reflect")
    yield RuntimeError, call(x, (4, 0), "circular")
    yield NotImplementedError, call(x[0, 0], (1, 1), "reflect")
    yield RuntimeError, call(x, (-2, -2))
