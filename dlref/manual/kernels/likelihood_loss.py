"""Fast forms of the logistic losses: the logarithm is written over what it is of."""

from __future__ import annotations

import torch

from ..nn.common import times, wide
from ..nn.likelihood_loss import (
    binary_cross_entropy_with_logits,
    multilabel_soft_margin_loss,
    of_labels,
    soft_margin_loss,
)
from ..nn.reduction import reduce_loss, unreduced
from .common import log1p_exp, real


def _binary(x, t, c):
    """As the definitions have it."""
    return times(t if c is None else c * t, log1p_exp(-x)) + times(1 - t, log1p_exp(x))


def _slope(x, t, c):
    r"""$(1 - t)\,\sigma(x) - c\,t\,\sigma(-x)$ by $p = e^{\min(x, 0)}$ and $q = e^{\min(-x, 0)}$, one of which is 1:
    $\sigma(x) = p / (1 + p q)$ and $\sigma(-x) = q / (1 + p q)$."""
    p, q = x.clamp(max=0).exp_(), x.clamp(min=0).neg_().exp_()
    denominator = (p * q).add_(1)
    return (p * (1 - t) - q * (t if c is None else c * t)).div_(denominator)


@binary_cross_entropy_with_logits.kernel(where=real)
def binary_cross_entropy_with_logits_forward(input, target, weight, reduction, pos_weight):
    loss = _binary(wide(input), target, pos_weight)
    return reduce_loss(loss if weight is None else loss * weight, reduction).to(input.dtype)


@binary_cross_entropy_with_logits.kernel_gradient
def binary_cross_entropy_with_logits_gradient(dy, needs, input, target, weight, reduction, pos_weight):
    _, *rest = binary_cross_entropy_with_logits.pull(
        dy, needs._replace(input=False), input, target, weight, reduction, pos_weight
    )
    slope = _slope(wide(input), target, pos_weight)
    number = torch.broadcast_shapes(slope.shape, () if weight is None else weight.shape).numel()
    s = unreduced(dy, number, reduction)
    return slope * (s if weight is None else s * weight), *rest


@multilabel_soft_margin_loss.kernel(where=real)
def multilabel_soft_margin_loss_forward(input, target, weight, reduction):
    loss = _binary(wide(input), target, None)
    loss = (loss if weight is None else loss * weight).sum(-1) / input.shape[-1]
    return reduce_loss(loss, reduction).to(torch.promote_types(input.dtype, target.dtype))


@multilabel_soft_margin_loss.kernel_gradient
def multilabel_soft_margin_loss_gradient(dy, needs, input, target, weight, reduction):
    _, *rest = multilabel_soft_margin_loss.pull(dy, needs._replace(input=False), input, target, weight, reduction)
    x, target = torch.broadcast_tensors(wide(input), target)
    s = of_labels(dy, x, reduction) / input.shape[-1]
    return _slope(x, target, None) * (s if weight is None else s * weight), *rest


@soft_margin_loss.kernel(where=real)
def soft_margin_loss_forward(input, target, reduction):
    return reduce_loss(log1p_exp(-(target * wide(input))), reduction).to(input.dtype)
