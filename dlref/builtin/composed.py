"""The functions that torch lacks, or has with a list of tensors for an argument, composed from torch's; and the errors that
both sides raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import _reduction

from ..core.compat import LINEAR_CROSS_ENTROPY

Ints = int | Sequence[int]
Each = tuple[int, ...]
KERNELS = ("gaussian", "multiquadric", "inverse_multiquadric", "thin_plate")


def tied_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(input, weight.t(), bias)


def reparametrize(mean: Tensor, log_variance: Tensor, training: bool = True) -> Tensor:
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if training else mean


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()


def rnn_relu_cell(
    input: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
):
    return torch.rnn_relu_cell(input, h, w_ih, w_hh, b_ih, b_hh)


def rnn_tanh_cell(
    input: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
):
    return torch.rnn_tanh_cell(input, h, w_ih, w_hh, b_ih, b_hh)


def lstm_cell(
    input: Tensor,
    h: Tensor,
    c: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
):
    return torch.lstm_cell(input, (h, c), w_ih, w_hh, b_ih, b_hh)


def gru_cell(
    input: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
):
    return torch.gru_cell(input, h, w_ih, w_hh, b_ih, b_hh)


def local_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1) -> Tensor:
    stride, padding, dilation = check_local_linear(input, weight, bias, stride, padding, dilation)
    n = len(stride)
    image = input if input.dim() == n + 2 else input.unsqueeze(0)
    image = F.pad(image, [p for width in reversed(padding) for p in (width, width)])
    for dim, (k, s, d) in enumerate(zip(weight.shape[n + 2 :], stride, dilation, strict=True), 2):
        image = image.unfold(dim, d * (k - 1) + 1, s)[..., ::d]
    windows = image.permute(*range(2, n + 2), 0, 1, *range(n + 2, 2 * n + 2)).flatten(n + 1).flatten(0, n - 1)
    y = torch.einsum("onk,ock->nco", windows, weight.flatten(n + 1).flatten(0, n - 1)).unflatten(2, weight.shape[:n])
    y = y if bias is None else y + bias
    return y if input.dim() == n + 2 else y.squeeze(0)


def rbf(input: Tensor, centers: Tensor, widths: Tensor, kernel: str = "gaussian") -> Tensor:
    check_rbf(input, centers, widths, kernel)
    return radial(input, centers, widths, kernel)


def radial(input: Tensor, centers: Tensor, widths: Tensor, kernel: str) -> Tensor:
    """rbf, of arguments that fit together."""
    s = (input.unsqueeze(-2) - centers).square().sum(-1) / widths.square()
    if kernel == "gaussian":
        return torch.exp(-s / 2)
    if kernel == "thin_plate":
        return torch.where(s == 0, 0, s * torch.where(s == 0, 1, s).log() / 2)
    return torch.sqrt(1 + s) if kernel == "multiquadric" else torch.rsqrt(1 + s)


def perceptron_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    check_perceptron_loss(input, target)
    _reduction.get_enum(reduction)  # ValueError for an unknown one
    margin = input * target
    loss = torch.where(margin > 0, 0, -margin)
    return loss if reduction == "none" else getattr(loss, reduction)()


def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
    weight: Tensor | None = None, reduction: str = "mean", ignore_index: int | None = None, label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:  # fmt: skip
    classes, *inner, _ = check_linear_cross_entropy(input, linear_weight, target, linear_bias, ignore_index)
    logits = F.linear(input, linear_weight.flatten(0, -2), None if linear_bias is None else linear_bias.flatten())
    return F.cross_entropy(
        logits.reshape(*input.shape[:-1], classes, *inner), target, weight, reduction=reduction,
        ignore_index=-100 if ignore_index is None else ignore_index, label_smoothing=label_smoothing,
    )  # fmt: skip


if LINEAR_CROSS_ENTROPY:
    linear_cross_entropy = F.linear_cross_entropy


# --- errors ---------------------------------------------------------------------------------------------------


def check_local_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints
) -> tuple[Each, Each, Each]:
    """stride, padding and dilation of each dimension; ValueError where the arguments of local_linear do not fit together."""
    n = (weight.dim() - 2) // 2
    if n < 1 or weight.dim() != 2 * n + 2:
        raise ValueError(f"the weight must be (*O, out, C, *K) for an output of size O and a kernel K, it is "
                         f"{tuple(weight.shape)}")  # fmt: skip
    size, kernel, channels = tuple(weight.shape[:n]), tuple(weight.shape[n + 2 :]), weight.shape[n + 1]
    if input.dim() not in (n + 1, n + 2) or input.shape[-n - 1] != channels:
        raise ValueError(f"the input must be (N, {channels}, *L) or ({channels}, *L) with {n} dimensions *L for a weight of "
                         f"{tuple(weight.shape)}, it is {tuple(input.shape)}")  # fmt: skip
    each("kernel_size", kernel, n, 1)
    options = each("stride", stride, n, 1), each("padding", padding, n, 0), each("dilation", dilation, n, 1)
    found = output_size(tuple(input.shape[-n:]), kernel, *options)
    if found != size:
        raise ValueError(f"the weight must have a matrix for each of the {found} windows, it has {size}")
    if bias is not None and tuple(bias.shape) != (weight.shape[n], *size):
        raise ValueError(f"the bias must be {(weight.shape[n], *size)}, it is {tuple(bias.shape)}")
    return options


def each(name: str, value: Ints, n: int, least: int) -> Each:
    """An option as n numbers; ValueError where it is less than it may be."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * n
    if len(values) != n or min(values) < least:
        raise ValueError(f"{name} must be one number of at least {least} or {n} of them, it is {value}")
    return values


