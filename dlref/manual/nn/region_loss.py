"""Losses of the overlap of regions: Dice's coefficient and Tversky's index."""

from __future__ import annotations

from ...builtin import functional as builtin
from ...builtin.nn import region_loss as builtin_nn
from ...builtin.region_loss import per_sample
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import wide


def _apart(p, t, alpha, beta):
    r"""What is not shared: $\alpha \sum p\,(1 - t) + \beta \sum (1 - p)\,t$."""
    return (alpha * p * (1 - t) + beta * (1 - p) * t).sum(1)


@op(builtin=builtin.tversky_loss, dtypes=Dtypes(promote=("input", "target")))
def tversky_loss(input, target, alpha=0.5, beta=0.5, smooth=1.0):
    r"""Less than Tversky's index of regions: $l = 1 - \frac{T + \epsilon}{T + F + \epsilon} = \frac{F}{T + F + \epsilon},\quad
    T = \sum p t,\ F = \alpha \sum p\,(1 - t) + \beta \sum (1 - p)\,t$; the second form does not cancel where the regions agree.

    input p and target t, probabilities of one shape (N, *): sums over a sample, output the mean over N. alpha weighs what is
    found and not there, beta what is there and not found. With 1/2 both it is `dice_loss` of twice the smooth. ValueError
    where the shapes do not fit. Salehi et al. 2017, arXiv:1706.05721, eq. 4; Tversky 1977.
    """
    p, t = per_sample(wide(input), wide(target))
    apart = _apart(p, t, alpha, beta)
    return (apart / ((p * t).sum(1) + apart + smooth)).mean().to(input.dtype)


@tversky_loss.gradient
def tversky_loss_gradient(dy, input, target, alpha, beta, smooth):
    r"""$dp = s\,(c\,F' - l\,t) / D,\quad F' = \alpha\,(1 - t) - \beta\,t$, and dt with $F' = \beta\,(1 - p) - \alpha\,p$ and
    p in place of t: of $c = 1 - l = (T + \epsilon) / D$, $dl = ((T + \epsilon)\,dD - D\,dT) / D^2$ with $D = T + F +
    \epsilon$; s is dy / N."""
    p, t = per_sample(wide(input), wide(target))
    apart = _apart(p, t, alpha, beta).unsqueeze(1)
    shared = (p * t).sum(1, keepdim=True) + smooth
    total, s = shared + apart, wide(dy) / max(len(p), 1)
    loss, index = apart / total, shared / total
    dp = s * (index * (alpha * (1 - t) - beta * t) - loss * t) / total
    dt = s * (index * (beta * (1 - p) - alpha * p) - loss * p) / total
    return dp.view(input.shape), dt.view(target.shape)


class TverskyLoss(Manual, builtin_nn.TverskyLoss):
    """The module of `tversky_loss`."""

    op = tversky_loss


@tversky_loss.prepare
def tversky_loss_prepare(input, target, alpha, beta, smooth):
    per_sample(input, target)
    return input, target, alpha, beta, smooth


@op(builtin=builtin.dice_loss, dtypes=Dtypes(promote=("input", "target")))
def dice_loss(input, target, smooth=1.0):
    r"""Less than Dice's coefficient of regions: $l = 1 - \frac{2 \sum p t + \epsilon}{\sum p + \sum t + \epsilon} =
    \frac{\sum p\,(1 - t) + (1 - p)\,t}{\sum p + \sum t + \epsilon}$; the second form does not cancel where the regions agree.

    input p and target t, probabilities of one shape (N, *): sums over a sample, output the mean over N. The denominator's terms
    are not squared, as they are in V-Net's form (arXiv:1606.04797). ValueError where the shapes do not fit. Sudre et al. 2017,
    arXiv:1707.03237, section 2.1; Dice 1945.
    """
    p, t = per_sample(wide(input), wide(target))
    return (_apart(p, t, 1, 1) / (p.sum(1) + t.sum(1) + smooth)).mean().to(input.dtype)


@dice_loss.gradient
def dice_loss_gradient(dy, input, target, smooth):
    r"""$dp = s\,(c\,(1 - 2t) - 2\,l\,t) / D,\quad dt = s\,(c\,(1 - 2p) - 2\,l\,p) / D$, D the denominator and c = 1 - l the
    coefficient: of $c = C / D$, $dl = (c\,dD - dC) / D$, and $c - 2t$ is $c\,(1 - 2t) - 2\,l\,t$; s is dy / N."""
    p, t = per_sample(wide(input), wide(target))
    total = (p.sum(1) + t.sum(1) + smooth).unsqueeze(1)
    loss = _apart(p, t, 1, 1).unsqueeze(1) / total
    index, s = (2 * (p * t).sum(1, keepdim=True) + smooth) / total, wide(dy) / max(len(p), 1)
    dp, dt = (s * (index * (1 - 2 * v) - 2 * loss * v) / total for v in (t, p))
    return dp.view(input.shape), dt.view(target.shape)


class DiceLoss(Manual, builtin_nn.DiceLoss):
    """The module of `dice_loss`."""

    op = dice_loss


@dice_loss.prepare
def dice_loss_prepare(input, target, smooth):
    per_sample(input, target)
    return input, target, smooth
