"""Muon: momentum whose matrix is made nearly orthogonal before it is stepped along."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class Muon(Manual, torch.optim.Muon):
    r"""Step along the momentum's nearest orthogonal matrix, that has every singular value near 1.

    $$B_t = \mu B_{t-1} + (1 - \mu) G_t, \qquad M_t = \begin{cases} B_t & \\ \mu B_t + (1 - \mu) G_t & \text{Nesterov}
    \end{cases}, \qquad \theta_t = (1 - \gamma\lambda)\,\theta_{t-1} - \gamma s\,\mathrm{NS}(M_t)$$

    NS is the iteration of `newton_schulz`, here in bfloat16 as in torch, whatever the parameter's dtype is. $\theta$ (m, n),
    and $s = \sqrt{\max(1, m / n)}$; $0.2 \sqrt{\max(m, n)}$ for adjust_lr_fn "match_rms_adamw", $\sqrt{m / n}$ for
    "spectral_unclamped", where torch knows it. lr $\gamma$, weight decay $\lambda$, momentum $\mu$, nesterov, ns_coefficients,
    ns_steps, eps. ValueError: parameters but of two dimensions, a negative lr, momentum or weight decay, another adjust_lr_fn,
    100 steps or more, but three coefficients. RuntimeError: complex parameters, sparse gradients.
    Jordan et al. 2024, kellerjordan.github.io/posts/muon; the scales: Liu et al. 2025, arXiv:2502.16982, section 2.2.
    """

    decoupled = True

    def init(self, p: Tensor, group: Group) -> State:
        return {"momentum_buffer": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        mu = group["momentum"]
        b = self.average(state["momentum_buffer"], g, mu)
        m = g.lerp(b, mu) if group["nesterov"] else b
        o = orthogonal(m.bfloat16(), group["ns_steps"], group["ns_coefficients"], group["eps"])
        self.descend(p, group["lr"] * scale(p.shape, group["adjust_lr_fn"]), o)

    def _check(self, p: Tensor, g: Tensor, group: Group) -> None:
        if p.is_complex():
            raise RuntimeError("Muon does not support complex parameters")
        if p.dim() != 2:  # of a group that came later
            raise ValueError("Param gradient must be a 2D matrix")
        if group["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(group["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        super()._check(p, g, group)


def orthogonal(m: Tensor, steps: int, coefficients: tuple[float, float, float], eps: float) -> Tensor:
    r"""`newton_schulz` of one matrix in its own dtype, each line a product and a sum that are rounded once."""
    a, b, c = coefficients
    x = m.T if m.size(0) > m.size(1) else m
    x = x / torch.linalg.vector_norm(x).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if m.size(0) > m.size(1) else x


def scale(shape: torch.Size, kind: str | None) -> float:
    """What the step is multiplied by, of a matrix of that shape."""
    m, n = shape
    if kind == "match_rms_adamw":
        return 0.2 * math.sqrt(max(m, n))
    return math.sqrt(m / n if kind == "spectral_unclamped" else max(1, m / n))
