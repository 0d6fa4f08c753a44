"""Rprop: a step for each element, whose length only the signs of its gradients change."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class Rprop(Manual, torch.optim.Rprop):
    r"""Step against the gradient's sign; longer while the sign stays, shorter after it has changed.

    $$\Delta_t = \min(\max(\Delta_{t-1} \begin{cases} \eta_+ & s > 0 \\ \eta_- & s < 0 \\ 1 & s = 0 \end{cases},
    \Delta_{min}), \Delta_{max}), \qquad s = \mathrm{sgn}(g_t)\,\mathrm{sgn}(g_{t-1}), \qquad
    \theta_t = \theta_{t-1} - \Delta_t\,\mathrm{sgn}(g_t)$$

    Where the sign has changed, $s < 0$, the parameter stays and $g_t$ becomes 0, so that the next step is not shortened again.
    $\Delta_0$ is lr, whose later changes do nothing; etas $(\eta_-, \eta_+)$, step_sizes $(\Delta_{min}, \Delta_{max})$.
    For whole batches: a mini-batch changes signs by its noise. ValueError: a negative lr, etas but
    $0 < \eta_- < 1 < \eta_+$. RuntimeError: sparse gradients.
    Riedmiller and Braun 1993, doi:10.1109/ICNN.1993.298623; the parameter stays: Riedmiller 1994 (Rprop-).
    """

    elementwise = True

    def init(self, p: Tensor, group: Group) -> State:
        start = float(group["lr"])
        size = torch.full_like(p, complex(start, start) if p.is_complex() else start)
        return {"step": self.scalar(0.0, p, group), "prev": torch.zeros_like(p), "step_size": size}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (down, up), (least, most) = group["etas"], group["step_sizes"]
        s = g.sign() * state["prev"].sign()  # signs alone: a product of gradients may be too small for the dtype
        changed = s < 0
        factor = torch.where(s > 0, up, torch.where(changed, down, torch.ones_like(s)))
        size = state["step_size"].mul_(factor).clamp_(least, most)
        g = torch.where(changed, 0, g)
        self.descend(p, size, g.sign())
        state["prev"].copy_(g)
