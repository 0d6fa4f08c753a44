"""torch.nn.functional itself, and what dlref has beyond it, composed from it."""

import torch
from torch import Tensor, flatten, unflatten
from torch.nn import functional as _torch
from torch.nn.functional import *


def tied_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _torch.linear(input, weight.t(), bias)


def reparametrize(mean: Tensor, log_variance: Tensor, training: bool = True) -> Tensor:
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if training else mean


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()


def local_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1) -> Tensor:
    from .nn.local import check, each

    check(input, weight, bias, stride, padding, dilation)
    n = (weight.dim() - 2) // 2
    image = input if input.dim() == n + 2 else input.unsqueeze(0)
    stride, padding, dilation = (
        each("stride", stride, n, 1),
        each("padding", padding, n, 0),
        each("dilation", dilation, n, 1),
    )
    image = _torch.pad(image, [p for width in reversed(padding) for p in (width, width)])
    for dim, (k, s, d) in enumerate(zip(weight.shape[n + 2 :], stride, dilation, strict=True), 2):
        image = image.unfold(dim, d * (k - 1) + 1, s)[..., ::d]
    windows = image.permute(*range(2, n + 2), 0, 1, *range(n + 2, 2 * n + 2)).flatten(n + 1).flatten(0, n - 1)
    y = torch.einsum("onk,ock->nco", windows, weight.flatten(n + 1).flatten(0, n - 1)).unflatten(2, weight.shape[:n])
    y = y if bias is None else y + bias
    return y if input.dim() == n + 2 else y.squeeze(0)


def rbf(input: Tensor, centers: Tensor, widths: Tensor, kernel: str = "gaussian") -> Tensor:
    from .nn.rbf import check

    check(input, centers, widths, kernel)
    s = (input.unsqueeze(-2) - centers).square().sum(-1) / widths.square()
    if kernel == "gaussian":
        return torch.exp(-s / 2)
    if kernel == "thin_plate":
        return torch.where(s > 0, s * torch.where(s > 0, s, 1).log() / 2, 0)
    return torch.sqrt(1 + s) if kernel == "multiquadric" else torch.rsqrt(1 + s)


def perceptron_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    from .nn.perceptron import check_loss

    check_loss(input, target, reduction)
    margin = input * target
    loss = -margin * (margin <= 0)
    return loss if reduction == "none" else getattr(loss, reduction)()


def __getattr__(name: str):
    return getattr(_torch, name)


__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "flatten",
    "gaussian_kl",
    "local_linear",
    "perceptron_loss",
    "rbf",
    "reparametrize",
    "tied_linear",
    "unflatten",
]
