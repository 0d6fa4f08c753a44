r"""What an estimator minimises: $E = \sum_n w_n\,l(z_n, y_n)$, the weights of a batch summing to 1."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..core.names import one_of
from ..reuse.convert import convert

Target = tuple[Tensor, Tensor]
# scikit-learn's names: the class of ns.nn, its arguments, and what its values are multiplied by.
SKLEARN: dict[str, tuple[str, dict[str, Any], float]] = {
    "squared_error": ("MSELoss", {}, 0.5),
    "poisson": ("PoissonNLLLoss", {}, 1.0),
    "log_loss": ("CrossEntropyLoss", {}, 1.0),  # of target probabilities, as y comes in one-hot rows
    "binary_log_loss": ("BCEWithLogitsLoss", {}, 1.0),
}


class Objective(nn.Module):
    r"""$E = \sum_n w_n \sum_k l_k(z_{nk}, y_{nk})$, for the target (y, w): y (N, K) or (N,), w (N,).

    criteria: one for all outputs, whose values are (N,) or (N, K), or one for each column; with reduction="none".
    """

    def __init__(self, criteria: list[nn.Module]):
        super().__init__()
        self.criteria = nn.ModuleList(criteria)

    def parts(self, z: Tensor, y: Tensor) -> list[tuple[Any, Tensor, Tensor]]:
        if len(self.criteria) == 1:
            return [(self.criteria[0], z, y)]
        return list(zip(self.criteria, z.unbind(1), y.unbind(1), strict=True))

    def forward(self, z: Tensor, target: Target) -> Tensor:
        y, w = target
        return torch.stack([(w @ criterion(a, b)).sum() for criterion, a, b in self.parts(z, y)]).sum()

    @torch.no_grad()
    def vjp(self, z: Tensor, target: Target) -> tuple[Tensor, Callable[..., tuple]]:
        r"""$E$ and its pullback: $dl_{nk} = w_n\,dE$, through each criterion's own."""
        y, w = target
        errors, pullbacks = [], []
        for criterion, a, b in self.parts(z, y):
            values, pull = criterion.vjp(a, b)
            errors.append((w @ values).sum() if values.dim() > 1 else w.dot(values))
            pullbacks.append((pull, values.shape))
        error = errors[0] if len(errors) == 1 else torch.stack(errors).sum()

        def pullback(dy: Tensor | None = None, needs: Any = None) -> tuple[Tensor | None, None]:
            v = w if dy is None else w * dy
            dz = [
                pull(v if len(shape) == 1 else v.unsqueeze(1).expand(shape), (True, False))[0]
                for pull, shape in pullbacks
            ]
            return dz[0] if len(dz) == 1 else torch.stack(dz, 1), None

        return error, pullback


def objective(ns: Any, backend: str, loss: Any, columns: int) -> Objective:
    """The objective of a loss: scikit-learn's or a class of ns.nn by its name, a module, or a list of one for each of the
    columns. ValueError for an unknown name or another number of them."""
    if not isinstance(loss, (list, tuple)):
        return Objective([_criterion(ns, backend, loss)])
    if len(loss) != columns:
        raise ValueError(f"loss must be one, or one for each of the {columns} outputs, it holds {len(loss)}")
    return Objective([_criterion(ns, backend, each) for each in loss])


def _criterion(ns: Any, backend: str, loss: Any) -> nn.Module:
    if isinstance(loss, nn.Module):
        found = convert(copy.deepcopy(loss), backend)
        if not hasattr(found, "reduction"):
            raise ValueError(f"a loss must have a reduction that can be 'none', as torch's have; {loss} has not")
        found.reduction = "none"  # type: ignore[assignment]
        return found
    if loss in SKLEARN:
        name, arguments, _ = SKLEARN[loss]
    else:
        from ..manual import nn as by_hand

        known = {n.lower().removesuffix("loss"): n for n, c in vars(by_hand).items() if n.endswith("Loss")}
        key = str(loss).lower().replace("_", "").removesuffix("loss")
        if key not in known:
            one_of("loss", loss, [*SKLEARN, *known.values()])
        name, arguments = known[key], {}
    return getattr(ns.nn, name)(reduction="none", **arguments)


def factor(loss: Any) -> float:
    """What scikit-learn multiplies the criterion's values by."""
    return SKLEARN[loss][2] if isinstance(loss, str) and loss in SKLEARN else 1.0
