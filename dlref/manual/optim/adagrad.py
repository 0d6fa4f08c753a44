"""Adagrad: a learning rate for each element, which falls with the gradients that it has seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.compat import sparse_tensor
from ...core.optimizer import Group, Manual, State


class Adagrad(Manual, torch.optim.Adagrad):
    r"""Step by the gradient over the root of the sum of all squared gradients.

    $$s_t = s_{t-1} + g_t^2, \qquad \theta_t = \theta_{t-1} - \frac{\gamma}{1 + (t - 1)\eta} \frac{g_t}{\sqrt{s_t} + \epsilon}$$

    lr $\gamma$, lr_decay $\eta$, eps; $s_0$ is initial_accumulator_value; weight decay is added to $g$. Of a sparse gradient
    only the stored elements change. ValueError: a negative argument.
    Duchi et al. 2011, Journal of Machine Learning Research 12, section 1.1.
    """

    elementwise = True
    sparse = True

    def init(self, p: Tensor, group: Group) -> State:
        start = self.defaults["initial_accumulator_value"]
        sum = torch.full_like(p, complex(start, start) if p.is_complex() else start)
        return {"step": self.scalar(0.0, p, group), "sum": sum}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        t, s = self.number(state["step"], group), state["sum"]
        rate = group["lr"] / (1 + (t - 1) * group["lr_decay"])
        if g.is_sparse:
            g = g.coalesce()  # the square of a sum, not the sum of squares
            stored, values = tuple(g.indices()), g.values()
            s.index_put_(stored, values.square(), accumulate=True)
            d = values / self.root(s[stored], group["eps"])
            self.descend(p, rate, sparse_tensor(g.indices(), d, g.shape))
        else:
            s.addcmul_(g, g, value=1)
            self.descend(p, rate, g, self.root(s, group["eps"]))
