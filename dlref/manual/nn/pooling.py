"""Pools in one, two and three dimensions: the largest, the mean or the p-norm of each window, and the way back.

One body serves all dimensions: L stands for the sizes of the input, O for those of the output, K for the windows'.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from ..windows import ntuple
from .common import channels_last, contiguous, named, wide, widened
from .pool_windows import (
    adaptive_counts,
    adaptive_elements,
    adaptive_size,
    adaptive_total,
    counts,
    elements,
    largest,
    pool_options,
    scattered,
    total,
    untotal,
)


def _same(*names):
    """Attributes of the modules that have the arguments' names."""
    return {name: name for name in names}


MAX = _same("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVERAGE = _same("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
LINE = _same("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
INDEXED = ("output", "indices")


def _layout(n):
    return contiguous if n == 3 else channels_last


def _three(forward, gradient, layout=_layout, autocast=(3,), suffix="", **options):
    """The operations in one, two and three dimensions of one forward. autocast: those that torch computes in float32."""
    for n in (1, 2, 3):
        name = f"{forward.__name__}{n}d{suffix}"
        policy = {"cpu": "float32"} if n in autocast else None
        pool = op(builtin=getattr(F, name), layout=layout(n), autocast=policy, **options)(named(forward, name))
        pool.gradient(named(gradient, f"{name}_gradient"))
        yield pool


# --- the largest ------------------------------------------------------------------------------------------------


def max_pool(input, options, ceil_mode):
    r"""The largest element of each window: $y_o = \max_k x_{o s + k d - p}$.

    input (N, C, *L) or (C, *L); output (N, C, *O) with $O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$, or with
    ceil_mode the ceiling, for windows that begin within; padding never wins. return_indices: the flat index of each largest
    element beside it, the first of equals. RuntimeError where options do not fit. Riesenhuber & Poggio 1999 (Nature
    Neuroscience 2); Scherer et al. 2010 (ICANN).
    """
    return largest(input, elements(input, options, ceil_mode)), ()


def max_pool_gradient(dy, indices, shapes, options):
    r"""$dx_l = \sum_{o : \arg\max_o = l} dy_o$."""
    return scattered(dy[0], indices, tuple(shapes.input[-len(options) :]))


max_pool1d, max_pool2d, max_pool3d = _three(
    max_pool, max_pool_gradient, layout=lambda n: channels_last, outputs=INDEXED
)
max_pool1d_with_indices, max_pool2d_with_indices, max_pool3d_with_indices = _three(
    max_pool, max_pool_gradient, layout=lambda n: channels_last, autocast=(), suffix="_with_indices", outputs=INDEXED
)


class MaxPool1d(Manual, torch.nn.MaxPool1d):
    """The module of `max_pool1d`."""

    op, attributes = max_pool1d, MAX


class MaxPool2d(Manual, torch.nn.MaxPool2d):
    """The module of `max_pool2d`."""

    op, attributes = max_pool2d, MAX


class MaxPool3d(Manual, torch.nn.MaxPool3d):
    """The module of `max_pool3d`."""

    op, attributes = max_pool3d, MAX


def _max_pool_prepare(
    name, n, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    return input, pool_options(name, n, input, kernel_size, stride, padding, dilation, ceil_mode), ceil_mode


def _with_indices(output, indices, return_indices):
    return (output, indices) if return_indices else output


for _n, _op in enumerate((max_pool1d, max_pool2d, max_pool3d), 1):
    _op.prepare(functools.partial(_max_pool_prepare, _op.__name__, _n))
    _op.finish(named(_with_indices, f"{_op.__name__}_finish"))
for _n, _op in enumerate((max_pool1d_with_indices, max_pool2d_with_indices, max_pool3d_with_indices), 1):
    _op.prepare(functools.partial(_max_pool_prepare, _op.__name__, _n))  # whatever return_indices says


def adaptive_max_pool(input, size):
    r"""The largest element of each of O windows that cover the input: $y_o = \max_l x_l$ over
    $\lfloor o L / O \rfloor \le l < \lceil (o + 1) L / O \rceil$.

    input (N, C, *L) or (C, *L), output_size O (None keeps L); output (N, C, *O), with return_indices the flat indices
    beside it. RuntimeError where sizes do not fit, ValueError where dimensions do not. He et al. 2014, arXiv:1406.4729.
    """
    return largest(input, adaptive_elements(input, size)), ()


def adaptive_max_pool_gradient(dy, indices, shapes, size):
    r"""$dx_l = \sum_{o : \arg\max_o = l} dy_o$."""
    return scattered(dy[0], indices, tuple(shapes.input[-len(size) :]))


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = _three(
    adaptive_max_pool, adaptive_max_pool_gradient, outputs=INDEXED
)
adaptive_max_pool1d_with_indices, adaptive_max_pool2d_with_indices, adaptive_max_pool3d_with_indices = _three(
    adaptive_max_pool, adaptive_max_pool_gradient, suffix="_with_indices", outputs=INDEXED
)


class AdaptiveMaxPool1d(Manual, torch.nn.AdaptiveMaxPool1d):
    """The module of `adaptive_max_pool1d`."""

    op, attributes = adaptive_max_pool1d, _same("output_size", "return_indices")


class AdaptiveMaxPool2d(Manual, torch.nn.AdaptiveMaxPool2d):
    """The module of `adaptive_max_pool2d`."""

    op, attributes = adaptive_max_pool2d, _same("output_size", "return_indices")


class AdaptiveMaxPool3d(Manual, torch.nn.AdaptiveMaxPool3d):
    """The module of `adaptive_max_pool3d`."""

    op, attributes = adaptive_max_pool3d, _same("output_size", "return_indices")


def _adaptive_max_pool_prepare(name, n, input, output_size, return_indices=False):
    return input, adaptive_size(name, n, input, output_size)


for _n, _op in enumerate((adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d), 1):
    _op.prepare(functools.partial(_adaptive_max_pool_prepare, _op.__name__, _n))
    _op.finish(named(_with_indices, f"{_op.__name__}_finish"))
for _n, _op in enumerate(
    (adaptive_max_pool1d_with_indices, adaptive_max_pool2d_with_indices, adaptive_max_pool3d_with_indices), 1
):
    _op.prepare(functools.partial(_adaptive_max_pool_prepare, _op.__name__, _n))


# --- the mean ---------------------------------------------------------------------------------------------------


def avg_pool(input, options, ceil_mode, count_include_pad, divisor_override):
    r"""The mean of each window: $y_o = \frac{1}{c_o} \sum_k x_{o s + k - p}$.

    input (N, C, *L) or (C, *L); output (N, C, *O) as of max pooling. $c_o$: the window's size with its padding, without it
    where count_include_pad is False, or divisor_override. Of integers the mean is rounded towards zero. RuntimeError where
    options do not fit. LeCun et al. 1998 (Proc. IEEE 86), section II, whose means had a factor and a bias that learn.
    """
    y = total(widened(input), options, ceil_mode)
    c = divisor_override or counts(input, options, ceil_mode, count_include_pad)
    exact = input.is_floating_point() or input.is_complex()
    return torch.div(y, c, rounding_mode=None if exact else "trunc").to(input.dtype)


def avg_pool_gradient(dy, input, options, ceil_mode, count_include_pad, divisor_override):
    r"""$dx_l = \sum_{o s + k - p = l} dy_o / c_o$."""
    c = divisor_override or counts(input, options, ceil_mode, count_include_pad)
    return untotal(wide(dy) / c, tuple(input.shape[-len(options) :]), options)


avg_pool1d, avg_pool2d, avg_pool3d = _three(avg_pool, avg_pool_gradient)


class AvgPool1d(Manual, torch.nn.AvgPool1d):
    """The module of `avg_pool1d`."""

    op, attributes = avg_pool1d, LINE


class AvgPool2d(Manual, torch.nn.AvgPool2d):
    """The module of `avg_pool2d`."""

    op, attributes = avg_pool2d, AVERAGE


class AvgPool3d(Manual, torch.nn.AvgPool3d):
    """The module of `avg_pool3d`."""

    op, attributes = avg_pool3d, AVERAGE


def _avg_pool_prepare(
    name, n, input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    if divisor_override == 0:
        raise RuntimeError(f"{name}(): divisor_override must not be 0")
    options = pool_options(name, n, input, kernel_size, stride, padding, 1, ceil_mode)
    if n == 3 and any(length < k for length, (k, *_) in zip(input.shape[-n:], options, strict=True)):  # as torch has it
        raise RuntimeError(f"{name}(): the kernel must not be larger than the input without its padding, it is "
                           f"{tuple(k for k, *_ in options)} of {tuple(input.shape[-n:])}")  # fmt: skip
    return input, options, ceil_mode, count_include_pad, divisor_override


@avg_pool1d.prepare
def avg_pool1d_prepare(input, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True):
    return _avg_pool_prepare("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


for _n, _op in ((2, avg_pool2d), (3, avg_pool3d)):
    _op.prepare(functools.partial(_avg_pool_prepare, _op.__name__, _n))


def adaptive_avg_pool(input, size):
    r"""The mean of each of O windows that cover the input: $y_o = \frac{1}{c_o} \sum_l x_l$ over
    $\lfloor o L / O \rfloor \le l < \lceil (o + 1) L / O \rceil$, of which there are $c_o$.

    input (N, C, *L) or (C, *L), output_size O (None keeps L); output (N, C, *O). RuntimeError where sizes do not fit,
    ValueError where dimensions do not. Lin et al. 2013, arXiv:1312.4400 (O = 1); He et al. 2014, arXiv:1406.4729.
    """
    x = wide(input)
    return (adaptive_total(x, size) / adaptive_counts(x, size)).to(input.dtype)


def adaptive_avg_pool_gradient(dy, input, size):
    r"""$dx_l = \sum_{o \ni l} dy_o / c_o$."""
    dy = wide(dy)
    return adaptive_total(dy / adaptive_counts(input.to(dy.dtype), size), tuple(input.shape[-len(size) :]))


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = _three(adaptive_avg_pool, adaptive_avg_pool_gradient)


class AdaptiveAvgPool1d(Manual, torch.nn.AdaptiveAvgPool1d):
    """The module of `adaptive_avg_pool1d`."""

    op, attributes = adaptive_avg_pool1d, _same("output_size")


class AdaptiveAvgPool2d(Manual, torch.nn.AdaptiveAvgPool2d):
    """The module of `adaptive_avg_pool2d`."""

    op, attributes = adaptive_avg_pool2d, _same("output_size")


class AdaptiveAvgPool3d(Manual, torch.nn.AdaptiveAvgPool3d):
    """The module of `adaptive_avg_pool3d`."""

    op, attributes = adaptive_avg_pool3d, _same("output_size")


def _adaptive_avg_pool_prepare(name, n, input, output_size):
    return input, adaptive_size(name, n, input, output_size)


for _n, _op in enumerate((adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d), 1):
    _op.prepare(functools.partial(_adaptive_avg_pool_prepare, _op.__name__, _n))


# --- the p-norm -------------------------------------------------------------------------------------------------


def completed(y, input, options, ceil_mode):
    """$r_o y_o$: the sum of a window that hangs over the end counts as a whole one's, as torch takes the mean times K."""
    return y * math.prod(k for k, *_ in options) / counts(input, options, ceil_mode) if ceil_mode else y


def _lp_layout(n):
    """That of torch's kernels: of the average in three dimensions, and of the maximum."""
    return lambda input, norm_type, *_: (_layout(n) if not math.isinf(norm_type) else channels_last)(input)


def lp_pool(input, norm_type, options, ceil_mode):
    r"""The p-norm of each window: $y_o = \left( r_o \sum_k x_{o s + k}^p \right)^{1/p}$, $r_o = K / c_o$.

    $c_o$: the elements that a window holds, fewer than K where ceil_mode lets it hang over the end.

    input (N, C, *L) or (C, *L); norm_type p, $\pm\infty$ for the largest and the smallest $|x|$; output (N, C, *O) as of
    max pooling without padding. NaN where the sum is negative, which an odd p allows. ValueError where p is 0, RuntimeError
    where options do not fit. Sermanet et al. 2012, arXiv:1204.3968.
    """
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        return sign * largest(sign * input.abs(), elements(input, options, ceil_mode))[0]
    y = completed(total(wide(input).pow(norm_type), options, ceil_mode), input, options, ceil_mode)
    return y.pow(1.0 / norm_type).to(input.dtype)


def lp_pool_gradient(dy, output, input, norm_type, options, ceil_mode):
    r"""$dx_l = \sum_{o \ni l} dy_o\, y_o^{1 - p}\, r_o\, x_l^{p - 1}$; 0 where $y_o = 0$. With $p = \pm\infty$ the sign of
    the x that was chosen, the first of equals, times $dy_o$."""
    size = tuple(input.shape[-len(options) :])
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        _, chosen = largest(sign * input.abs(), elements(input, options, ceil_mode))
        return scattered(dy, chosen, size) * input.sign()
    x, y = wide(input), wide(output)
    none = y == 0
    slope = torch.where(none, 0, torch.where(none, 1, y).pow(1 - norm_type))
    dsum = completed(wide(dy) * slope, input, options, ceil_mode)
    return untotal(dsum, size, options) * x.pow(norm_type - 1)


lp_pool1d, lp_pool2d, lp_pool3d = _three(lp_pool, lp_pool_gradient, layout=_lp_layout, autocast=())


class LPPool1d(Manual, torch.nn.LPPool1d):
    """The module of `lp_pool1d`."""

    op = lp_pool1d


class LPPool2d(Manual, torch.nn.LPPool2d):
    """The module of `lp_pool2d`."""

    op = lp_pool2d


class LPPool3d(Manual, torch.nn.LPPool3d):
    """The module of `lp_pool3d`."""

    op = lp_pool3d


def _lp_pool_prepare(name, n, input, norm_type, kernel_size, stride=None, ceil_mode=False):
    if norm_type == 0:
        raise ValueError(f"{name}(): norm_type must not be 0: take inf for the largest |x|")
    return input, norm_type, pool_options(name, n, input, kernel_size, stride, 0, 1, ceil_mode), ceil_mode


for _n, _op in enumerate((lp_pool1d, lp_pool2d, lp_pool3d), 1):
    _op.prepare(functools.partial(_lp_pool_prepare, _op.__name__, _n))


# --- the way back -----------------------------------------------------------------------------------------------


def max_unpool(input, indices, size):
    r"""The partial inverse of max pooling: $y_{i_o} = x_o$, zero elsewhere.

    input (N, C, *L) or (C, *L), indices as max pooling returns them; output (N, C, *O), O of output_size or
    $(L - 1) s - 2 p + K$. RuntimeError or ValueError where sizes do not fit or an index lies outside. Zeiler & Fergus
    2013, arXiv:1311.2901, section 2.1.
    """
    n = len(size)
    zeros = input.new_zeros((*input.shape[:-n], math.prod(size)))
    return zeros.scatter(-1, indices.flatten(-n), input.flatten(-n)).unflatten(-1, size)


def max_unpool_gradient(dy, indices, size):
    r"""$dx_o = dy_{i_o}$."""
    n = len(size)
    return dy.flatten(-n).gather(-1, indices.flatten(-n)).view(indices.shape)


max_unpool1d, max_unpool2d, max_unpool3d = _three(max_unpool, max_unpool_gradient, autocast=(1, 2, 3))


class MaxUnpool(Manual):
    """What the three share: output_size comes with the call."""

    def forward(self, input, indices, output_size=None):
        return self.__op__(input, indices, **self.arguments(), output_size=output_size)

    def explicit(self, input, indices, output_size=None):
        output, pull = self.vjp_with({**self.arguments(), "output_size": output_size}, (input, indices), {})
        if output_size is None:
            return output, pull
        return output, lambda dy=None, needs=None: (*pull(dy, needs if needs is None else needs[:2]), None)


class MaxUnpool1d(MaxUnpool, torch.nn.MaxUnpool1d):
    """The module of `max_unpool1d`."""

    op, attributes = max_unpool1d, _same("kernel_size", "stride", "padding")


class MaxUnpool2d(MaxUnpool, torch.nn.MaxUnpool2d):
    """The module of `max_unpool2d`."""

    op, attributes = max_unpool2d, _same("kernel_size", "stride", "padding")


class MaxUnpool3d(MaxUnpool, torch.nn.MaxUnpool3d):
    """The module of `max_unpool3d`."""

    op, attributes = max_unpool3d, _same("kernel_size", "stride", "padding")


def _max_unpool_prepare(name, n, input, indices, kernel_size, stride=None, padding=0, output_size=None):
    kernel, padding = ntuple(kernel_size, n), ntuple(padding, n)
    stride = kernel if stride is None else ntuple(stride, n)
    if indices.dtype != torch.int64:
        raise RuntimeError(f"{name}(): indices must be int64, they are {indices.dtype}")
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): the input must have {n + 1} or {n + 2} dimensions, it has shape "
                           f"{tuple(input.shape)}")  # fmt: skip
    if indices.shape != input.shape:
        raise RuntimeError(f"{name}(): indices must have the input's shape {tuple(input.shape)}, they have "
                           f"{tuple(indices.shape)}")  # fmt: skip
    if min(stride) < 1:
        raise RuntimeError(f"{name}(): stride must be at least 1, it is {stride}")
    if 0 in input.shape[1 if input.dim() == n + 2 else 0 :]:
        raise RuntimeError(f"{name}(): only the batch may be empty, the input has shape {tuple(input.shape)}")
    size = F._unpool_output_size(input, list(kernel), list(stride), list(padding), output_size)
    return input, indices, tuple(size)[-n:]


for _n, _op in enumerate((max_unpool1d, max_unpool2d, max_unpool3d), 1):
    _op.prepare(functools.partial(_max_unpool_prepare, _op.__name__, _n))
