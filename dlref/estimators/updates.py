r"""A torch optimizer under scikit-learn's schedule of its rate, in scikit-learn's form of the two rules.

SGD: scikit-learn's velocity $v \leftarrow \mu v - \gamma g$ is $-\gamma b$ of torch's buffer $b \leftarrow \mu b + g$; where
the rate changes from $\gamma$ to $\gamma'$, v must stay, so $b \leftarrow b\,\gamma / \gamma'$.

Adam: scikit-learn's $\gamma \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}\,m / (\sqrt v + \epsilon)$ is torch's
$\frac{\gamma}{1 - \beta_1^t}\,m / (\sqrt v / \sqrt{1 - \beta_2^t} + \epsilon_t)$ with
$\epsilon_t = \epsilon / \sqrt{1 - \beta_2^t}$.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer
from torch import nn


class Updates(SGDOptimizer):
    """The optimizer over the weights, which are shrunk, and the other parameters, which are not.

    Its `learning_rate`, `iteration_ends` and `trigger_stopping` are scikit-learn's. It pickles without the parameters, to be
    bound to them again. epsilon: Adam's, to be added where scikit-learn adds it.
    """

    def __init__(self, rate: float, schedule: str = "constant", power_t: float = 0.5, epsilon: float | None = None):
        super().__init__([], rate, schedule, power_t=power_t)
        self.epsilon = epsilon
        self.optimizer: Any = None
        self.saved: dict | None = None
        self.t = 0

    def bind(self, weights: list[nn.Parameter], others: list[nn.Parameter], make: Callable[..., Any]) -> None:
        """Let it move these parameters, by the optimizer that make(groups) makes, from the state that it had."""
        if self.optimizer is not None:
            bound = [p for group in self.optimizer.param_groups for p in group["params"]]
            if list(map(id, bound)) == list(map(id, [*weights, *others])):
                return
            self.saved = self.optimizer.state_dict()
        self.optimizer = make([{"params": weights}, {"params": others, "weight_decay": 0.0}])
        if "weight_decay" not in self.optimizer.defaults:
            raise ValueError(
                f"the optimizer must have a weight_decay, for alpha; {type(self.optimizer).__name__} has none"
            )
        if self.saved is not None:
            self.optimizer.load_state_dict(self.saved)
            self.saved = None
        self.decoupled = bool(self.optimizer.param_groups[0].get("decoupled_weight_decay"))

    def begin(self, alpha: float, total: float) -> None:
        r"""Set the numbers of the next update.

        The gradient of $\frac{\alpha}{2 S} \sum W^2$, S the total weight of the batch, is $\frac{\alpha}{S} W$; an optimizer
        that shrinks the weights by itself shrinks them by alpha.
        """
        self.t += 1
        weights, others = self.optimizer.param_groups
        weights["weight_decay"] = alpha if self.decoupled else alpha / total
        for group in (weights, others):
            if group["lr"] != self.learning_rate:
                for p in group["params"]:
                    if (
                        buffer := self.optimizer.state.get(p, {}).get("momentum_buffer")
                    ) is not None and "dampening" in group:
                        buffer.mul_(group["lr"] / self.learning_rate)
                group["lr"] = self.learning_rate
            if self.epsilon is not None:
                group["eps"] = self.epsilon / (1 - group["betas"][1] ** self.t) ** 0.5

    def __getstate__(self) -> dict:
        saved = self.saved if self.optimizer is None else self.optimizer.state_dict()
        return self.__dict__ | {"optimizer": None, "saved": _on_cpu(saved)}


def _on_cpu(value: Any) -> Any:
    """The same with its tensors on the CPU, so that it can be read where there is no GPU."""
    if isinstance(value, dict):
        return {key: _on_cpu(v) for key, v in value.items()}
    return value.cpu() if isinstance(value, torch.Tensor) else value
