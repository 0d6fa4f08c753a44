"""Batch normalisation over the joined batch of several processes, each of which has a part."""

from __future__ import annotations

import torch

from ...core import parallel
from ...core.pair import op
from ...core.pullback import again
from .batchnorm import BatchNorm, channels_first, check_batch_norm, moved, normalised, statistics, x_hat_of
from .common import wide
from .standardise import summed


@op()
def all_sum(t, group):
    r"""The sum over the processes of a group, which each of them gets: $y = \sum_r t_r$. Any shape, one for all."""
    return parallel.total(t.clone(), group)


@all_sum.gradient
def all_sum_gradient(dy, group):
    r"""$dt_r = \sum_s dy_s$: the $t_r$ of each process is part of the y of all."""
    return all_sum(dy, group)


@all_sum.prepare
def all_sum_prepare(t, group):
    if parallel.ranks(group)[1] == 1:
        return None
    return t, group


def joined_mean(group, n, counts):
    r"""The mean of n numbers of all processes: $\frac{1}{n} \sum_r \sum_i t_{ri}$; this one's in it, or not."""
    return lambda t, dims: all_sum(t.sum(dims, keepdim=True) * counts, group) / n


def joined_largest(group, counts):
    return lambda top: parallel.largest(top * counts, group)


@op()
def sync_batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps, group, joined, n, counts):
    r"""`batch_norm` whose $\mu$ and $\sigma^2$ in training are those of all processes' inputs, n numbers a channel.

    $\mu = \frac{1}{n} \sum_r \sum_i x_{ri},\ \sigma^2 = \frac{1}{n} \sum_r \sum_i (x_{ri} - \mu)^2$. input (N, C, *), N of each
    process its own, 0 too, or rows that stand in for none and do not count; all else (C,), the same in all; output as input.
    All processes of the group make the call, and its gradient. ValueError where a channel has one value in training,
    RuntimeError where shapes do not fit. Peng et al. 2018, arXiv:1711.07240, section 3: algorithm 1 of Ioffe & Szegedy 2015,
    arXiv:1502.03167, on the joined batch.
    """
    over = (0, *range(2, input.dim()))  # all but the channels
    how = (joined_mean(group, n, counts), joined_largest(group, counts)) if joined else ()
    y, saved = normalised(input, running_mean, running_var, weight, bias, over if training else None, eps, *how)
    return y, (*saved, torch.tensor(n, device=y.device))


@sync_batch_norm.gradient
def sync_batch_norm_gradient(dy, saved, needs, input, weight, training, group, joined, n, counts):
    r"""In training $dx = \gamma\rho\,(dy - \overline{dy} - \hat x\,\overline{dy \odot \hat x})$, means over a channel of all
    processes; after it $dx = \gamma\rho\,dy$. $d\gamma = \sum dy \odot \hat x,\ d\beta = \sum dy$ of this process alone: what
    brings the parameters' gradients together brings these too.

    As for `batch_norm`, E being the sum of all processes' errors: $\mu$ and $\rho$ of each are those of all.
    """
    dy, over = wide(dy), (0, *range(2, input.dim()))
    x_hat, rho = x_hat_of(input, saved[:-1])
    dweight, dbias = summed(dy, over, x_hat), summed(dy, over)
    if not needs.input:
        return None, None, None, dweight, dbias
    dx = dy
    if training:
        sums = torch.stack([dbias, dweight])
        across, along = (all_sum(sums * counts, group) * counts if joined else sums) / max(n, 1)
        dx = dy - channels_first(across, input) - x_hat * channels_first(along, input)
    return dx * (rho if weight is None else rho * channels_first(weight, input)), None, None, dweight, dbias


class SyncBatchNorm(BatchNorm, torch.nn.SyncBatchNorm):
    r"""`batch_norm` of the joined batch of a group of processes, on every device; in evaluation, or alone, of its own.

    $\mu = \frac{1}{n} \sum_r \sum_i x_{ri},\ \sigma^2 = \frac{1}{n} \sum_r \sum_i (x_{ri} - \mu)^2$, of n numbers a channel.
    Input (N, C, *), N of each process its own, 0 too. In training all processes make the call, and its gradient.
    ValueError where a channel has one value in training, or there is no channel. Peng et al. 2018, arXiv:1711.07240, section 3.
    """

    op = sync_batch_norm

    def arguments(self):
        return {**super().arguments(), "process_group": self.process_group, "joined": self.training}

    def _check_input_dim(self, input):
        super()._check_input_dim(input)
        self._check_non_zero_input_channels(input)

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        """The module with a SyncBatchNorm in place of each batch normalisation in it, of the same parameters and buffers."""
        module = super().convert_sync_batchnorm(module, process_group)
        for part in module.modules():
            if type(part) is torch.nn.SyncBatchNorm:  # as torch's own makes them
                part.__class__ = cls
        return module


@sync_batch_norm.prepare
def sync_batch_norm_prepare(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5, process_group=None,
    joined=True,
):  # fmt: skip
    joined = training and joined and parallel.ranks(process_group)[1] > 1
    n = input.numel() // max(input.shape[1], 1)
    counts = not (joined and parallel.absent())
    if joined:
        n = int(parallel.total(torch.tensor(n * counts, device=input.device), process_group))
    check_batch_norm("sync_batch_norm", input, running_mean, running_var, weight, bias, training, eps, n)
    if training:  # the batch's own; `finish` moves the running ones, which nothing differentiates
        running_mean = running_var = None
    return input, running_mean, running_var, weight, bias, training, momentum, eps, process_group, joined, n, counts


@sync_batch_norm.finish
def sync_batch_norm_finish(output, saved, running_mean, running_var, training, momentum):
    if training and running_mean is not None and not again():
        *own, n = saved
        mean, variance = statistics(own)
        moved(running_mean, running_var, mean.flatten(), variance.flatten(), n.to(variance.dtype), momentum)
    return output
