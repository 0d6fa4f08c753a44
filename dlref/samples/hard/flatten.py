"""Hard samples, wrong calls and equations of manual/nn/flatten.py."""

from __future__ import annotations

from ...manual.nn.flatten import flatten, unflatten
from .register import call, samples


@samples(flatten)
def flatten_samples(tensor):
    x = tensor([[[1.0, 2.0], [3.0, 4.0]]])
    yield call(x)
    yield call(x, 1)
    yield call(x, 0, 1)
    yield call(x.transpose(1, 2), -2, -1)  # no view
    yield call(tensor(1.0))  # a dimension out of none
    yield call(tensor([]).reshape(2, 0, 3), 1)


@samples(unflatten)
def unflatten_samples(tensor):
    x = tensor([[1.0, 2.0, 3.0, 4.0]])
    yield call(x, 1, (2, 2))
    yield call(x, -1, (2, -1, 1))
    yield call(x, 0, [1, 1])
    yield call(tensor([]).reshape(0, 3), 0, (0, 2))
