"""Gradients clipped, and parameters as one vector: torch.nn.utils by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor

from . import parametrizations
from .spectral_norm import spectral_norm
from .weight_norm import weight_norm


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]


@torch.no_grad()
def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    r"""The norm of all tensors as one vector: $n = (\sum_t \lVert t \rVert_p^p)^{1/p}$, a number on the first one's device.

    RuntimeError where it is not finite and error_if_nonfinite. foreach is a matter of speed, and has no effect here.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return torch.tensor(0.0)
    norms = [torch.linalg.vector_norm(t, norm_type) for t in tensors]
    total = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]), norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"the total norm of order {norm_type} must be finite, it is {total.item()}: look for what made "
                           "it so, or pass error_if_nonfinite=False")  # fmt: skip
    return total


@torch.no_grad()
def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    r"""Scale the gradients in place by $\min(1, \text{max\_norm} / (n + 10^{-6}))$ of their total norm n.

    Gradients of any shape; total_norm: of `get_total_norm`. Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.
    """
    scale = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    for grad in _gradients(parameters):
        grad.mul_(scale.to(grad.device))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    r"""Scale the gradients in place so that their norm, taken together, is at most max_norm; return the norm before.

    Gradients of any shape; norm_type: p, inf for the largest entry. RuntimeError as `get_total_norm`. Pascanu et al. 2013,
    arXiv:1211.5063.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """`clip_grad_norm_` by its old name, with a FutureWarning."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.",
                  FutureWarning, stacklevel=2)  # fmt: skip
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@torch.no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    r"""Clamp each entry of the gradients in place to $[-c, c]$, c = clip_value. Gradients of any shape."""
    for grad in _gradients(parameters):
        grad.clamp_(-float(clip_value), float(clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The parameters, of any shape, flattened and one after the other: (n,). TypeError where they lie on several devices."""
    parameters = list(parameters)
    _one_device(parameters)
    return torch.cat([p.view(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Let the parameters be slices of the vector (n,). TypeError where it is none, or they lie on several devices."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"vec must be a tensor, it is {type(vec).__name__}")
    parameters = list(parameters)
    _one_device(parameters)
    start = 0
    for p in parameters:
        p.data = vec[start : start + p.numel()].view_as(p).data
        start += p.numel()


def _one_device(parameters: list[Tensor]) -> None:
    if len(devices := {p.device for p in parameters}) > 1:
        raise TypeError(f"the parameters must lie on one device, they lie on {', '.join(sorted(map(str, devices)))}")
