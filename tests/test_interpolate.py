"""Antialiased interpolation, which PyTorch's database lacks."""

from __future__ import annotations

import pytest
import torch
from harness import error, since

import dlref.manual.functional as F
from dlref.core.compat import LANCZOS


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (14, 5), (1, 23), (2, 30)], ids=str)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", pytest.param("lanczos", marks=since(LANCZOS))])
def test_antialias(mode, size, align):
    if mode == "lanczos" and align:
        pytest.skip("torch refuses it, and so do we")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 7, 23, generator=generator, dtype=torch.float64, requires_grad=True)
    options = {"size": size, "mode": mode, "antialias": True, "align_corners": align if mode != "lanczos" else None}
    ours, theirs = F.interpolate(x, **options), torch.nn.functional.interpolate(x, **options)
    assert error(ours, theirs) <= 1e-12
    dy = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(theirs, x, dy)
    assert error(torch.autograd.grad(ours, x, dy)[0], expected) <= 1e-12
    assert error(F.interpolate.vjp(x, **options)[1](dy)[0], expected) <= 1e-12


def test_bytes_with_a_nearest_mode():
    x = torch.arange(24, dtype=torch.uint8).view(1, 2, 3, 4)
    for mode in ("nearest", "nearest-exact"):
        assert torch.equal(F.interpolate(x, (5, 3), mode=mode), torch.nn.functional.interpolate(x, (5, 3), mode=mode))
    with pytest.raises(NotImplementedError, match="convert it first"):
        F.interpolate(x, (5, 3), mode="bilinear")
