"""Locally connected layers: a convolution whose weight is another at each place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import functional as F

Ints = int | Sequence[int]


def check(input: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints) -> None:
    """ValueError where the arguments of local_linear do not fit together."""
    n = (weight.dim() - 2) // 2
    if n < 1 or weight.dim() != 2 * n + 2:
        raise ValueError(f"the weight must be (*O, out, C, *K) for an output of size O and a kernel K, it is "
                         f"{tuple(weight.shape)}")  # fmt: skip
    size, kernel, channels = tuple(weight.shape[:n]), tuple(weight.shape[n + 2 :]), weight.shape[n + 1]
    if input.dim() not in (n + 1, n + 2) or input.shape[-n - 1] != channels:
        raise ValueError(f"the input must be (N, {channels}, *L) or ({channels}, *L) with {n} dimensions *L for a weight of "
                         f"{tuple(weight.shape)}, it is {tuple(input.shape)}")  # fmt: skip
    found = output_size(input.shape[-n:], kernel, stride, padding, dilation)
    if found != size:
        raise ValueError(f"the weight must have a matrix for each of the {found} windows, it has {size}")
    if bias is not None and tuple(bias.shape) != (weight.shape[n], *size):
        raise ValueError(f"the bias must be {(weight.shape[n], *size)}, it is {tuple(bias.shape)}")


def each(name: str, value: Ints, n: int, least: int) -> tuple[int, ...]:
    """An option as n numbers; ValueError where it is less than it may be."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * n
    if len(values) != n or min(values) < least:
        raise ValueError(f"{name} must be one number of at least {least} or {n} of them, it is {value}")
    return values


def output_size(size: Sequence[int], kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> tuple[int, ...]:
    r"""$O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$; ValueError where the kernel is larger than the input."""
    n = len(size)
    kernel, stride = each("kernel_size", kernel, n, 1), each("stride", stride, n, 1)
    padding, dilation = each("padding", padding, n, 0), each("dilation", dilation, n, 1)
    found = tuple(
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(found) < 1:
        raise ValueError(f"the kernel of {kernel} (dilation {dilation}) must fit into the input of {tuple(size)} with padding "
                         f"{padding}")  # fmt: skip
    return found


class _LocallyConnected(nn.Module):
    n: int

    def __init__(
        self, in_channels: int, out_channels: int, input_size: Ints, kernel_size: Ints, stride: Ints = 1, padding: Ints = 0,
        dilation: Ints = 1, bias: bool = True, device=None, dtype=None,
    ):  # fmt: skip
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, it is {value}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.input_size, self.kernel_size = (
            each("input_size", input_size, self.n, 1),
            each("kernel_size", kernel_size, self.n, 1),
        )
        self.stride, self.padding = each("stride", stride, self.n, 1), each("padding", padding, self.n, 0)
        self.dilation = each("dilation", dilation, self.n, 1)
        places = output_size(self.input_size, self.kernel_size, self.stride, self.padding, self.dilation)
        kind = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(*places, out_channels, in_channels, *self.kernel_size, **kind))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels, *places, **kind)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in $\\pm 1 / \\sqrt{C K}$, as torch's convolutions."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.local_linear(input, self.weight, self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        options = (("stride", 1), ("padding", 0), ("dilation", 1))
        told = [
            f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}, kernel_size={self.kernel_size}"
        ]
        told += [f"{name}={value}" for name, usual in options if set(value := getattr(self, name)) != {usual}]
        return ", ".join(told if self.bias is not None else [*told, "bias=False"])


class LocallyConnected1d(_LocallyConnected):
    r"""An affine map of its own for each window of a sequence: $y_o = b_o + \sum_k W_{o k}\, x_{o s + k d - p}$.

    Input (N, in_channels, L) or (in_channels, L) with L = input_size, output (N, out_channels, O); weight (O, out_channels,
    in_channels, K), bias (out_channels, O). ValueError where a size does not fit. LeCun 1989, section 5.3.
    """

    n = 1


class LocallyConnected2d(_LocallyConnected):
    r"""An affine map of its own for each window of an image: a convolution without shared weights.

    Input (N, in_channels, H, W) or (in_channels, H, W) with (H, W) = input_size, output (N, out_channels, *O); weight (*O,
    out_channels, in_channels, *K), bias (out_channels, *O). ValueError where a size does not fit. LeCun 1989, section 5.3.
    """

    n = 2
