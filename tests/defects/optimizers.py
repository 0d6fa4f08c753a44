"""Optimizers and schedules with one error each."""

from __future__ import annotations

import math

import torch
from torch.optim import Optimizer, lr_scheduler

from . import defect


class Plain(Optimizer):
    """A loop over parameters; `rule` changes one."""

    def __init__(self, params, **defaults):
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.rule(p, p.grad, self.state[p], group)
        return loss


class AdamLike(Plain):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def moments(self, g, state, group):
        if not state:
            state.update(step=0, m=torch.zeros_like(g), v=torch.zeros_like(g))
        state["step"] += 1
        (a, b), t = group["betas"], state["step"]
        state["m"].mul_(a).add_(g, alpha=1 - a)
        state["v"].mul_(b).addcmul_(g, g, value=1 - b)
        return state["m"] / (1 - a**t), state["v"] / (1 - b**t)


@defect("Adam", "parameter", "")
class EpsInTheRoot(AdamLike):
    def rule(self, p, g, state, group):
        g = g.add(p, alpha=group["weight_decay"])
        m, v = self.moments(g, state, group)
        p.addcdiv_(m, (v + group["eps"]).sqrt(), value=-group["lr"])  # eps stands outside


@defect("AdamW", "parameter|default", "added to the gradient|default")
class DecayInTheGradient(AdamLike):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def rule(self, p, g, state, group):
        m, v = self.moments(g.add(p, alpha=group["weight_decay"]), state, group)  # decoupled it is not
        p.addcdiv_(m, v.sqrt() + group["eps"], value=-group["lr"])


@defect("SGD", "parameter", "ignores nesterov")
class NeverNesterov(Plain):
    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)

    def rule(self, p, g, state, group):
        g = g.add(p, alpha=group["weight_decay"])
        if group["momentum"]:
            if "b" not in state:
                state["b"] = g.clone()
            else:
                state["b"].mul_(group["momentum"]).add_(g, alpha=1 - group["dampening"])
            g = state["b"]
        p.add_(g, alpha=-group["lr"])


@defect("RMSprop", "parameter", "state_dict|after step")
class StateNotSaved(Plain):
    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)
        self.squares = {}  # not in self.state

    def rule(self, p, g, state, group):
        g = g.add(p, alpha=group["weight_decay"])
        v = self.squares.setdefault(p, torch.zeros_like(p))
        v.mul_(group["alpha"]).addcmul_(g, g, value=1 - group["alpha"])
        p.addcdiv_(g, v.sqrt() + group["eps"], value=-group["lr"])


@defect("Adagrad", "gradient changed", "changed by the step")
class ChangesGradients(Plain):
    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10):
        super().__init__(
            params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, start=initial_accumulator_value, eps=eps
        )

    def rule(self, p, g, state, group):
        if not state:
            state.update(step=0, v=torch.full_like(p, group["start"]))
        g.add_(p, alpha=group["weight_decay"])  # in the parameter's own .grad
        state["v"].addcmul_(g, g)
        p.addcdiv_(g, state["v"].sqrt() + group["eps"], value=-group["lr"] / (1 + state["step"] * group["lr_decay"]))
        state["step"] += 1


@defect("LBFGS", "parameter", "after step")
class NoFirstScale(Optimizer):
    def __init__(self, params, lr=1, max_iter=20, tolerance_change=1e-9, history_size=100):
        defaults = {"lr": lr, "max_iter": max_iter, "tolerance_change": tolerance_change, "history_size": history_size}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure):
        group = self.param_groups[0]
        params = group["params"]
        state = self.state[params[0]]
        state.setdefault("pairs", [])
        error = before = closure()
        for _ in range(group["max_iter"]):
            g = torch.cat([torch.zeros_like(p).ravel() if p.grad is None else p.grad.ravel() for p in params])
            lr = group["lr"]
            if "g" not in state:
                d, lr = -g, lr * min(1.0, 1 / g.abs().sum())
            else:
                if (y := g - state["g"]).dot(state["s"]) > 1e-10:
                    state["pairs"] = [*state["pairs"], (state["s"], y)][-group["history_size"] :]
                d, alphas = -g, []
                for s, y in reversed(state["pairs"]):
                    alphas.append(s.dot(d) / s.dot(y))
                    d = d - alphas[-1] * y
                for s, y in state["pairs"]:  # from the newest pair's scale, s'y / y'y, on
                    d = d + (alphas.pop() - y.dot(d) / s.dot(y)) * s
            if g.dot(d) > -group["tolerance_change"]:
                break
            state["g"], state["s"] = g, lr * d
            for p, part in zip(params, (lr * d).split([p.numel() for p in params]), strict=True):
                p.add_(part.view_as(p))
            last, error = error, closure()
            if abs(error - last) < group["tolerance_change"]:
                break
        return before


@defect("StepLR", "rate", "must be")
class OneTooLate(lr_scheduler.LRScheduler):
    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        turn = self.last_epoch > 1 and (self.last_epoch - 1) % self.step_size == 0  # one step late
        return [group["lr"] * (self.gamma if turn else 1) for group in self.optimizer.param_groups]


@defect("CosineAnnealingLR", "rate", "ignores eta_min")
class DownToNothing(lr_scheduler.LRScheduler):
    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max = T_max
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        t = self.last_epoch
        if t == 0:
            return [group["lr"] for group in self.optimizer.param_groups]
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:
            return [group["lr"] + base * (1 - math.cos(math.pi / self.T_max)) / 2
                    for base, group in zip(self.base_lrs, self.optimizer.param_groups, strict=True)]  # fmt: skip
        ratio = (1 + math.cos(math.pi * t / self.T_max)) / (1 + math.cos(math.pi * (t - 1) / self.T_max))
        return [ratio * group["lr"] for group in self.optimizer.param_groups]
