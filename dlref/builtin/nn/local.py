"""Locally connected layers: a convolution whose weight is another at each place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import functional as F
from ..composed import Ints, each, output_size


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
