"""Lion, composed from torch's operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Steps along the sign of a momentum; its mathematics: dlref.manual.optim.Lion. foreach changes nothing here."""

    def __init__(
        self,
        params: Any,
        lr: float | torch.Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
    ):
        if not lr >= 0:
            raise ValueError(f"lr must not be negative, it is {lr}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), they are {betas}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, it is {weight_decay}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize,
                                  "foreach": foreach})  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = evaluated(closure)
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            for p in learning:
                if p.grad.is_sparse:
                    raise RuntimeError("Lion does not support sparse gradients")
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            ps = [real(p) for p in learning]
            gs = [real(-p.grad if group["maximize"] else p.grad) for p in learning]
            ms = [real(self.state[p]["exp_avg"]) for p in learning]
            lr, (beta1, beta2) = float(group["lr"]), group["betas"]
            for p, g, m in zip(ps, gs, ms, strict=True):
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(m.lerp(g, 1 - beta1).sign_(), alpha=-lr)
                m.lerp_(g, 1 - beta2)
        return loss


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """The loss, with a graph; None without a closure."""
    with torch.enable_grad():
        return None if closure is None else closure()


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs of real ones, as torch's optimizers take them."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
