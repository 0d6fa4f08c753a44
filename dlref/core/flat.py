"""A model's parameters laid next to each other in one tensor, so that what is elementwise runs once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
PLAIN = (Tensor, nn.Parameter)  # a subclass may keep its data elsewhere, or nowhere


def flatten(module: Module, order: Iterable[nn.Parameter] = ()) -> Module:
    """Make every parameter that learns a contiguous view of one tensor a dtype and device; returns the module.

    Each gets a `grad_slot`, the same view of one gradient tensor, where the explicit pullback writes its gradient.
    Values, names and identity of the parameters stay; what moves a parameter to another device or dtype undoes it.
    order: those that come first, as the members of each of an optimizer's groups do; else they lie as the module has them.
    """
    kinds: dict[tuple, list[nn.Parameter]] = defaultdict(list)
    for p in dict.fromkeys([*order, *module.parameters()]):
        if p.requires_grad and type(p) is nn.Parameter and p.layout == torch.strided:
            kinds[p.dtype, p.device].append(p)
    with torch.inference_mode(False), torch.no_grad():
        for params in kinds.values():
            laid = sorted(params, key=Tensor.data_ptr)  # another order than this one will do
            kept = [p.__dict__["grad_slot"] for p in laid if "grad_slot" in p.__dict__]
            if len(kept) == len(laid) and coalesce(laid) is not None and coalesce(kept) is not None:
                continue
            flat, views = lay(params)
            _, slots = lay(views, torch.zeros_like(flat))
            for p, view, slot in zip(params, views, slots, strict=True):
                p.data, p.grad_slot = view, slot  # type: ignore[attr-defined]
                if p.grad is not None:
                    p.grad = slot.copy_(p.grad)
    return module


def lay(tensors: Sequence[Tensor], flat: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """One 1-D tensor and, in order, a view of it in each tensor's shape; without `flat`, a new one of their values."""
    if flat is None:
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    views, offset = [], 0
    for t in tensors:
        views.append(flat[offset : offset + t.numel()].view(t.shape))
        offset += t.numel()
    return flat, views


def coalesce(tensors: Sequence[Tensor]) -> Tensor | None:
    """One 1-D tensor over contiguous tensors that lie next to each other, in order, in one storage; otherwise None."""
    if not tensors or any(type(t) not in PLAIN or t.layout != torch.strided for t in tensors):
        return None
    first = tensors[0]
    kind, storage, start = (first.dtype, first.device), first.untyped_storage()._cdata, first.storage_offset()
    end = start
    for t in tensors:
        if (t.dtype, t.device) != kind or not t.is_contiguous():
            return None
        if t.untyped_storage()._cdata != storage or t.storage_offset() != end:
            return None
        end += t.numel()
    return first.detach().as_strided((end - start,), (1,), start)
