"""RMSprop: the gradient over its root mean square."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class RMSprop(Manual, torch.optim.RMSprop):
    r"""Step by the gradient over the root of its decaying mean square (centered: of its variance).

    $$v_t = \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad a_t = \alpha a_{t-1} + (1 - \alpha) g_t, \qquad
    b_t = \mu b_{t-1} + \frac{g_t}{\sqrt{v_t\,[- a_t^2]} + \epsilon}, \qquad \theta_t = \theta_{t-1} - \gamma b_t$$

    lr $\gamma$, alpha, momentum $\mu$, eps; weight decay is added to $g$. ValueError: a negative argument. RuntimeError:
    sparse gradients. Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850, equations 38 to 45.
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        state = {"step": self.scalar(0.0, p, group), "square_avg": torch.zeros_like(p)}
        if self.given(group["momentum"]):
            state["momentum_buffer"] = torch.zeros_like(p)
        if group["centered"]:
            state["grad_avg"] = torch.zeros_like(p)
        return state

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        alpha, v = group["alpha"], state["square_avg"]
        self.average_square(v, g, alpha)
        variance = v
        if group["centered"]:
            a = self.average(state["grad_avg"], g, alpha)
            variance = v.addcmul(a, a, value=-1)
        root = self.root(variance, group["eps"])
        if self.given(group["momentum"]):
            b = state["momentum_buffer"].mul_(group["momentum"]).addcdiv_(g, root)
            self.descend(p, group["lr"], b)
        else:
            self.descend(p, group["lr"], g, root)
