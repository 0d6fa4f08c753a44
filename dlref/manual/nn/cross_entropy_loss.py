"""Losses of classes and their distributions: cross entropy, negative log-likelihood, Kullback-Leibler divergence."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F

from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import HALF, marked, times, warn, wide, widened
from .reduction import check_reduction, reduce_loss, unreduced
from .softmax import log_normalized


def pick(x, dim, index):
    """The entries of the classes; IndexError, as torch's losses raise it, where there is no such class."""
    try:
        return x.gather(dim, index)
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        raise IndexError(f"class indices must lie in [0, {x.shape[dim]}): {error}") from None


def of_classes(target, dim, ignore_index):
    """The class indices with the dimension of the classes, valid throughout, and where they count."""
    index = target.long().unsqueeze(dim)
    counted = index != ignore_index
    return torch.where(counted, index, 0), counted


def total_weight(weight, index, counted):
    r"""The mean's denominator, $\sum_n w_{t_n}$ over what counts."""
    return (counted if weight is None else widened(weight)[index] * counted).sum()


def reduce_classes(loss, reduction, weight, index, counted):
    """As `reduce_loss`; the mean is weighted as the losses are."""
    return loss.sum() / total_weight(weight, index, counted) if reduction == "mean" else reduce_loss(loss, reduction)


def unreduced_classes(dy, dim, reduction, weight, index, counted):
    """The upstream gradient of each sample's weighted loss, 0 where it does not count."""
    s = widened(dy).unsqueeze(dim) if reduction == "none" else widened(dy)
    s = s / total_weight(weight, index, counted) if reduction == "mean" else s
    return torch.where(counted, s, 0)  # after the division, as that is 0/0 where none counts


# --- cross entropy ----------------------------------------------------------------------------------------------


def _smooth(target, label_smoothing, classes):
    target = widened(target)
    return target * (1 - label_smoothing) + label_smoothing / max(classes, 1) if label_smoothing else target


def _weighted(q, weight):
    """q of the classes (C) or (N, C, ...), times their weights (C,)."""
    return q if weight is None else times(widened(weight).view(-1, *(1 for _ in q.shape[2:])), q)


def _slope(log_p, a, dim):
    r"""$p_c \sum_{k \ne c} a_k - a_c (1 - p_c)$."""
    return log_p.exp() * (a.sum(dim, keepdim=True) - a) + a * log_p.expm1()


def against_classes(log_p, target, weight, ignore_index, reduction, label_smoothing):
    r"""The cross entropy of indices t: $-(1 - \epsilon)\,w_t \log p_t - \frac{\epsilon}{C} \sum_c w_c \log p_c$, reduced."""
    dim = min(log_p.dim() - 1, 1)
    index, counted = of_classes(target, dim, ignore_index)
    loss = -pick(log_p, dim, index)
    if weight is not None:
        loss = times(weight[index], loss)
    if label_smoothing:
        even = -_weighted(log_p, weight).sum(dim, keepdim=True)
        loss = (1 - label_smoothing) * loss + label_smoothing / max(log_p.shape[dim], 1) * even
    return reduce_classes(torch.where(counted, loss, 0).squeeze(dim), reduction, weight, index, counted)


@op(builtin=F.cross_entropy, autocast="float32", dtypes=Dtypes(promote=("input", "target", "weight")))
def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    r"""Cross entropy of logits against class indices or probabilities: $E_n = -\sum_c w_c\,q_{nc} \log p_{nc}$,
    $p = \mathrm{softmax}(x)$, $q = (1 - \epsilon)\,t + \epsilon / C$, t one-hot where the target is an index.

    input (C), (N, C) or (N, C, d1, ...); target class indices (int64 or uint8) without C, or probabilities of the
    input's shape; weight (C,). An index target of ignore_index counts nothing, in the mean's denominator too, which is
    $\sum_n w_{t_n}$ for indices and N for probabilities. E = H(q, p) is at least H(q): zero for a one-hot q alone.
    ValueError where reduction is wrong or the batches differ, IndexError where there is no such class, RuntimeError where
    else the arguments do not fit. Bishop 2006, eq. 4.108; label_smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """
    dim = min(input.dim() - 1, 1)
    log_p = log_normalized(wide(input), dim)
    if target.shape == input.shape:
        a = _weighted(_smooth(target, label_smoothing, input.shape[dim]), weight)
        return reduce_loss(-times(a, log_p).sum(dim), reduction).to(input.dtype), (log_p,)
    check_same_dtype(input, weight)
    return against_classes(log_p, target, weight, ignore_index, reduction, label_smoothing).to(input.dtype), (log_p,)


