"""Fast forms of the losses of a difference, which write over it: a new tensor costs many passes over an old one."""

from __future__ import annotations

import math

from ..nn.common import widened
from ..nn.reduction import unreduced
from ..nn.regression_loss import difference, divisor, held, huber_loss, l1_loss, mse_loss, reduced, smooth_l1_loss


def _floating(input, target):
    return input.is_floating_point() and target.is_floating_point()


def _plain(input, target, reduction, weight):
    return _floating(input, target) and weight is None


def _pull(dy, slope, reduction, needs):
    """The gradients of input and target, the former written over the slope."""
    dinput = slope.mul_(unreduced(dy, slope.numel(), reduction))
    return dinput, -dinput if needs.target else None


@l1_loss.kernel(where=_plain)
def l1_loss_forward(input, target, reduction, weight):
    return reduced(difference(input, target).abs_(), reduction, None, input, target)


@l1_loss.kernel_gradient
def l1_loss_gradient(dy, needs, input, target, reduction):
    return _pull(dy, difference(input, target).sgn_(), reduction, needs)


@mse_loss.kernel(where=_plain)
def mse_loss_forward(input, target, reduction, weight):
    return reduced(difference(input, target).square_(), reduction, None, input, target)


@mse_loss.kernel_gradient
def mse_loss_gradient(dy, needs, input, target, reduction):
    return _pull(2 * widened(dy), difference(input, target), reduction, needs)


def _bowl(d, bound, unit):
    """As the definition has it, written over d."""
    size = d.abs_()
    near = size.clamp(max=bound)
    size.sub_(near, alpha=0.5)
    return size.mul_(near if unit == 1 else near.div_(unit))


def _smooth(input, target, reduction, beta):
    return _floating(input, target) and 0 < beta < math.inf


@smooth_l1_loss.kernel(where=_smooth)
def smooth_l1_loss_forward(input, target, reduction, beta):
    d = difference(input, target)
    beta = divisor(beta, d)
    return reduced(_bowl(d, beta, beta), reduction, None, input, target)


@smooth_l1_loss.kernel_gradient
def smooth_l1_loss_gradient(dy, needs, input, target, reduction, beta):
    d = difference(input, target)
    beta = divisor(beta, d)
    d.clamp_(-beta, beta)
    return _pull(dy, d if beta == 1 else d.div_(beta), reduction, needs)


def _unweighted(input, target, reduction, delta, weight):
    return _floating(input, target) and weight is None


@huber_loss.kernel(where=_unweighted)
def huber_loss_forward(input, target, reduction, delta, weight):
    d = difference(input, target)
    return reduced(_bowl(d, held(delta, d), 1), reduction, None, input, target)


@huber_loss.kernel_gradient
def huber_loss_gradient(dy, needs, input, target, reduction, delta):
    d = difference(input, target)
    delta = held(delta, d)
    return _pull(dy, d.clamp_(-delta, delta), reduction, needs)
