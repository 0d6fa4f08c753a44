"""Adafactor: Adam's second moment of a matrix, kept as its rows' and its columns' means."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class Adafactor(Manual, torch.optim.Adafactor):
    r"""Step by the gradient over the root of a mean square that has rank one, relative to the size of the parameter.

    $$R_t = \hat\beta_t R_{t-1} + (1 - \hat\beta_t)\,\mathrm{mean}_n(G_t^2), \quad
    C_t = \hat\beta_t C_{t-1} + (1 - \hat\beta_t)\,\mathrm{mean}_m(G_t^2), \quad
    V_t = \frac{R_t C_t}{\max(\mathrm{mean}_m R_t, \epsilon_1)}, \quad \hat\beta_t = 1 - t^\tau$$
    $$U_t = \frac{G_t}{\max(\sqrt{V_t}, \epsilon_1)}, \qquad
    \theta_t = (1 - \gamma\lambda)\,\theta_{t-1} - \alpha_t \frac{U_t}{\max(1, \mathrm{rms}(U_t) / d)}, \qquad
    \alpha_t = \max(\epsilon_2, \mathrm{rms}(\theta_{t-1})) \min(\gamma, 1 / \sqrt t)$$

    G (*, m, n), R (*, m, 1), C (*, 1, n); of fewer dimensions V is the mean square itself. lr $\gamma$ bounds the relative
    step, beta2_decay $\tau$, eps $(\epsilon_1, \epsilon_2)$, where None is the dtype's, threshold d, weight decay $\lambda$.
    As in torch $\epsilon_1$ stands in the denominators; the paper adds it to $G^2$.
    ValueError: a negative lr, eps or weight decay, a positive beta2_decay, d below 1. RuntimeError: complex parameters, sparse
    gradients. Shazeer and Stern 2018, arXiv:1804.04235, algorithms 4 and 5.
    """

    def init(self, p: Tensor, group: Group) -> State:
        step = self.scalar(0.0, p, group)
        if p.dim() < 2:
            return {"step": step, "variance": torch.zeros_like(p)}
        *batch, m, n = p.shape
        return {"step": step, "row_var": p.new_zeros(*batch, m, 1), "col_var": p.new_zeros(*batch, 1, n)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        t, lr, (eps1, eps2) = self.number(state["step"], group), group["lr"], group["eps"]
        eps1 = torch.finfo(p.dtype).eps if eps1 is None else eps1
        new = t ** group["beta2_decay"]  # the weight of what is new, 1 - beta
        new = new.to(p.dtype) if isinstance(new, Tensor) else new
        alpha = self.at_least(self.rms(p, group), eps2) * -self.at_least(-lr, -1 / t**0.5)
        if self.given(group["weight_decay"]):
            p.mul_(1 - lr * group["weight_decay"])
        if g.dim() < 2:
            variance = state["variance"].lerp_(g.square(), new)
        else:
            row = state["row_var"].lerp_(mean_square(g, -1), new)
            column = state["col_var"].lerp_(mean_square(g, -2), new)
            variance = (row @ column).div_(row.mean(-2, keepdim=True).clamp_(min=eps1))
        u = variance.clamp(min=eps1 * eps1).rsqrt_().mul_(g)
        self.descend(p, alpha / self.at_least(self.rms(u, group, group["d"]), 1.0), u)

    def decayed(self, p: Tensor, g: Tensor, group: Group) -> Tensor:
        return g  # the step is relative to the parameter before it shrinks

    def rms(self, t: Tensor, group: Group, unit: float = 1.0) -> float | Tensor:
        """The root mean square, a number of units."""
        return self.number(torch.linalg.vector_norm(t), group) / (max(t.numel(), 1) ** 0.5 * unit)

    def _check(self, p: Tensor, g: Tensor, group: Group) -> None:
        if p.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        super()._check(p, g, group)


def mean_square(g: Tensor, dim: int) -> Tensor:
    """Along dim, without a tensor of the squares."""
    return torch.linalg.vector_norm(g, dim=dim, keepdim=True).square_().div_(max(g.size(dim), 1))