@cross_entropy.gradient
def cross_entropy_gradient(dy, saved, needs, target, weight, ignore_index, reduction, label_smoothing):
    r"""$dx_{nc} = s_n\,(p_{nc} \sum_{k \ne c} a_{nk} - a_{nc} (1 - p_{nc})),\quad a = w \odot q$: of $-\sum_c a_c \log p_c$
    with $\partial \log p_c / \partial x_k = [c = k] - p_k$; s is dy, for the mean dy over its denominator. $1 - p$ is
    $-(e^{\log p} - 1)$, which does not cancel. Of a class t alone it is $s_n w_t\,(p_{nc} - [c = t])$.

    Where the target is probabilities, $da = -s \log p$, so $dt = (1 - \epsilon)\,w \odot da$ and $dw = \sum_n q \odot da$.
    """
    (log_p,) = saved
    dim, indexed = min(log_p.dim() - 1, 1), target.shape != log_p.shape
    if indexed:
        index, counted = of_classes(target, dim, ignore_index)
        s = unreduced_classes(dy, dim, reduction, weight, index, counted)
        target = marked(log_p, dim, index)
    else:
        s = unreduced(dy, log_p.numel() // max(log_p.shape[dim], 1), reduction)
        s = s.unsqueeze(dim) if reduction == "none" else s
    q = _smooth(target, label_smoothing, log_p.shape[dim])
    dx = s * _slope(log_p, _weighted(q, weight), dim) if needs.input else None
    if indexed:
        return dx, None
    da = -s * log_p
    dtarget = (1 - label_smoothing) * _weighted(da, weight) if needs.target else None
    return dx, dtarget, times(q, da).movedim(dim, -1) if needs.weight else None


class CrossEntropyLoss(Manual, torch.nn.CrossEntropyLoss):
    """The module of `cross_entropy`."""

    op = cross_entropy


@cross_entropy.prepare
def cross_entropy_prepare(input, target, weight, ignore_index, reduction, label_smoothing):
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must lie in [0, 1], it is {label_smoothing}")
    if target.shape == input.shape:
        if not target.is_floating_point():
            raise RuntimeError(f"a target of the input's shape holds class probabilities and must be floating point; it is "
                               f"{target.dtype}: class indices have no dimension of classes")  # fmt: skip
        if ignore_index >= 0:
            raise RuntimeError(
                f"ignore_index must not be a class where the target is probabilities, it is {ignore_index}"
            )
    else:
        check_index_target(input, target)
    check_class_weight(input, weight)
    return input, target, weight, ignore_index, reduction, label_smoothing


def check_class_weight(input, weight):
    classes = input.shape[min(input.dim() - 1, 1)]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(f"weight must have one entry for each of the {classes} classes, it has shape "
                           f"{tuple(weight.shape)}")  # fmt: skip


def check_same_dtype(input, weight):
    """Asked of class indices' weights, after autocast."""
    if weight is not None and weight.dtype != input.dtype:
        raise RuntimeError(f"weight: expected scalar type {input.dtype}, the input's, but found {weight.dtype}")


def check_index_target(input, target):
    """The errors of a target of class indices: (N) for (N, C), (N, d1, ...) for (N, C, d1, ...), () for (C)."""
    if input.dim() < 1:
        raise RuntimeError("the input must have a dimension of classes, it is a single number")
    expected = input.shape[:1] + input.shape[2:] if input.dim() > 1 else ()
    if input.dim() > 1 and target.dim() > 0 and input.shape[0] != target.shape[0]:
        raise ValueError(f"input and target must have the same batch size, they have {input.shape[0]} and "
                         f"{target.shape[0]}")  # fmt: skip
    if tuple(target.shape) != tuple(expected):
        raise RuntimeError(f"the target of an input of shape {tuple(input.shape)} must have shape {tuple(expected)}, it has "
                           f"{tuple(target.shape)}")  # fmt: skip
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"class indices must be int64 or uint8, they are {target.dtype}")


# --- negative log-likelihood and Kullback-Leibler divergence ----------------------------------------------------


