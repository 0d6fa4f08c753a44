"""Losses that are the negative logarithm of a likelihood."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from .common import concrete, own, times, warn, wide, widened
from .softmax import log_normalized


def reduce_loss(loss, reduction):
    """The elementwise losses, their mean or their sum."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    return loss


def unreduced(dy, elements, reduction):
    """The upstream gradient of each element's loss, where the loss was reduced."""
    dy = widened(dy)
    return dy / max(elements, 1) if reduction == "mean" else dy


def check_reduction(reduction):
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', it is {reduction!r}")


def pick(x, dim, index):
    """The entries of the classes; IndexError, as torch's losses raise it, where there is no such class."""
    try:
        return x.gather(dim, index)
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        raise IndexError(f"class indices must lie in [0, {x.shape[dim]}): {error}") from None


# --- cross entropy ----------------------------------------------------------------------------------------------


@op(builtin=F.cross_entropy, autocast="float32")
def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    r"""Cross entropy of logits against class indices or probabilities: $E_n = -\sum_c w_c\,q_{nc} \log p_{nc}$,
    $p = \mathrm{softmax}(x)$, $q = (1 - \epsilon)\,t + \epsilon / C$, t one-hot where the target is an index.

    input (C), (N, C) or (N, C, d1, ...); target class indices (int64 or uint8) without C, or probabilities of the
    input's shape; weight (C,). An index target of ignore_index counts nothing, in the mean's denominator too, which is
    $\sum_n w_{t_n}$ for indices and N for probabilities. E = H(q, p) is at least H(q): zero for a one-hot q alone.
    """
    dim = min(input.dim() - 1, 1)
    classes = input.shape[dim]
    log_p = log_normalized(wide(input), dim)
    if target.shape == input.shape:
        q = _smooth(target, label_smoothing, classes)
        loss = -times(q if weight is None else q * _along(weight, input), log_p).sum(dim)
        return reduce_loss(loss, reduction).to(input.dtype), (log_p,)
    index, ignored = _valid(target, dim, ignore_index)
    loss = -pick(log_p, dim, index)
    if weight is not None:
        check_same_dtype(input, weight)
        loss = times(weight[index], loss)
    if label_smoothing:
        even = -(log_p if weight is None else times(_along(weight, input), log_p)).sum(dim, keepdim=True)
        loss = (1 - label_smoothing) * loss + label_smoothing / classes * even
    loss = (loss if ignored is None else loss.masked_fill(ignored, 0)).squeeze(dim)
    saved = (log_p, index) if ignored is None else (log_p, index, ignored)
    if reduction != "mean":
        return reduce_loss(loss, reduction).to(input.dtype), saved
    total = _total(weight, index, ignored)
    return (loss.sum() / total).to(input.dtype), saved if ignored is None else (*saved, total)


@cross_entropy.gradient
def cross_entropy_gradient(dy, saved, needs, target, weight, reduction, label_smoothing):
    r"""$dx_{nc} = s_n\,(p_{nc} \sum_{k \ne c} a_{nk} - a_{nc} (1 - p_{nc})),\quad a = w \odot q$: of $-\sum_c a_c \log p_c$
    with $\partial \log p_c / \partial x_k = [c = k] - p_k$; s is dy, for the mean dy over its denominator. $1 - p$ is
    $-(e^{\log p} - 1)$, which does not cancel.

    $dq_{nc} = -s_n w_c \log p_{nc}$, so $dt = (1 - \epsilon)\,dq$, where the target is probabilities.
    """
    log_p, *indexed = saved
    dim = min(log_p.dim() - 1, 1)
    classes = log_p.shape[dim]
    if not indexed:
        scale = widened(dy).unsqueeze(dim) if reduction == "none" else widened(dy)
        scale = scale * (classes / max(log_p.numel(), 1)) if reduction == "mean" else scale
        q = _smooth(target, label_smoothing, classes)
        a = q if weight is None else q * _along(weight, log_p)
        dx = scale * _slope(log_p, a, a.sum(dim, keepdim=True)) if needs.input else None
        if not (needs.target or needs.weight):
            return dx
        dq = -scale * log_p
        dtarget = (1 - label_smoothing) * (dq if weight is None else times(_along(weight, log_p), dq))
        return dx, dtarget, times(q, dq).movedim(dim, -1) if needs.weight else None
    if not needs.input:
        return None
    index, ignored, total = (*indexed, None, None)[:3]
    scale = _share(dy, dim, index, ignored, weight, reduction, total)
    weight = weight if weight is None else widened(weight)
    w = scale if weight is None else scale * weight[index]  # of the one-hot part
    if not label_smoothing:
        dx = log_p.exp()
        dx = torch.mul(dx, w, out=own(dx))
        return torch.scatter(dx, dim, index, log_p.gather(dim, index).expm1() * w, out=own(dx))
    w = ((1 - label_smoothing) * w).expand(index.shape)
    even = (scale * (label_smoothing / max(classes, 1))).expand(log_p.shape)
    even = even if weight is None else even * _along(weight, log_p)
    return _slope(log_p, even.scatter_add(dim, index, w), w + even.sum(dim, keepdim=True))


class CrossEntropyLoss(Manual, torch.nn.CrossEntropyLoss):
    """The module of `cross_entropy`."""

    op = cross_entropy


def _slope(log_p, a, total):
    r"""$p_c (A - a_c) - a_c (1 - p_c),\quad A = \sum_k a_k$."""
    return log_p.exp() * (total - a) + a * log_p.expm1()


