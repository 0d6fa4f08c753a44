"""Hard samples, wrong calls and equations of manual/nn/perceptron.py."""

from __future__ import annotations

from ...manual.nn.perceptron import perceptron_loss
from .register import call, errors, samples


@samples(perceptron_loss)
def perceptron_loss_samples(tensor):
    z, t = tensor([0.0, -0.0, 1.5, -2.0, 3.0, 1e4]), tensor([1.0, -1.0, -1.0, -1.0, 1.0, -1.0])
    for reduction in ("none", "mean", "sum"):
        yield call(z, t, reduction=reduction)
    yield call(z.reshape(2, 3), t.reshape(2, 3))
    yield call(z[0], t[0])
    yield call(z[:0], t[:0], "sum")


@errors(perceptron_loss)
def perceptron_loss_errors(tensor):
    z = tensor([0.0, 1.0])
    yield ValueError, call(z, z[:1])
    yield ValueError, call(z, z, "average")