@op(builtin=F.nll_loss, autocast="float32")
def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    r"""Negative log-likelihood of classes: $l_n = -w_{t_n} x_{n t_n}$, the mean $\sum l_n / \sum w_{t_n}$.

    input (C), (N, C) or (N, C, d1, ...): log-probabilities; target class indices without C; weight (C,). A target of
    ignore_index counts nothing. Errors as `cross_entropy`. Bishop 2006, eq. 4.108.
    """
    dim = min(input.dim() - 1, 1)
    index, counted = of_classes(target, dim, ignore_index)
    check_same_dtype(input, weight)
    loss = -widened(pick(input, dim, index))
    loss = loss if weight is None else loss * weight[index]
    loss = torch.where(counted, loss, 0).squeeze(dim)
    return reduce_classes(loss, reduction, weight, index, counted).to(input.dtype)


@nll_loss.gradient
def nll_loss_gradient(dy, shapes, target, weight, ignore_index, reduction):
    r"""$dx_{nc} = -s_n w_c [c = t_n]$; s is dy, for the mean dy over its denominator, 0 where ignored."""
    dim = min(len(shapes.input) - 1, 1)
    index, counted = of_classes(target, dim, ignore_index)
    s = unreduced_classes(dy, dim, reduction, weight, index, counted)
    s = s if weight is None else s * widened(weight)[index]
    return s.new_zeros(()).expand(shapes.input).scatter(dim, index, -s)


class NLLLoss(Manual, torch.nn.NLLLoss):
    """The module of `nll_loss`."""

    op = nll_loss


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of whoever derives from it

    class NLLLoss2d(NLLLoss, torch.nn.NLLLoss2d):
        """`NLLLoss` by its former name: it warns, as torch's does."""

        def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
            warnings.warn(torch.nn.NLLLoss2d.__deprecated__, FutureWarning, stacklevel=2)
            super().__init__(weight, size_average, ignore_index, reduce, reduction)


@nll_loss.prepare
def nll_loss_prepare(input, target, weight, ignore_index, reduction):
    check_reduction(reduction)
    check_index_target(input, target)
    check_class_weight(input, weight)
    return input, target, weight, ignore_index, reduction


def weighed(log_q, x):
    r"""$q x$ by the root of q, which is not subnormal where the product is not."""
    root = torch.exp(log_q / 2)
    return root * times(root, x)


@op(builtin=F.kl_div, autocast="float32", dtypes=Dtypes(promote=("input", "target")))
def kl_div(input, target, reduction="mean", log_target=False):
    r"""Kullback-Leibler divergence, elementwise: $l = q (\log q - x)$ of log-probabilities x and probabilities q.

    input and target (*), broadcast to each other, target $\log q$ with log_target; output a number, or elementwise. "batchmean"
    divides by the batch alone, which makes it $D(q \Vert p) \ge 0$; it is no distance: $D(q \Vert p) \ne D(p \Vert q)$.
    ValueError where reduction is wrong. Kullback & Leibler 1951.
    """
    x, t = widened(input), widened(target)
    loss = weighed(t, t) - weighed(t, x) if log_target else torch.special.xlogy(t, t) - times(t, x)
    if reduction == "batchmean":
        loss = loss.sum() / input.shape[0] if input.dim() else loss.sum()
    else:
        loss = reduce_loss(loss, reduction)
    dtype = torch.promote_types(input.dtype, target.dtype)
    return loss.to(dtype) if dtype in HALF else loss


@kl_div.gradient
def kl_div_gradient(dy, needs, input, target, reduction, log_target):
    r"""$dx = -s\,q$; $dq = s\,(\log q + 1 - x)$, and of $\log q$: $s\,q\,(\log q + 1 - x)$; s is dy, for a mean dy over its
    denominator."""
    x, t = widened(input), widened(target)
    shape = torch.broadcast_shapes(x.shape, t.shape)
    if reduction == "batchmean":
        s = widened(dy) / input.shape[0] if input.dim() else widened(dy)
    else:
        s = unreduced(dy, shape.numel(), reduction)
    dx = (-s * (t.exp() if log_target else t)).expand(shape)
    if not needs.target:
        return dx
    slope = (t if log_target else t.log()) + 1 - x
    return dx, s * (weighed(t, slope) if log_target else slope)


class KLDivLoss(Manual, torch.nn.KLDivLoss):
    """The module of `kl_div`."""

    op = kl_div


@kl_div.prepare
def kl_div_prepare(input, target, reduction, log_target):
    if reduction != "batchmean":
        check_reduction(reduction)
    if reduction == "mean":
        warn(
            "kl_div: reduction 'mean' divides by batch and classes; the divergence divides by the batch: use 'batchmean'"
        )
    return input, target, reduction, log_target
