"""Affine maps: linear, bilinear, and the identity."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.bridge import ones
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import outer, widened


@op(builtin=F.linear, autocast="low", dtypes=Dtypes(one=("input", "weight", "bias")))
def linear(input, weight, bias=None):
    r"""Affine map of the last dimension: $y = x W^\top + b$.

    input (*, in), weight (out, in) or (in,), bias (out,); output (*, out) or (*). RuntimeError where in differs,
    TypeError without a weight.
    Rumelhart et al. 1986 (Nature 323), eq. 1.
    """
    if input.dim() < 2 or weight.dim() != 2 or bias is None or bias.dim() != 1:
        y = input @ weight.t()
        return y if bias is None else y + bias.expand_as(y)
    if input.dim() == 2:
        return torch.addmm(bias, input, weight.t())
    return torch.addmm(bias, input.flatten(0, -2), weight.t()).unflatten(0, input.shape[:-1])


@linear.gradient
def linear_gradient(dy, needs, input, weight):
    r"""$dx = dy\,W,\quad dW = \sum dy^\top x,\quad db = \sum dy$, the sums over all dimensions but the last."""
    if weight.dim() == 1:  # y = x.w: a row of W, and dy (*) lacks its dimension
        return dy.unsqueeze(-1) * weight.conj(), dy.unsqueeze(-1) * input.conj(), dy
    dx = dy @ weight.conj() if needs.input else None
    return dx, outer(rows(dy), rows(input).conj()) if needs.weight else None, dy


class Linear(Manual, torch.nn.Linear):
    """The module of `linear`."""

    op = linear


class LazyLinear(Manual, torch.nn.LazyLinear):
    """The module of `linear`."""

    op, cls_to_become = linear, Linear


def rows(x):
    return x if x.dim() == 2 else x.reshape(x.shape[:-1].numel(), x.shape[-1])  # (rows, features)


@op(builtin=F.bilinear, autocast={"cuda": "promote"}, dtypes=Dtypes(one=("input1", "input2", "weight", "bias")))
def bilinear(input1, input2, weight, bias=None):
    r"""Bilinear form per output: $y_o = x_1^\top W_o\, x_2 + b_o$.

    input1 (*, in1), input2 (*, in2), weight (out, in1, in2), bias (out,); output (*, out). RuntimeError where they do not
    fit. Tenenbaum & Freeman 2000 (Neural Computation 12).
    """
    x1, x2, w = widened(input1), widened(input2), widened(weight)
    y = (torch.einsum("...i,oij->...oj", x1, w) * x2.unsqueeze(-2)).sum(-1)
    return (y if bias is None else y + bias).to(weight.dtype)


@bilinear.gradient
def bilinear_gradient(dy, needs, input1, input2, weight):
    r"""$dx_1 = \sum_o dy_o W_o x_2,\quad dx_2 = \sum_o dy_o W_o^\top x_1,\quad dW_o = \sum dy_o\, x_1 x_2^\top$"""
    dy, input1, input2, weight = (widened(t) for t in (dy, input1, input2, weight))
    dx1 = torch.einsum("...o,oij,...j->...i", dy, weight, input2) if needs.input1 else None
    dx2 = torch.einsum("...o,oij,...i->...j", dy, weight, input1) if needs.input2 else None
    dweight = torch.einsum("...o,...i,...j->oij", dy, input1, input2) if needs.weight else None
    return dx1, dx2, dweight, dy


class Bilinear(Manual, torch.nn.Bilinear):
    """The module of `bilinear`."""

    op = bilinear


@bilinear.prepare
def bilinear_prepare(input1, input2, weight, bias=None):
    if input1.dim() != input2.dim() or input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError("bilinear(): the inputs must have the same shape but for the last dimension, they have "
                           f"{tuple(input1.shape)} and {tuple(input2.shape)}")  # fmt: skip
    if (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise RuntimeError(f"bilinear(): the inputs' last dimensions must be weight's last two {tuple(weight.shape[1:])}, "
                           f"they are {input1.shape[-1]} and {input2.shape[-1]}")  # fmt: skip
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(f"bilinear(): bias must have shape {tuple(weight.shape[:1])}, it has {tuple(bias.shape)}")
    return input1, input2, weight, bias


class Identity(Manual, torch.nn.Identity):
    r"""$y = x$: the output is the input itself, of any shape and kind."""

    forward = torch.nn.Identity.forward  # type: ignore[assignment]

    def explicit(self, input):
        like = (input.shape, input.dtype, input.device) if isinstance(input, torch.Tensor) else None
        return input, lambda dy=None, needs=None: (ones(like) if dy is None else dy,)
