"""Hard samples, wrong calls and equations of manual/nn/blocks.py."""

from __future__ import annotations

from ...manual.nn.blocks import gaussian_kl, reparametrize, tied_linear
from .register import call, samples


@samples(tied_linear)
def tied_linear_samples(tensor):
    yield call(tensor([[1.0, 2.0]]), tensor([[3.0, -1.0, 0.0], [0.5, 1.0, 2.0]]), tensor([0.5, 1.0, -1.0]))
    yield call(tensor([1.0]), tensor([[3.0, -1.0]]))  # no batch, no bias
    yield call(tensor([]).reshape(0, 2, 1), tensor([[3.0, -1.0]]), tensor([0.5, 1.0]))


@samples(reparametrize)
def reparametrize_samples(tensor):
    yield call(tensor([0.0, 1.0, -2.0]), tensor([0.0, -30.0, 3.0]))
    yield call(tensor([0.5]), tensor([1.0]), False)
    yield call(tensor([]), tensor([]))


@samples(gaussian_kl)
def gaussian_kl_samples(tensor):
    yield call(tensor([0.0, 1.0, -2.0]), tensor([0.0, -30.0, 3.0]))
    yield call(tensor([]), tensor([]))
