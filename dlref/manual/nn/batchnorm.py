"""Batch normalisation: over the samples and places of each channel, with running statistics for evaluation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.modes import finest
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import again
from .common import HALF, wide
from .standardise import centred, largest_of, mean_of, summed, unit


def channels_first(t, input):
    """A number for each channel beside the input (N, C, *): (C,) to (C, 1, ...)."""
    return None if t is None else t.view(-1, *(1,) * (input.dim() - 2))


def check_channels(name, input, **tensors):
    """RuntimeError where one of the tensors does not hold one number for each channel."""
    for which, t in tensors.items():
        if t is not None and t.numel() != input.shape[1]:
            raise RuntimeError(f"{name}(): {which} must hold a number for each of the {input.shape[1]} channels, it has shape "
                               f"{tuple(t.shape)}")  # fmt: skip


def check_beside(name, input, **tensors):
    """RuntimeError where a normalisation's tensors are not of the input's dtype, nor all float32 beside half precision."""
    found = {t.dtype for t in tensors.values() if t is not None} - {input.dtype}
    alone = found == {torch.float32} and input.dtype in HALF and not any(
        t is not None and t.dtype is input.dtype for t in tensors.values())  # fmt: skip
    if found and not alone and not torch.is_autocast_enabled(input.device.type):
        told = ", ".join(f"{n} {t.dtype}" for n, t in tensors.items() if t is not None).replace("torch.", "")
        raise RuntimeError(f"{name}(): its tensors must have the input's dtype {input.dtype}, or all float32 beside half "
                           f"precision, they have {told}: convert them")  # fmt: skip


def normalised(
    input, running_mean, running_var, weight, bias, dims, eps, mean_of=mean_of, largest_of=largest_of
):  # fmt: skip
    r"""$y = \hat x \gamma + \beta$ of the input's own statistics over dims, or where dims is None of the running ones.

    mean_of, largest_of: how means and largest numbers are taken, where not of the input alone.

    And what is saved: (scale, mean, rest, variance, $\rho$) of the scaled input, or ($\mu$, $\rho$); see `x_hat_of`.
    """
    x = wide(input)
    saved: tuple[torch.Tensor, ...]
    if dims is None:
        mean, variance = (channels_first(wide(t), input) for t in (running_mean, running_var))
        rho = (variance + eps).rsqrt()
        y, saved = (
            (x - mean) * rho,
            (mean.clone(), rho),
        )  # what is saved must not be the running mean itself, which moves
    else:
        scale, small = unit(x, dims, eps, largest_of)
        x_centred, mean, rest = centred(x * scale, dims, mean_of)
        variance = mean_of(x_centred.square(), dims)
        rho = (variance + small).rsqrt()
        y, saved = x_centred * rho, (scale, mean, rest, variance, rho)
    y = y if weight is None else y * channels_first(weight, input)
    y = y if bias is None else y + channels_first(bias, input)
    return y.to(input.dtype), saved


def x_hat_of(input, saved):
    r"""$\hat x$ once more of what `normalised` saved, and the $\rho$ of the input itself."""
    if len(saved) == 2:
        mean, rho = saved
        return (wide(input) - mean) * rho, rho
    scale, mean, rest, _, rho = saved
    return (wide(input) * scale - mean - rest) * rho, rho * scale


def moved(running_mean, running_var, mean, variance, n, momentum):
    """Move the running statistics, in place, towards these of n numbers a channel: the variance towards the unbiased one."""
    with torch.no_grad():
        running_mean.copy_((1 - momentum) * running_mean + momentum * mean)
        running_var.copy_((1 - momentum) * running_var + momentum * (variance * (n / (n - 1))))


def statistics(saved):
    """Mean and (biased) variance of the input itself, of what `normalised` saved."""
    scale, mean, rest, variance, _ = saved
    return (mean + rest) / scale, variance / scale.square()


@op(builtin=F.batch_norm, autocast=None)
def batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps):
    r"""Batch normalisation: $y = \hat x \gamma + \beta,\ \hat x = (x - \mu)\,\rho,\ \rho = (\sigma^2 + \epsilon)^{-1/2}$.

    input (N, C, *), all else (C,); output as input. In training $\mu$ and (biased) $\sigma^2$ are those of each channel over
    samples and places, and the running statistics r move towards them in place: $r \leftarrow (1 - m)\,r + m\,\mu$, and
    likewise the variance with the unbiased one. After training the running statistics stand for both.
    ValueError where a channel has one value in training, RuntimeError where shapes do not fit. Ioffe & Szegedy 2015,
    arXiv:1502.03167, algorithm 1.
    """
    over = (0, *range(2, input.dim()))  # all but the channels
    return normalised(input, running_mean, running_var, weight, bias, over if training else None, eps)


@batch_norm.gradient
def batch_norm_gradient(dy, saved, needs, input, weight, training):
    r"""In training $dx = \gamma\rho\,(dy - \overline{dy} - \hat x\,\overline{dy \odot \hat x})$, means over a channel; after
    it $dx = \gamma\rho\,dy$. $d\gamma = \sum dy \odot \hat x,\ d\beta = \sum dy$.

    With $d\hat x = \gamma\,dy$: $\mu$ contributes $-\overline{dy}$, and $\partial \rho / \partial x_i = -\rho^2 \hat x_i / n$
    contributes $-\hat x\,\overline{dy \odot \hat x}$.
    """
    dy, over = wide(dy), (0, *range(2, input.dim()))
    x_hat, rho = x_hat_of(input, saved)
    dweight, dbias = summed(dy, over, x_hat), summed(dy, over)
    if not needs.input:
        return None, None, None, dweight, dbias
    dx = dy
    if training:
        n = max(input.numel() // max(input.shape[1], 1), 1)
        dx = dy - channels_first(dbias / n, input) - x_hat * channels_first(dweight / n, input)
    return dx * (rho if weight is None else rho * channels_first(weight, input)), None, None, dweight, dbias


class BatchNorm(Manual):
    """What the batch normalisations share: which statistics a call uses, and how far it moves the running ones."""

    attributes = {name: name for name in ("running_mean", "running_var", "weight", "bias", "eps")}

    def arguments(self):
        bound = super().arguments()
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean of all batches
                factor = self.num_batches_tracked.to(finest(self.num_batches_tracked.device)).reciprocal()
        if self.training and not self.track_running_stats:
            bound |= {"running_mean": None, "running_var": None}
        batch = self.training or (self.running_mean is None and self.running_var is None)
        return {**bound, "training": batch, "momentum": factor}

    def forward(self, input):
        self._check_input_dim(input)
        return super().forward(input)

    def explicit(self, input):
        self._check_input_dim(input)
        return super().explicit(input)


class BatchNorm1d(BatchNorm, torch.nn.BatchNorm1d):
    """The module of `batch_norm` on (N, C) or (N, C, L)."""

    op = batch_norm


class BatchNorm2d(BatchNorm, torch.nn.BatchNorm2d):
    """The module of `batch_norm` on (N, C, H, W)."""

    op = batch_norm


class BatchNorm3d(BatchNorm, torch.nn.BatchNorm3d):
    """The module of `batch_norm` on (N, C, D, H, W)."""

    op = batch_norm


def check_batch_norm(name, input, running_mean, running_var, weight, bias, training, eps, n):
    """What must hold of the arguments, n being how many numbers a channel has its statistics of."""
    if eps < 0 or (training and eps == 0):
        raise ValueError(f"{name}(): eps must be greater than 0 in training and at least 0 after it, it is {eps}")
    if input.dim() < 2:
        raise RuntimeError(f"{name}(): the input must be (N, C, *), it has shape {tuple(input.shape)}")
    if training and n == 1:
        raise ValueError(f"{name}(): a channel must have more than one value in training, the input has shape "
                         f"{tuple(input.shape)}: take a larger batch, or evaluation mode")  # fmt: skip
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{name}(): running_mean and running_var must both be given, or neither; one of them is None")
    if not training and running_mean is None:
        raise RuntimeError(f"{name}(): running_mean and running_var must be given in evaluation, they are None")
    parameters = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_channels(name, input, **parameters)
    check_beside(name, input, **parameters)


@batch_norm.prepare
def batch_norm_prepare(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    possible = eps > 0 or (eps == 0 and not training)
    if input.dim() < 2 and not input.numel() and possible:
        return None
    n = len(input) * input.shape[2:].numel() if input.dim() else 1
    check_batch_norm("batch_norm", input, running_mean, running_var, weight, bias, training, eps, n)
    if training:  # the batch's own; `finish` moves the running ones, which nothing differentiates
        return input, None, None, weight, bias, training, 0.0, eps
    return input, running_mean, running_var, weight, bias, training, momentum, eps


@batch_norm.finish
def batch_norm_finish(output, saved, input, running_mean, running_var, training, momentum):
    if training and running_mean is not None and input.numel() and not again():
        n = input.numel() // input.shape[1]
        mean, variance = statistics(saved)
        moved(running_mean, running_var, mean.flatten(), variance.flatten(), n, momentum)
    return output


class LazyBatchNorm1d(BatchNorm, torch.nn.LazyBatchNorm1d):
    """The module of `batch_norm` on (N, C) or (N, C, L), C taken from the first input."""

    op, cls_to_become = batch_norm, BatchNorm1d


class LazyBatchNorm2d(BatchNorm, torch.nn.LazyBatchNorm2d):
    """The module of `batch_norm` on (N, C, H, W), C taken from the first input."""

    op, cls_to_become = batch_norm, BatchNorm2d


class LazyBatchNorm3d(BatchNorm, torch.nn.LazyBatchNorm3d):
    """The module of `batch_norm` on (N, C, D, H, W), C taken from the first input."""

    op, cls_to_become = batch_norm, BatchNorm3d
