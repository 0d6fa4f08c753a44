"""Fast forms of the losses of a difference, which write over it: a new tensor costs many passes over an old one."""

from __future__ import annotations

from ..nn.common import real_dtype, widened
from ..nn.reduction import reduce_loss, unreduced
from ..nn.regression_loss import divisor, held, huber_loss, l1_loss, mse_loss, smooth_l1_loss


def _floating(input, target):
    return input.is_floating_point() and target.is_floating_point()


def _plain(input, target, reduction, weight):
    return _floating(input, target) and weight is None


@l1_loss.kernel(where=_plain)
def l1_loss_forward(input, target, reduction, weight):
    d = widened(input) - widened(target)
    return reduce_loss(d.abs_(), reduction).to(real_dtype(input, target))


@l1_loss.kernel_gradient
def l1_loss_gradient(dy, needs, input, target, reduction):
    d = widened(input) - widened(target)
    dinput = d.sgn_().mul_(unreduced(dy, d.numel(), reduction))
    return dinput, -dinput if needs.target else None


@mse_loss.kernel(where=_plain)
def mse_loss_forward(input, target, reduction, weight):
    d = widened(input) - widened(target)
    return reduce_loss(d.square_(), reduction).to(real_dtype(input, target))


@mse_loss.kernel_gradient
def mse_loss_gradient(dy, needs, input, target, reduction):
    d = widened(input) - widened(target)
    dinput = d.mul_(2 * unreduced(dy, d.numel(), reduction))
    return dinput, -dinput if needs.target else None


def _bowl(d, bound, unit):
    """As the definition has it, written over d."""
    size = d.abs_()
    near = size.clamp(max=bound)
    size.sub_(near, alpha=0.5)
    return size.mul_(near if unit == 1 else near.div_(unit))


def _smooth(input, target, reduction, beta):
    return _floating(input, target) and beta > 0


@smooth_l1_loss.kernel(where=_smooth)
def smooth_l1_loss_forward(input, target, reduction, beta):
    d = widened(input) - widened(target)
    beta = divisor(beta, d)
    return reduce_loss(_bowl(d, beta, beta), reduction).to(real_dtype(input, target))


@smooth_l1_loss.kernel_gradient
def smooth_l1_loss_gradient(dy, needs, input, target, reduction, beta):
    d = widened(input) - widened(target)
    beta = divisor(beta, d)
    d.clamp_(-beta, beta)
    dinput = (d if beta == 1 else d.div_(beta)).mul_(unreduced(dy, d.numel(), reduction))
    return dinput, -dinput if needs.target else None


def _unweighted(input, target, reduction, delta, weight):
    return _floating(input, target) and weight is None


@huber_loss.kernel(where=_unweighted)
def huber_loss_forward(input, target, reduction, delta, weight):
    d = widened(input) - widened(target)
    return reduce_loss(_bowl(d, held(delta, d), 1), reduction).to(real_dtype(input, target))


@huber_loss.kernel_gradient
def huber_loss_gradient(dy, needs, input, target, reduction, delta):
    d = widened(input) - widened(target)
    delta = held(delta, d)
    dinput = d.clamp_(-delta, delta).mul_(unreduced(dy, d.numel(), reduction))
    return dinput, -dinput if needs.target else None
