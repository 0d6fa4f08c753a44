"""Adadelta: steps in the parameters' own units."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class Adadelta(Manual, torch.optim.Adadelta):
    r"""Step by the gradient, times the root mean square of the past steps over that of the past gradients.

    $$v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \qquad
    d_t = \frac{\sqrt{u_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}} g_t, \qquad
    u_t = \rho u_{t-1} + (1 - \rho) d_t^2, \qquad \theta_t = \theta_{t-1} - \gamma d_t$$

    lr $\gamma$, rho, eps; weight decay is added to $g$. ValueError: a negative argument, rho above 1. RuntimeError: sparse
    gradients. Zeiler 2012, arXiv:1212.5701, algorithm 1.
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        return {
            "step": self.scalar(0.0, p, group), "square_avg": torch.zeros_like(p), "acc_delta": torch.zeros_like(p)
        }  # fmt: skip

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        rho, eps, v, u = group["rho"], group["eps"], state["square_avg"], state["acc_delta"]
        self.average_square(v, g, rho)
        d = u.add(eps).sqrt_().div(v.add(eps).sqrt_()).mul_(g)
        self.average_square(u, d, rho)
        self.descend(p, group["lr"], d)
