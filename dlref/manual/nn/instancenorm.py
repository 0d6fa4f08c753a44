"""Instance normalisation: over the places of each channel of each sample."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..module import Manual, made_of
from ..op import call, op
from .batchnorm import BatchNorm, channels_first, check_channels
from .common import wide


@op(builtin=F.instance_norm)
def instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps):
    r"""Instance normalisation: $y = \hat x \gamma + \beta,\ \hat x = (x - \mu)\,\rho,\ \rho = (\sigma^2 + \epsilon)^{-1/2}$.

    input (N, C, *), all else (C,); output as input. $\mu$ and (biased) $\sigma^2$ are over the places of a channel of a
    sample, and the running statistics move towards their means over the samples; without use_input_stats the running
    statistics stand for both. ValueError where a channel has one place. Ulyanov et al. 2016, arXiv:1607.08022, eq. 1.
    """
    x = wide(input)
    if use_input_stats:
        mean = x.flatten(2).mean(2)
        centred = x - _placed(mean, input)
        var = centred.square().flatten(2).mean(2)
    else:  # clone: what is saved must not be the running statistics themselves, which move
        mean, var = wide(running_mean).clone().unsqueeze(0), wide(running_var).clone().unsqueeze(0)
        centred = x - _placed(mean, input)
    rho = (var + eps).rsqrt()
    y = centred * _placed(rho, input)
    if weight is not None:
        y = y * channels_first(weight, input)
    if bias is not None:
        y = y + channels_first(bias, input)
    return y.to(input.dtype), (mean, var)


def _placed(t, input):
    """(N or 1, C) beside (N, C, *)."""
    return t[(..., *(None,) * (input.dim() - 2))]


@instance_norm.gradient
def _(dy, saved, needs, input, weight, use_input_stats, eps):
    r"""With $g = dy \odot \gamma$ and means over the places:
    $dx = \rho\,(g - \overline{g} - \hat x\,\overline{g \odot \hat x})$,
    $\rho\,g$ without use_input_stats; $d\gamma = \sum dy \odot \hat x,\ d\beta = \sum dy$."""
    mean, var = saved
    mean, rho = _placed(mean, input), _placed((var + eps).rsqrt(), input)
    dy, x_hat = wide(dy), (wide(input) - mean) * rho
    dims = (0, *range(2, input.dim()))
    g = dy if weight is None else dy * channels_first(weight, input)
    if use_input_stats:
        places = tuple(range(2, input.dim()))
        dx = rho * (g - g.mean(places, keepdim=True) - x_hat * (g * x_hat).mean(places, keepdim=True))
    else:
        dx = rho * g
    return dx, None, None, (dy * x_hat).sum(dims) if needs.weight else None, dy.sum(dims) if needs.bias else None


@instance_norm.prepare
def _(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    if input.dim() < 2:
        raise RuntimeError(f"instance_norm(): the input must be (N, C, *), it has shape {tuple(input.shape)}")
    if use_input_stats and input[0, 0].numel() == 1:
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
def _(output, saved, input, running_mean, running_var, use_input_stats, momentum):
    if use_input_stats and running_mean is not None:
        mean, var = saved
        n = input[0, 0].numel()
        with torch.no_grad():
            running_mean.copy_((1 - momentum) * running_mean + momentum * mean.mean(0))
            running_var.copy_((1 - momentum) * running_var + momentum * (var * (n / (n - 1))).mean(0))
    return output


@instance_norm.hard_samples
def _(tensor):
    x = tensor([[[1.0, 2.0], [3.0, 3.0]], [[-1.0, 0.5], [3.0, 3.0]]])  # channels without variance
    w, b = tensor([2.0, -1.0]), tensor([0.5, 0.0])
    yield call(x, None, None, w, b)
    yield call(x + 10, None, None, None, None, True, 0.1, 1e-2)


@instance_norm.error_samples
def _(tensor):
    x = tensor([[[1.0, 2.0]]])
    yield ValueError, call(x[..., :1])
    yield RuntimeError, call(x, None, None, tensor([1.0, 2.0]))


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
