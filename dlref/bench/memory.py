"""Memory: what a module keeps for its gradient, and the peak of a training step, by hand and built in."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .. import builtin, manual
from ..core.names import one_of
from .cases import Draw
from .modules import MODULES
from .steps import NETWORKS, step_parts

SIDES = ("manual", "builtin")
STEPS = 3


def saved_bytes(name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Bytes that a module of MODULES keeps from its forward for its gradient: {"manual", "builtin": {input, output, own}}.

    Counted are the storages, each once, that torch hands to torch.autograd.graph.saved_tensors_hooks, and those that our
    pullback can reach: those of the inputs, of the outputs, and the module's own. Parameters and buffers are no part of it
    on either side: they live anyway. ValueError where there is no such module.
    """
    one_of("module", name, MODULES)
    make, arguments = MODULES[name]
    found: dict[str, Any] = {"name": name}
    with torch.random.fork_rng(devices=[]):
        for side, space in zip(SIDES, (manual, builtin), strict=True):
            torch.manual_seed(0)
            module = make(space.nn).to(device)
            inputs, named = arguments(Draw(device))
            found[side] = kept_by(space, module, inputs, named)
    return found


def kept_by(space: Any, module: nn.Module, inputs: tuple, named: dict[str, Any]) -> dict[str, int]:
    """Bytes kept of the inputs, of the outputs, and of the module's own making, by dlref.manual or dlref.builtin."""
    if space is manual:
        plain = tuple(v.detach() if isinstance(v, Tensor) else v for v in inputs)
        output, pullback = module.vjp(*plain, **named)  # type: ignore[operator]
        kept = reachable(pullback)
    else:
        kept = []

        def note(t: Tensor) -> Tensor:
            kept.append(t)
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            output = module(*inputs, **named)
    # A lazy module has its parameters now.
    living = storages([*module.parameters(), *module.buffers()])
    given, made = storages(tree_leaves((inputs, named))), storages(tree_leaves(output))
    sizes = {"input": 0, "output": 0, "own": 0}
    for address, size in storages(kept).items():
        if address not in living:
            sizes["input" if address in given else "output" if address in made else "own"] += size
    return sizes


def storages(values: Iterable[Any]) -> dict[int, int]:
    """{address: bytes} of the storages of the tensors among the values."""
    found = {}
    for t in values:
        if isinstance(t, Tensor):
            for part in (t._indices(), t._values()) if t.layout == torch.sparse_coo else (t,):
                storage = part.untyped_storage()
                if storage.nbytes():
                    found[storage.data_ptr()] = storage.nbytes()
    return found


def reachable(root: Any) -> list[Tensor]:
    """The tensors that something keeps alive: through closures, defaults, containers and attributes, but not modules."""
    found, seen, waiting = [], set(), [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (nn.Module, type, types.ModuleType, str, bytes, int, float)) or value is None:
            continue
        elif isinstance(value, types.FunctionType):
            waiting += [c.cell_contents for c in value.__closure__ or () if c != types.CellType()]
            waiting += [value.__defaults__, value.__kwdefaults__, value.__dict__]
        elif isinstance(value, types.MethodType):
            waiting += [value.__self__, value.__func__]
        elif isinstance(value, functools.partial):
            waiting += [value.func, value.args, value.keywords]
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value
        elif type(value).__module__.startswith("dlref"):
            waiting += vars(value).values() if hasattr(value, "__dict__") else []
            waiting += [getattr(value, slot, None) for slot in getattr(type(value), "__slots__", ())]
    return found


def peak_bytes(name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Largest memory that training steps of a network of NETWORKS take beyond parameters and optimizer state.

    {"name", "batch", "optimizer", "manual", "builtin"}: gradients included, on both sides, whether a step allocates them or
    keeps them from the step before; over some steps in a row, so that what one leaves to the collector of garbage shows. On
    a CPU the running sum of PyTorch's allocations and releases, from its profiler. ValueError where there is no such network.
    """
    one_of("name", name, NETWORKS)
    case = NETWORKS[name]
    batch, optimizer = case.batches[0], case.optimizers[-1]
    x, y = case.data(batch, device)
    found: dict[str, Any] = {"name": name, "batch": batch, "optimizer": optimizer[0]}
    for side, space in zip(SIDES, (manual, builtin), strict=True):
        network, _, rule = parts = step_parts(case, space, optimizer, device)

        def steps(parts: tuple = parts, space: Any = space) -> None:
            for _ in range(STEPS):
                space.training.step(*parts, x, y)

        steps()  # the optimizer's state
        rule.zero_grad()
        slots = [p.__dict__["grad_slot"] for p in network.parameters() if "grad_slot" in p.__dict__]
        found[side] = sum(storages(slots).values()) + peak_of(steps, torch.device(device))
    return found


def peak_of(work: Callable[[], Any], device: torch.device) -> int:
    """The largest sum of bytes that are alive during the call and were not before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    gc.collect()  # nothing of an earlier call may be released during this one
    gc.disable()
    try:
        with without_stderr(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            work()
    finally:
        gc.enable()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    alive = largest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        largest = max(largest, alive)
    return largest


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what is written to standard error inside: the profiler tells of each release of what it did not see allocated."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
