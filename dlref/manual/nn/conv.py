"""Convolution and its transpose, in one, two and three dimensions: windows of the input times one matrix.

Three maps carry both: `correlate` (windows times weight), its transpose in the input (`spread`), and the gradient of the
weight (`outer`). What is forward in the one is gradient in the other.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import made_of
from ..windows import ntuple, overlap_add, padded, windows
from . import common
from .common import HALF, channels_last, named, widened
from .padding import pad
from .standardise import summed

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
ROWS = 256  # places whose products are summed at once


# --- the three maps ---------------------------------------------------------------------------------------------


def correlate(x: Tensor, weight: Tensor, bias, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    r"""$y_{o} = b + \sum_{k} W_k\, x_{o s + k d - p}$: x (N, C, *L), weight (out, C / groups, *K), y (N, out, *O)."""
    X, size = as_rows(x, tuple(weight.shape[2:]), stride, pads, dilation, groups)  # (G, N * O, K * C / G)
    W = as_matrix(weight, groups)  # (G, out / G, K * C / G)
    y = X @ W.mT if bias is None else torch.baddbmm(bias.view(groups, 1, -1), X, W.mT)
    return y.view(groups, len(x), *size, W.shape[1]).movedim((0, -1), (1, 2)).flatten(1, 2)


def spread(y: Tensor, weight: Tensor, size: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    r"""The transpose of `correlate` in x: $x_l = \sum_{o s + k d - p = l} W_k^\top y_o$, of size L."""
    # In at least float32, since it is summed where the windows overlap.
    w = of_rows(widened(y), groups) @ as_matrix(widened(weight), groups)  # (G, N * O, K * C / G)
    w = w.view(groups, len(y), *y.shape[2:], *weight.shape[2:], weight.shape[1])
    w = w.movedim(-1, len(size) + 2)  # (G, N, *O, C / G, *K)
    grown = [length + before + after for length, (before, after) in zip(size, pads, strict=True)]
    x = padded(overlap_add(w, 2, grown, stride, dilation), 2, [(-before, -after) for before, after in pads])
    return x.movedim((0, -1), (1, 2)).flatten(1, 2).to(y.dtype)  # (N, C, *L)


def outer(x: Tensor, y: Tensor, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    r"""The gradient of the weight in `correlate`: $\sum_o y_o\, x_{o s + k d - p}^\top$, (out, C / groups, *K)."""
    X, _ = as_rows(x, kernel, stride, pads, dilation, groups)
    W = short_sums(of_rows(y, groups), X)  # (G, out / G, K * C / G)
    return W.view(y.shape[1], *kernel, x.shape[1] // groups).movedim(-1, 1)


def short_sums(rows: Tensor, columns: Tensor) -> Tensor:
    """The sum of the rows' products, (G, R, out) and (G, R, K) to (G, out, K), as a sum of short sums: the rounding of one
    grows with its length."""
    n = 0 if rows.dtype in HALF else rows.shape[1] // ROWS * ROWS
    if not n:  # in half precision a product sums in float32 and is rounded once
        return common.outer(rows, columns)
    short = common.outer(*(t[:, :n].unflatten(1, (-1, ROWS)) for t in (rows, columns))).sum(1)
    return short + common.outer(rows[:, n:], columns[:, n:]) if n < rows.shape[1] else short


def as_rows(x: Tensor, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> tuple[Tensor, Ints]:
    """Every window as a row, (groups, N * O, K * C / groups), and the output's size O; x (N, C, *L).

    The channels come last, so that what is copied lies in runs of as many numbers as there are channels.
    """
    n = len(kernel)
    w = windows(padded(x.movedim(1, -1), 1, pads), 1, kernel, stride, dilation)  # (N, *O, C, *K)
    size = tuple(w.shape[1 : n + 1])
    w = w.unflatten(n + 1, (groups, x.shape[1] // groups))  # (N, *O, G, C / G, *K)
    w = w.permute(n + 1, *range(n + 1), *range(n + 3, 2 * n + 3), n + 2)  # (G, N, *O, *K, C / G)
    return w.reshape(groups, math.prod((len(x), *size)), math.prod((*kernel, w.shape[-1]))), size


def as_matrix(weight: Tensor, groups: int) -> Tensor:
    """The weight (out, C / groups, *K) as (groups, out / groups, K * C / groups), in the order of the rows."""
    return weight.movedim(1, -1).reshape(groups, weight.shape[0] // groups, weight[0].numel())


def of_rows(y: Tensor, groups: int) -> Tensor:
    """(N, out, *O) as (groups, N * O, out / groups)."""
    return y.unflatten(1, (groups, y.shape[1] // groups)).movedim((1, 2), (0, -1)).flatten(1, -2)


def with_batch(x: Tensor, stride: Ints) -> Tensor:
    """(N, C, *L), of that or (C, *L)."""
    return x if x.dim() == len(stride) + 2 else x.unsqueeze(0)


def correlated_size(x: Tensor, weight: Tensor, stride: Ints, pads: Pads, dilation: Ints) -> Ints:
    r"""$O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$."""
    options = zip(x.shape[2:], weight.shape[2:], stride, pads, dilation, strict=True)
    return tuple((length + sum(p) - d * (k - 1) - 1) // s + 1 for length, k, s, p, d in options)


def transposed_size(input: Tensor, weight: Tensor, stride: Ints, pads: Pads, dilation: Ints, extra: Ints) -> Ints:
    """$O = (L - 1) s - 2 p + d (K - 1) + 1 + e$."""
    n = len(stride)
    options = zip(input.shape[-n:], weight.shape[2:], stride, pads, dilation, extra, strict=True)
    return tuple((length - 1) * s - sum(p) + d * (k - 1) + 1 + e for length, k, s, p, d, e in options)


def fitting(x: Tensor, weight: Tensor, y: Tensor, stride: Ints, pads: Pads, dilation: Ints) -> Pads:
    """The padding of y with which it has as many windows as x has places, no more, whatever the output_padding was."""
    options = zip(x.shape[2:], weight.shape[2:], stride, pads, dilation, y.shape[2:], strict=True)
    return tuple(
        (before, (length - 1) * s + d * (k - 1) + 1 - before - m) for length, k, s, (before, _), d, m in options
    )


def _layout(input, weight, *_):
    """Channels last where the input or the weight has them last; not in float64 in three dimensions, as in torch's kernels."""
    if input.dtype == torch.float64 and weight.dim() == 5:
        return torch.contiguous_format
    form = channels_last(input)
    return channels_last(weight) if form is torch.contiguous_format else form


