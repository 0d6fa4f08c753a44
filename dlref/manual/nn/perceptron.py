"""The perceptron: Rosenblatt's error-correction rule, and the loss whose gradient it is."""

from __future__ import annotations

import torch

from ...builtin import functional as builtin
from ...builtin.composed import check_perceptron_loss
from ...builtin.nn import perceptron
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .linear import linear
from .reduction import check_reduction, reduce_loss, unreduced


@op(builtin=builtin.perceptron_loss, dtypes=Dtypes(promote=("input", "target")))
def perceptron_loss(input, target, reduction="mean"):
    r"""The perceptron criterion $l = \max(0, -t z)$ of a score z and a target t of 1 or -1.

    input and target of one shape; output a number, or elementwise. ValueError where shapes or reduction do not fit.
    Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.54.
    """
    return reduce_loss((-input * target).clamp(min=0), reduction)


@perceptron_loss.gradient
def perceptron_loss_gradient(dy, input, target, reduction):
    r"""$dz = -t\,[t z \not> 0]$, times dy, for the mean dy/n: at z = 0 as on the wrong side, so that weights of 0 learn."""
    margin = input * target
    dmargin = -unreduced(dy, margin.numel(), reduction) * ~(margin > 0)
    return dmargin * target, dmargin * input


class PerceptronLoss(Manual, perceptron.PerceptronLoss):
    """The module of `perceptron_loss`."""

    op = perceptron_loss


@perceptron_loss.prepare
def perceptron_loss_prepare(input, target, reduction):
    check_perceptron_loss(input, target)
    check_reduction(reduction)
    return input, target, reduction


class Perceptron(Manual, perceptron.Perceptron):
    r"""Rosenblatt's perceptron: the sign of $z = w \cdot x + b$, or the largest z, tells the class; learnt by `fit`.

    The rule $w \leftarrow w + \eta t x$ is a step down the gradient of `perceptron_loss`, which is $-t x$ where $t z \le 0$;
    the built-in side takes that step. Input (*, in_features), output (*, 1) for two classes, (*, classes) for more.
    ValueError for fewer than two classes or another variant than last, averaged, voted. Rosenblatt 1958 (Psychological
    Review 65).
    """

    op = linear

    @torch.no_grad()
    def correct(self, x, target, lr=1.0, bias_rate=1.0, decay=1.0, columns=None):
        r"""$w \leftarrow d w + \eta t x,\ b \leftarrow b + \beta \eta t$, with x and the 1 at b only where $t z \le 0$.

        $\eta$: lr, $\beta$: bias_rate, d: decay.
        """
        margin = target * self.score(x, columns)
        step = lr * target * (margin <= 0)
        if isinstance(decay, torch.Tensor) or decay != 1:
            self.weight *= decay
        if columns is None:
            self.weight += step.unsqueeze(1) * x
        else:
            self.weight.scatter_add_(1, columns, step.unsqueeze(1) * x)
        self.bias += bias_rate * step
        return margin
