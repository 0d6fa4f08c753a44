"""Spectral normalisation as a hook before the forward, torch's older form: its mathematics is `spectral_norm` of functional."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm as OfTorch

from ....core.computed import Computed, give
from ..parametrization import as_matrix, power_iteration
from ..parametrization import spectral_norm as normalised


class SpectralNorm(OfTorch):
    """The hook: it computes the weight over its largest singular value before each forward."""

    def compute_weight(self, module: nn.Module, do_power_iteration: bool) -> torch.Tensor:
        return normalised(*self._parts(module, do_power_iteration))

    def vjp(self, module: nn.Module) -> Computed:
        """The weight, and what adds the original's gradient to its `.grad`."""
        original, *others = self._parts(module, module.training)
        weight, pull = normalised.vjp(original, *others)
        setattr(module, self.name, weight)
        return weight, lambda grad: give([original], pull(grad)[:1])

    def _parts(self, module, do_power_iteration):
        weight, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        if do_power_iteration:
            power_iteration(as_matrix(weight, self.dim), u, v, self.n_power_iterations, self.eps)
        return weight, u.conj().clone(), v.clone(), self.dim  # torch's product here conjugates nothing


def spectral_norm(
    module: nn.Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> nn.Module:
    r"""Compute a weight of `name_orig` and its largest singular value before each forward: $w = W / \sigma(W)$.

    The weight has any shape of two dimensions or more. Power iteration finds its vectors, `name_u` and `name_v`, by
    n_power_iterations in each forward that trains; W has a row for each place of dim, 0 by default, and 1 for transposed
    convolutions. Errors as torch's. Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
    """
    module = torch.nn.utils.spectral_norm(module, name, n_power_iterations, eps, dim)
    for hook in module._forward_pre_hooks.values():
        if type(hook) is OfTorch and hook.name == name:
            hook.__class__ = SpectralNorm
    return module
