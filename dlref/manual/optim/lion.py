"""Lion: the sign of a momentum, found by a search over programs."""

from __future__ import annotations

import torch
from torch import Tensor

from ...builtin import optim as builtin
from ...core.optimizer import Group, Manual, State


class Lion(Manual, builtin.Lion):
    r"""Step along the sign of a mean gradient, all elements by the same length.

    $$\theta_t = (1 - \gamma\lambda)\,\theta_{t-1} - \gamma\,\mathrm{sgn}(\beta_1 m_{t-1} + (1 - \beta_1) g_t), \qquad
    m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t$$

    The mean that is stepped along has more of the new gradient than the one that is kept. lr $\gamma$, a third to a tenth of
    AdamW's, betas, weight decay $\lambda$. torch has no such class: dlref.builtin.optim.Lion is composed.
    ValueError: a negative lr or weight decay, a beta outside [0, 1). RuntimeError: sparse gradients.
    Chen et al. 2023, arXiv:2302.06675, algorithm 2.
    """

    elementwise = True
    decoupled = True

    def init(self, p: Tensor, group: Group) -> State:
        return {"exp_avg": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), m = group["betas"], state["exp_avg"]
        self.descend(p, group["lr"], m.lerp(g, 1 - beta1).sign_())
        self.average(m, g, beta2)
