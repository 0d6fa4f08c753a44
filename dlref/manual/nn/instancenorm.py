"""Instance normalisation: over the places of each channel of each sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..module import Manual, again, made_of
from ..op import op
from .batchnorm import BatchNorm, channels_first, check_channels
from .common import contiguous, own, wide
from .standardise import restandardised, standardised, statistics, summed


@op(builtin=F.instance_norm, layout=contiguous)
def instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps):
    r"""Instance normalisation: $y = \hat x \gamma + \beta,\ \hat x = (x - \mu)\,\rho,\ \rho = (\sigma^2 + \epsilon)^{-1/2}$.

    input (N, C, *), all else (C,); output as input. $\mu$ and (biased) $\sigma^2$ are over the places of a channel of a
    sample, and the running statistics move towards their means over the samples; without use_input_stats the running
    statistics stand for both. ValueError where a channel has one place. Ulyanov et al. 2016, arXiv:1607.08022, eq. 1.
    """
    x = wide(input)
    if use_input_stats:
        y, kept = standardised(x, _places(input), eps)
    else:  # clone: what is saved must not be the running statistics themselves, which move
        mean, rho = wide(running_mean).clone(), (wide(running_var) + eps).rsqrt()
        y, kept = (x - channels_first(mean, input)) * channels_first(rho, input), (mean, rho)
    if weight is not None:
        y = torch.mul(y, channels_first(weight, input), out=own(y))
    if bias is not None:
        y = torch.add(y, channels_first(bias, input), out=own(y))
    return y.to(input.dtype), kept


def _places(input):
    """The dimensions behind samples and channels."""
    return tuple(range(2, input.dim()))


@instance_norm.gradient
def instance_norm_gradient(dy, saved, needs, input, weight, use_input_stats):
    r"""With $g = dy \odot \gamma$ and means over the places:
    $dx = \rho\,(g - \overline{g} - \hat x\,\overline{g \odot \hat x})$,
    $\rho\,g$ without use_input_stats; $d\gamma = \sum dy \odot \hat x,\ d\beta = \sum dy$."""
    dy, x, places = wide(dy), wide(input), _places(input)
    if use_input_stats:
        scale, mean, rest, _, rho = saved
        x_hat, rho = restandardised(x, scale, mean, rest, rho), rho * scale
    else:
        mean, rho = (channels_first(t, input) for t in saved)
        x_hat = x - mean  # but for the factor
    dx = g = dy if weight is None else dy * channels_first(weight, input)
    if use_input_stats:
        dx = g - g.mean(places, keepdim=True) - x_hat * (g * x_hat).mean(places, keepdim=True)
    dims = (0, *places)
    dweight = dbias = None
    if needs.weight:
        dweight = summed(dy, dims, x_hat)
        dweight = dweight if use_input_stats else dweight * rho.flatten()
    if needs.bias:
        dbias = summed(dy, dims)
    return rho * dx, None, None, dweight, dbias


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
    check_channels(
        "instance_norm", input.shape[1], running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if use_input_stats:
        return input, None, None, weight, bias, use_input_stats, 0.0, eps
    return input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps


@instance_norm.finish
def instance_norm_finish(output, saved, input, running_mean, running_var, use_input_stats, momentum):
    if use_input_stats and running_mean is not None and input.numel() and not again():
        n = input.shape[2:].numel()
        mean, variance = (t.flatten(1).mean(0) for t in statistics(saved))
        with torch.no_grad():
            running_mean.copy_((1 - momentum) * running_mean + momentum * mean)
            running_var.copy_((1 - momentum) * running_var + momentum * (variance * (n / (n - 1))))
    return output


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
    op = instance_norm


class InstanceNorm2d(InstanceNorm, torch.nn.InstanceNorm2d):
    op = instance_norm


class InstanceNorm3d(InstanceNorm, torch.nn.InstanceNorm3d):
    op = instance_norm


class LazyInstanceNorm1d(InstanceNorm, torch.nn.LazyInstanceNorm1d):
    op, cls_to_become = instance_norm, InstanceNorm1d


class LazyInstanceNorm2d(InstanceNorm, torch.nn.LazyInstanceNorm2d):
    op, cls_to_become = instance_norm, InstanceNorm2d


class LazyInstanceNorm3d(InstanceNorm, torch.nn.LazyInstanceNorm3d):
    op, cls_to_become = instance_norm, InstanceNorm3d
