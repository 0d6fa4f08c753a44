r"""Learning rate schedules by hand: torch's classes, whose formula of the learning rate is ours.

$\eta_t$ is the learning rate after $t$ steps of the schedule (`last_epoch`), $\eta_0$ that of the optimizer (`initial_lr`).
A schedule moves the rate of every parameter group from $\eta_{t-1}$ to $\eta_t$, so that schedules chain and a rate
changed by hand in between stays changed; the closed form serves `step(epoch)` and the start of a part of SequentialLR.

A rate is a number, or a tensor of one element; t counts calls of `step`, in epochs or updates as the caller has it.

torch's constructors check the arguments; `state_dict` is torch's; either side's schedules drive either side's optimizers.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections import Counter
from typing import Any

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
           "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
           "ReduceLROnPlateau", "SequentialLR", "StepLR"]  # fmt: skip


def copies(rates: list[Any]) -> list[Any]:
    """Rates that later steps, which write into tensor rates in place, do not change."""
    return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]


def set_rate(group: dict[str, Any], rate: Any) -> None:
    """Give the group the rate; where it has a tensor for it, in place."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def set_momentum(group: dict[str, Any], momentum: Any, first_beta: bool) -> None:
    """Give the group the momentum; of one that has betas, it is the first."""
    if first_beta:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


