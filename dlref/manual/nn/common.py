"""What operations of every family share: the precision they compute in, and how they warn."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from types import FunctionType

import torch
from torch import Tensor

from ...core.compat import CLAMP_AT_ITS_BOUND, SCATTER_OF_A_NUMBER, suggest_memory_format
from ...core.modes import concrete as concrete
from ...core.modes import values_hidden

HALF = (torch.float16, torch.bfloat16)


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


def rounded(y: Tensor, input: Tensor) -> Tensor:
    """What was computed of `wide`, `widened` or `floating` numbers, in half precision where the input is."""
    return y.to(input.dtype) if input.dtype in HALF else y


def above(z: Tensor) -> Tensor:
    r"""$[z > 0]$, the slope of $\max(z, 0)$; at 0, where any from 0 to 1 is one, torch's (compat.CLAMP_AT_ITS_BOUND)."""
    return z > 0 if CLAMP_AT_ITS_BOUND else z >= 0


def marked(like: Tensor, dim: int, index: Tensor) -> Tensor:
    r"""$[c = t]$: zeros like the tensor, 1 at the index t along the dimension."""
    ones = 1 if SCATTER_OF_A_NUMBER else torch.ones_like(index, dtype=like.dtype)
    return torch.zeros_like(like).scatter(dim, index, ones)


def outer(dy: Tensor, x: Tensor) -> Tensor:
    r"""The gradient of the weight in $y = x W^\top$: $\sum_n dy_n x_n^\top$, (*, N, out) and (*, N, in) to (*, out, in).

    A factor of few columns goes first: the product is then several times as fast.
    """
    return (x.mT @ dy).mT if x.shape[-1] < min(dy.shape[-1], 32) else dy.mT @ x


def named(function: Callable, name: str) -> FunctionType:
    """The function under another name, which a traceback and a profile show: where one serves one, two and three dimensions."""
    copy = FunctionType(function.__code__.replace(co_name=name), function.__globals__, name, function.__defaults__)
    functools.update_wrapper(copy, function, ("__module__", "__doc__", "__annotations__"))
    del copy.__wrapped__  # type: ignore[attr-defined]
    copy.__qualname__ = name
    return copy


def channels_last(t: Tensor, *_) -> torch.memory_format:
    """The memory format of what torch makes of a tensor whose channels stand last: theirs too; else contiguous."""
    if t.dim() not in (4, 5) or (t.stride(1) != 1 and t.is_contiguous()):
        return torch.contiguous_format
    return suggest_memory_format(t)


def contiguous(*_) -> torch.memory_format:
    """That of what torch makes contiguous, whatever came."""
    return torch.contiguous_format


def real_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of a distance of tensors: what they promote to, real."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def warn(message: str) -> None:
    """Warn from an operation's `prepare`, in the name of the line that calls the operation; not while it is compiled."""
    if not torch.compiler.is_compiling():  # Dynamo cannot trace it
        warnings.warn(message, stacklevel=4)


def floating(tensor: Tensor) -> Tensor:
    """The tensor as `wide` has it; integers and bools in the default dtype, as torch's elementary functions take them."""
    inexact = tensor.is_floating_point() or tensor.is_complex()
    return widened(tensor) if inexact else tensor.to(torch.get_default_dtype())


def logistic(x: Tensor) -> Tensor:
    r"""$\sigma(x) = 1 / (1 + e^{-x})$, for $x < 0$ as $e^x / (1 + e^x)$: no overflow, so exact where it is subnormal."""
    if x.is_complex():
        return torch.sigmoid(x)
    negative = x < 0
    e = torch.exp(torch.where(negative, x, -x))
    return torch.where(negative, e, 1) / (1 + e)


def gated(a: Tensor, x: Tensor) -> Tensor:
    r"""$a\,\sigma(x)$, for $x < 0$ as $a\,h\,h / (1 + h^2)$ with $h = e^{x / 2}$: a factor that is subnormal by itself, and
    so of few digits, never meets a.
    """
    if x.is_complex():
        return a * torch.sigmoid(x)
    negative = x < 0
    h = torch.exp(torch.where(negative, x, -x) / 2)
    return torch.where(negative, a * h * h, a) / (1 + h * h)


def sech(x: Tensor) -> Tensor:
    r"""$1 / \cosh x = 2 h / (1 + h^2),\quad h = e^{-|x|}$: no overflow."""
    if x.is_complex():
        return 1 / torch.cosh(x)
    h = torch.exp(torch.where(x < 0, x, -x))
    return 2 * h / (1 + h * h)


def times(a: Tensor, x: Tensor) -> Tensor:
    r"""$a x$, and 0 where a is 0 though x be infinite: $0 \log 0 = 0$."""
    return a * torch.where((a == 0) & x.isinf(), 0, x)


def log1p_exp(x):
    r"""$\log(1 + e^x) = \max(x, 0) + \log(1 + e^{-|x|})$: no overflow, no cancellation, differentiable at 0 too."""
    positive = x > 0
    return torch.where(positive, x, 0) + torch.log1p(torch.exp(torch.where(positive, -x, x)))


def finite(tensor: Tensor) -> bool:
    """Whether all its numbers are finite, so that nought times one of them is nought; said of all at which nobody may look."""
    return values_hidden() or bool(tensor.isfinite().all())
