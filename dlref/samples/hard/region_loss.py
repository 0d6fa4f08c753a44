"""Hard samples, wrong calls and equations of manual/nn/region_loss.py."""

from __future__ import annotations

from ...manual.nn.region_loss import dice_loss, tversky_loss
from .register import call, equation, errors, samples


def _regions(tensor):
    """Partly shared, found nowhere, all but the same, and nothing to be found."""
    return (tensor([[0.75, 0.25, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.99609375, 1.0], [0.5, 0.125, 0.0, 0.25]]),
            tensor([[1.0, 0.0, 0.5, 0.25], [1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))  # fmt: skip


def _common(tensor):
    p, t = _regions(tensor)
    yield call(p, t)
    yield call(p, t, smooth=1e-5)
    yield call(p[:3], t[:3], smooth=0.0)
    yield call(p * 0, t * 0, smooth=0.0)  # 0/0
    yield call(p, p.clone())
    yield call(p.view(2, 2, 2, 2), t.view(2, 2, 2, 2))
    yield call(p[0], t[0])  # samples of one number
    yield call(p[:0], t[:0])


@samples(dice_loss)
def dice_loss_samples(tensor):
    yield from _common(tensor)
    yield call(*_regions(tensor), 100.0)


@samples(tversky_loss)
def tversky_loss_samples(tensor):
    yield from _common(tensor)
    p, t = _regions(tensor)
    yield call(p, t, 0.3, 0.7)
    yield call(p, t, 1.0, 0.0, 0.5)
    yield call(p, t, 0.0, 0.0, 1.0)  # no loss


@errors(dice_loss)
def dice_loss_errors(tensor):
    p = tensor([[0.5, 0.5]])
    yield ValueError, call(p, p[0])
    yield ValueError, call(p[0, 0], p[0, 0])


@errors(tversky_loss)
def tversky_loss_errors(tensor):
    yield from dice_loss_errors(tensor)


@equation(dice_loss)
def dice_loss_equation(sp, input, target, smooth):
    """Of one sample."""
    both = sum(p * t for p, t in zip(input, target, strict=True))
    return 1 - (2 * both + smooth) / (sum(input) + sum(target) + smooth)


@equation(tversky_loss)
def tversky_loss_equation(sp, input, target, alpha, beta, smooth):
    """Of one sample."""
    both = sum(p * t for p, t in zip(input, target, strict=True))
    found = sum(p * (1 - t) for p, t in zip(input, target, strict=True))
    missed = sum((1 - p) * t for p, t in zip(input, target, strict=True))
    return 1 - (both + smooth) / (both + alpha * found + beta * missed + smooth)
