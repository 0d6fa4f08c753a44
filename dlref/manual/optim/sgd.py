"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class SGD(Manual, torch.optim.SGD):
    r"""Step down the gradient, or down its decaying sum.

    $$b_t = \mu b_{t-1} + (1 - \tau) g_t,\ b_1 = g_1, \qquad
    \theta_t = \theta_{t-1} - \gamma \begin{cases} g_t & \mu = 0 \\ b_t & \text{momentum} \\
    g_t + \mu b_t & \text{Nesterov} \end{cases}$$

    lr $\gamma$, momentum $\mu$, dampening $\tau$; weight decay is added to $g$. Sparse gradients are taken.
    differentiable: $b_1$ is cut from the graph of $g_1$, as in torch.
    ValueError: a negative lr, momentum or weight decay; Nesterov without momentum or with dampening.
    Polyak 1964, doi:10.1016/0041-5553(64)90137-5; Sutskever et al. 2013, equations 3 and 4.
    """

    elementwise = True
    sparse = True

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        momentum = group["momentum"]
        if self.given(momentum):
            b = state.get("momentum_buffer")
            if b is None:
                b = state["momentum_buffer"] = g.detach().clone()
            else:
                new, alpha = self.scaled(g, 1 - group["dampening"])
                b.mul_(momentum).add_(new, alpha=alpha)
            g = self.plus(g, b, momentum) if group["nesterov"] else b
        self.descend(p, group["lr"], g)
