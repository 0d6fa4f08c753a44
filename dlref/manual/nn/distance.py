"""Norms and what is measured with them: pairwise distance, cosine similarity, normalisation; and one-hot vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import concrete, real_dtype, wide, widened


def norm(v, p, dim):
    r"""$n = (\sum |v_i|^p)^{1/p} = m\,(\sum |v_i / m|^p)^{1/p}$ along dim, which is kept, m the largest $|v_i|$ (for
    p = 2 the power of 2 below it, which rounds nothing), so that no power is too large or too small for the dtype; the
    largest for p = inf, the count of $v_i \ne 0$ for p = 0.
    """
    size = v.abs()
    if p == 0:
        return (size != 0).sum(dim, keepdim=True).to(size.dtype)
    if p == 1:
        return size.sum(dim, keepdim=True)
    if math.isinf(p):
        return size.amax(dim, keepdim=True) if p > 0 else size.amin(dim, keepdim=True)
    if not size.numel():
        return size.sum(dim, keepdim=True)
    scale = size.detach().amax(dim, keepdim=True)
    scale = torch.where((scale > 0) & (scale < math.inf), scale, 1)
    scale = scale.log2().floor().exp2() if p == 2 else scale
    size = (v if p == 2 and not v.is_complex() else size) / scale  # a square has a second derivative at 0
    total = (size.square() if p == 2 else size.pow(p)).sum(dim, keepdim=True)
    nothing = total == 0  # where a root has no slope; a norm's is 0 there
    total = total.masked_fill(nothing, 1)
    return (scale * (total.sqrt() if p == 2 else total.pow(1 / p))).masked_fill(nothing, 0)


def norm_gradient(v, n, p, dim):
    r"""$dn/dv = \mathrm{sgn}(v)\,(|v| / n)^{p-1}$, 0 where n = 0; shared by ties of the extreme for p = inf."""
    if p == 0:
        return torch.zeros_like(v)
    if p == 1:
        return v.sgn()
    if math.isinf(p):
        extreme = (v.abs() == n).to(n.dtype)
        return v.sgn() * (extreme / extreme.sum(dim, keepdim=True))
    nowhere = n == 0
    if p == 2:
        return v / n.masked_fill(nowhere, math.inf)
    size = v.abs()
    zero = size == 0  # its power is infinite where p < 1
    return v.sgn() * (size.masked_fill(zero, 1) / n.masked_fill(nowhere, 1)).pow(p - 1).masked_fill(zero | nowhere, 0)


@op(builtin=F.pairwise_distance, dtypes=Dtypes(promote=("x1", "x2")))
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    r"""Distance of rows: $y = \lVert x_1 - x_2 + \epsilon \rVert_p$ over the last dimension.

    x1, x2 (*, D), broadcast to each other; output (*), or (*, 1) with keepdim. RuntimeError where they do not fit.
    Minkowski 1896 (Geometrie der Zahlen).
    """
    integers = not (x1.is_floating_point() or x1.is_complex())
    y = norm(widened(x1) - widened(x2) + eps, p, -1)
    return (y if keepdim else y.squeeze(-1)).to(y.dtype if integers else real_dtype(x1, x2))


@pairwise_distance.gradient
def pairwise_distance_gradient(dy, x1, x2, p, eps, keepdim):
    r"""$dx_1 = dy\,\partial \lVert v \rVert_p / \partial v = -dx_2$ at $v = x_1 - x_2 + \epsilon$."""
    v = widened(x1) - widened(x2) + eps
    dv = (dy if keepdim else dy.unsqueeze(-1)) * norm_gradient(v, norm(v, p, -1), p, -1)
    return dv, -dv


class PairwiseDistance(Manual, torch.nn.PairwiseDistance):
    """The module of `pairwise_distance`."""

    op = pairwise_distance
    attributes = {"p": "norm", "eps": "eps", "keepdim": "keepdim"}


@op(builtin=F.pdist, autocast={"cuda": "float32"})
def pdist(input, p=2.0):
    r"""Distances of all pairs of rows: $y_{ij} = \lVert x_i - x_j \rVert_p$ for i < j, in the order of the rows.

    input (N, D), output (N (N - 1) / 2). RuntimeError where input is of other dimensions or not floating point, or p is
    negative. Minkowski 1896 (Geometrie der Zahlen).
    """
    i, j = _pairs(input)
    return _lengths(wide(input)[i] - wide(input)[j], p).squeeze(-1).to(input.dtype)


@pdist.gradient
def pdist_gradient(dy, input, p):
    r"""$dx_i = \sum_{j > i} dv_{ij} - \sum_{j < i} dv_{ji},\quad dv_{ij} = dy_{ij}\,\partial \lVert v \rVert_p / \partial v$ at
    $v = x_i - x_j$.
    """
    x = wide(input)
    i, j = _pairs(input)
    v = x[i] - x[j]
    dv = dy.unsqueeze(-1) * norm_gradient(v, _lengths(v, p), p, -1)
    return torch.zeros_like(x).index_add(0, i, dv).index_add(0, j, -dv)


def _pairs(input):
    """The indices i < j of all pairs of rows."""
    return torch.triu_indices(len(input), len(input), 1, device=input.device)


def _lengths(v, p):
    """The norms of the rows; 0 of rows without entries."""
    return norm(v, p, -1) if v.shape[-1] else v.sum(-1, keepdim=True)


@pdist.prepare
def pdist_prepare(input, p=2.0):
    if input.dim() != 2:
        raise RuntimeError(f"pdist(): the input must have 2 dimensions, rows and columns, it has {input.dim()}")
    if not input.is_floating_point():
        raise RuntimeError(f"pdist(): the input must be floating point, it is {input.dtype}: convert it first")
    if not p >= 0:
        raise RuntimeError(f"pdist(): p must not be negative, it is {p}")
    return input, float(p)


def _floor(n, eps):
    """n, at least eps."""
    return n.clamp(min=eps)


@op(builtin=F.cosine_similarity, autocast={"cuda": "float32"}, dtypes=Dtypes(promote=("x1", "x2")))
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    r"""Cosine of the angle: $y = \sum a\,b,\quad a = x_1 / \max(\lVert x_1 \rVert, \epsilon)$, b of $x_2$ likewise.

    x1, x2 (*, D, *) broadcast to each other; the sum over dim, which the output lacks. RuntimeError where dim is not
    there or eps is negative. Salton et al. 1975 (Communications of the ACM 18).
    """
    a, b = wide(x1), wide(x2)
    a, b = torch.broadcast_tensors(a, b)
    y = ((a / _floor(norm(a, 2, dim), eps)) * (b / _floor(norm(b, 2, dim), eps))).sum(dim)
    return y.to(torch.promote_types(x1.dtype, x2.dtype))


@cosine_similarity.gradient
def cosine_similarity_gradient(dy, needs, x1, x2, dim, eps):
    r"""$dx_1 = dy\,(b - y\,\hat x_1) / \max(\lVert x_1 \rVert, \epsilon)$, $\hat x = x / \lVert x \rVert$; $dx_2$ likewise.

    As in torch the bound eps is a constant that does not stop the gradient of the norm.
    """
    x1, x2 = torch.broadcast_tensors(wide(x1), wide(x2))
    n1, n2 = norm(x1, 2, dim), norm(x2, 2, dim)
    a, b = x1 / _floor(n1, eps), x2 / _floor(n2, eps)
    dy = dy.unsqueeze(dim)
    y = (a * b).sum(dim, keepdim=True)
    dx1 = dy * (b - y * norm_gradient(x1, n1, 2, dim)) / _floor(n1, eps) if needs.x1 else None
    dx2 = dy * (a - y * norm_gradient(x2, n2, 2, dim)) / _floor(n2, eps) if needs.x2 else None
    return dx1, dx2


class CosineSimilarity(Manual, torch.nn.CosineSimilarity):
    """The module of `cosine_similarity`."""

    op = cosine_similarity


@cosine_similarity.prepare
def cosine_similarity_prepare(x1, x2, dim=1, eps=1e-8):
    if eps < 0:
        raise RuntimeError(f"cosine_similarity(): eps must not be negative, it is {eps}")
    return x1, x2, dim, eps


@op(builtin=F.normalize, autocast={"cuda": "float32"})
def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    r"""Unit vectors: $y = x / \max(\lVert x \rVert_p, \epsilon)$ along dim.

    Any shape with that dimension; output as input, written to `out` where it is given (then without a gradient).
    IndexError where there is no such dimension.
    """
    x = wide(input)
    y = (x / _floor(norm(x, p, dim), eps)).to(input.dtype)
    return y if out is None else out.resize_(y.shape).copy_(y)


@normalize.gradient
def normalize_gradient(dy, input, p, dim, eps):
    r"""$dx = (dy - [n \ge \epsilon]\,\sum dy\,y\;\partial \lVert x \rVert_p / \partial x) / n$, n the denominator."""
    x = wide(input)
    size = norm(x, p, dim)
    n = _floor(size, eps)
    along = (dy * (x / n).conj()).sum(dim, keepdim=True)
    along = along.real if along.is_complex() else along
    return (dy - torch.where((size >= eps) & (size > 0), along, 0) * norm_gradient(x, size, p, dim)) / n


@normalize.prepare
def normalize_prepare(input, p, dim, eps, out):
    if out is not None and torch.is_grad_enabled() and (input.requires_grad or out.requires_grad):
        raise RuntimeError(
            "normalize(): out= has no gradient, but an argument requires one: detach it, or leave out= out"
        )
    return input, p, dim, eps, out


@op(builtin=F.one_hot)
def one_hot(tensor, num_classes=-1):
    r"""One-hot vectors: $y_{nc} = [x_n = c]$.

    tensor (*) int64 classes, output (*, num_classes) int64; num_classes -1 means the largest class and one. It has no
    gradient. RuntimeError where a class is negative or not below num_classes.
    """
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()


@one_hot.gradient
def one_hot_gradient(dy):
    """$dx = 0$: classes are integers and have no gradient."""


@one_hot.prepare
def one_hot_prepare(tensor, num_classes=-1):
    if tensor.dtype != torch.int64:
        raise RuntimeError(f"one_hot(): classes must be int64, they are {tensor.dtype}: convert them by .long()")
    if num_classes == 0 or num_classes < -1 or (num_classes == -1 and not tensor.numel()):
        raise RuntimeError(
            f"one_hot(): num_classes must be positive, or -1 for classes that are there; it is {num_classes}"
        )
    if concrete(tensor) and tensor.numel():
        low, high = tensor.min(), tensor.max()
        if low < 0 or (num_classes > 0 and high >= num_classes):
            bounds = f"lie in [0, {num_classes})" if num_classes > 0 else "not be negative"
            raise RuntimeError(f"one_hot(): classes must {bounds}, they lie in [{low}, {high}]")
    return tensor, int(tensor.max()) + 1 if num_classes == -1 else num_classes
