"""Fast forms of the logistic losses: the logarithm is written over what it is of."""

from __future__ import annotations

from ..nn.common import times, wide
from ..nn.likelihood_loss import binary_cross_entropy_with_logits, soft_margin_loss
from ..nn.reduction import reduce_loss
from .common import log1p_exp, real


@binary_cross_entropy_with_logits.kernel(where=real)
def binary_cross_entropy_with_logits_forward(input, target, weight, reduction, pos_weight):
    x = wide(input)
    positive = times(target if pos_weight is None else pos_weight * target, log1p_exp(-x))
    loss = positive + times(1 - target, log1p_exp(x))
    return reduce_loss(loss if weight is None else loss * weight, reduction).to(input.dtype)


@soft_margin_loss.kernel(where=real)
def soft_margin_loss_forward(input, target, reduction):
    return reduce_loss(log1p_exp(-(target * wide(input))), reduction).to(input.dtype)
