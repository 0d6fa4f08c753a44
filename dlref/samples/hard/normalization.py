"""Hard samples, wrong calls and equations of manual/nn/normalization.py."""

from __future__ import annotations

from ...manual.nn.normalization import group_norm, layer_norm, local_response_norm, rms_norm
from .register import call, errors, samples


@samples(layer_norm)
def layer_norm_samples(tensor):
    yield call(tensor([[2.0, 2.0, 2.0]]), (3,))  # no variance
    yield call(tensor([[5.0], [-1.0]]), (1,), tensor([2.0]), tensor([1.0]))  # one feature
    yield call(tensor([[1e4, -1e4, 0.0]]), (3,), tensor([1.0, 0.0, -1.0]))  # large, no bias
    yield call(tensor([[1e-3, -1e-3, 2e-3]]), (3,), None, tensor([1.0, 2.0, 3.0]), 1e-12)  # below eps, no weight
    yield call(tensor([]).reshape(0, 2), (2,), tensor([1.0, 2.0]), tensor([0.0, 0.0]))  # an empty batch
    yield call(tensor([[[1.0, 2.0], [3.0, 5.0]]]), (2, 2), tensor([[1.0, 2.0], [3.0, 4.0]]))  # S of two dimensions


@errors(layer_norm)
def layer_norm_errors(tensor):
    x = tensor([[1.0, 2.0]])
    yield RuntimeError, call(x, (3,))
    yield RuntimeError, call(x, ())
    yield RuntimeError, call(x, (2,), tensor([1.0]))
    yield RuntimeError, call(x, (2,), None, tensor([1.0, 2.0, 3.0]))


@samples(rms_norm)
def rms_norm_samples(tensor):
    yield call(tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]), (3,))  # no length
    yield call(tensor([[5.0], [-1.0]]), (1,), tensor([2.0]))  # one feature
    yield call(tensor([[1e4, -1e4, 0.0]]), (3,), tensor([1.0, 0.0, -1.0]))  # large
    yield call(tensor([[1e-3, -1e-3, 2e-3]]), (3,), None, 1e-12)  # small
    yield call(tensor([[1e-4, 1e-4]]), (2,), tensor([1.0, 2.0]), 1e-2)  # below eps
    yield call(tensor([]).reshape(0, 2), (2,), tensor([1.0, 2.0]))  # an empty batch
    yield call(tensor([[[1.0, 2.0], [3.0, 5.0]]]), (2, 2), tensor([[1.0, 2.0], [3.0, 4.0]]))  # S of two dimensions


@samples(group_norm)
def group_norm_samples(tensor):
    x = tensor([[[1.0, 2.0], [3.0, 3.0], [0.0, -1.0], [5.0, 5.0]], [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0], [3.0, 4.0]]])
    w, b = tensor([2.0, -1.0, 0.5, 1.0]), tensor([0.5, 0.0, 1.0, -1.0])
    yield call(x, 2, w, b)  # a group without variance
    yield call(x, 1, w)
    yield call(x, 4, None, b, 1e-2)
    yield call(x + 10, 2)


@errors(group_norm)
def group_norm_errors(tensor):
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    yield RuntimeError, call(x[0], 1)
    yield RuntimeError, call(x.repeat(1, 2), 3)
    yield RuntimeError, call(x.repeat(1, 2), 2, tensor([1.0]))


@samples(local_response_norm)
def local_response_norm_samples(tensor):
    x = tensor([[[1.0, 0.0], [-3.0, 2.0], [0.5, 1e2]]])
    yield call(x, 1, 1.0)
    yield call(x, 2, 0.5, 2.0)  # an even window
    yield call(x, 7, 0.5, 0.5, 2.0)  # wider than the channels


@errors(local_response_norm)
def local_response_norm_errors(tensor):
    yield ValueError, call(tensor([[1.0, 2.0]]), 2)
