"""Hard samples and wrong calls of manual/nn/newton_schulz.py."""

from __future__ import annotations

from ...manual.nn.newton_schulz import newton_schulz
from .register import call, errors, samples


@samples(newton_schulz)
def newton_schulz_samples(tensor):
    m = tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
    yield call(m)
    yield call(m.mT)  # more rows than columns
    yield call(m, steps=0)
    yield call(m, steps=2, coefficients=(1.875, -1.25, 0.375))  # which converge
    yield call(m, coefficients=(1.5, -0.5, 0.0))  # Newton's own, cubic
    yield call(m.mT, steps=1, eps=100.0)  # a norm below eps
    yield call(m.unflatten(1, (1, 3)), steps=3)  # a batch of one row each
    yield call(
        tensor([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]), steps=3
    )  # nothing, and ties of singular values
    yield call(tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), steps=2)  # rank 1
    yield call(1e-4 * m, eps=1e-2, steps=1)
    yield call(1e3 * m)
    yield call(m[:0])
    yield call(m[:, :0])
    yield call(m.expand(2, 2, 3)[:0])


@errors(newton_schulz)
def newton_schulz_errors(tensor):
    m = tensor([[1.0, 2.0], [0.0, 1.0]])
    yield ValueError, call(m[0])
    yield ValueError, call(m, steps=100)
    yield ValueError, call(m, steps=-1)
    yield ValueError, call(m, coefficients=(1.5, -0.5))
