"""SparseAdam: Adam of the elements alone that a sparse gradient stores."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.optimizer import Group, Manual, State


class SparseAdam(Manual, torch.optim.SparseAdam):
    r"""Adam's step where the sparse gradient stores an element; moments and parameters elsewhere stay as they are.

    $$m_i \leftarrow m_i + (1 - \beta_1)(g_i - m_i), \qquad v_i \leftarrow v_i + (1 - \beta_2)(g_i^2 - v_i), \qquad
    \theta_i \leftarrow \theta_i - \gamma \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m_i}{\sqrt{v_i} + \epsilon}$$

    i runs over what is stored, as the rows that an embedding has looked up (`sparse=True`); elements stored more than once are
    summed first. t counts all steps of the parameter, those too in which i was not there. $\epsilon$ is the paper's
    $\hat\epsilon$: it is not divided by the second moment's correction, as Adam's is. lr $\gamma$, betas, eps.
    ValueError: a lr or eps not above 0, a beta outside [0, 1), complex or sparse parameters. RuntimeError: dense gradients.
    Kingma and Ba 2014, arXiv:1412.6980, section 2, of the elements of a minibatch.
    """

    sparse = True

    def init(self, p: Tensor, group: Group) -> State:
        return {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), t = group["betas"], state["step"]
        g = g.coalesce()  # the square of a sum, not the sum of squares
        i, g_i = tuple(g.indices()), g.values()
        m, v = state["exp_avg"][i], state["exp_avg_sq"][i]
        m = state["exp_avg"][i] = m + (g_i - m) * (1 - beta1)
        v = state["exp_avg_sq"][i] = v + (g_i.square() - v) * (1 - beta2)
        rate = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        p[i] = p[i] - rate * (m / self.root(v, group["eps"]))

    def _check(self, p: Tensor, g: Tensor, group: Group) -> None:
        if not g.is_sparse:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
        super()._check(p, g, group)
