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


def __getattr__(name: str):
    return getattr(_torch, name)


__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "flatten",
    "gaussian_kl",
    "reparametrize",
    "tied_linear",
    "unflatten",
]
