"""ScheduleFreeAdamW: AdamW at a constant rate, whose average is as good as a schedule that knew the end."""

from __future__ import annotations

import torch
from torch import Tensor

from ...builtin.optim import schedule_free as builtin
from ...core.optimizer import Group, Manual, State


class ScheduleFreeAdamW(Manual, builtin.ScheduleFreeAdamW):
    r"""Gradients are taken at y, between the sequence z that steps and the average x of it that is the answer.

    $$y_t = (1 - \beta_1) z_t + \beta_1 x_t, \qquad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad
    u_t = \frac{g_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} + \lambda y_t$$
    $$z_{t+1} = z_t - \gamma_t u_t, \qquad x_{t+1} = (1 - c_t) x_t + c_t z_{t+1}, \qquad
    c_t = \frac{w_t}{\sum_{s \le t} w_s}, \qquad w_t = t^r (\max_{s \le t} \gamma_s)^p, \qquad
    \gamma_t = \gamma \min(1, t / \text{warmup})$$

    The parameters are y after `train()`, x after `eval()`: call them before training, and before the network is evaluated or
    saved. x itself is not kept, $y \leftarrow (1 - c) y + c z + \gamma(\beta_1 (1 - c) - 1) u$ moves it along. lr $\gamma$,
    betas, eps, weight_decay $\lambda$, warmup_steps, r, weight_lr_power p. torch has no such class:
    dlref.builtin.optim.ScheduleFreeAdamW is composed. ValueError: a negative lr, eps, weight decay or warmup, $\beta_1$ outside
    (0, 1), $\beta_2$ outside [0, 1). RuntimeError: a step before `train()`, sparse gradients.
    Defazio et al. 2024, arXiv:2405.15682, algorithm 1.
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        return {"z": p.detach().clone(), "exp_avg_sq": torch.zeros_like(p)}

    def add_param_group(self, param_group: Group) -> None:
        builtin.as_the_others(self, param_group)
        super().add_param_group(param_group)

    def begin(self, group: Group) -> None:
        builtin.check_mode(group)
        group["k"] += 1
        group["scheduled_lr"] = float(group["lr"]) * min(1.0, group["k"] / max(group["warmup_steps"], 1))
        group["lr_max"] = max(group["scheduled_lr"], group["lr_max"])
        group["weight_sum"] += self.weight(group)

    @staticmethod
    def weight(group: Group) -> float:
        """w of the step at hand."""
        return group["k"] ** group["r"] * group["lr_max"] ** group["weight_lr_power"]

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), lr, z = group["betas"], group["scheduled_lr"], state["z"]
        v = self.average_square(state["exp_avg_sq"], g, beta2)
        u = g / self.root(v / (1 - beta2 ** group["k"]), group["eps"])
        u = self.plus(u, p, group["weight_decay"])
        c = self.weight(group) / group["weight_sum"] if group["weight_sum"] else 0.0
        p.lerp_(z, c)
        self.descend(p, lr * (1 - beta1 * (1 - c)), u)
        self.descend(z, lr, u)

    def decayed(self, p: Tensor, g: Tensor, group: Group) -> Tensor:
        return g  # it is taken at y, beside the gradient over its root
