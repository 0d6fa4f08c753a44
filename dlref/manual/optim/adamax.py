"""Adamax: Adam by the infinity norm."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class Adamax(Manual, torch.optim.Adamax):
    r"""Step by the mean gradient over the largest gradient so far, which decays.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \qquad
    \theta_t = \theta_{t-1} - \frac{\gamma}{1 - \beta_1^t} \frac{m_t}{u_t}$$

    lr $\gamma$, betas, eps; weight decay is added to $g$. ValueError: a negative lr, eps or weight decay, a beta outside
    [0, 1). RuntimeError: sparse gradients. Kingma and Ba 2014, arXiv:1412.6980, algorithm 2, which has no $\epsilon$.
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        return {"step": self.scalar(0.0, p, group), "exp_avg": torch.zeros_like(p), "exp_inf": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), t = group["betas"], self.number(state["step"], group)
        m = self.average(state["exp_avg"], g, beta1)
        u = state["exp_inf"].mul_(beta2).clamp_(min=g.abs().add_(group["eps"]))
        self.descend(p, group["lr"] / (1 - beta1**t), m, u)