def output_size(size: Each, kernel: Each, stride: Each, padding: Each, dilation: Each) -> Each:
    r"""$O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$; ValueError where the kernel is larger than the input."""
    found = tuple(
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(found) < 1:
        raise ValueError(f"the kernel of {kernel} (dilation {dilation}) must fit into the input of {tuple(size)} with padding "
                         f"{padding}")  # fmt: skip
    return found


def check_rbf(input: Tensor, centers: Tensor, widths: Tensor, kernel: str) -> None:
    """ValueError where the arguments of rbf do not fit together."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, it is {kernel!r}")
    if centers.dim() != 2 or tuple(widths.shape) != (len(centers),):
        raise ValueError(f"centers must be (units, features) and widths (units,), they are {tuple(centers.shape)} and "
                         f"{tuple(widths.shape)}")  # fmt: skip
    if not input.dim() or input.shape[-1] != centers.shape[1]:
        raise ValueError(f"the input must be (*, {centers.shape[1]}), as many features as the centres have, it is "
                         f"{tuple(input.shape)}")  # fmt: skip


def check_perceptron_loss(input: Tensor, target: Tensor) -> None:
    """ValueError where the arguments of perceptron_loss do not fit together."""
    if input.shape != target.shape:
        raise ValueError(
            f"input and target must have one shape, they have {tuple(input.shape)} and {tuple(target.shape)}"
        )


def check_linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, linear_bias: Tensor | None, ignore_index: int | None
) -> tuple[int, ...]:
    """The shape of linear_weight; RuntimeError where the arguments of linear_cross_entropy do not fit together."""
    if input.dim() not in (1, 2) or linear_weight.dim() < 2:
        raise RuntimeError("linear_cross_entropy(): input must have 1 or 2 dimensions and linear_weight at least 2, they "
                           f"have {input.dim()} and {linear_weight.dim()}")  # fmt: skip
    classes, *inner, features = linear_weight.shape
    if input.shape[-1] != features:
        raise RuntimeError(f"input (N, D) and linear_weight (C, D) must share D, they have {tuple(input.shape)} and "
                           f"{tuple(linear_weight.shape)}")  # fmt: skip
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        raise RuntimeError(f"linear_bias must have shape {tuple(linear_weight.shape[:-1])}, it has "
                           f"{tuple(linear_bias.shape)}")  # fmt: skip
    if inner and input.dim() == 1:
        raise RuntimeError(f"a linear_weight of shape {tuple(linear_weight.shape)} needs an input (N, {features}), it has "
                           f"shape {tuple(input.shape)}: give it a batch")  # fmt: skip
    if target.shape == (*input.shape[:-1], classes, *inner) and ignore_index is not None:
        raise RuntimeError(f"ignore_index must be None where the target is probabilities, it is {ignore_index}")
    return tuple(linear_weight.shape)
