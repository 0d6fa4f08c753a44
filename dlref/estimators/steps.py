"""What takes the steps of an estimator: on a batch, by hand and then played back; on all data, by scipy's L-BFGS-B."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor, nn

from ..core.flat import coalesce

WARM = 20  # steps by hand after which the step is recorded, to be played back without Python between its kernels


class Warming:
    """The explicit step, which after some steps is recorded and played back: the same numbers, sooner."""

    def __init__(self, network: Any, goal: Any, optimizer: Any):
        from ..manual.training import step

        self.arguments, self.steps = (network, goal, optimizer), 0
        self.take: Any = lambda x, target: step(network, goal, optimizer, x, target)

    def __call__(self, x: Tensor, target: Any) -> Tensor:
        self.steps += 1
        if self.steps == WARM:
            from ..step.compile import compile_step

            self.take = compile_step(*self.arguments, backend="eager")
        return self.take(x, target)


def scipy_lbfgs(
    value_and_gradient: Callable, start: Tensor, *, max_iter: int, max_fun: int, gtol: float, callback: Callable
) -> Any:
    """scipy's L-BFGS-B of a function of a tensor."""

    def of_array(values: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_gradient(torch.from_numpy(values))
        return value, gradient.cpu().numpy()

    options = {"maxiter": max_iter, "maxfun": max_fun, "gtol": gtol}
    return scipy.optimize.minimize(
        of_array, start.cpu().numpy(), jac=True, method="L-BFGS-B", callback=callback, options=options
    )


def whole(tensors: list[Any]) -> Tensor:
    """The tensors of a flattened network as one."""
    found = coalesce(tensors)
    assert found is not None
    return found


def put(module: nn.Module, old: nn.Parameter, new: nn.Parameter) -> None:
    """Let the new parameter stand where the old one stood."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is old:
                part._parameters[name] = new
