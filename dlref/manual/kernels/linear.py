"""Linear's gradient with its weight's written where it is wanted: a step of a large layer holds no second one of its size."""

from __future__ import annotations

import torch

from ..nn.common import outer
from ..nn.linear import linear, rows


@linear.kernel_gradient(where=lambda input, weight, bias: weight.dim() == 2)
def linear_gradient(dy, needs, place, input, weight):
    dx, dweight = dy @ weight.conj() if needs.input else None, None
    if needs.weight:
        delta, x, out = rows(dy), rows(input).conj(), place.weight
        fits = out is not None and out.dtype == delta.dtype and x.shape[-1] >= 32
        dweight = torch.matmul(delta.T, x, out=out) if fits else outer(delta, x)
    return dx, dweight, dy