# --- convolution ------------------------------------------------------------------------------------------------


def conv(input, weight, bias, stride, pads, dilation, groups):
    r"""Cross-correlation: $y_o = b + \sum_k W_k\, x_{o s + k d - p}$ for every place o, stride s, dilation d, padding p.

    input (N, C, *L) or (C, *L), weight (out, C / groups, *K), bias (out,); output (N, out, *O) with
    $O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$. padding: numbers, "valid" (none) or "same" (O = L; stride 1).
    RuntimeError where channels, groups, dtypes or options do not fit or the kernel is larger than the padded input.
    LeCun et al. 1998 (Proc. IEEE 86), section II.
    """
    x = with_batch(input, stride)
    y = correlate(x, weight, bias, stride, pads, dilation, groups)
    return y if x is input else y.squeeze(0)


def conv_gradient(dy, needs, input, weight, stride, pads, dilation, groups):
    r"""$dx_l = \sum_{o s + k d - p = l} W_k^\top dy_o,\quad dW_k = \sum_o dy_o\, x_{o s + k d - p}^\top,\quad
    db = \sum_o dy_o$: y is linear in each, and every product $W_k x_l$ of the sum gives each factor's gradient."""
    dy, x, dx, dweight = with_batch(dy, stride), with_batch(input, stride), None, None
    if needs.input:
        dx = spread(dy, weight.conj(), tuple(x.shape[2:]), stride, pads, dilation, groups)
    if needs.weight:
        dweight = outer(x.conj(), dy, tuple(weight.shape[2:]), stride, pads, dilation, groups)
    return dx, dweight, summed(dy.flatten(2), (0, 2)) if needs.bias else None


conv1d, conv2d, conv3d = (
    op(builtin=getattr(F, name), autocast="low", dtypes=Dtypes(one=("input", "weight", "bias")), layout=_layout)(
        named(conv, name)
    )
    for name in ("conv1d", "conv2d", "conv3d")
)
for _op in (conv1d, conv2d, conv3d):
    _op.gradient(named(conv_gradient, f"{_op.__name__}_gradient"))


