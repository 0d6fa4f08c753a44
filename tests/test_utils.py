"""Clipping and vectors of parameters against torch.nn.utils."""

from __future__ import annotations

import math

import pytest
import torch

from dlref.manual.nn import utils

THEIRS = torch.nn.utils


def parameters(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    made = [torch.nn.Parameter(torch.zeros(s, dtype=torch.float64)) for s in ((3, 2), (4,), (), (0,), (2,))]
    for p in made[:-1]:
        p.grad = scale * torch.randn(p.shape, dtype=torch.float64, generator=generator)
    return made


def same(a, b):
    for p, q in zip(a, b, strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("norm_type", [0.5, 1.0, 2, 3.0, math.inf, "inf"])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_clip_grad_norm(norm_type, max_norm):
    a, b = [p for p in parameters() if p.shape != (0,)], [p for p in parameters() if p.shape != (0,)]
    first = utils.clip_grad_norm_(a, max_norm, norm_type)
    assert torch.equal(first, THEIRS.clip_grad_norm_(b, max_norm, norm_type, foreach=False))
    same(a, b)
    assert float(utils.get_total_norm([p.grad for p in a[:-1]], float(norm_type))) <= max(
        max_norm * (1 + 1e-9), float(first) + 1e-12
    )
    a, b = parameters()[0], parameters()[0]
    utils.clip_grad_norm_(a, max_norm, norm_type)
    THEIRS.clip_grad_norm_(b, max_norm, norm_type)
    same([a], [b])


def test_clip_grad_norm_of_what_is_not_finite():
    bad = parameters(math.inf)
    with pytest.raises(RuntimeError, match="must be finite"):
        utils.clip_grad_norm_(bad[:1], 1.0, error_if_nonfinite=True)
    assert utils.clip_grad_norm_([], 1.0) == 0


def test_clip_grad_value():
    a, b = parameters(), parameters()
    utils.clip_grad_value_(a, 0.5)
    THEIRS.clip_grad_value_(b, 0.5)
    same(a, b)


def test_vectors():
    a, b = parameters(), parameters()
    vector = torch.arange(13, dtype=torch.float64)
    utils.vector_to_parameters(vector, a)
    THEIRS.vector_to_parameters(vector, b)
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert torch.equal(utils.parameters_to_vector(a), THEIRS.parameters_to_vector(b))
    with pytest.raises(TypeError, match="must be a tensor"):
        utils.vector_to_parameters([1.0], a)
    with pytest.raises(TypeError, match="one device"):
        utils.parameters_to_vector([a[0], torch.zeros(2, device="meta")])
