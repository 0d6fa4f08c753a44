"""Mixed precision: autocast, which is torch's own as operations obey it, and the loss scale by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.amp import autocast, custom_bwd, custom_fwd, is_autocast_available
from torch.amp.grad_scaler import OptState

from ..core.modes import finest

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


class GradScaler(torch.amp.GradScaler):
    r"""The loss scale, which keeps the small gradients of float16 from rounding to 0.

    The error is multiplied by s, and so is each gradient, $\nabla (s E) = s \nabla E$; before the update $g \leftarrow g / s$.
    Where some g is infinite or NaN the update is left out. s follows what the gradients bear,

    $$s \leftarrow \beta s \text{ where the update was left out}, \qquad
    s \leftarrow \alpha s \text{ after } n \text{ updates in a row},$$

    with $\alpha > 1$ growth_factor, $\beta < 1$ backoff_factor, n growth_interval; an s that would be infinite stays.

        with amp.autocast("cuda"):
            output, network_pullback = network.vjp(x)
            error, error_pullback = criterion.vjp(output, y)
            network_pullback(error_pullback(scaler.scale(torch.ones_like(error)))[0])  # or scaler.scale(error).backward()
        scaler.step(optimizer)
        scaler.update()

    device: where gradients are, "cuda" or "cpu". s is float32, and its reciprocal is rounded once. AssertionError for
    factors out of their range, and `step` or `update` before `scale`; ValueError for gradients of float16 (parameters must
    be wider); RuntimeError for what is called twice between two updates.
    Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; the rule is that of torch.amp.GradScaler.
    """

    _scale: Tensor | None
    _growth_tracker: Tensor | None

    def scale(self, outputs: Any) -> Any:
        """s times a tensor, or each tensor of an iterable, a list and a tuple as what they are."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._on(outputs.device)
        if not isinstance(outputs, Iterable):
            raise ValueError(f"outputs must be a tensor or an iterable of tensors, it is {type(outputs).__name__}")
        scaled = map(self.scale, outputs)
        return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled  # type: ignore[call-arg]

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        r"""$g \leftarrow g / s$ for the optimizer's gradients, as before they are clipped; `step` does it if nobody has."""
        if not self._enabled:
            return
        s, state = self._begun("unscale_"), self._per_optimizer_states[id(optimizer)]
        if state["stage"] != OptState.READY:
            raise RuntimeError(f"unscale_() may be called once between two updates, before step(): the optimizer is "
                               f"{state['stage'].name.lower()}; call update() first")  # fmt: skip
        if any(g.dtype == torch.float16 for g in _gradients(optimizer)):
            raise ValueError("the gradients to unscale must be wider than float16, in which they are lost: keep the parameters "
                             "in float32 and compute under autocast")  # fmt: skip
        state["found_inf_per_device"] = _not_finite(optimizer)
        inverse = s.to(finest(s.device)).reciprocal().float()
        with torch.no_grad():
            for g in _gradients(optimizer):
                g.mul_(inverse.to(g.device))
        state["stage"] = OptState.UNSCALED

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """The optimizer's step with unscaled gradients, left out where one is not finite; returns what the step returned."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("step() takes no closure: whether the gradients are finite must be known before")
        s, state = self._begun("step"), self._per_optimizer_states[id(optimizer)]
        if state["stage"] == OptState.STEPPED:
            raise RuntimeError("step() may be called once between two updates: call update() first")
        if getattr(optimizer, "_step_supports_amp_scaling", False):  # it unscales, and leaves out, by itself
            given = getattr(optimizer, "grad_scale", None)
            if state["stage"] == OptState.READY:
                state["found_inf_per_device"] = _not_finite(optimizer)
                given = s if given is None else s * given
            optimizer.grad_scale = given  # type: ignore[attr-defined]
            optimizer.found_inf = _together(state["found_inf_per_device"].values(), s)  # type: ignore[attr-defined]
            try:
                result = optimizer.step(*args, **kwargs)
            finally:
                del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
        else:
            if state["stage"] == OptState.READY:
                self.unscale_(optimizer)
            found = state["found_inf_per_device"]
            if not found:
                raise AssertionError("the optimizer has no gradient: call step() after the gradients are made")
            result = None if any(f.item() for f in found.values()) else optimizer.step(*args, **kwargs)
        state["stage"] = OptState.STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """The next s, by the rule, or a given one (a float, or a tensor of one element on the scaler's device)."""
        if not self._enabled:
            return
        s, n = self._begun("update"), self._growth_tracker
        assert n is not None
        if isinstance(new_scale, Tensor):
            if new_scale.device.type != self._device or new_scale.numel() != 1 or new_scale.requires_grad:
                raise AssertionError(f"new_scale must be a float or a tensor of one element on {self._device}, without a "
                                     f"gradient, it is {new_scale!r}")  # fmt: skip
            s.copy_(new_scale)
        elif new_scale is not None:
            s.fill_(float(new_scale))
        else:
            founds = [
                f for state in self._per_optimizer_states.values() for f in state["found_inf_per_device"].values()
            ]
            if not founds:
                raise AssertionError("no gradient was looked at before update(): call step() first")
            left_out, row = _together(founds, s) > 0, n + 1
            fine = s.to(finest(s.device))
            grown = (fine * self._growth_factor).float()
            due = row == self._growth_interval
            s.copy_(torch.where(left_out, (fine * self._backoff_factor).float(),
                                torch.where(due & torch.isfinite(grown), grown, s)))  # fmt: skip
            n.copy_(torch.where(left_out | due, 0, row))
        self._per_optimizer_states = defaultdict(_fresh)

    def _on(self, device: torch.device) -> Tensor:
        """s on a device; the first to ask has it."""
        if self._scale is None:
            if self._growth_tracker is not None:
                raise AssertionError("the growth tracker must be made with the scale: call scale() first")
            self._scale = torch.full((), self._init_scale, dtype=torch.float32, device=device)
            self._growth_tracker = torch.full((), self._init_growth_tracker, dtype=torch.int32, device=device)
        return self._scale.to(device, non_blocking=True)

    def _begun(self, function: str) -> Tensor:
        if self._scale is None:
            raise AssertionError(f"{function}() must be called after scale(error): there is no scale yet")
        return self._scale


def _fresh() -> dict[str, Any]:
    return {"stage": OptState.READY, "found_inf_per_device": {}}


def _gradients(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    """The numbers of each gradient, of a sparse one those that are there."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                yield p.grad._values() if p.grad.is_sparse else p.grad


def _not_finite(optimizer: torch.optim.Optimizer) -> dict[torch.device, Tensor]:
    """On each device 1 where a gradient is infinite or NaN, else 0."""
    found: dict[torch.device, Tensor] = {}
    for g in _gradients(optimizer):
        bad = 1 - torch.isfinite(g).all().float()
        found[g.device] = torch.maximum(found[g.device], bad) if g.device in found else bad
    return found


def _together(found: Iterable[Tensor], s: Tensor) -> Tensor:
    return sum((f.to(s.device, non_blocking=True) for f in found), torch.zeros_like(s))