class Convolution(Manual):
    """What the three convolutions share: a padding mode other than zeros pads first."""

    attributes = {n: n for n in ("weight", "bias", "stride", "padding", "dilation", "groups")}

    def arguments(self):
        bound = super().arguments()
        return bound if self.padding_mode == "zeros" else {**bound, "padding": 0}

    def forward(self, input):
        if self.padding_mode != "zeros":
            input = pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return super().forward(input)

    def explicit(self, input):
        if self.padding_mode == "zeros":
            return super().explicit(input)
        grown, pull_pad = pad.vjp(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        output, pull = super().explicit(grown)

        def pullback(dy=None, needs=None):
            (dgrown,) = pull(dy, needs)
            return (None if dgrown is None else pull_pad(dgrown)[0],)

        return output, made_of(pullback, pull, pull_pad)


class Conv1d(Convolution, torch.nn.Conv1d):
    """The module of `conv1d`."""

    op = conv1d


class Conv2d(Convolution, torch.nn.Conv2d):
    """The module of `conv2d`."""

    op = conv2d


class Conv3d(Convolution, torch.nn.Conv3d):
    """The module of `conv3d`."""

    op = conv3d


class LazyConv1d(Convolution, torch.nn.LazyConv1d):
    """The module of `conv1d` whose number of input channels the first input says."""

    op, cls_to_become = conv1d, Conv1d


class LazyConv2d(Convolution, torch.nn.LazyConv2d):
    """The module of `conv2d` whose number of input channels the first input says."""

    op, cls_to_become = conv2d, Conv2d


class LazyConv3d(Convolution, torch.nn.LazyConv3d):
    """The module of `conv3d` whose number of input channels the first input says."""

    op, cls_to_become = conv3d, Conv3d


def _conv_prepare(name, n, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    channels = weight.shape[1] * groups if weight.dim() > 1 else 0
    out = weight.shape[0] if weight.dim() else 0
    stride, dilation = _checked(name, n, input, weight, bias, stride, dilation, groups, out, channels)
    kernel = tuple(weight.shape[2:])
    pads = _padding(name, n, padding, kernel, stride, dilation)
    for length, k, d, p in zip(input.shape[-n:], kernel, dilation, pads, strict=True):
        if length + sum(p) < d * (k - 1) + 1:
            raise RuntimeError(f"{name}(): the kernel must not be larger than the padded input, it spans "
                               f"{d * (k - 1) + 1} of {length + sum(p)}: add padding")  # fmt: skip
    return input, weight, bias, stride, pads, dilation, groups


for _n, _op in enumerate((conv1d, conv2d, conv3d), 1):
    _op.prepare(functools.partial(_conv_prepare, _op.__name__, _n))


# --- its transpose ----------------------------------------------------------------------------------------------


def conv_transpose(input, weight, bias, stride, pads, extra, groups, dilation):
    r"""The transpose of a convolution: $y_l = b + \sum_{o s + k d - p = l} W_k^\top x_o$.

    input (N, C, *L) or (C, *L), weight (C, out / groups, *K), bias (out,); output (N, out, *O) with
    $O = (L - 1) s - 2 p + d (K - 1) + 1 + e$, e the output_padding. RuntimeError as in the convolution, and where e is not
    smaller than stride or dilation. Dumoulin & Visin 2016, arXiv:1603.07285, chapter 4.
    """
    x = with_batch(input, stride)
    size = transposed_size(x, weight, stride, pads, dilation, extra)
    y = spread(x, weight, size, stride, pads, dilation, groups)
    if bias is not None:
        y = y + bias.view(-1, *(1 for _ in stride))
    return y if x is input else y.squeeze(0)


def conv_transpose_gradient(dy, needs, input, weight, stride, pads, groups, dilation):
    r"""$dx_o = \sum_k W_k\, dy_{o s + k d - p},\quad dW_k = \sum_o x_o\, dy_{o s + k d - p}^\top,\quad
    db = \sum_l dy_l$: the transpose of the transpose is the convolution."""
    dy, x, dx, dweight = with_batch(dy, stride), with_batch(input, stride), None, None
    if needs.input:
        dx = correlate(dy, weight.conj(), None, stride, pads, dilation, groups)
        kept = Ellipsis, *(slice(length) for length in x.shape[2:])
        dx = dx[kept]  # with output_padding a window more may fit
    if needs.weight:
        inner = fitting(x, weight, dy, stride, pads, dilation)
        dweight = outer(dy, x.conj(), tuple(weight.shape[2:]), stride, inner, dilation, groups)
    return dx, dweight, summed(dy.flatten(2), (0, 2)) if needs.bias else None


conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    op(builtin=getattr(F, name), autocast="low", dtypes=Dtypes(one=("input", "weight", "bias")), layout=_layout)(
        named(conv_transpose, name)
    )
    for name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
)
for _op in (conv_transpose1d, conv_transpose2d, conv_transpose3d):
    _op.gradient(named(conv_transpose_gradient, f"{_op.__name__}_gradient"))


class Transposed(Manual):
    """What the three transposed convolutions share: output_size decides the output_padding."""

    attributes = {n: n for n in ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")}

    def bound(self, input, output_size):
        if self.padding_mode != "zeros":
            raise ValueError(f"padding_mode of {type(self).__name__} must be 'zeros', it is {self.padding_mode!r}")
        n = len(self.kernel_size)
        options = self.stride, self.padding, self.kernel_size, n, self.dilation
        return {**self.arguments(), "output_padding": self._output_padding(input, output_size, *options)}

    def forward(self, input, output_size=None):
        return self.__op__(input, **self.bound(input, output_size))

    def explicit(self, input, output_size=None):
        output, pull = self.vjp_with(self.bound(input, output_size), (input,), {})
        if output_size is None:
            return output, pull

        def pullback(dy=None, needs=None):
            return (*pull(dy, needs if needs is None else needs[:1]), None)

        return output, made_of(pullback, pull)


class ConvTranspose1d(Transposed, torch.nn.ConvTranspose1d):
    """The module of `conv_transpose1d`."""

    op = conv_transpose1d


class ConvTranspose2d(Transposed, torch.nn.ConvTranspose2d):
    """The module of `conv_transpose2d`."""

    op = conv_transpose2d


class ConvTranspose3d(Transposed, torch.nn.ConvTranspose3d):
    """The module of `conv_transpose3d`."""

    op = conv_transpose3d


class LazyConvTranspose1d(Transposed, torch.nn.LazyConvTranspose1d):
    """The module of `conv_transpose1d` whose number of input channels the first input says."""

    op, cls_to_become = conv_transpose1d, ConvTranspose1d


class LazyConvTranspose2d(Transposed, torch.nn.LazyConvTranspose2d):
    """The module of `conv_transpose2d` whose number of input channels the first input says."""

    op, cls_to_become = conv_transpose2d, ConvTranspose2d


class LazyConvTranspose3d(Transposed, torch.nn.LazyConvTranspose3d):
    """The module of `conv_transpose3d` whose number of input channels the first input says."""

    op, cls_to_become = conv_transpose3d, ConvTranspose3d


def _conv_transpose_prepare(
    name, n, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    out = weight.shape[1] * groups if weight.dim() > 1 else 0
    channels = weight.shape[0] if weight.dim() else 0
    stride, dilation = _checked(name, n, input, weight, bias, stride, dilation, groups, out, channels)
    if isinstance(padding, str):
        raise TypeError(f"{name}(): padding must be one number or {n}, it is {padding!r}")
    pads = _padding(name, n, padding, tuple(weight.shape[2:]), stride, dilation)
    extra = ntuple(output_padding, n)
    if len(extra) != n or min(extra) < 0:
        raise RuntimeError(f"{name}(): output_padding must be one number of at least 0 or {n}, it is {output_padding}")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise RuntimeError(f"{name}(): output_padding must be smaller than stride or dilation, they are {extra}, {stride} "
                           f"and {dilation}")  # fmt: skip
    if 0 in input.shape[-n:] and (input.dim() == n + 1 or len(input)):
        raise RuntimeError(
            f"{name}(): only the batch or the channels may be empty, the input has shape {tuple(input.shape)}"
        )
    size = transposed_size(input, weight, stride, pads, dilation, extra)
    if min(size) < (input.shape[0] > 0 or input.dim() == n + 1):
        raise RuntimeError(
            f"{name}(): the output must have a size of at least 1, it would have {size}: take less padding"
        )
    return input, weight, bias, stride, pads, extra, groups, dilation


for _n, _op in enumerate((conv_transpose1d, conv_transpose2d, conv_transpose3d), 1):
    _op.prepare(functools.partial(_conv_transpose_prepare, _op.__name__, _n))


# --- of sequences whose time comes first ------------------------------------------------------------------------


@op(
    builtin=torch.conv_tbc,
    autocast="low",
    dtypes=Dtypes(one=("input", "weight", "bias")),
    layout=common.contiguous,
)
def conv_tbc(input, weight, bias, pad):
    r"""Convolution of sequences (time, batch, channels): $y_t = b + \sum_k W_k^\top x_{t + k - p}$.

    input (T, N, C), weight (K, C, out), bias (out,), pad p zeros before and after, or fewer frames where it is negative; output
    (T + 2 p - K + 1, N, out). RuntimeError where dimensions, channels or dtypes do not fit, or no time is left,
    TypeError without a bias. Gehring et al. 2017, arXiv:1705.03122, section 3.
    """
    x, W = padded(widened(input), 0, [(pad, pad)]), widened(weight)
    frames = len(x) - len(W) + 1
    parts = (x[k : k + frames] @ W[k] for k in range(len(W)))
    return sum(parts, widened(bias).expand(frames, input.shape[1], -1)).to(input.dtype)


@conv_tbc.gradient
def conv_tbc_gradient(dy, needs, input, weight, pad):
    r"""$dx_t = \sum_k W_k\, dy_{t - k + p},\quad dW_k = \sum_{t} x_{t + k - p}\, dy_t^\top,\quad db = \sum_t dy_t$."""
    dy, dx, dweight, frames = widened(dy), None, None, len(dy)
    if needs.input:
        W, K = widened(weight), len(weight)
        parts = (
            padded(dy @ W[k].mT.conj(), 0, [(k, K - 1 - k)]) for k in range(K)
        )  # each of the padded input's length
        dx = padded(sum(parts, dy.new_zeros(frames + K - 1, *input.shape[1:])), 0, [(-pad, -pad)])
    if needs.weight:
        x = padded(widened(input), 0, [(pad, pad)])
        each = [common.outer(dy.flatten(0, 1), x[k : k + frames].flatten(0, 1).conj()).mT for k in range(len(weight))]
        dweight = torch.stack(each) if each else torch.zeros_like(weight)
    return dx, dweight, summed(dy, (0, 1))


@conv_tbc.prepare
def conv_tbc_prepare(input, weight, bias, pad=0):
    if input.dim() != 3 or weight.dim() != 3 or bias.dim() != 1:
        raise RuntimeError("conv_tbc(): the input must be (T, N, C), the weight (K, C, out) and the bias (out,), they have "
                           f"shapes {tuple(input.shape)}, {tuple(weight.shape)} and {tuple(bias.shape)}")  # fmt: skip
    if input.shape[2] != weight.shape[1] or bias.shape[0] != weight.shape[2]:
        raise RuntimeError(f"conv_tbc(): the input must have the weight's {weight.shape[1]} channels and the bias its "
                           f"{weight.shape[2]}, they have {input.shape[2]} and {bias.shape[0]}")  # fmt: skip
    if (frames := input.shape[0] + 2 * pad - weight.shape[0] + 1) < 0:
        raise RuntimeError(f"conv_tbc(): the padded input must be as long as the kernel, {weight.shape[0]}, less 1, it is "
                           f"{frames + weight.shape[0] - 1}: take more padding")  # fmt: skip
    return input, weight, bias, pad


# --- what both check --------------------------------------------------------------------------------------------


def _checked(name, n, input, weight, bias, stride, dilation, groups, out, channels):
    """The errors of both, and the options as tuples. out, channels: of what the weight maps."""
    options = []
    if weight.dim() != n + 2 or input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): the input must have {n + 1} or {n + 2} dimensions and the weight {n + 2}, they have "
                           f"{input.dim()} and {weight.dim()}")  # fmt: skip
    for what, value, least in (("stride", stride, 1), ("dilation", dilation, 1)):
        options.append(ntuple(value, n))
        if len(options[-1]) != n or min(options[-1]) < least:
            raise RuntimeError(f"{name}(): {what} must be one positive number or {n}, it is {value}")
    if groups < 1:
        raise RuntimeError(f"{name}(): groups must be at least 1, it is {groups}")
    if input.shape[-n - 1] != channels:
        raise RuntimeError(f"{name}(): the input must have {channels} channels for a weight of {tuple(weight.shape)} in "
                           f"{groups} groups, it has shape {tuple(input.shape)}")  # fmt: skip
    if weight.shape[0] % groups or weight.shape[0] < groups:
        raise RuntimeError(f"{name}(): the weight's first dimension must divide into {groups} groups, it is "
                           f"{weight.shape[0]}")  # fmt: skip
    if 0 in weight.shape[2:]:
        raise RuntimeError(f"{name}(): the kernel must have no size of 0, the weight has {tuple(weight.shape)}")
    if bias is not None and tuple(bias.shape) != (out,):
        raise RuntimeError(f"{name}(): bias must have shape ({out},), it has {tuple(bias.shape)}")
    return options


def _padding(name, n, padding, kernel, stride, dilation) -> Pads:
    """Zeros before and after each dimension."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * n
        if padding != "same":
            raise RuntimeError(f"{name}(): padding must be 'same', 'valid' or numbers, it is {padding!r}")
        if any(s != 1 for s in stride):
            raise RuntimeError(f"{name}(): padding='same' needs a stride of 1, it is {stride}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    pads = ntuple(padding, n)
    if len(pads) != n or min(pads) < 0:
        raise RuntimeError(f"{name}(): padding must be one number of at least 0 or {n}, it is {padding}")
    return tuple((p, p) for p in pads)
