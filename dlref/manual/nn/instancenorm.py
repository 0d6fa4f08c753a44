"""Instance normalisation: over the places of each channel of each sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import again, made_of
from .batchnorm import BatchNorm, channels_first, check_beside, check_channels, moved, normalised, statistics, x_hat_of
from .common import contiguous, wide
from .standardise import summed


@op(builtin=F.instance_norm, layout=contiguous)
def instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps):
    r"""Instance normalisation: $y = \hat x \gamma + \beta,\ \hat x = (x - \mu)\,\rho,\ \rho = (\sigma^2 + \epsilon)^{-1/2}$.

    input (N, C, *), all else (C,); output as input. $\mu$ and (biased) $\sigma^2$ are over the places of a channel of a
    sample, and the running statistics move towards their means over the samples; without use_input_stats the running
    statistics stand for both. ValueError where a channel has one place, RuntimeError where shapes do not fit. Ulyanov et al.
    2016, arXiv:1607.08022, eq. 1.
    """
    places = tuple(range(2, input.dim()))
    return normalised(input, running_mean, running_var, weight, bias, places if use_input_stats else None, eps)


@instance_norm.gradient
def instance_norm_gradient(dy, saved, needs, input, weight, use_input_stats):
    r"""With $g = dy \odot \gamma$ and means over the places:
    $dx = \rho\,(g - \overline{g} - \hat x\,\overline{g \odot \hat x})$,
    $\rho\,g$ without use_input_stats; $d\gamma = \sum dy \odot \hat x,\ d\beta = \sum dy$."""
    dy, places = wide(dy), tuple(range(2, input.dim()))
    x_hat, rho = x_hat_of(input, saved)
    dx = g = dy if weight is None else dy * channels_first(weight, input)
    if use_input_stats:
        dx = g - g.mean(places, keepdim=True) - x_hat * (g * x_hat).mean(places, keepdim=True)
    dweight = summed(dy, (0, *places), x_hat) if needs.weight else None
    return rho * dx, None, None, dweight, summed(dy, (0, *places)) if needs.bias else None


class InstanceNorm(Manual):
    """What the instance normalisations share: which statistics a call uses, and an input without a batch."""

    attributes = BatchNorm.attributes

    def arguments(self):
        bound = super().arguments()
        momentum = 0.0 if self.momentum is None else self.momentum
        return {**bound, "use_input_stats": self.training or not self.track_running_stats, "momentum": momentum}

    def opened(self, input):
        self._check_input_dim(input)
        channels, n = input.shape[input.dim() - self._get_no_batch_dim()], self._get_no_batch_dim()
        if channels != self.num_features and self.affine:
            raise ValueError(
                f"{type(self).__name__}: the input must have {self.num_features} channels, it has {channels}"
            )
        return input if input.dim() != n else input.unsqueeze(0)

    def forward(self, input):
        output = super().forward(self.opened(input))
        return output if output.dim() == input.dim() else output.squeeze(0)

    def explicit(self, input):
        output, pull = super().explicit(self.opened(input))
        if output.dim() == input.dim():
            return output, pull

        def pullback(dy=None, needs=None):
            (dx,) = pull(dy.unsqueeze(0), needs)
            return (None if dx is None else dx.squeeze(0),)

        return output.squeeze(0), made_of(pullback, pull)


class InstanceNorm1d(InstanceNorm, torch.nn.InstanceNorm1d):
    """The module of `instance_norm` on (N, C, L) or (C, L)."""

    op = instance_norm


class InstanceNorm2d(InstanceNorm, torch.nn.InstanceNorm2d):
    """The module of `instance_norm` on (N, C, H, W) or (C, H, W)."""

    op = instance_norm


class InstanceNorm3d(InstanceNorm, torch.nn.InstanceNorm3d):
    """The module of `instance_norm` on (N, C, D, H, W) or (C, D, H, W)."""

    op = instance_norm


@instance_norm.prepare
def instance_norm_prepare(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    if input.dim() < 2:
        raise RuntimeError(f"instance_norm(): the input must be (N, C, *), it has shape {tuple(input.shape)}")
    if use_input_stats and input.shape[2:].numel() == 1:
        raise ValueError(
            f"instance_norm(): a channel must have more than one place, the input has shape {tuple(input.shape)}"
        )
    if not use_input_stats and (running_mean is None or running_var is None):
        raise RuntimeError("instance_norm(): running_mean and running_var must be given without use_input_stats")
    running, affine = {"running_mean": running_mean, "running_var": running_var}, {"weight": weight, "bias": bias}
    check_channels("instance_norm", input, **running, **affine)
    check_beside("instance_norm", input, **({} if use_input_stats else running), **affine)
    if use_input_stats:
        return input, None, None, weight, bias, use_input_stats, 0.0, eps
    return input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps


@instance_norm.finish
def instance_norm_finish(output, saved, input, running_mean, running_var, use_input_stats, momentum):
    if use_input_stats and running_mean is not None and input.numel() and not again():
        n = input.shape[2:].numel()
        mean, variance = (t.flatten(1).mean(0) for t in statistics(saved))
        moved(running_mean, running_var, mean, variance, n, momentum)
    return output


class LazyInstanceNorm1d(InstanceNorm, torch.nn.LazyInstanceNorm1d):
    """The module of `instance_norm` on (N, C, L) or (C, L), C taken from the first input."""

    op, cls_to_become = instance_norm, InstanceNorm1d


class LazyInstanceNorm2d(InstanceNorm, torch.nn.LazyInstanceNorm2d):
    """The module of `instance_norm` on (N, C, H, W) or (C, H, W), C taken from the first input."""

    op, cls_to_become = instance_norm, InstanceNorm2d


class LazyInstanceNorm3d(InstanceNorm, torch.nn.LazyInstanceNorm3d):
    """The module of `instance_norm` on (N, C, D, H, W) or (C, D, H, W), C taken from the first input."""

    op, cls_to_become = instance_norm, InstanceNorm3d
