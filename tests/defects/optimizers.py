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


@defect("Rprop", "parameter", "first wrong after step 2", dtypes=["float32"])
class StepsAfterTheTurn(Plain):
    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50)):
        super().__init__(params, lr=lr, etas=etas, step_sizes=step_sizes)

    def rule(self, p, g, state, group):
        if not state:
            state.update(last=torch.zeros_like(p), size=torch.full_like(p, group["lr"]))
        same = (g * state["last"]).sign()
        (down, up), (least, most) = group["etas"], group["step_sizes"]
        factor = torch.where(same > 0, up, torch.where(same < 0, down, torch.ones_like(p)))
        state["size"].mul_(factor).clamp_(least, most)
        p.addcmul_(g.sign(), state["size"], value=-1)  # where the sign has changed the gradient counts as 0
        state["last"].copy_(g)


@defect("Muon", "parameter", r"of shape \(33, 3\)|shape", dtypes=["float32"])
class ScalesByTheWrongSide(torch.optim.Muon):
    def step(self, closure=None):
        before = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]
        loss = super().step(closure)
        for group, old in zip(self.param_groups, before, strict=True):
            for p, q in zip(group["params"], old, strict=True):
                if p.grad is not None and group["adjust_lr_fn"] in (None, "original"):
                    rows, columns = p.shape
                    start = q * (1 - group["lr"] * group["weight_decay"])
                    ratio = math.sqrt(max(1, columns / rows) / max(1, rows / columns))  # rows over columns it is
                    p.data = start + (p.detach() - start) * ratio
        return loss


@defect("Adafactor", "parameter", "", dtypes=["float32"])
class ClipsTheGradient(Plain):
    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0):
        super().__init__(params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay)

    def rule(self, p, g, state, group):
        if not state:
            state.update(t=0, v=torch.zeros_like(p), row=torch.zeros_like(p[..., :1]) if p.dim() else None)
            state["column"] = torch.zeros_like(p[..., :1, :]) if p.dim() > 1 else None
        state["t"] += 1
        weight, least = state["t"] ** group["beta2_decay"], group["eps"][0] or torch.finfo(p.dtype).eps

        def size(x):
            return x.square().mean().sqrt()

        rate = max(group["eps"][1], float(size(p))) * min(group["lr"], state["t"] ** -0.5)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        g = g / max(1.0, float(size(g)) / group["d"])  # it is the update that is clipped, g over the root
        if p.dim() > 1:
            row = state["row"].lerp_(g.square().mean(-1, keepdim=True), weight)
            column = state["column"].lerp_(g.square().mean(-2, keepdim=True), weight)
            v = row * column / row.mean(-2, keepdim=True).clamp(min=least)
        else:
            v = state["v"].lerp_(g.square(), weight)
        p.sub_(rate * g / v.clamp(min=least**2).sqrt())


@defect("SparseAdam", "parameter", "", dtypes=["float32"])
class RowsDecayUntouched(Plain):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, lr=lr, betas=betas, eps=eps)

    def rule(self, p, g, state, group):
        if not state:
            state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["t"] += 1
        (a, b), t, g = group["betas"], state["t"], g.coalesce()
        i, values = g.indices()[0], g.values()
        state["m"].mul_(a).index_add_(0, i, values, alpha=1 - a)  # rows that are not there keep their moments
        state["v"].mul_(b).index_add_(0, i, values.square(), alpha=1 - b)
        rate = group["lr"] * math.sqrt(1 - b**t) / (1 - a**t)
        p.index_add_(0, i, state["m"][i] / (state["v"][i].sqrt() + group["eps"]), alpha=-rate)


@defect("Lion", "parameter", "", dtypes=["float32"])
class OneBeta(Plain):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)

    def rule(self, p, g, state, group):
        m = state.setdefault("m", torch.zeros_like(p))
        m.lerp_(g, 1 - group["betas"][1])
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * m.sign())  # along a mean by the other beta


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
