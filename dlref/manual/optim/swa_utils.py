r"""Averages of a model's parameters, under the names of torch.optim.swa_utils: the averages and the schedule are by hand.

Parameters have any shape; a rate is a number. `update_bn` is torch's: it runs the model, whose layers may be of either side.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import swa_utils
from torch.optim.swa_utils import update_bn

from ...core.module import vjp_of
from .lr_scheduler import Schedule

__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
           "update_bn"]  # fmt: skip


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    r"""A function of a mean, a parameter and their number that returns the exponential mean, $a + (1 - \delta)(p - a)$.

    Any shape. ValueError where decay is not in [0, 1]. Polyak and Juditsky 1992, doi:10.1137/0330046.
    """
    check_decay(decay)

    @torch.no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[Iterable[Tensor], Iterable[Tensor], Any], None]:
    """As `get_ema_avg_fn`, of lists of tensors, into the means."""
    check_decay(decay)

    @torch.no_grad()
    def ema_update(ema_param_list: Iterable[Tensor], current_param_list: Iterable[Tensor], _: Any) -> None:
        for a, p in zip(ema_param_list, current_param_list, strict=True):
            if a.is_floating_point() or a.is_complex():
                a.lerp_(p, 1 - decay)
            else:
                a.copy_(a * decay + p * (1 - decay))

    return ema_update


def check_decay(decay: float) -> None:
    if decay < 0.0 or decay > 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    r"""A function of a mean of n, a parameter and n that returns the mean of n + 1, $a + (p - a) / (n + 1)$.

    Any shape. Izmailov et al. 2018, arXiv:1803.05407, algorithm 1.
    """

    @torch.no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def get_swa_multi_avg_fn() -> Callable[[Iterable[Tensor], Iterable[Tensor], Any], None]:
    """As `get_swa_avg_fn`, of lists of tensors, into the means."""
    average = get_swa_avg_fn()

    def swa_update(
        averaged_param_list: Iterable[Tensor], current_param_list: Iterable[Tensor], num_averaged: Any
    ) -> None:
        for a, p in zip(averaged_param_list, current_param_list, strict=True):
            a.copy_(average(a, p, num_averaged))

    return swa_update


class AveragedModel(swa_utils.AveragedModel):
    r"""A copy of a model, whose parameters are the mean of those that the model had: $a_n = a_{n-1} + (p - a_{n-1}) / n$.

    `update_parameters(model)` takes the model's parameters (with use_buffers its buffers, too) into the mean; the first ones
    are copied. avg_fn or multi_avg_fn compute another mean, as `get_ema_avg_fn`'s. Any shape; inputs and outputs are the
    model's, and so is `vjp`. AssertionError where both functions are given. Izmailov et al. 2018, arXiv:1803.05407,
    algorithm 1.
    """

    module: torch.nn.Module

    def vjp(self, *args: Any, **kwargs: Any) -> tuple[Any, Callable]:
        """The model's output, and its pullback."""
        return vjp_of(self.module)(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: torch.nn.Module) -> None:
        means: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(model.parameters())
        kept, current = list(self.module.buffers()), list(model.buffers())
        if self.use_buffers:
            means, values, kept, current = means + kept, values + current, [], []
        values = [p.to(a.device) for a, p in zip(means, values, strict=True)]
        if self.n_averaged == 0:
            kept, current = means + kept, values + current
        elif self.avg_fn is not None:
            for a, p in zip(means, values, strict=True):
                a.copy_(self.avg_fn(a.detach(), p.detach(), self.n_averaged.to(a.device)))
        else:
            average, kinds = self.multi_avg_fn or get_swa_multi_avg_fn(), defaultdict(list)
            for a, p in zip(means, values, strict=True):
                kinds[a.device, a.dtype].append((a.detach(), p.detach()))
            for (device, _), both in kinds.items():
                average([a for a, _ in both], [p for _, p in both], self.n_averaged.to(device))
        for mean, value in zip(kept, current, strict=True):
            mean.copy_(value)
        self.n_averaged += 1


class SWALR(Schedule, swa_utils.SWALR):
    r"""From the rate at hand to `swa_lr` in `anneal_epochs` steps, where it stays.

    $\eta_t = \alpha_t\,\eta_{swa} + (1 - \alpha_t)\,\eta_0$ with $\alpha_t = (1 - \cos \pi\rho) / 2$ ("cos") or $\rho$
    ("linear"), $\rho = \min(1, t / T)$; $\eta_0$ is what the rate before says,
    $(\eta_{t-1} - \alpha_{t-1} \eta_{swa}) / (1 - \alpha_{t-1})$, so that schedules chain. ValueError for another strategy,
    or a negative number of steps.
    Izmailov et al. 2018, arXiv:1803.05407, section 3.2.
    """

    def part(self, t: int) -> float:
        r"""$\alpha_t$."""
        part = max(0, min(1, t / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * part)) / 2 if self._anneal_strategy == "cos" else part

    def rates(self) -> list[Any]:
        t = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        before, now = self.part(t - 1), self.part(t)
        found = []
        for group in self.optimizer.param_groups:
            rate, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (rate - before * end) / (1 - before)
            found.append(end * now + start * (1 - now))
        return found
