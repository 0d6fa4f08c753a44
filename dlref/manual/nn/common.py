"""What operations of every family share: the precision they compute in, and how they warn."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..op import fusing

HALF = (torch.float16, torch.bfloat16)
BATCHED: Any = torch._C._parse_dispatch_key("Batched")


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it is half precision: torch's kernels round once, at the end, and so do we.

    NotImplementedError where it holds integers or bools, which have no such function.
    """
    if tensor.dtype in HALF:
        return tensor.float()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise NotImplementedError(f"the input must be floating point, it is {tensor.dtype}: convert it first")
    return tensor


def widened(tensor: Tensor) -> Tensor:
    """As `wide`, but integers stay what they are."""
    return tensor.float() if tensor.dtype in HALF else tensor


def outer(dy: Tensor, x: Tensor, place: Tensor | None = None) -> Tensor:
    r"""The gradient of the weight in $y = x W^\top$: $\sum_n dy_n x_n^\top$, (*, N, out) and (*, N, in) to (*, out, in).

    A factor of few columns goes first: the product is then several times as fast. place: where to write it.
    """
    if x.shape[-1] < min(dy.shape[-1], 32):
        return (x.mT @ dy).mT
    return torch.matmul(dy.mT, x, out=place if place is not None and dy.dtype == x.dtype == place.dtype else None)


def plain(*tensors: Tensor | None) -> bool:
    """Whether kernels run one by one on these tensors, which stand for themselves, so that a step may overwrite its own.

    Not where a derivative of the steps can be asked for, nor for a compiler, which reuses memory itself.
    """
    if torch.is_grad_enabled() or fusing() or torch._C._functorch.maybe_current_level() is not None:
        return False
    # torch.autograd.grad(is_grads_batched=True) batches without torch.func
    return not any(torch._C._dispatch_keys(t).has(BATCHED) for t in tensors if t is not None)


def where_zero(dy: Tensor, test: Callable, x: Tensor, bound: float) -> Tensor:
    """dy where test(x, bound) holds, else 0; test: torch.ne, torch.gt, ...

    Written as numbers, a comparison takes a tenth of the time of one written as bools, and `where` forty times as long.
    """
    if plain(dy, x):
        return test(x, bound, out=torch.empty_like(x)).mul_(dy)
    return dy * test(x, bound)


def real_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of a distance of tensors: what they promote to, real."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def warn(message: str) -> None:
    """Warn from an operation's `prepare`, in the name of the line that calls the operation; not while it is compiled."""
    if not torch.compiler.is_compiling():  # Dynamo cannot trace it
        warnings.warn(message, stacklevel=4)


def concrete(tensor: Tensor) -> bool:
    """Whether its values can be looked at: not while it is compiled, faked, or inside a transform of torch.func."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    return plain and torch._C._functorch.maybe_current_level() is None


def log1p_exp(x):
    r"""$\log(1 + e^x) = \max(x, 0) + \log(1 + e^{-|x|})$: no overflow, no cancellation, differentiable at 0 too."""
    positive = x > 0
    return torch.where(positive, x, 0) + torch.log1p(torch.exp(torch.where(positive, -x, x)))
