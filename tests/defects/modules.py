"""Modules with one error each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from . import defect


@defect("BatchNorm1d", "value", "output 2|ignores|factor")
class BiasedRunningVariance(nn.BatchNorm1d):
    def forward(self, input):
        if not (self.training and self.track_running_stats):
            return super().forward(input)
        dims = [d for d in range(input.dim()) if d != 1]
        var, mean = torch.var_mean(input, dims, correction=0)
        momentum = 1 / float(self.num_batches_tracked + 1) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), momentum)  # the biased one
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


@defect("Dropout", "value", "each element|input times")
class UnscaledDropout(nn.Module):
    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        self.p = p

    def forward(self, input):
        if not self.training:
            return input
        return input * (torch.rand_like(input) >= self.p)  # not divided by 1 - p


@defect("Linear", "value", "ignores bias|a term is missing")
class ForgottenBias(nn.Linear):
    def forward(self, input):
        return F.linear(input, self.weight)  # and its bias learns nothing


@defect("InstanceNorm2d", "value", "")
class NormOfTheBatch(nn.InstanceNorm2d):
    def forward(self, input):
        return (
            F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)
            if input.dim() == 4
            else super().forward(input)
        )


@defect("LayerNorm", "value", "ignores eps|less exact")
class EpsNotKept(nn.LayerNorm):
    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, 1e-5)  # whatever self.eps is


@defect("Softmax", "value", "ignores dim|only")
class AlwaysLast(nn.Softmax):
    def forward(self, input):
        return torch.softmax(input, -1)


@defect("CrossEntropyLoss", "value|gradient", "ignores ignore_index")
class IgnoresNothing(nn.CrossEntropyLoss):
    def forward(self, input, target):
        if not target.is_floating_point():
            target = target.where((target >= 0) & (target < input.shape[1 if input.dim() > 1 else 0]), 0)
        return F.cross_entropy(
            input, target, self.weight, reduction=self.reduction, label_smoothing=self.label_smoothing
        )