def _smooth(target, label_smoothing, classes):
    return target * (1 - label_smoothing) + label_smoothing / max(classes, 1) if label_smoothing else target


def _along(weight, input):
    """The class weights (C,) along the dimension of the classes."""
    return weight.view(-1, *(1 for _ in input.shape[2:]))


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
    ignore_index counts nothing.
    """
    dim = min(input.dim() - 1, 1)
    index, ignored = _valid(target, dim, ignore_index)
    check_same_dtype(input, weight)
    loss = -pick(input, dim, index)
    loss = loss if weight is None else loss * weight[index]
    loss = (loss if ignored is None else loss.masked_fill(ignored, 0)).squeeze(dim)
    return loss.sum() / _total(weight, index, ignored) if reduction == "mean" else reduce_loss(loss, reduction)


@nll_loss.gradient
def nll_loss_gradient(dy, input, target, weight, ignore_index, reduction):
    r"""$dx_{nc} = -s_n w_c [c = t_n]$; s is dy, for the mean dy over its denominator, 0 where ignored."""
    dim = min(input.dim() - 1, 1)
    index, ignored = _valid(target, dim, ignore_index)
    s = _share(dy, dim, index, ignored, weight, reduction)
    s = (s if weight is None else s * weight[index]).expand(index.shape)
    dx = torch.zeros_like(input, dtype=s.dtype)
    return torch.scatter_add(dx, dim, index, -s, out=own(dx))


class NLLLoss(Manual, torch.nn.NLLLoss):
    """The module of `nll_loss`."""

    op = nll_loss


def _valid(target, dim, ignore_index):
    """The target with the dimension of the classes, valid throughout, and where it counts nothing, None for nowhere."""
    index = target.long().unsqueeze(dim)
    # On the CPU a look at the data is cheaper than what it saves; a GPU would have to be waited for.
    if ignore_index < 0 and concrete(target) and target.is_cpu and target.numel() and target.min().item() >= 0:
        return index, None
    ignored = index == ignore_index
    return index.masked_fill(ignored, 0), ignored


def _total(weight, index, ignored):
    r"""The mean's denominator, $\sum_n w_{t_n}$ over what counts."""
    if ignored is None:
        return index.numel() if weight is None else weight[index].sum()
    counted = ignored.logical_not()
    return (counted if weight is None else weight[index] * counted).sum()


def _share(dy, dim, index, ignored, weight, reduction, total=None):
    """The upstream gradient of each sample's loss before its weight, 0 where it counts nothing; total: the denominator."""
    scale = widened(dy).unsqueeze(dim) if reduction == "none" else widened(dy)
    if reduction == "mean":
        scale = scale / (_total(weight, index, ignored) if total is None else total)
    # After the division, as that is 0/0 where all are ignored.
    return scale if ignored is None else scale.masked_fill(ignored, 0)


@nll_loss.prepare
def nll_loss_prepare(input, target, weight, ignore_index, reduction):
    check_reduction(reduction)
    check_index_target(input, target)
    check_class_weight(input, weight)
    return input, target, weight, ignore_index, reduction


@op(builtin=F.kl_div, autocast="float32")
def kl_div(input, target, reduction="mean", log_target=False):
    r"""Kullback-Leibler divergence, elementwise: $l = q (\log q - x)$ of log-probabilities x and probabilities q.

    input and target broadcast to each other, target $\log q$ with log_target. "batchmean" divides by the batch alone,
    which makes it $D(q \Vert p) \ge 0$; it is no distance: $D(q \Vert p) \ne D(p \Vert q)$. Kullback & Leibler 1951.
    """
    if log_target:
        loss = _weighed(target, target) - _weighed(target, input)
    else:
        loss = torch.special.xlogy(target, target) - times(target, input)
    if reduction == "batchmean":
        return loss.sum() / input.shape[0] if input.dim() else loss.sum()
    return reduce_loss(loss, reduction)


@kl_div.gradient
def kl_div_gradient(dy, needs, input, target, reduction, log_target):
    r"""$dx = -s\,q$; $dq = s\,(\log q + 1 - x)$, and of $\log q$: $s\,q\,(\log q + 1 - x)$."""
    if reduction == "batchmean":
        s = dy / input.shape[0] if input.dim() else dy
    else:
        elements = torch.broadcast_shapes(input.shape, target.shape).numel()
        s = unreduced(dy, elements, reduction)
    q = target.exp() if log_target else target
    if not needs.target:
        return (-s * q).expand(torch.broadcast_shapes(q.shape, input.shape)) if reduction != "none" else -s * q
    slope = (target if log_target else q.log()) + 1 - input
    dx = (-s * q).expand(slope.shape)
    return dx, s * (_weighed(target, slope) if log_target else slope)


class KLDivLoss(Manual, torch.nn.KLDivLoss):
    """The module of `kl_div`."""

    op = kl_div


def _weighed(log_q, x):
    r"""$q x$ by the root of q, which is not subnormal where the product is not."""
    root = torch.exp(log_q / 2)
    return root * times(root, x)


@kl_div.prepare
def kl_div_prepare(input, target, reduction, log_target):
    if reduction != "batchmean":
        check_reduction(reduction)
    if reduction == "mean":
        warn(
            "kl_div: reduction 'mean' divides by batch and classes; the divergence divides by the batch: use 'batchmean'"
        )
    return input, target, reduction, log_target
