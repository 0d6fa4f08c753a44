"""The gradient of radial basis functions, whose products of samples, units and features are written over one tensor."""

from __future__ import annotations

import torch

from ...core.modes import finest
from ..nn.common import wide
from ..nn.rbf import KERNELS, rbf
from ..nn.standardise import summed


def _over(t, dim, factor):
    """The sum of t times the factor along a dimension, in float64 where t is of float32, as the definition has it."""
    terms = t.to(finest(t.device) if t.dtype == torch.float32 else t.dtype, copy=True)
    return terms.mul_(factor).sum(dim).to(t.dtype)


@rbf.kernel_gradient
def rbf_gradient(dy, output, saved, needs, input, centers, widths, kernel):
    n = input.shape[:-1].numel()
    s, phi = (v.reshape(n, v.shape[-1]) for v in (*saved, wide(output)))
    x, c, sigma = wide(input).reshape(n, input.shape[-1]), wide(centers), wide(widths)
    ds = wide(dy).reshape(s.shape) * KERNELS[kernel][1](s, phi)
    w, difference = (2 * ds / sigma.square()).unsqueeze(2), x.unsqueeze(1) - c
    dx = _over(difference, 1, w).view(input.shape) if needs.input else None
    dcenters = -_over(difference, 0, w) if needs.centers else None
    dwidths = -2 * summed(ds, (0,), s) / sigma if needs.widths else None
    return dx, dcenters, dwidths
