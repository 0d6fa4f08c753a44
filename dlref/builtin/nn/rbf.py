"""Radial basis functions: units that answer to the distance of their input from a centre."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core.extras import optional
from ...core.modes import in_float64
from .. import functional as F
from ..composed import check_rbf


class RBF(nn.Module):
    r"""Radial basis functions with learnable centres and widths: $\phi_j(x) = \phi(\|x - c_j\|^2 / \sigma_j^2)$.

    kernel: "gaussian" $\phi(s) = e^{-s/2}$, "multiquadric" $\sqrt{1 + s}$, "inverse_multiquadric" $1 / \sqrt{1 + s}$ or
    "thin_plate" $\tfrac12 s \log s$. Input (*, in_features), output (*, units); centers (units, in_features), normal at
    first, widths (units,), in the units of the input. `fit_centers` takes them from data.
    Broomhead & Lowe 1988 (Complex Systems 2), eq. 2.
    """

    def __init__(
        self, in_features: int, units: int, kernel: str = "gaussian", width: float = 1.0, device=None, dtype=None
    ):
        super().__init__()
        for name, value in (("in_features", in_features), ("units", units), ("width", width)):
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, it is {value}")
        self.in_features, self.units, self.kernel, self.width = in_features, units, kernel, width
        self.centers = nn.Parameter(torch.empty(units, in_features, device=device, dtype=dtype))
        self.widths = nn.Parameter(torch.empty(units, device=device, dtype=dtype))
        check_rbf(self.centers, self.centers, self.widths, kernel)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.centers)
        nn.init.constant_(self.widths, self.width)

    def forward(self, input: Tensor) -> Tensor:
        return F.rbf(input, self.centers, self.widths, self.kernel)

    @optional()
    def fit_centers(self, x: Any, neighbours: int = 2, scale: float = 1.0, seed: int = 0, weight: Any = None) -> RBF:
        r"""Put the centres where scikit-learn's KMeans finds the data's, and the widths as `fit_widths` does.

        x (N, in_features), at least as many as there are units: a tensor, or an array that KMeans takes. weight (N,): what
        each row counts, an array; without it 1. Returns the module. Moody & Darken 1989 (Neural Computation 1), section 2.
        """
        from sklearn.cluster import KMeans

        if x.ndim != 2 or x.shape[0] < self.units or x.shape[1] != self.in_features:
            raise ValueError(f"x must be (N, {self.in_features}) with at least {self.units} rows, one a unit, it is "
                             f"{tuple(x.shape)}")  # fmt: skip
        check_near(neighbours, scale)
        rows = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else x
        found = KMeans(self.units, n_init=1, random_state=seed).fit(rows, sample_weight=weight)
        with torch.no_grad():
            self.centers.copy_(torch.from_numpy(found.cluster_centers_))
        return self.fit_widths(neighbours, scale)

    @torch.no_grad()
    def fit_widths(self, neighbours: int = 2, scale: float = 1.0) -> RBF:
        """Put each width at `scale` times the root mean square distance of its centre to the nearest `neighbours` others.

        Of two equal centres it is the width that the module was made with; that of a single unit stays. Returns the module.
        """
        check_near(neighbours, scale)
        if self.units > 1:
            centers = in_float64(self.centers)
            apart = torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
            near = apart.topk(min(neighbours, self.units - 1), largest=False).values.square().mean(1).sqrt() * scale
            self.widths.copy_(torch.where(near > 0, near, self.width))
        return self

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.units}, kernel={self.kernel!r}"


def check_near(neighbours: int, scale: float) -> None:
    """ValueError where no widths can be had of so many neighbours and such a scale."""
    if neighbours < 1 or not scale > 0:
        raise ValueError(f"neighbours must be at least 1 and scale greater than 0, they are {neighbours} and {scale}")
