"""Losses that want a margin: between a class and the others, between pairs, between triplets."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import HALF, above, floating, real_dtype, widened
from .cross_entropy_loss import pick
from .distance import PairwiseDistance, norm, norm_gradient, pairwise_distance
from .reduction import check_reduction, reduce_loss, unreduced

# --- one score, two scores --------------------------------------------------------------------------------------


@op(builtin=F.hinge_embedding_loss, autocast="float32", dtypes=Dtypes(promote=("input", "target"), result="input"))
def hinge_embedding_loss(input, target, margin=1.0, reduction="mean"):
    r"""Hinge of a distance x: $l = x$ for target 1, $\max(0, m - x)$ for target -1.

    input and target broadcast to each other; output a number, or elementwise. Any other target gets both terms. ValueError
    where reduction is wrong. Mobahi et al. 2009 (ICML).
    """
    x = widened(input)
    loss = torch.where(target != -1, x, 0) + torch.where(target != 1, (margin - x).clamp(min=0), 0)
    return reduce_loss(loss, reduction).to(input.dtype)


@hinge_embedding_loss.gradient
def hinge_embedding_loss_gradient(dy, input, target, margin, reduction):
    r"""$dx = s\,([t \ne -1] - [t \ne 1][m - x > 0])$; s is dy, for the mean dy/n."""
    x = widened(input)
    slope = (target != -1).to(x.dtype) - ((target != 1) & above(margin - x)).to(x.dtype)
    return unreduced(dy, slope.numel(), reduction) * slope


class HingeEmbeddingLoss(Manual, torch.nn.HingeEmbeddingLoss):
    """The module of `hinge_embedding_loss`."""

    op = hinge_embedding_loss


@hinge_embedding_loss.prepare
def hinge_embedding_loss_prepare(input, target, margin, reduction):
    check_reduction(reduction)
    return input, target, margin, reduction


@op(builtin=F.margin_ranking_loss, autocast="float32", dtypes=Dtypes(promote=("input1", "input2", "target")))
def margin_ranking_loss(input1, input2, target, margin=0, reduction="mean"):
    r"""Ranking: $l = \max(0, -t (x_1 - x_2) + m)$; t = 1 wants $x_1$ above $x_2$ by the margin, t = -1 below.

    Three tensors (*) of one number of dimensions, broadcast to each other; output a number, or elementwise. RuntimeError
    where they do not fit, ValueError where reduction is wrong. Joachims 2002 (KDD).
    """
    z = -widened(target) * (widened(input1) - widened(input2)) + margin
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in (input1, input2, target)))
    loss = reduce_loss(z.clamp(min=0), reduction)
    return loss.to(dtype) if dtype in HALF else loss


@margin_ranking_loss.gradient
def margin_ranking_loss_gradient(dy, input1, input2, target, margin, reduction):
    r"""$dx_1 = -s\,t\,[l > 0] = -dx_2,\quad dt = -s\,(x_1 - x_2)\,[l > 0]$; s is dy, for the mean dy/n."""
    difference = widened(input1) - widened(input2)
    z = -widened(target) * difference + margin
    s = unreduced(dy, z.numel(), reduction) * above(z).to(z.dtype)
    return -s * target, s * target, -s * difference


class MarginRankingLoss(Manual, torch.nn.MarginRankingLoss):
    """The module of `margin_ranking_loss`."""

    op = margin_ranking_loss


@margin_ranking_loss.prepare
def margin_ranking_loss_prepare(input1, input2, target, margin, reduction):
    check_reduction(reduction)
    if not input1.dim() == input2.dim() == target.dim():
        raise RuntimeError("margin_ranking_loss: input1, input2 and target must have one number of dimensions, they have "
                           f"shapes {tuple(input1.shape)}, {tuple(input2.shape)}, {tuple(target.shape)}")  # fmt: skip
    return input1, input2, target, margin, reduction


@op(builtin=F.cosine_embedding_loss, autocast="float32", dtypes=Dtypes(promote=("input1", "input2")))
def cosine_embedding_loss(input1, input2, target, margin=0, reduction="mean"):
    r"""Of the cosine c of two vectors: $l = 1 - c$ for target 1, $\max(0, c - m)$ for target -1, else 0.

    $c = \sum x_1 x_2 / \sqrt{q_1 q_2},\quad q = \sum x^2 + 10^{-12}$. input1, input2 (N, D), target (N); or (D) and ().
    RuntimeError where they do not fit. After Bromley et al. 1993 (NIPS 6), whose twin networks learn by their cosine.
    """
    a, b, _, _ = _directions(floating(input1), floating(input2), target.dim())
    c = (a * b).sum(target.dim())
    loss = torch.where(target == 1, 1 - c, 0) + torch.where(target == -1, (c - margin).clamp(min=0), 0)
    return reduce_loss(loss, reduction).to(real_dtype(input1, input2) if input1.is_floating_point() else loss.dtype)


@cosine_embedding_loss.gradient
def cosine_embedding_loss_gradient(dy, input1, input2, target, margin, reduction):
    r"""$dx_1 = dc\,(b - c\,a) / \sqrt{q_1}$ of $a = x_1 / \sqrt{q_1}$ and $b = x_2 / \sqrt{q_2}$, $dx_2$ likewise;
    $dc = s\,([t = -1][c > m] - [t = 1])$.
    """
    dim = target.dim()
    a, b, r1, r2 = _directions(floating(input1), floating(input2), dim)
    c = (a * b).sum(dim)
    slope = ((target == -1) & above(c - margin)).to(c.dtype) - (target == 1).to(c.dtype)
    dc = (unreduced(dy, slope.numel(), reduction) * slope).unsqueeze(dim)
    c = c.unsqueeze(dim)
    return dc * (b - c * a) / r1, dc * (a - c * b) / r2


class CosineEmbeddingLoss(Manual, torch.nn.CosineEmbeddingLoss):
    """The module of `cosine_embedding_loss`."""

    op = cosine_embedding_loss


def _directions(x1, x2, dim):
    r"""$x / \sqrt q$ of both, and both $\sqrt q$, with the dimension kept."""
    n1, n2 = norm(x1, 2, dim), norm(x2, 2, dim)
    r1, r2 = (torch.hypot(n, n.new_full((), 1e-6)) for n in (n1, n2))
    return x1 / r1, x2 / r2, r1, r2


@cosine_embedding_loss.prepare
def cosine_embedding_loss_prepare(input1, input2, target, margin, reduction):
    check_reduction(reduction)
    if target.dim() > 1 or not input1.dim() == input2.dim() == target.dim() + 1:
        raise RuntimeError("cosine_embedding_loss: the target must be (N) for inputs (N, D), or a number for inputs (D); "
                           f"they have shapes {tuple(target.shape)}, {tuple(input1.shape)}, {tuple(input2.shape)}")  # fmt: skip
    return input1, input2, target, margin, reduction


# --- a class and the others -------------------------------------------------------------------------------------


def _check_rows(name, input):
    if input.dim() > 2 or (input.dim() > 0 and input.shape[-1] == 0):
        raise RuntimeError(f"{name}: the input must be (C) or (N, C) with at least one class, it has shape "
                           f"{tuple(input.shape)}")  # fmt: skip


@op(builtin=F.multi_margin_loss, autocast="float32", dtypes=Dtypes(one=("input", "weight")))
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, reduction="mean"):
    r"""Multi-class hinge: $l = \frac{w_y}{C} \sum_{i \ne y} \max(0, z_i)^p,\quad z_i = m - x_y + x_i$.

    input (N, C) or (C), target (N) or () int64 classes, p 1 or 2, weight (C). ValueError where p or reduction is another,
    RuntimeError where shapes do not fit, IndexError where there is no such class. Weston & Watkins 1999 (ESANN).
    """
    x = _rows(input)
    z, w, _ = _hinges(x, target, margin, weight)
    loss = (w * z.clamp(min=0).pow(p)).sum(-1) / x.shape[-1]
    return reduce_loss(loss.reshape(target.shape), reduction).to(input.dtype)


@multi_margin_loss.gradient
def multi_margin_loss_gradient(dy, input, target, p, margin, weight, reduction):
    r"""$dx_i = g_i = s\,\frac{w_y}{C}\,p\,z_i^{p-1} [z_i > 0]$ for $i \ne y$, and $dx_y = -\sum g_i$."""
    x = _rows(input)
    z, w, index = _hinges(x, target, margin, weight)
    s = unreduced(dy, math.prod(x.shape[:-1]), reduction)
    s = s.reshape(x.shape[:-1]).unsqueeze(-1) if reduction == "none" else s
    g = s * w / x.shape[-1] * (z > 0).to(z.dtype) * (2 * z.clamp(min=0) if p == 2 else 1)
    return g.scatter_add(-1, index, -g.sum(-1, keepdim=True))


class MultiMarginLoss(Manual, torch.nn.MultiMarginLoss):
    """The module of `multi_margin_loss`."""

    op = multi_margin_loss


def _rows(input):
    return widened(input if input.dim() else input.unsqueeze(0))  # a number is one class


def _hinges(x, target, margin, weight):
    """z (N, C), below 0 at the class itself; the weight of each sample (N, 1); the class (N, 1)."""
    index = target.reshape(x.shape[:-1]).unsqueeze(-1)
    z = margin - pick(x, -1, index) + x
    w = x.new_ones(()) if weight is None else widened(weight)[index]
    return z.scatter(-1, index, -1.0), w, index


@multi_margin_loss.prepare
def multi_margin_loss_prepare(input, target, p, margin, weight, reduction):
    check_reduction(reduction)
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p must be 1 or 2, it is {p}")
    if weight is not None and weight.dim() != 1:
        raise ValueError(f"multi_margin_loss: weight must have one dimension, it has {weight.dim()}")
    _check_rows("multi_margin_loss", input)
    if target.dim() > 1 or target.numel() != math.prod(_rows(input).shape[:-1]):
        raise RuntimeError(f"multi_margin_loss: the target must have shape {tuple(input.shape[:-1])}, it has "
                           f"{tuple(target.shape)}")  # fmt: skip
    if target.dtype != torch.int64:
        raise RuntimeError(f"multi_margin_loss: classes must be int64, they are {target.dtype}")
    if weight is not None and weight.numel() != _rows(input).shape[-1]:
        raise RuntimeError(f"multi_margin_loss: weight must have one entry for each of the {_rows(input).shape[-1]} "
                           f"classes, it has {weight.numel()}")  # fmt: skip
    return input, target, p, margin, weight, reduction


@op(builtin=F.multilabel_margin_loss, autocast="float32")
def multilabel_margin_loss(input, target, reduction="mean"):
    r"""Multi-label hinge: $l = \frac1C \sum_{j \in T} \sum_{i \notin T} \max(0, z_{ji}),\quad z_{ji} = 1 - x_j + x_i$.

    input (N, C) or (C); target of its shape, int64: the classes of T, ended by the first -1. ValueError where reduction is
    wrong, RuntimeError where shapes do not fit. Elisseeff & Weston 2001 (NIPS 14).
    """
    x = _rows(input)
    z, count = _pairs(x, target)
    loss = torch.where((z > 0) & (count > 0), count * z, 0).sum((-2, -1)) / x.shape[-1]
    return reduce_loss(loss, reduction).to(input.dtype)


@multilabel_margin_loss.gradient
def multilabel_margin_loss_gradient(dy, input, target, reduction):
    r"""With $g_{ji} = \frac{s}{C} [z_{ji} > 0]$ of $j \in T$ and $i \notin T$: $dx_k = \sum_j g_{jk} - \sum_i g_{ki}$."""
    x = _rows(input)
    z, count = _pairs(x, target)
    s = unreduced(dy, math.prod(x.shape[:-1]), reduction)
    s = s.unsqueeze(-1) if reduction == "none" else s
    active = torch.where(z > 0, count, 0)
    return s / x.shape[-1] * (active.sum(-2) - active.sum(-1))


class MultiLabelMarginLoss(Manual, torch.nn.MultiLabelMarginLoss):
    """The module of `multilabel_margin_loss`."""

    op = multilabel_margin_loss


def _pairs(x, target):
    """z (N, C, C) of every two classes, and how often the pair counts: as often as j is in the list, where i is not."""
    target = target.reshape(x.shape)
    there = (target < 0).cumsum(-1) == 0  # before the end of the list
    listed = torch.zeros_like(x).scatter_add(-1, torch.where(there, target, 0), there.to(x.dtype))
    return 1 - x.unsqueeze(-1) + x.unsqueeze(-2), listed.unsqueeze(-1) * (listed == 0).to(x.dtype).unsqueeze(-2)


@multilabel_margin_loss.prepare
def multilabel_margin_loss_prepare(input, target, reduction):
    check_reduction(reduction)
    _check_rows("multilabel_margin_loss", input)
    if (input.dim() > 1 and target.shape != input.shape) or target.numel() != input.numel() or target.dim() > 2:
        raise RuntimeError(f"multilabel_margin_loss: the target must have the input's shape {tuple(input.shape)}, it has "
                           f"{tuple(target.shape)}")  # fmt: skip
    if target.dtype != torch.int64:
        raise RuntimeError(f"multilabel_margin_loss: classes must be int64, they are {target.dtype}")
    return input, target, reduction


# --- triplets ---------------------------------------------------------------------------------------------------


def _check_triplet(anchor, positive, negative, margin, reduction):
    check_reduction(reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, it is {margin}")
    if not anchor.dim() == positive.dim() == negative.dim():
        raise RuntimeError("anchor, positive and negative must have one number of dimensions, they have "
                           f"{anchor.dim()}, {positive.dim()} and {negative.dim()}")  # fmt: skip


@op(builtin=F.triplet_margin_loss, autocast="float32", dtypes=Dtypes(promote=("anchor", "positive", "negative")))
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, reduction="mean"):
    r"""Triplets: $l = \max(0, m + d(a, p) - d(a, n)),\quad d(x, y) = \lVert x - y + \epsilon \rVert_p$.

    Three tensors (*, D) broadcast to each other; with swap d(a, n) is $\min(d(a, n), d(p, n))$. ValueError where the
    margin is not positive, RuntimeError where shapes do not fit. Balntas et al. 2016 (BMVC).
    """
    distances = [norm(v, p, -1).squeeze(-1) for v in _sides(anchor, positive, negative, eps, swap)]
    loss = (margin + distances[0] - _nearest(*distances[1:])).clamp(min=0)
    floating = anchor.is_floating_point() or anchor.is_complex()
    return reduce_loss(loss, reduction).to(real_dtype(anchor, positive, negative) if floating else loss.dtype)


@triplet_margin_loss.gradient
def triplet_margin_loss_gradient(dy, anchor, positive, negative, margin, p, eps, swap, reduction):
    r"""With $u = \partial d / \partial(x - y)$ of each side: $da = g (u_{ap} - u_{an}),\ dp = -g u_{ap},\ dn = g u_{an}$.

    $g = s\,[l > 0]$; where the swapped distance is the smaller one (half where they are equal), $u_{pn}$ stands for
    $u_{an}$, of p in place of a.
    """
    sides = _sides(anchor, positive, negative, eps, swap)
    norms = [norm(v, p, -1) for v in sides]
    u_ap, u_an, *rest = (norm_gradient(v, n, p, -1) for v, n in zip(sides, norms, strict=True))
    active = above(margin + norms[0] - _nearest(*norms[1:]))
    s = unreduced(dy, active.numel(), reduction)
    g = (s.unsqueeze(-1) if reduction == "none" else s) * active.to(norms[0].dtype)
    if not swap:
        ap, an = g * u_ap, g * u_an
        return _total(anchor, ap, -an), -ap, an
    (u_pn,) = rest
    kept = (norms[1] < norms[2]).to(g.dtype) + 0.5 * (norms[1] == norms[2]).to(g.dtype)
    ap, an, pn = g * u_ap, g * kept * u_an, g * (1 - kept) * u_pn
    return _total(anchor, ap, -an), _total(positive, -ap, -pn), _total(negative, an, pn)


def _total(like, *terms):
    """The sum of terms, each summed over what the argument was broadcast along in it."""
    return sum(term.sum_to_size(like.shape) for term in terms)


class TripletMarginLoss(Manual, torch.nn.TripletMarginLoss):
    """The module of `triplet_margin_loss`."""

    op = triplet_margin_loss


def _sides(anchor, positive, negative, eps, swap):
    r"""$a - p + \epsilon$, $a - n + \epsilon$ and, with swap, $p - n + \epsilon$."""
    a, p, n = widened(anchor), widened(positive), widened(negative)
    return [v + eps for v in ((a - p, a - n, p - n) if swap else (a - p, a - n))]


def _nearest(from_anchor, from_positive=None):
    return from_anchor if from_positive is None else torch.minimum(from_anchor, from_positive)


@triplet_margin_loss.prepare
def triplet_margin_loss_prepare(anchor, positive, negative, margin, p, eps, swap, reduction):
    _check_triplet(anchor, positive, negative, margin, reduction)
    return anchor, positive, negative, margin, p, eps, swap, reduction


@op()
def triplet_hinge(from_positive, from_negative, between, margin, reduction):
    r"""$l = \max(0, m + d_{ap} - \min(d_{an}, d_{pn}))$ of distances of one shape; between $d_{pn}$ may be None."""
    nearer = from_negative if between is None else torch.minimum(from_negative, between)
    return reduce_loss((margin + from_positive - nearer).clamp(min=0), reduction)


@triplet_hinge.gradient
def triplet_hinge_gradient(dy, from_positive, from_negative, between, margin, reduction):
    r"""$dd_{ap} = s\,[l > 0]$, and its negative to the smaller of the others, half to each where they are equal."""
    nearer = from_negative if between is None else torch.minimum(from_negative, between)
    active = above(margin + from_positive - nearer)
    g = unreduced(dy, active.numel(), reduction) * active.to(nearer.dtype)
    if between is None:
        return g, -g
    kept = (from_negative < between).to(g.dtype) + 0.5 * (from_negative == between).to(g.dtype)
    return g, -g * kept, -g * (1 - kept)


def triplet_margin_with_distance_loss(
    anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"
):
    r"""Triplets by a distance of one's own: $l = \max(0, m + d(a, p) - d(a, n))$, with swap $\min(d(a, n), d(p, n))$.

    distance_function: of two tensors, by default pairwise_distance. In `vjp` its own `vjp` gives its gradient, and
    where it has none torch.func does: it is its author's code. Shapes and errors as `triplet_margin_loss`. Balntas et al. 2016
    (BMVC).
    """
    distance = pairwise_distance if distance_function is None else distance_function
    _check_triplet(anchor, positive, negative, margin, reduction)
    between = distance(positive, negative) if swap else None
    return triplet_hinge(distance(anchor, positive), distance(anchor, negative), between, margin, reduction)


def _triplet_vjp(anchor, positive, negative, **options):
    output, pullback = _explicit_triplet(anchor, positive, negative, **options)
    return output, lambda dy=None, needs=None: (*pullback(dy, needs), *(None for _ in options))


def _explicit_triplet(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
    distance = pairwise_distance if distance_function is None else distance_function
    _check_triplet(anchor, positive, negative, margin, reduction)
    measure = getattr(distance, "vjp", functools.partial(torch.func.vjp, distance))
    sides = [(0, 1), (0, 2), *([(1, 2)] if swap else [])]
    tensors = [t.detach() for t in (anchor, positive, negative)]
    distances, pulls = zip(*(measure(tensors[i], tensors[j]) for i, j in sides), strict=True)
    output, pull = triplet_hinge.vjp(*distances, *(() if swap else (None,)), margin, reduction)

    def pullback(dy=None, needs=None):
        grads = [torch.zeros_like(t) for t in tensors]
        for (i, j), side, g in zip(sides, pulls, pull(dy), strict=False):
            for k, part in zip((i, j), side(g), strict=True):
                grads[k] = grads[k] + part
        needs = (True,) * 3 if needs is None else needs[:3]
        return tuple(g if need else None for g, need in zip(grads, needs, strict=True))

    return output, pullback


triplet_margin_with_distance_loss.vjp = _triplet_vjp  # type: ignore[attr-defined]


class TripletMarginWithDistanceLoss(Manual, torch.nn.TripletMarginWithDistanceLoss):
    """The module of `triplet_margin_with_distance_loss`; a distance_function that is a module learns with it."""

    def __init__(self, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        distance = PairwiseDistance() if distance_function is None else distance_function
        super().__init__(distance_function=distance, margin=margin, swap=swap, reduction=reduction)

    def forward(self, anchor, positive, negative):
        return triplet_margin_with_distance_loss(anchor, positive, negative, **self._options())

    def explicit(self, anchor, positive, negative):
        return _explicit_triplet(anchor, positive, negative, **self._options())

    def _options(self):
        named = self.distance_function, self.margin, self.swap, self.reduction
        return dict(zip(("distance_function", "margin", "swap", "reduction"), named, strict=True))
