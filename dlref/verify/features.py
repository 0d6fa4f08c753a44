"""What no option of a call says, or what one needs in order to show: a row that is ignored, an index that comes twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def ignored(given: dict[str, Any]) -> dict[str, Any] | None:
    """Every third index target is one that counts nothing."""
    target = given["target"]
    if target.is_floating_point() or target.numel() < 2:
        return None
    target = target.clone()
    target.view(-1)[::3] = -100 if given["ignore_index"] is None else given["ignore_index"]
    return {"target": target}


def padded(given: dict[str, Any]) -> dict[str, Any] | None:
    """Some indices are the padding's, and some meet."""
    input, padding = given["input"].clone(), given["padding_idx"]
    if padding is None or input.numel() < 3:
        return None
    input.view(-1)[::3] = padding % len(given["weight"])
    return {"input": input}


def met(given: dict[str, Any]) -> dict[str, Any] | None:
    """Two indices are the same."""
    input = given["input"].clone()
    if input.numel() < 2:
        return None
    input.view(-1)[1] = input.view(-1)[0]
    return {"input": input}


def ended(given: dict[str, Any]) -> dict[str, Any] | None:
    """The last offset is where the last bag ends."""
    offsets = given["offsets"]
    if offsets is None:
        return None
    return {"offsets": torch.cat([offsets, offsets.new_tensor([len(given["input"])])])}


def no_blank(given: dict[str, Any]) -> dict[str, Any] | None:
    """No label is the blank, but perhaps what is by default."""
    return {"targets": given["targets"].masked_fill(given["targets"] == given["blank"], 0)}


def masked_row(given: dict[str, Any]) -> dict[str, Any] | None:
    """The mask leaves the first query nothing to attend to."""
    mask = given["attn_mask"]
    if mask is None or not mask.numel():
        return None
    mask = mask.detach().clone()
    mask[..., 0, :] = False if mask.dtype == torch.bool else -math.inf
    return {"attn_mask": mask.requires_grad_(given["attn_mask"].requires_grad)}


def zero_row(name: str) -> Callable:
    """The first row and the first column of an argument are nought."""

    def changed(given: dict[str, Any]) -> dict[str, Any] | None:
        x = given[name].detach().clone()
        if x.dim() < 2:
            return None
        x[0] = x[..., 0] = 0
        return {name: x.requires_grad_(given[name].requires_grad)}

    return changed


def set_to(name: str, value: float) -> Callable:
    """Every third number of an argument is this one."""

    def changed(given: dict[str, Any]) -> dict[str, Any] | None:
        x = given[name]
        if not isinstance(x, Tensor) or x.numel() < 4:
            return None
        y = x.detach().clone()
        y.view(-1)[::3] = value
        return {name: y.requires_grad_(x.requires_grad)}

    return changed


def improbable(given: dict[str, Any]) -> dict[str, Any] | None:
    """Every third probability is 0, of a label of 1: of another, torch drops the part of the gradient that has no bound."""
    input, target = set_to("input", 0.0)(given), set_to("target", 1.0)(given)
    return None if input is None or target is None else input | target
