"""The same algorithm by autograd: the loop of dlref.manual.training round the step that every PyTorch program has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..manual import training as manual

evaluate, minibatches = manual.evaluate, manual.minibatches


def step(
    network: Any,
    criterion: Any,
    optimizer: Any,
    x: Tensor,
    y: Tensor,
    max_norm: float | None = None,
    may_update: manual.MayUpdate | None = None,
) -> Tensor:
    """One step of the algorithm by autograd, as that by hand. Returns the error."""
    optimizer.zero_grad()
    _, error = gradients(network, criterion, x, y)  # a. to c.
    if may_update is not None and not may_update(error):
        return error
    if max_norm is not None:
        clip_grad_norm_(network.parameters(), max_norm)
    optimizer.step()  # d. update
    return error


def gradients(network: Any, criterion: Any, x: Any, y: Any) -> tuple[Any, Tensor]:
    """Output and error; the parameters' gradients are added to their `.grad`."""
    z = network(x)  # a. forward
    error = criterion(z, y)  # b. error
    error.backward()  # c. chain rule
    return z, error


def compiled(network: Any, criterion: Any, optimizer: Any, max_norm: float | None, backend: str) -> Any:
    """torch.compile of the network and its gradient; the optimizer's step stays its own."""
    forward = torch.compile(network, backend=backend)

    def take(x: Tensor, y: Tensor) -> Tensor:
        return step(forward, criterion, optimizer, x, y, max_norm)

    return take


fit = manual.fit_by(step, compiled)
