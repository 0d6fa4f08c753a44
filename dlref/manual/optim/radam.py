"""RAdam: Adam that waits until the variance of its step is known."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class RAdam(Manual, torch.optim.RAdam):
    r"""Adam's step times the rectification $r_t$; while $\rho_t \le 5$ a step by the mean gradient alone.

    $$\rho_\infty = \frac{2}{1 - \beta_2} - 1, \qquad \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t}, \qquad
    r_t = \sqrt{\frac{(\rho_t - 4)(\rho_t - 2)\rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2)\rho_t}}$$
    $$\theta_t = \theta_{t-1} - \gamma\, r_t \frac{m_t}{1 - \beta_1^t} \frac{\sqrt{1 - \beta_2^t}}{\sqrt{v_t} + \epsilon}$$

    $m$ and $v$ as in Adam; lr $\gamma$, betas, eps. Weight decay is added to $g$, or, decoupled, shrinks the parameters.
    ValueError: a negative lr, eps or weight decay, a beta outside [0, 1). RuntimeError: sparse gradients.
    Liu et al. 2019, arXiv:1908.03265, algorithm 2.
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        return {"step": self.scalar(0.0, p, group), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), t = group["betas"], self.number(state["step"], group)
        m = self.average(state["exp_avg"], g, beta1)
        v = self.average_square(state["exp_avg_sq"], g, beta2)
        correction = 1 - beta2**t
        rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * t * beta2**t / correction
        d = m / (1 - beta1**t) * group["lr"]

        def rectified():
            r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
            return d * (correction**0.5 / self.root(v, group["eps"])) * r

        p.sub_(self.choose(rho > 5, rectified, d))
