"""A fast form of the cross entropy of classes: few tensors of the input's size, and nobody looks where the largest logit is."""

from __future__ import annotations

import torch

from ..nn.common import concrete, times, wide, widened
from ..nn.cross_entropy_loss import check_same_dtype, cross_entropy, pick
from ..nn.reduction import reduce_loss


def others(total, rest):
    r"""The sum of all $e^{x - m}$ but one that is 1, of the sums of all and of their fractions: what lies between them are the
    ones, of which there may be several, and their number is whole."""
    return rest.add_((total - rest).round().sub_(1))


def _log_normalized(x, dim):
    """As the definition has it."""
    log_p = x - x.amax(dim, keepdim=True)
    e = log_p.exp()
    total = e.sum(dim, keepdim=True)
    rest = torch.frac(e, out=e).sum(dim, keepdim=True)
    return log_p.sub_(others(total, rest).log1p_())


def _of_classes(target, dim, ignore_index):
    """The class indices with the dimension of the classes, valid throughout, and where they do not count, None for nowhere."""
    index = target.long().unsqueeze(dim)
    # On the CPU a look at the data is cheaper than what it saves; a GPU would have to be waited for.
    if ignore_index < 0 and concrete(target) and target.is_cpu and target.min().item() >= 0:
        return index, None
    ignored = index == ignore_index
    return index.masked_fill(ignored, 0), ignored


def _total(weight, index, ignored):
    """The mean's denominator."""
    if weight is None:
        return index.numel() if ignored is None else ignored.logical_not().sum()
    w = widened(weight)[index]
    return (w if ignored is None else w.masked_fill_(ignored, 0)).sum()


def _of_one_class(input, target, weight, ignore_index, reduction, label_smoothing):
    return target.shape != input.shape and not label_smoothing and input.numel() > 0


@cross_entropy.kernel(where=_of_one_class)
def cross_entropy_forward(input, target, weight, ignore_index, reduction, label_smoothing):
    dim = min(input.dim() - 1, 1)
    log_p = _log_normalized(wide(input), dim)
    index, ignored = _of_classes(target, dim, ignore_index)
    loss = pick(log_p, dim, index).neg_()
    if weight is not None:
        check_same_dtype(input, weight)
        loss = times(weight[index], loss)
    loss = (loss if ignored is None else loss.masked_fill_(ignored, 0)).squeeze(dim)
    loss = loss.sum() / _total(weight, index, ignored) if reduction == "mean" else reduce_loss(loss, reduction)
    return loss.to(input.dtype), (log_p,)


@cross_entropy.kernel_gradient
def cross_entropy_gradient(dy, saved, target, weight, ignore_index, reduction):
    (log_p,) = saved
    dim = min(log_p.dim() - 1, 1)
    index, ignored = _of_classes(target, dim, ignore_index)
    s = widened(dy).unsqueeze(dim) if reduction == "none" else widened(dy)
    s = s / _total(weight, index, ignored) if reduction == "mean" else s
    s = s if ignored is None else s.masked_fill(ignored, 0)  # after the division, as that is 0/0 where none counts
    p_minus_one_hot = log_p.exp().scatter_(dim, index, log_p.gather(dim, index).expm1_())
    return p_minus_one_hot.mul_(s if weight is None else s * widened(weight)[index])
