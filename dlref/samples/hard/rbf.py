"""Hard samples, wrong calls and equations of manual/nn/rbf.py."""

from __future__ import annotations

from ...manual.nn.rbf import KERNELS, rbf
from .register import call, errors, samples


@samples(rbf)
def rbf_samples(tensor):
    x = tensor([[0.5, -1.0, 0.25], [2.0, 0.0, -0.5]])
    centers, widths = (
        tensor([[0.0, 1.0, 0.5], [1.5, -0.25, 0.0], [-1.0, -1.0, 2.0], [0.4, -1.0, 0.2]]),
        tensor([1.0, 0.5, -2.0, 3.0]),
    )
    for kernel in KERNELS:
        yield call(x, centers, widths, kernel)
        yield call(x[0], centers, widths, kernel=kernel)  # no batch
        yield call(x[:0], centers, widths, kernel)
        yield call(x.reshape(1, 2, 3), centers[:1], widths[:1], kernel)
        if kernel != "thin_plate":  # its second derivative is infinite there
            yield call(centers, centers, widths, kernel)  # at the centres
    yield call(100 * x, centers, widths)  # underflow


@errors(rbf)
def rbf_errors(tensor):
    x, centers, widths = tensor([[0.0, 1.0]]), tensor([[0.0, 1.0], [1.0, 0.0]]), tensor([1.0, 1.0])
    yield ValueError, call(x, centers, widths, "cubic")
    yield ValueError, call(x, centers, widths[:1])
    yield ValueError, call(x[:, :1], centers, widths)
    yield ValueError, call(x, centers[0], widths)
    yield ValueError, call(x[0, 0], centers, widths)
