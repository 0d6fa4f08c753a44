"""Adam and its family's first: moments of the gradient, with their start from zero corrected; AdamW."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class Adam(Manual, torch.optim.Adam):
    r"""Step by the mean gradient over the root of the mean squared gradient.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad
    \theta_t = \theta_{t-1} - \gamma \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}$$

    The divisors correct the bias of means that begin with zero; $\epsilon$ is added after them, outside the root, as in the
    paper's algorithm (its $\hat\epsilon$ stands before them). lr $\gamma$, betas $\beta$, eps $\epsilon$. Weight decay
    $\lambda$ makes $g_t$ of $g_t + \lambda \theta_{t-1}$, or, decoupled, shrinks the parameters as AdamW does. amsgrad:
    $\hat v_t = \max(\hat v_{t-1}, v_t)$ stands for $v_t$, corrected as it would be. lr and betas may be tensors of one element.
    ValueError: a negative lr, eps or weight decay, a beta outside [0, 1). RuntimeError: sparse gradients.
    Kingma and Ba 2014, arXiv:1412.6980, algorithm 1; Reddi et al. 2018, algorithm 2 (amsgrad).
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        state = {"step": self.scalar(0.0, p, group), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = torch.zeros_like(p)
        return state

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), t = group["betas"], self.number(state["step"], group)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        self.average(m, g, beta1)
        self.average_square(v, g, beta2)
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"].clamp_(min=v)
        self.descend(p, group["lr"] / (1 - beta1**t), m, self.root(v, group["eps"], 1 - beta2**t))


class AdamW(Adam, torch.optim.AdamW):
    r"""Adam whose weight decay shrinks the parameters by themselves: $\theta \leftarrow \theta - \gamma\lambda\theta$.

    The step that follows is Adam's, lr $\gamma$, weight decay $\lambda$; arguments and errors are Adam's too.
    Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2.
    """
