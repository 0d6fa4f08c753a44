"""A model's parameters laid next to each other in one tensor, so that what is elementwise runs once for all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

Module = TypeVar("Module", bound=nn.Module)
State = dict[str, Any]  # an optimizer's, of one parameter
PLAIN = (Tensor, nn.Parameter)  # a subclass may keep its data elsewhere, or nowhere


def flatten(module: Module, order: Iterable[nn.Parameter] = ()) -> Module:
    """Make every parameter that learns a contiguous view of one tensor a dtype and device; returns the module.

    Parameters have any shape. Each gets a `grad_slot`, the same view of one gradient tensor, where the explicit pullback writes
    its gradient. Values, names and identity of the parameters stay; what moves a parameter to another device or dtype undoes
    it.
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


# --- an optimizer's update of several parameters as one ----------------------------------------------------------

Member = tuple[Tensor, Tensor, State]  # parameter, gradient, state


class Run:
    """What one update runs for: a parameter, its gradient and its state, or those of several as one tensor each."""

    def __init__(self, members: list[Member], p: Tensor, g: Tensor, state: State, shared: State | None = None):
        self.members, self.p, self.g, self.state = members, p, g, state
        self.params = [p for p, _, _ in members]
        self.keys = len(state)
        self.shared = shared or {}  # numbers of the state, one a member and all equal: the rule changes the first one's

    def settle(self, states: dict[Tensor, State]) -> None:
        """Give the members what the update of them all has changed in the state, and what it has added to it."""
        several = len(self.params) > 1
        if several:
            for key, numbers in self.shared.items():
                if key != "step":
                    numbers[1:].copy_(numbers[0])
            increment_version(self.params)  # autograd must not take a parameter that it saved for unchanged
        if len(self.state) != self.keys:
            for key in list(self.state)[self.keys :]:
                whole = self.state[key]
                parts = lay(self.params, whole)[1] if several else [whole]
                for (p, _, own), part in zip(self.members, parts, strict=True):
                    own[key] = part
                    states[p] = own
            self.keys = len(self.state)


class Plan:
    """A group's runs, and how to see whether they are still what they were."""

    def __init__(self, runs: list[Run], params: list[Tensor]):
        self.runs, self.params = runs, params
        # Under autograd each gradient is a new tensor each time; only where runs are long is it worth to look.
        self.kept = any(len(run.params) > 1 for run in runs)
        self.numbers = [numbers for run in runs for numbers in run.shared.values()]
        self.watch: list[tuple] = []

    def mark(self) -> None:
        """Remember, after an update, what parameters, gradients and states are."""
        self.versions = [numbers._version for numbers in self.numbers]
        if not self.watch:
            members: dict[Tensor, tuple[Tensor | None, State]] = {
                p: (g, state) for run in self.runs for p, g, state in run.members
            }
            for p in self.params:
                g, state = members.get(p, (None, {}))
                self.watch.append((p, p.data_ptr(), g, 0 if g is None else g.data_ptr(), state, tuple(state.values())))

    def holds(self, params: list[Tensor], states: dict[Tensor, State]) -> bool:
        """Whether nothing was replaced, moved, frozen or written into from outside since then."""
        if len(params) != len(self.watch):
            return False
        for p, (q, at, g, g_at, own, values) in zip(params, self.watch, strict=True):
            if p is not q or p.grad is not g:
                return False
            if g is not None and (p.data_ptr() != at or g.data_ptr() != g_at):
                return False
            if values and (states[p] is not own or not all(map(is_, own.values(), values))):
                return False
        return self.versions == [numbers._version for numbers in self.numbers]


def runs(members: list[Member], scalars: tuple[str, ...]) -> list[Run]:
    """The members in runs that are one tensor each, as long as they lie next to each other and are of one kind."""
    found: list[Run] = []
    start = 0
    for i in range(1, len(members) + 1):
        if i == len(members) or not _adjacent(members[i - 1], members[i]):
            whole = _whole(members[start:i], scalars) if i - start > 1 else None
            found += [Run([member], *member) for member in members[start:i]] if whole is None else [whole]
            start = i
    return found


def _adjacent(a: Member, b: Member) -> bool:
    """Whether b's parameter and gradient begin where a's end, as far as is seen at a glance."""
    for x, y in zip(a[:2], b[:2], strict=True):
        if type(x) not in PLAIN or type(y) not in PLAIN or x.layout != torch.strided or y.layout != torch.strided:
            return False
        if x.dtype != y.dtype or x.device != y.device or x.data_ptr() + x.nbytes != y.data_ptr():
            return False
    return True


def _whole(members: list[Member], scalars: tuple[str, ...]) -> Run | None:
    """The members as one run, their states laid next to each other; None where they are not of one kind."""
    params, grads, states = zip(*members, strict=True)
    p, g = coalesce(params), coalesce(grads)
    if p is None or g is None or any(state.keys() != states[0].keys() for state in states):
        return None
    for key, first in states[0].items():
        for param, state in zip(params, states, strict=True):
            value = state[key]
            shape = () if key in scalars else param.shape
            if type(value) is not Tensor or value.layout != torch.strided or value.shape != shape:
                return None
            if value.dtype != first.dtype or value.device != first.device:
                return None
            if key in scalars and value is not first and value.item() != first.item():
                return None
    whole, shared = {}, {}
    for key in states[0]:
        values = [state[key] for state in states]
        flat = coalesce(values)
        if flat is None:
            flat, values = lay(values)
            for state, value in zip(states, values, strict=True):
                state[key] = value
        if key in scalars:
            whole[key] = flat[0]
            shared[key] = flat
        else:
            whole[key] = flat
    return Run(members, p, g, whole, shared)
