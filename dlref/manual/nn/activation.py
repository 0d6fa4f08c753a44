"""Activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..module import Manual
from ..op import call, op


@op(builtin=F.sigmoid)
def sigmoid(input):
    r"""Logistic function: $y = 1 / (1 + e^{-x})$. Any shape; output as input."""
    return torch.sigmoid(input)


@sigmoid.gradient
def _(dy, output):
    r"""$dx = dy\, y (1 - y)$: only the output is kept."""
    return dy * (output * (1 - output)).conj()


class Sigmoid(Manual, torch.nn.Sigmoid):
    op = sigmoid


@op(builtin=F.relu)
def relu(input):
    r"""Rectified linear unit: $y = \max(x, 0)$; its gradient does not vanish for x > 0 (and is 0 at and below 0)."""
    return input.clamp(min=0)


@relu.gradient
def _(dy, output):
    r"""$dx = dy\,[y > 0]$: only the output is kept."""
    return dy * output.bool().view(torch.uint8)  # a product with 0 or 1: where and > take three times as long on a CPU


@relu.hard_samples
def _(tensor):
    yield call(tensor([-1.0, -0.0, 0.0, 1e-30, 1.0, float("inf"), float("-inf"), float("nan")]))


class ReLU(Manual, torch.nn.ReLU):
    op = relu
