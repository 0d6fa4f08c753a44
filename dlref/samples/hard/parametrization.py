"""Hard samples, wrong calls and equations of manual/nn/parametrization.py."""

from __future__ import annotations

from ...manual.nn.parametrization import orthogonal, spectral_norm, weight_norm
from .register import call, equation, errors, samples


@samples(weight_norm)
def weight_norm_samples(tensor):
    v, g = tensor([[3.0, -4.0, 0.0], [1.0, 2.0, -2.0]]), tensor([[2.0], [-1.5]])
    yield call(g, v)
    yield call(tensor(2.5), v, None)
    yield call(tensor(2.5), v, -1)
    yield call(tensor([[1.0, 0.0, -2.0]]), v, 1)
    yield call(tensor([[[0.5], [2.0]]]), tensor([[[1.0, 2.0], [3.0, -1.0]], [[0.5, 0.25], [-1.0, 2.0]]]), 1)
    yield call(tensor([[[0.5], [2.0]]]), tensor([[[1.0, 2.0], [3.0, -1.0]], [[0.5, 0.25], [-1.0, 2.0]]]), -2)
    yield call(tensor([2.0, -3.0]), tensor([0.5, -4.0]), 0)  # each number its own length


@equation(weight_norm)
def weight_norm_equation(sp, weight_g, weight_v):
    length = sp.sqrt(sum(v**2 for v in weight_v))
    return tuple(weight_g[0] * v / length for v in weight_v)


@errors(weight_norm)
def weight_norm_errors(tensor):
    yield IndexError, call(tensor([[1.0]]), tensor([[1.0, 2.0]]), 2)
    yield IndexError, call(tensor([[1.0]]), tensor([[1.0, 2.0]]), -3)


@samples(spectral_norm)
def spectral_norm_samples(tensor):
    w = tensor([[3.0, -1.0, 2.0], [0.5, 2.0, -2.0]])
    u, v = tensor([0.6, 0.8]), tensor([0.48, 0.6, 0.64])
    yield call(w, u, v)
    yield call(w, v, u, 1)
    yield call(w, v, u, -1)
    image = tensor([[[1.0, 2.0], [3.0, -1.0]], [[0.5, 0.25], [-1.0, 2.0]]])
    yield call(image, u, tensor([0.5, 0.5, -0.5, 0.5]))
    yield call(image, u, tensor([0.5, 0.5, -0.5, 0.5]), 1)


@errors(spectral_norm)
def spectral_norm_errors(tensor):
    w, u, v = tensor([[3.0, -1.0, 2.0], [0.5, 2.0, -2.0]]), tensor([0.6, 0.8]), tensor([0.48, 0.6, 0.64])
    yield RuntimeError, call(w, v, u)
    yield RuntimeError, call(u, u, v)
    yield IndexError, call(w, u, v, 2)


@samples(orthogonal)
def orthogonal_samples(tensor):
    tall = tensor([[-1.25, 0.25], [0.5, 2.5], [-0.75, 1.5], [2.0, -0.5]])
    square = tensor([[0.5, 0.25, -1.0], [0.5, -1.25, 2.0], [-0.75, 1.5, 1.25]])
    turn = tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    for name in ("matrix_exp", "cayley", "householder"):
        yield call(tall, orthogonal_map=name)
        yield call(tall.T, orthogonal_map=name)
        yield call(square, turn, name)
        yield call(square[:2], turn, name)  # wide, with a base
        yield call(square[:, :1], orthogonal_map=name)
        yield call(tall.reshape(2, 2, 2), orthogonal_map=name)  # a batch
        yield call(tall[:0].reshape(0, 2, 2), orthogonal_map=name)
    yield call(square)


@errors(orthogonal)
def orthogonal_errors(tensor):
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    yield ValueError, call(x[0])
    yield ValueError, call(x, orthogonal_map="qr")
    yield ValueError, call(x, tensor([[1.0]]))
    yield ValueError, call(x.cfloat(), orthogonal_map="householder")
