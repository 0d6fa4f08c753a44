"""Parametrizations by hand: torch.nn.utils.parametrizations, whose modules have explicit gradients."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations as theirs

from ....core.counterpart import by_hand
from ....core.module import Manual
from ....core.pullback import again, made_of
from ..distance import normalize
from ..parametrization import as_matrix, power_iteration
from ..parametrization import orthogonal as orthogonal_map_of
from ..parametrization import spectral_norm as over_sigma
from ..parametrization import weight_norm as of_length

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


class _WeightNorm(Manual, theirs._WeightNorm):
    """The module of `weight_norm`."""

    op = of_length


class _SpectralNorm(Manual, theirs._SpectralNorm):
    """The module of `spectral_norm`, with power iteration in training; a vector it divides by its length, as `normalize`."""

    op = over_sigma
    attributes = {"u": "_u", "v": "_v", "dim": "dim"}

    def _power_method(self, weight_mat, n_power_iterations):
        if not again():
            power_iteration(weight_mat.mH, self._v, self._u, n_power_iterations, self.eps)  # u first, as torch here

    def _call(self, weight):
        """The operation and its arguments; u and v as they are now, since later forwards change them."""
        if weight.ndim == 1:
            return normalize, (weight, 2.0, 0, self.eps)
        if self.training:
            self._power_method(as_matrix(weight, self.dim), self.n_power_iterations)
        return self.__op__, (weight, self._u.clone(), self._v.clone(), self.dim)

    def forward(self, weight):
        op, args = self._call(weight)
        return op(*args)

    def explicit(self, weight):
        op, args = self._call(weight)
        output, pull = op.vjp(*args)
        return output, made_of(lambda dy=None, needs=None: pull(dy)[:1], pull)


class _Orthogonal(Manual, theirs._Orthogonal):
    """The module of `orthogonal`."""

    op = orthogonal_map_of
    attributes = {"orthogonal_map": "orthogonal_map"}

    def arguments(self):
        return {"base": getattr(self, "base", None), "orthogonal_map": self.orthogonal_map.name}


def _derived(module: nn.Module, name: str) -> nn.Module:
    """Let the parametrizations that torch has registered be derived by hand: each class changes, its tensors do not."""
    for part in module.parametrizations[name]:
        part.__class__ = by_hand(type(part)) or type(part)
    return module


def weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0) -> nn.Module:
    r"""Let a weight be computed of its length and direction: $w = g\, v / \lVert v \rVert$, `original0` and `original1`.

    The weight and v have any shape; the norm is over all dimensions but dim, over all for None. Errors as torch's. Salimans
    & Kingma 2016, arXiv:1602.07868.
    """
    return _derived(theirs.weight_norm(module, name, dim), name)  # type: ignore[arg-type]


def spectral_norm(
    module: nn.Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> nn.Module:
    r"""Let a weight be divided by its largest singular value: $w = W / \sigma(W)$, a vector by its length.

    The weight has any shape. Power iteration finds its vectors, `_u` and `_v`, by n_power_iterations each time the weight is
    computed in training; W has a row for each place of dim, 0 by default, and 1 for transposed convolutions. Errors as torch's.
    Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
    """
    return _derived(theirs.spectral_norm(module, name, n_power_iterations, eps, dim), name)


def orthogonal(
    module: nn.Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> nn.Module:
    r"""Let a weight be an orthogonal matrix, or a batch of them: $Q^\top Q = I$, or $Q Q^\top = I$ where it is wide.

    orthogonal_map: "matrix_exp", "cayley" or "householder", as in functional's `orthogonal`; by default the first for square
    and complex matrices, else the last. The weight is (*, n, k). use_trivialization: times a constant, `base`, which is the
    weight as it was. Errors as torch's. Lezcano-Casado 2019, arXiv:1909.09501.
    """
    made = theirs.orthogonal(module, name, orthogonal_map, use_trivialization=use_trivialization)
    return _derived(made, name)
