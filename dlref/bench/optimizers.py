"""An optimizer's step against torch's class of its name, in each of the ways that torch offers to take it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from .. import builtin, manual
from ..core.flat import flatten
from ..core.names import one_of
from ..core.optimizer import Manual
from .measure import measure

# Those whose step is a rule for one gradient of any shape: how long LBFGS's is, the error decides.
OPTIMIZERS = [n for n, value in vars(manual.optim).items() if isinstance(value, type) and issubclass(value, Manual)
              and n not in ("Muon", "SparseAdam")]  # fmt: skip
WAYS = {"builtin": {}, "builtin foreach": {"foreach": True}, "builtin fused": {"fused": True}}
# Name: shapes of the parameters.
PARAMETERS: dict[str, list[tuple[int, ...]]] = {
    "1,000 of 8 x 8": [(8, 8)] * 1000,
    "MLP 64-128-10": [(128, 64), (128,), (10, 128), (10,)],
}


def time_optimizer(
    name: str,
    parameters: str,
    *,
    device: torch.device | str = "cpu",
    rounds: int = 20,
    seconds: float | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Seconds of one step over these parameters (a key of PARAMETERS), a record as `dlref bench --json` writes it.

    manual: parameters laid into one tensor, as `training.fit` does; manual apart: each by itself. Every side starts from the
    same parameters and gradients. ValueError where there is no optimizer of that name by hand.
    """
    one_of("optimizer", name, OPTIMIZERS)
    one_of("parameters", parameters, PARAMETERS)
    shapes = PARAMETERS[parameters]
    variants = {
        "manual": _step(flatten(_parameters(shapes, device)), manual.optim, name, {}),
        "manual apart": _step(_parameters(shapes, device), manual.optim, name, {}),
    }
    for way, options in ways(getattr(builtin.optim, name)).items():
        variants[way] = _step(_parameters(shapes, device), builtin.optim, name, options)
    times = measure(variants, rounds, seconds, threads)
    ratios = {key: vars(times.ratio(key, WAYS)) for key in ("manual", "manual apart")}
    return {"name": name, "parameters": parameters, "times": times.as_dict(), "ratios": ratios}


def ways(cls: Callable) -> dict[str, dict[str, Any]]:
    """The ways in which torch's class takes its step: those of WAYS whose flags its constructor has."""
    known = inspect.signature(cls).parameters
    return {way: options for way, options in WAYS.items() if known.keys() >= options.keys()}


def _parameters(shapes: Iterable[tuple[int, ...]], device: torch.device | str) -> nn.ParameterList:
    generator = torch.Generator().manual_seed(0)
    made = nn.ParameterList(nn.Parameter(torch.randn(s, generator=generator).to(device)) for s in shapes)
    for p in made:
        p.grad = 0.01 * torch.randn(p.shape, generator=generator).to(device)
    return made


def _step(parameters: nn.ParameterList, space: Any, name: str, options: dict[str, Any]) -> Callable[[], Any]:
    optimizer = getattr(space, name)(parameters.parameters(), lr=1e-4, **options)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer.step
