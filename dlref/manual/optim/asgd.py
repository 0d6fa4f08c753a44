"""ASGD: stochastic gradient descent with a falling rate, beside which the average of its parameters is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.compat import get_scalar_dtype
from ...core.optimizer import Group, Manual, State


class ASGD(Manual, torch.optim.ASGD):
    r"""Step down the gradient by a rate that falls, and average the parameters from step $t_0$ on.

    $$\theta_t = (1 - \lambda\eta_{t-1})\,\theta_{t-1} - \eta_{t-1} g_t, \qquad
    a_t = a_{t-1} + \mu_{t-1}(\theta_t - a_{t-1}), \qquad
    \eta_t = \frac{\gamma}{(1 + \lambda\gamma t)^\alpha}, \qquad \mu_t = \frac{1}{\max(1, t - t_0)}$$

    $\eta_0 = \gamma$ and $\mu_0 = 1$: until $t_0$ the average is the parameter itself. lr $\gamma$, lambd $\lambda$, alpha, t0;
    the average $a$ is the state "ax", for the caller to take. Weight decay is added to $g$. A change of lr shows one step
    later, in $\eta$. ValueError: a negative lr, lambd, alpha or weight decay. RuntimeError: sparse gradients.
    Polyak and Juditsky 1992, doi:10.1137/0330046; the rates: Bottou 2012, Stochastic gradient descent tricks, section 5.
    """

    elementwise = True
    scalars = ("step", "eta", "mu")

    def init(self, p: Tensor, group: Group) -> State:
        kind = {"dtype": get_scalar_dtype(), "device": p.device}  # torch has them beside the parameter
        eta = torch.as_tensor(group["lr"], **kind).detach().clone().squeeze()
        return {"step": torch.zeros((), **kind), "eta": eta, "mu": torch.ones((), **kind), "ax": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        lr, decay, a = group["lr"], group["lambd"], state["ax"]
        t, eta, mu = (self.number(state[key], group) for key in self.scalars)
        p.mul_(1 - decay * eta)
        self.descend(p, eta, g)
        if isinstance(mu, Tensor) or mu != 1:
            a.add_(p.sub(a).mul_(mu))
        else:
            a.copy_(p)
        eta_next, mu_next = lr / (1 + decay * lr * t) ** group["alpha"], 1 / self.at_least(t - group["t0"], 1)
        state["eta"].copy_(torch.as_tensor(eta_next))
        state["mu"].copy_(torch.as_tensor(mu_next))
