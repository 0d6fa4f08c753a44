"""Weight normalisation as a hook before the forward, torch's older form: its mathematics is `weight_norm` of functional."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.weight_norm import WeightNorm as OfTorch

from ....core.computed import Computed, give
from ..parametrization import weight_norm as normalised


class WeightNorm(OfTorch):
    """The hook: it computes the weight of its length and direction before each forward."""

    def compute_weight(self, module: nn.Module) -> torch.Tensor:
        return normalised(*self._parts(module), self.dim)

    def vjp(self, module: nn.Module) -> Computed:
        """The weight, and what adds the gradients of length and direction to their `.grad`."""
        parts = self._parts(module)
        weight, pull = normalised.vjp(*parts, self.dim)
        setattr(module, self.name, weight)
        return weight, lambda grad: give(parts, pull(grad)[:2])

    def _parts(self, module: nn.Module) -> list[torch.Tensor]:
        return [getattr(module, f"{self.name}_{part}") for part in "gv"]


def weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    r"""Compute a weight of its length `name_g` and direction `name_v` before each forward: $w = g\, v / \lVert v \rVert$.

    The weight and v have any shape; the norm is over all dimensions but dim, over all for None. FutureWarning: the newer form
    is that of parametrizations. Errors as torch's. Salimans & Kingma 2016, arXiv:1602.07868.
    """
    module = torch.nn.utils.weight_norm(module, name, dim)  # type: ignore[arg-type]
    for hook in module._forward_pre_hooks.values():
        if type(hook) is OfTorch and hook.name == name:
            hook.__class__ = WeightNorm
            setattr(module, name, hook.compute_weight(module))
    return module
