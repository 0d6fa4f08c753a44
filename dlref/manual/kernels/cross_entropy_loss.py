"""A fast form of the cross entropy of classes: few tensors of the input's size, and nobody looks where the largest logit is."""

from __future__ import annotations

import torch

from ..nn.common import wide, widened
from ..nn.cross_entropy_loss import against_classes, check_same_dtype, cross_entropy, of_classes, unreduced_classes


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


def _of_one_class(input, target, weight, ignore_index, reduction, label_smoothing):
    return target.shape != input.shape and not label_smoothing and input.numel() > 0


@cross_entropy.kernel(where=_of_one_class)
def cross_entropy_forward(input, target, weight, ignore_index, reduction, label_smoothing):
    log_p = _log_normalized(wide(input), min(input.dim() - 1, 1))
    check_same_dtype(input, weight)
    return against_classes(log_p, target, weight, ignore_index, reduction, label_smoothing).to(input.dtype), (log_p,)


@cross_entropy.kernel_gradient
def cross_entropy_gradient(dy, saved, target, weight, ignore_index, reduction):
    (log_p,) = saved
    dim = min(log_p.dim() - 1, 1)
    index, counted = of_classes(target, dim, ignore_index)
    s = unreduced_classes(dy, dim, reduction, weight, index, counted)
    p_minus_one_hot = log_p.exp().scatter_(dim, index, log_p.gather(dim, index).expm1_())
    return p_minus_one_hot.mul_(s if weight is None else s * widened(weight)[index])