class Schedule:
    """What a formula can look at: torch's LRScheduler sets these."""

    optimizer: Optimizer
    base_lrs: list[Any]
    last_epoch: int
    _is_initial: bool
    _get_lr_called_within_step: bool

    def get_lr(self) -> list[Any]:
        """The rate of each parameter group at step `last_epoch`, from its rate now; torch calls it inside `step`."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
                          UserWarning, stacklevel=2)  # fmt: skip
        return self.rates()

    def rates(self) -> list[Any]:
        """What `get_lr` answers."""
        raise NotImplementedError


class Multiplicative(Schedule):
    r"""$\eta_t = \eta_{t-1} c(t)$ with $c(t) = m(t) / m(t-1)$, simplified, so that $\eta_t = \eta_0 m(t)$."""

    def change(self, t: int) -> float:
        r"""$c(t)$; for the step 0, $m(0)$."""
        raise NotImplementedError

    def multiplier(self, t: int) -> float:
        r"""$m(t)$, the closed form."""
        raise NotImplementedError

    def rates(self) -> list[Any]:
        change = self.change(self.last_epoch)
        return [group["lr"] * change for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self) -> list[Any]:
        multiplier = self.multiplier(self.last_epoch)
        return [base * multiplier for base in self.base_lrs]


class StepLR(Multiplicative, lr_scheduler.StepLR):
    r"""$\eta_t = \eta_0 \gamma^{\lfloor t / s \rfloor}$: the rate falls by `gamma` every `step_size` steps.

    Szegedy et al. 2014, arXiv:1409.4842, section 6.
    """

    def change(self, t: int) -> float:
        return self.gamma if t > 0 and t % self.step_size == 0 else 1

    def multiplier(self, t: int) -> float:
        return self.gamma ** (t // self.step_size)


class MultiStepLR(Multiplicative, lr_scheduler.MultiStepLR):
    r"""$\eta_t = \eta_0 \gamma^{|\{m \in M : m \le t\}|}$: the rate falls by `gamma` at each of the `milestones` $M$.

    A milestone given twice counts twice. He et al. 2015, arXiv:1512.03385, section 4.2.
    """

    milestones: Counter[int]

    def change(self, t: int) -> float:
        return self.gamma ** self.milestones[t]

    def multiplier(self, t: int) -> float:
        return self.gamma ** bisect_right(sorted(self.milestones.elements()), t)


class ExponentialLR(Multiplicative, lr_scheduler.ExponentialLR):
    r"""$\eta_t = \eta_0 \gamma^t$: the rate falls by `gamma` every step. Senior et al. 2013 (ICASSP)."""

    def change(self, t: int) -> float:
        return 1 if self._is_initial else self.gamma

    def multiplier(self, t: int) -> float:
        return self.gamma**t


class ConstantLR(Multiplicative, lr_scheduler.ConstantLR):
    r"""$\eta_t = \eta_0 f$ for $t < T$, then $\eta_0$: the rate times `factor` during the first `total_iters` steps.

    ValueError unless `factor` is between 0 and 1. Goyal et al. 2017, arXiv:1706.02677, section 2.2 (constant warmup).
    """

    def change(self, t: int) -> float:
        return self.factor if t == 0 else 1.0 / self.factor if t == self.total_iters else 1

    def multiplier(self, t: int) -> float:
        return self.factor + (t >= self.total_iters) * (1 - self.factor)


class LinearLR(Multiplicative, lr_scheduler.LinearLR):
    r"""$\eta_t = \eta_0 (a + (b - a) \min(t, T) / T)$: a straight line from `start_factor` $a$ to `end_factor` $b$.

    With $m(t) = a + (b - a)\,t / T$, $c(t) = m(t) / m(t-1) = 1 + (b - a) / (T a + (t - 1)(b - a))$.
    ValueError unless $0 < a \le 1$ and $0 \le b \le 1$. Goyal et al. 2017, arXiv:1706.02677, section 2.2 (gradual warmup).
    """

    def change(self, t: int) -> float:
        if t == 0:
            return self.start_factor
        if self._is_initial or t > self.total_iters:
            return 1
        rise = self.end_factor - self.start_factor
        return 1.0 + rise / (self.total_iters * self.start_factor + (t - 1) * rise)

    def multiplier(self, t: int) -> float:
        rise = self.end_factor - self.start_factor
        return self.start_factor + rise * min(self.total_iters, t) / self.total_iters


class PolynomialLR(Multiplicative, lr_scheduler.PolynomialLR):
    r"""$\eta_t = \eta_0 (1 - \min(t, T) / T)^p$: the rate falls to 0 in `total_iters` steps, along a curve of `power` $p$.

    Chen et al. 2017, arXiv:1606.00915, section 4.1.
    """

    def change(self, t: int) -> float:
        if self._is_initial or t > self.total_iters:
            return 1
        return ((1.0 - t / self.total_iters) / (1.0 - (t - 1) / self.total_iters)) ** self.power

    def multiplier(self, t: int) -> float:
        return (1.0 - min(self.total_iters, t) / self.total_iters) ** self.power


class LambdaLR(Schedule, lr_scheduler.LambdaLR):
    r"""$\eta_t = \eta_0 \lambda(t)$ with a function $\lambda$ for all parameter groups, or one for each.

    Which rates that fall with t lead to a minimum: Robbins and Monro 1951 (Annals of Mathematical Statistics 22).
    """

    def rates(self) -> list[Any]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiplicativeLR(Schedule, lr_scheduler.MultiplicativeLR):
    r"""$\eta_t = \eta_{t-1} \lambda(t)$ with a function $\lambda$ for all parameter groups, or one for each; $\eta_0$ stays.

    ValueError unless there is one function, or one for each group; TypeError where one is none.
    Robbins and Monro 1951 (Annals of Mathematical Statistics 22).
    """

    def rates(self) -> list[Any]:
        groups = self.optimizer.param_groups
        if self._is_initial:
            return copies([group["lr"] for group in groups])
        return [group["lr"] * f(self.last_epoch) for group, f in zip(groups, self.lr_lambdas, strict=True)]


class CosineAnnealingLR(Schedule, lr_scheduler.CosineAnnealingLR):
    r"""Half a cosine from $\eta_0$ down to `eta_min` in `T_max` steps, and up again in as many.

    $\eta_t = \eta_{min} + (\eta_0 - \eta_{min})(1 + \cos(\pi t / T)) / 2$, so that $(\eta_t - \eta_{min})$ is
    $(\eta_{t-1} - \eta_{min})$ times the quotient of the brackets; where the old bracket is 0, at the turn, the rate
    rises by $(\eta_0 - \eta_{min})(1 - \cos(\pi / T)) / 2$. Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5.
    """

    def bracket(self, t: int) -> float:
        return 1 + math.cos(math.pi * t / self.T_max)

    def rates(self) -> list[Any]:
        t, low, groups = self.last_epoch, self.eta_min, self.optimizer.param_groups
        if self._is_initial:
            return copies([group["lr"] for group in groups])
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:
            rise = 1 - math.cos(math.pi / self.T_max)
            return [group["lr"] + (base - low) * rise / 2 for group, base in zip(groups, self.base_lrs, strict=True)]
        factor = self.bracket(t) / self.bracket(t - 1)
        return [factor * (group["lr"] - low) + low for group in groups]

    def _get_closed_form_lr(self) -> list[Any]:
        bracket = self.bracket(self.last_epoch)
        return [self.eta_min + (base - self.eta_min) * bracket / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(Schedule, lr_scheduler.CosineAnnealingWarmRestarts):
    r"""Half a cosine from $\eta_0$ down to `eta_min`, again and again, each `T_mult` times as long as the one before.

    $\eta_t = \eta_{min} + (\eta_0 - \eta_{min})(1 + \cos(\pi\,T_{cur} / T_i)) / 2$, $T_{cur}$ the steps since the last
    restart, of $T_i = T_0 T_{mult}^i$. `step(epoch)` goes to any epoch, or part of one. ValueError unless `T_0` and `T_mult`
    are positive integers and `eta_min` is a number, or where the epoch is negative.
    Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5.
    """

    def rates(self) -> list[Any]:
        bracket = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * bracket / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:  # type: ignore[override]
        if epoch is not None and epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
        else:
            epoch = epoch or 0
            self.T_cur, self.T_i = epoch, self.T_0  # type: ignore[assignment]  # a part of an epoch, too
        while self.T_cur >= self.T_i:
            self.T_cur -= self.T_i
            self.T_i *= self.T_mult
        self.last_epoch = math.floor(epoch)
        self._get_lr_called_within_step = True
        rates = self.get_lr()
        self._get_lr_called_within_step = False
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, rates, strict=True):
            set_rate(group, rate)
        self._last_lr = copies([group["lr"] for group in groups])


class CyclicLR(Schedule, lr_scheduler.CyclicLR):
    r"""Up and down between `base_lr` and `max_lr` in straight lines; the momentum runs the other way.

    $\eta_t = \eta_{base} + (\eta_{max} - \eta_{base})\,h\,s$, $h$ the height of a triangle that rises in `step_size_up` steps
    from 0 to 1 and falls in `step_size_down`; $s$ is 1 ("triangular"), $2^{1-c}$ in cycle c = 1, 2, ... ("triangular2"),
    $\gamma^t$ ("exp_range"), or `scale_fn` of c or of t, as `scale_mode` says. Momentum is the optimizer's "momentum", or the
    first of its "betas". ValueError for an unknown mode, or an optimizer without momentum. Smith 2017, arXiv:1506.01186.
    """

    def triangle(self, t: int) -> tuple[int, float]:
        """The cycle of step t, from 1 on, and the height in it."""
        cycle = math.floor(1 + t / self.total_size)
        x = 1.0 + t / self.total_size - cycle
        return cycle, x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)

    def rates(self) -> list[Any]:
        cycle, height = self.triangle(self.last_epoch)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            ends = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
            for group, low, high in ends:
                set_momentum(group, high - (high - low) * height * scale, self.use_beta1)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]


class OneCycleLR(Schedule, lr_scheduler.OneCycleLR):
    r"""Up from `max_lr / div_factor` to `max_lr`, then down far below the start; the momentum runs the other way.

    In a phase from step $t_0$ to $t_1$, with $\rho = (t - t_0) / (t_1 - t_0)$, a value goes from $a$ to $b$ by
    $b + (a - b)(1 + \cos \pi\rho) / 2$ ("cos") or $a + (b - a)\rho$ ("linear"). `three_phase` comes back to the start
    symmetrically, and then falls. Momentum is the optimizer's "momentum", or the first of its "betas".
    ValueError past `total_steps`. Smith and Topin 2018, arXiv:1708.07120.
    """

    def anneal(self, start: Any, end: Any, part: float) -> Any:
        if self._anneal_func_type == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)
        return (end - start) * part + start

    def phase(self) -> tuple[Any, float]:
        """The phase that step `last_epoch` falls into, and how much of it is over, from 0 to 1."""
        t, start = self.last_epoch, 0.0
        for phase in self._schedule_phases[:-1]:
            if t <= phase["end_step"]:
                break
            start = phase["end_step"]
        else:
            phase = self._schedule_phases[-1]
        return phase, (t - start) / (phase["end_step"] - start)

    def rates(self) -> list[Any]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"Tried to step {self.last_epoch} times. "
                             f"The specified number of total steps is {self.total_steps}")  # fmt: skip
        phase, part = self.phase()
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                momentum = self.anneal(group[phase["start_momentum"]], group[phase["end_momentum"]], part)
                set_momentum(group, momentum, self.use_beta1)
        ends = phase["start_lr"], phase["end_lr"]
        return [self.anneal(group[ends[0]], group[ends[1]], part) for group in self.optimizer.param_groups]


class ReduceLROnPlateau(lr_scheduler.ReduceLROnPlateau):
    r"""$\eta \leftarrow \max(\eta f, \eta_{min})$ whenever a metric has not improved for more than `patience` steps.

    Better than the best $b$ means, for mode "min", less than $b (1 - \theta)$ ("rel") or $b - \theta$ ("abs"); for "max",
    more than $b (1 + \theta)$ or $b + \theta$; $\theta$ is `threshold`. During `cooldown` steps after a reduction nothing
    is counted. `min_lr` is one for all or one for each parameter group; a change of less than `eps` is not made.
    ValueError unless `factor` < 1 and the modes are known, RuntimeError where groups were added that `min_lrs` lacks.
    He et al. 2015, arXiv:1512.03385, section 3.4.
    """

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        if epoch is not None:
            warnings.warn(lr_scheduler.EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch

        metric = float(metrics)
        if self._is_better(metric, self.best):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr(self.last_epoch)
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = copies([group["lr"] for group in self.optimizer.param_groups])

    def _is_better(self, a: float, best: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        bound = best * (1.0 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return a > bound if self.mode == "max" else a < bound

    def _reduce_lr(self, epoch: int) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(f"The optimizer has {len(groups)} parameter groups, but there are {len(self.min_lrs)} "
                                   "`min_lrs`: give `min_lrs` one entry for each group that was added.")  # fmt: skip
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, low in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, low)
            if old - new > self.eps:
                set_rate(group, new)


class SequentialLR(lr_scheduler.SequentialLR):
    """One schedule after another: schedule i rules from milestone i-1 on, and starts there with its own step 0.

    ValueError unless all schedules drive one optimizer and there is one milestone less than schedules.
    Loshchilov and Hutter 2017, arXiv:1608.03983, section 3 (restarts).
    """

    def step(self) -> None:  # type: ignore[override]
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        current = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            current._update_lr(0)  # by its closed form, as the rate at hand is the schedule's before
        else:
            current.step()
        self._last_lr = current.get_last_lr()


class ChainedScheduler(lr_scheduler.ChainedScheduler):
    r"""Several schedules at once: each moves, one after another, the rate that it finds.

    The product of their changes, $\eta_t = \eta_{t-1} \prod_i c_i(t)$, where each multiplies. ValueError unless there is a
    schedule and all drive one optimizer; on a plateau is none of them. Goyal et al. 2017, arXiv:1706.02677, section 2.2
    (warmup beside a schedule).
    """

    def step(self) -> None:  # type: ignore[override]
        for schedule in self._schedulers:
            schedule.step()
        self._last_lr = copies([group["lr"] for group in self.optimizer.param_groups])
