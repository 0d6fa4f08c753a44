"""ScheduleFreeAdamW, composed from torch's operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .lion import evaluated, real


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """AdamW that averages instead of a schedule; its mathematics: dlref.manual.optim.ScheduleFreeAdamW."""

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
    ):
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay), ("warmup_steps", warmup_steps)):
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, it is {value}")
        if not (0 < betas[0] < 1 and 0 <= betas[1] < 1):
            raise ValueError(f"betas must lie in (0, 1) and [0, 1), they are {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "r": r, "k": 0, "warmup_steps": warmup_steps,
                                  "train_mode": False, "weight_sum": 0.0, "lr_max": -1.0, "scheduled_lr": 0.0,
                                  "weight_lr_power": weight_lr_power, "weight_decay": weight_decay, "maximize": maximize,
                                  "foreach": foreach})  # fmt: skip

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        as_the_others(self, param_group)
        super().add_param_group(param_group)

    def train(self) -> None:
        """Put the parameters where gradients are taken, y; before training goes on."""
        self._put(True)

    def eval(self) -> None:
        """Put the parameters where the network is good, x; before it is evaluated or saved."""
        self._put(False)

    @torch.no_grad()
    def _put(self, training: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] is not training:
                beta = group["betas"][0]
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], 1 - beta if training else 1 - 1 / beta)
                group["train_mode"] = training

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = evaluated(closure)
        for group in self.param_groups:
            check_mode(group)
            group["k"] += 1
            lr = group["scheduled_lr"] = float(group["lr"]) * min(1.0, group["k"] / max(group["warmup_steps"], 1))
            group["lr_max"] = max(lr, group["lr_max"])
            weight = group["k"] ** group["r"] * group["lr_max"] ** group["weight_lr_power"]
            group["weight_sum"] += weight
            learning = [p for p in group["params"] if p.grad is not None]
            for p in learning:
                if p.grad.is_sparse:
                    raise RuntimeError("ScheduleFreeAdamW does not support sparse gradients")
                if not self.state[p]:
                    self.state[p].update(z=torch.clone(p), exp_avg_sq=torch.zeros_like(p))
            if not learning:
                continue
            ys = [real(p) for p in learning]
            gs = [real(-p.grad if group["maximize"] else p.grad) for p in learning]
            zs, vs = ([real(self.state[p][key]) for p in learning] for key in ("z", "exp_avg_sq"))
            beta1, beta2 = group["betas"]
            c = weight / group["weight_sum"] if group["weight_sum"] else 0.0
            correction, along = 1 - beta2 ** group["k"], lr * (beta1 * (1 - c) - 1)
            for y, g, z, v in zip(ys, gs, zs, vs, strict=True):
                v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
                u = (g / ((v / correction).sqrt() + group["eps"])).add_(y, alpha=group["weight_decay"])
                y.lerp_(z, c).add_(u, alpha=along)
                z.sub_(u, alpha=lr)
        return loss


def as_the_others(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
    """A group that comes later is where the others are."""
    if optimizer.param_groups:
        group.setdefault("train_mode", optimizer.param_groups[0]["train_mode"])


def check_mode(group: dict[str, Any]) -> None:
    """RuntimeError unless the parameters are where gradients are taken."""
    if not group["train_mode"]:
        raise RuntimeError("the parameters must be where gradients are taken, they are where the network is evaluated: "
                           "call optimizer.train() before training, optimizer.eval() before evaluating or saving")  # fmt: skip
