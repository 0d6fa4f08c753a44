"""Locally connected layers: a convolution whose weight is another at each place."""

from __future__ import annotations

from ...builtin import functional as builtin
from ...builtin.composed import check_local_linear
from ...builtin.nn import local
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from ..windows import overlap_add, padded, windows
from .common import outer


@op(builtin=builtin.local_linear, autocast="low", dtypes=Dtypes(one=("input", "weight", "bias")))
def local_linear(input, weight, bias, stride, padding, dilation):
    r"""An affine map of its own for each window: $y_o = b_o + \sum_k W_{o k}\, x_{o s + k d - p}$.

    input (N, C, *L) or (C, *L), weight (*O, out, C, *K), bias (out, *O); output (N, out, *O) with
    $O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$, in any number n of dimensions. stride, padding, dilation: one
    number or n. ValueError where shapes or options do not fit. LeCun 1989, Generalization and network design strategies,
    section 5.3.
    """
    n = len(stride)
    batched = input if input.dim() == n + 2 else input.unsqueeze(0)
    columns = _columns(batched, weight, stride, padding, dilation)  # (O, N, C * K)
    y = columns @ _matrix(weight).transpose(1, 2)  # (O, N, out)
    y = y.permute(1, 2, 0).unflatten(2, weight.shape[:n])
    y = y if bias is None else y + bias
    return y if batched is input else y.squeeze(0)


@local_linear.gradient
def local_linear_gradient(dy, needs, input, weight, stride, padding, dilation):
    r"""Place by place that of an affine map: $dW_o = dy_o\, x_o^\top,\ dx_o = W_o^\top dy_o$, added where windows overlap."""
    n = len(stride)
    shape = input.shape if input.dim() == n + 2 else (1, *input.shape)
    rows = dy.reshape(shape[0], weight.shape[n], weight.shape[:n].numel()).permute(2, 0, 1)  # (O, N, out)
    dx = dweight = None
    if needs.input:
        w = (rows @ _matrix(weight)).view(*weight.shape[:n], shape[0], *weight.shape[n + 1 :])  # (*O, N, C, *K)
        w = w.movedim((n, n + 1), (0, 1))  # (N, C, *O, *K)
        grown = [length + 2 * p for length, p in zip(shape[2:], padding, strict=True)]
        dx = padded(overlap_add(w, 2, grown, stride, dilation), 2, [(-p, -p) for p in padding]).reshape(input.shape)
    if needs.weight:
        columns = _columns(input.reshape(shape), weight, stride, padding, dilation)
        dweight = outer(rows, columns).view(weight.shape)
    return dx, dweight, dy


class LocallyConnected1d(Manual, local.LocallyConnected1d):
    """The module of `local_linear` for input (N, C, L) or (C, L), whose size it is built for."""

    op = local_linear


class LocallyConnected2d(Manual, local.LocallyConnected2d):
    """The module of `local_linear` for input (N, C, H, W) or (C, H, W), whose size it is built for."""

    op = local_linear


def _columns(x, weight, stride, padding, dilation):
    """Every window as a row, by place: (O, N, C * K)."""
    n = len(stride)
    w = windows(padded(x, 2, [(p, p) for p in padding]), 2, weight.shape[n + 2 :], stride, dilation)  # (N, C, *O, *K)
    w = w.movedim((0, 1), (n, n + 1))  # (*O, N, C, *K)
    return w.reshape(weight.shape[:n].numel(), x.shape[0], weight.shape[n + 1 :].numel())


def _matrix(weight):
    """(*O, out, C, *K) as (O, out, C * K)."""
    n = (weight.dim() - 2) // 2
    return weight.reshape(weight.shape[:n].numel(), weight.shape[n], weight.shape[n + 1 :].numel())


@local_linear.prepare
def local_linear_prepare(input, weight, bias=None, stride=1, padding=0, dilation=1):
    return input, weight, bias, *check_local_linear(input, weight, bias, stride, padding, dilation)
