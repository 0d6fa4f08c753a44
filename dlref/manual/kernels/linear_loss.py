"""A fast form of the cross entropy of a linear layer: a chunk's logits are written over until they are their gradient."""

from __future__ import annotations

import torch

from ..nn.common import times, wide
from ..nn.cross_entropy_loss import of_classes, pick
from ..nn.linear import linear
from ..nn.linear_loss import as_input, as_matrices, linear_cross_entropy, total_of, upstream
from .cross_entropy_loss import others

HELD = 2**15  # numbers that a cache holds


def _by_chunks(
    dy, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
):
    """As the definition has it; a = share at the class, and even for every class, or the weighted probabilities."""
    x, W, b = as_matrices(input, linear_weight, linear_bias)
    n, classes, places = len(x), linear_weight.shape[0], linear_weight.shape[1:-1].numel()
    c = x.new_ones(classes) if weight is None else wide(weight)
    even = label_smoothing / max(classes, 1) * c.unsqueeze(1) if label_smoothing else None  # (C, 1)
    s = None
    if target.is_floating_point():
        t = target.reshape(n, classes, places)
        total = total_of(t, weight, ignore_index, input)
        s = upstream(dy, reduction, total, n, places).unsqueeze(1) if any(learn) else None
    else:
        t = target.reshape(n, places)
        total = total_of(t, weight, ignore_index, input)
        index, counted = of_classes(t, 1, ignore_index)
        share = (1 - label_smoothing) * c[index] * counted
        if any(learn):
            s = torch.where(counted, upstream(dy, reduction, total, n, places).unsqueeze(1), 0)
    losses, dx, dW, db = [], [], None, None
    for start in range(0, max(n, 1), rows):
        part = slice(start, start + rows)
        z = linear.forward(x[part], W, b).unflatten(1, (classes, places))
        scale = None if s is None else s[part]
        if target.is_floating_point():
            a = wide(t[part]) * ((1 - label_smoothing) * c).unsqueeze(1)
            losses.append(_over_probabilities(z, a if even is None else a + even, scale))
        else:
            losses.append(_over_classes(z, index[part], counted[part], share[part], even, scale))
        dz = z.flatten(1)
        if learn[0]:
            dx.append(dz @ W)
        if learn[1]:
            dW = dz.t() @ x[part] if dW is None else torch.addmm(dW, dz.t(), x[part], out=dW)
        if learn[2]:
            db = dz.sum(0) if db is None else db.add_(dz.sum(0))
        del z, dz  # before the next chunk is made
    grads = torch.cat(dx) if dx else None, dW, db
    return as_input(torch.cat(losses), grads, learn, reduction, total, input, linear_weight, linear_bias)


def _over_classes(z, index, counted, share, even, scale):
    """The losses (n, 1, d) of logits z (n, C, d) with a = share at index, and even for every class, where counted; z becomes
    dz where there is a scale."""
    _shift(z)
    z_of_target = pick(z, 1, index)
    az, of_all = share * z_of_target, share  # sum_c a_c z_c, sum_c a_c
    if even is not None:
        az, of_all = az + (z * even).sum(1, keepdim=True), share + even.sum()
    rest = _exponentials(z)
    log_norm = rest.log1p()
    if scale is not None:
        z.mul_(scale * of_all / (1 + rest))
        if even is None:  # p - 1 of the target as $e^{\\log p} - 1$, which does not cancel
            z.scatter_(1, index, scale * share * (z_of_target - log_norm).expm1())
        else:
            z.scatter_add_(1, index, -scale * share).sub_(scale * even)
    return torch.where(counted, of_all * log_norm - az, 0)


def _over_probabilities(z, a, scale):
    """The losses (n, 1, d) of logits z (n, C, d) and weighted probabilities a; z becomes dz where there is a scale."""
    _shift(z)
    az, of_all = times(a, z).sum(1, keepdim=True), a.sum(1, keepdim=True)
    rest = _exponentials(z)
    if scale is not None:
        z.mul_(scale * of_all / (1 + rest)).sub_(scale * a)
    return of_all * rest.log1p() - az


def _shift(z):
    """Takes from the logits the largest of their row, where exp cannot overflow and p is the same."""
    if z.numel():
        z.sub_(z.amax(1, keepdim=True))


def _exponentials(z):
    """The sum of all but the largest, so that its logarithm with 1 keeps it where it is small; z becomes $e^z$."""
    total = z.exp_().sum(1, keepdim=True)
    if not z.numel():
        return total
    parts = z.split(max(1, HELD // z[0].numel()))
    return others(total, torch.cat([torch.frac(part).sum(1, keepdim=True) for part in parts]))


@linear_cross_entropy.kernel
def linear_cross_entropy_forward(input, *rest):
    return _by_chunks(input.new_ones(()), input, *rest)


@linear_cross_entropy.kernel_gradient
def linear_cross_entropy_gradient(
    dy, saved, needs, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows,
    learn,
):  # fmt: skip
    rest = weight, reduction, ignore_index, label_smoothing, rows
    wanted = needs.input, needs.linear_weight, needs.linear_bias
    if saved or not any(wanted):
        return linear_cross_entropy.pull(dy, saved, needs, input, linear_weight, target, linear_bias, *rest, learn)
    made = iter(_by_chunks(dy, input, linear_weight, target, linear_bias, *rest, wanted)[1])
    dx, dW, db = (next(made) if want else None for want in wanted)
    only = needs._replace(input=False, linear_weight=False, linear_bias=False)
    _, _, dtarget, _, dw = linear_cross_entropy.pull(
        dy, saved, only, input, linear_weight, target, linear_bias, *rest, learn
    )
    return dx, dW, dtarget, db, dw
