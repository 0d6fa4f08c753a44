"""Radial basis functions: units that answer to the distance of their input from a centre."""

from __future__ import annotations

import torch

from ...builtin import functional as builtin
from ...builtin.composed import check_rbf
from ...builtin.nn import rbf as builtin_rbf
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import wide
from .standardise import summed


def _thin_plate(s):
    return s * torch.log(_positive(s)) / 2


def _positive(s):
    """s, and 1 at the centre: its logarithm is multiplied by 0 there."""
    return torch.where(s == 0, 1, s)


# Kernel: phi(s), and phi'(s) from s and phi.
KERNELS = {
    "gaussian": (lambda s: torch.exp(-s / 2), lambda s, phi: -phi / 2),
    "multiquadric": (lambda s: torch.sqrt(1 + s), lambda s, phi: 0.5 / phi),
    "inverse_multiquadric": (lambda s: torch.rsqrt(1 + s), lambda s, phi: -(phi**3) / 2),
    "thin_plate": (_thin_plate, lambda s, phi: torch.where(s == 0, 0, (torch.log(_positive(s)) + 1) / 2)),
}


@op(builtin=builtin.rbf, dtypes=Dtypes(promote=("input", "centers", "widths")))
def rbf(input, centers, widths, kernel):
    r"""Radial basis functions of the distance from centres: $\phi_j(x) = \phi(s_j),\quad s_j = \|x - c_j\|^2 / \sigma_j^2$.

    kernel: "gaussian" $e^{-s/2}$, "multiquadric" $\sqrt{1 + s}$, "inverse_multiquadric" $1 / \sqrt{1 + s}$, "thin_plate"
    $\tfrac12 s \log s$ (0 at the centre). input (*, features), centers (units, features), widths (units,), none of them 0;
    output (*, units). ValueError where shapes or the kernel do not fit. Broomhead & Lowe 1988 (Complex Systems 2), eq. 2.
    """
    difference = wide(input).unsqueeze(-2) - wide(centers)  # (*, units, features)
    s = difference.square().sum(-1) / wide(widths).square()
    return KERNELS[kernel][0](s).to(input.dtype), (s,)


@rbf.gradient
def rbf_gradient(dy, output, saved, needs, input, centers, widths, kernel):
    r"""$ds = dy\,\phi'(s),\quad w = 2\,ds / \sigma^2$, and so
    $dx = \sum_j w_j (x - c_j),\quad dc_j = \sum_n w_{nj} (c_j - x_n),\quad d\sigma_j = -2 \sum_n ds_{nj} s_{nj} / \sigma_j$."""
    n = input.shape[:-1].numel()
    s, phi = (v.reshape(n, v.shape[-1]) for v in (*saved, wide(output)))
    x, c, sigma = wide(input).reshape(n, input.shape[-1]), wide(centers), wide(widths)
    ds = wide(dy).reshape(s.shape) * KERNELS[kernel][1](s, phi)
    w, difference = (2 * ds / sigma.square()).unsqueeze(2), x.unsqueeze(1) - c  # as w x - w c would cancel
    dx = dcenters = dwidths = None
    if needs.input:
        dx = summed(difference, (1,), w).view(input.shape)
    if needs.centers:
        dcenters = -summed(difference, (0,), w)
    if needs.widths:
        dwidths = -2 * summed(ds, (0,), s) / sigma
    return dx, dcenters, dwidths


class RBF(Manual, builtin_rbf.RBF):
    """The module of `rbf`."""

    op = rbf


@rbf.prepare
def rbf_prepare(input, centers, widths, kernel="gaussian"):
    check_rbf(input, centers, widths, kernel)
    return input, centers, widths, kernel
