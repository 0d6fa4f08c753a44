"""Gates of feed-forward layers: one projection, through an activation, times another."""

from __future__ import annotations

from ...builtin import sequence as builtin
from ...builtin.nn import sequence as builtin_nn
from ...core.module import Manual
from ...core.pair import op
from .common import wide
from .smooth_activation import gelu, gelu_prepare, silu


@op(builtin=builtin.swiglu)
def swiglu(gate, up):
    r"""Gate of a sigmoid linear unit: $y = \mathrm{silu}(a) \odot b = a\,\sigma(a) \odot b$, of gate a and up b.

    Any shape, one for both; output as they. RuntimeError where shapes or dtypes differ. Shazeer 2020, arXiv:2002.05202, eq. 5,
    where $a = x W$ and $b = x V$.
    """
    return (silu.forward(wide(gate)) * wide(up)).to(gate.dtype)


@swiglu.gradient
def swiglu_gradient(dy, needs, gate, up):
    r"""$da = dy \odot b \odot \sigma(a)\,(1 + a\,\sigma(-a)),\quad db = dy \odot a\,\sigma(a)$: gate and up alone are kept."""
    dy, a = wide(dy), wide(gate)
    return (
        silu.pull(dy * wide(up), a) if needs.gate else None,
        dy * silu(a) if needs.up else None,
    )


class SwiGLU(Manual, builtin_nn.SwiGLU):
    """The module of `swiglu`."""

    op = swiglu


@swiglu.prepare
def swiglu_prepare(gate, up):
    builtin.check_gate("swiglu", gate, up)
    return gate, up


@op(builtin=builtin.geglu)
def geglu(gate, up, approximate="none"):
    r"""Gate of a Gaussian error linear unit: $y = \mathrm{gelu}(a) \odot b$, of gate a and up b, gelu as approximate says.

    Any shape, one for both; output as they. RuntimeError where shapes or dtypes differ, and for another approximation. Shazeer
    2020, arXiv:2002.05202, eq. 5, where $a = x W$ and $b = x V$; the approximations are those of `gelu`.
    """
    return (gelu.forward(wide(gate), approximate) * wide(up)).to(gate.dtype)


@geglu.gradient
def geglu_gradient(dy, needs, gate, up, approximate):
    r"""$da = dy \odot b \odot \mathrm{gelu}'(a),\quad db = dy \odot \mathrm{gelu}(a)$: gate and up alone are kept."""
    dy, a = wide(dy), wide(gate)
    return (
        gelu.pull(dy * wide(up), a, approximate) if needs.gate else None,
        dy * gelu(a, approximate) if needs.up else None,
    )


class GEGLU(Manual, builtin_nn.GEGLU):
    """The module of `geglu`."""

    op = geglu


@geglu.prepare
def geglu_prepare(gate, up, approximate="none"):
    builtin.check_gate("geglu", gate, up)
    _, approximate = gelu_prepare(gate, approximate)
    return gate, up, approximate
