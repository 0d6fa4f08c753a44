"""NAdam: Adam with Nesterov's look ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class NAdam(Manual, torch.optim.NAdam):
    r"""Adam whose mean gradient is taken one step ahead, with a momentum that warms up.

    $$\mu_t = \beta_1\left(1 - \tfrac12 0.96^{t\psi}\right), \qquad \pi_t = \prod_{s \le t} \mu_s, \qquad
    \theta_t = \theta_{t-1} - \gamma
    \frac{\mu_{t+1} m_t / (1 - \pi_{t+1}) + (1 - \mu_t) g_t / (1 - \pi_t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}$$

    $m$ and $v$ as in Adam; lr $\gamma$, betas, eps, momentum_decay $\psi$. Weight decay is added to $g$, or, decoupled, shrinks
    the parameters. ValueError: a negative argument, a beta outside [0, 1). RuntimeError: sparse gradients.
    Dozat 2016, OpenReview OM0jvwB8jIp57ZJjtNEZ, algorithm 2.
    """

    elementwise = True
    scalars = ("step", "mu_product")

    def init(self, p: Tensor, group: Group) -> State:
        return {
            "step": self.scalar(0.0, p, group), "mu_product": self.scalar(1.0, p, group),
            "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p),
        }  # fmt: skip

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        lr, (beta1, beta2), psi = group["lr"], group["betas"], group["momentum_decay"]
        t = self.number(state["step"], group)
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * psi))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * psi))
        pi = self.number(self.times(state["mu_product"], mu), group)
        m = self.average(state["exp_avg"], g, beta1)
        v = self.average_square(state["exp_avg_sq"], g, beta2)
        root = self.root(v / (1 - beta2**t), group["eps"])
        self.descend(p, lr * (1 - mu) / (1 - pi), g, root)
        self.descend(p, lr * mu_next / (1 - pi * mu_next), m, root)
