"""One training step as one graph: forward, error, gradient and update, recorded and then compiled, or played back."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import increment_version
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..core import optimizer as manual_optimizer
from ..core.compat import compile_graph, is_any_autocast_enabled
from ..core.flat import coalesce, flatten, lay
from ..core.hooks import has_hooks
from ..core.modes import definitions, finest
from ..core.module import vjp_of
from ..core.names import one_of
from ..core.pullback import collecting, gradients
from ..manual.nn.utils import clip_grad_norm_
from .playback import Recorder
from .products import Products

GRAPHS = 8  # after as many recompilations torch.compile gives up as well
Place = tuple[int, str, int | None]  # group, name, and where in a tuple a number of the optimizer stands


def compile_step(
    network: Any,
    criterion: Any,
    optimizer: Any,
    max_norm: float | None = None,
    *,
    backend: str | Callable = "inductor",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> CompiledStep:
    """The step of the algorithm, `step(x, y) -> error`, as one graph that never looks at the data.

    It does what `training.step(network, criterion, optimizer, x, y, max_norm)` does, but that no gradient is left in `.grad`.
    network, criterion: with explicit gradients (`vjp`). optimizer: of dlref.manual.optim.
    backend: "inductor" compiles the graph; "eager" plays its kernels back one by one, and needs no compiler; or another one of
    torch.compile, by name or as a function. mode, options: those of torch.compile, as mode="reduce-overhead" for a CUDA graph.

    Each form of a batch and each setting (training, frozen, the optimizer's numbers) has a graph of its own, and its first
    step is an ordinary one. The learning rate may change at every step, and so may another number once it was seen to.
    What no graph can hold (hooks, a look at the data, sparse gradients) and a missing compiler are told in a warning, and the
    steps are ordinary ones from there on. On a CPU, large float32 products are oneDNN's where those are exact (dlref.products).
    The network's parameters are laid into one tensor (`core.flat`).
    TypeError where network or criterion has no vjp, or the optimizer is another's; ValueError for an unknown backend, or where
    the optimizer's step asks for a closure or counts in its groups.
    """
    vjp_of(network), vjp_of(criterion)
    manual_optimizer.by_one_gradient(optimizer)
    if not isinstance(optimizer, manual_optimizer.Manual):
        raise TypeError(f"the optimizer must be one of dlref.manual.optim, as its update is part of the graph; it is "
                        f"{type(optimizer).__module__}.{type(optimizer).__name__}")  # fmt: skip
    if type(optimizer).begin is not manual_optimizer.Manual.begin:
        raise ValueError("the optimizer must change none of its groups' numbers, which a graph holds; "
                         f"{type(optimizer).__name__} counts its steps there: train without compile")  # fmt: skip
    if isinstance(backend, str) and backend not in ("eager", "inductor"):
        one_of("backend", backend, ("eager", *torch.compiler.list_backends(None)))
    compiler = None if backend == "eager" else functools.partial(compiled, backend=backend, mode=mode, options=options)
    return CompiledStep(network, criterion, optimizer, max_norm, compiler)


class CompiledStep:
    """What `compile_step` returns."""

    def __init__(self, network, criterion, optimizer, max_norm, compiler):
        self.network, self.criterion, self.optimizer = flatten(network), criterion, optimizer
        self.max_norm, self.compiler = max_norm, compiler
        self.modules = list(dict.fromkeys([*network.modules(), *criterion.modules()]))
        self.recordings: dict[
            tuple, Recording | Replay | None
        ] = {}  # None: its first step, an ordinary one, has been taken
        self.numbers: dict[tuple, dict[Place, Any]] = {}  # of the optimizer, at each key
        # Those of them that a graph takes as arguments.
        self.varying = {place for place, _ in numbers(optimizer) if place[1] == "lr"}
        self.state = optimizer.state
        self.ordinary = False
        self.products = Products(network)

    def __call__(self, x: Any, y: Any) -> Tensor:
        """One step on a batch; returns the error."""
        return self.run(x, y)[1]

    def run(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """One step on a batch; returns the network's output and the error."""
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.run(x, y)
        if torch.is_inference_mode_enabled():  # states are ordinary tensors
            with torch.inference_mode(False), torch.no_grad():
                return self.run(x, y)
        with self.products(x):
            return self._run(x, y)

    def _run(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        if self.ordinary:
            return self.step(x, y)
        if self.optimizer.state is not self.state:  # it was loaded: the graphs hold another one's tensors
            self.recordings.clear()
            self.state = self.optimizer.state
        batch, form = flat_batch(x, y)
        key = self.key(batch, form)
        recording = self.recordings.get(key)
        if recording is not None:
            return recording(batch)
        if key not in self.recordings:
            self.begin(batch, form)
            return self.step(x, y)
        if self.compiler is None:
            replay = Replay(self, batch, form)
            if replay.refused:
                self.give_up(replay.refused)
            else:
                self.recordings[key] = replay
            return replay.taken
        before: list[tuple[Tensor, Tensor]] = []
        try:
            recording = Recording(self, batch, form)
            before = [(t, t.detach().clone()) for t in recording.fixed]
            result = recording(batch)
        except Exception as error:  # of what looks at the data, of torch.fx, of the compiler, of its kernels
            for t, value in before:  # a graph that stops on its way has changed some of them
                t.copy_(value)
            self.give_up(f"{type(error).__name__}: {error}")
            return self.step(x, y)
        self.recordings[key] = recording
        return result

    def step(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """An ordinary step; it also makes the state of the optimizer that a graph starts from."""
        self.optimizer.zero_grad()
        z, error = gradients(self.network, self.criterion, x, y)
        self.update()
        return z, error

    def update(self) -> None:
        if self.max_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.max_norm)
        self.optimizer.step()

    def key(self, batch: list, form: Any) -> tuple:
        """What decides on the graph: the batch's form, the modules' settings, the optimizer's numbers."""
        settings: list[Any] = [(t.shape, t.stride(), t.dtype, t.device) if isinstance(t, Tensor) else t for t in batch]
        settings += [(m.training, has_hooks(m)) for m in self.modules]
        for group in self.optimizer.param_groups:
            settings += [p.requires_grad for p in group["params"]]
        if is_any_autocast_enabled():
            settings.append(torch.get_autocast_dtype(batch[0].device.type))
        # A replay ends before the update, which sees the numbers as they are.
        fixed = [v for place, v in numbers(self.optimizer) if place not in self.varying] if self.compiler else ()
        return form, *settings, tuple(fixed)

    def begin(self, batch: list, form: Any) -> None:
        """Note a new key. Where it differs from another in numbers alone, they become arguments of the next graph."""
        flatten(self.network)  # which a move to another device or dtype has undone
        key, now = self.key(batch, form), dict(numbers(self.optimizer))
        for other, then in self.numbers.items():
            if other[:-1] == key[:-1] and now.keys() == then.keys():
                self.varying |= {at for at, value in now.items() if isinstance(value, float) and value != then[at]}
        if len(self.recordings) == GRAPHS:
            self.give_up(f"batches and settings were of more than {GRAPHS} kinds")
        key = self.key(batch, form)
        self.recordings[key], self.numbers[key] = None, now

    def give_up(self, reason: str) -> None:
        self.ordinary = True
        self.recordings.clear()
        reason = " ".join(reason.split())[:300]
        warnings.warn(f"the steps are ordinary ones from here on, as they cannot be one graph: {reason}", stacklevel=4)


def flat_batch(x: Any, y: Any) -> tuple[list, Any]:
    """The tensors of a batch, and the form that they had; None where it was (x, y)."""
    if type(x) is Tensor:
        if type(y) is Tensor:
            return [x, y], None
        if type(y) is tuple and all(type(t) is Tensor for t in y):
            return [x, *y], _form(len(y))
    return tree_flatten((x, y))


@functools.cache
def _form(number: int) -> Any:
    """That of (tensor, tuple of so many tensors)."""
    return tree_flatten((0, (0,) * number))[1]


def refuse_hooks(owner: CompiledStep) -> str:
    """Why the step cannot be one graph, for what is called at every step; empty where nothing is."""
    if any(map(has_hooks, owner.modules)) or any(
        p._backward_hooks or p._post_accumulate_grad_hooks for p in owner.network.parameters()
    ):
        return "modules or parameters have hooks, which are called at every step"
    return ""


class Replay:
    """A step that is taken and recorded, to be played back on other batches of its form; the update stays the optimizer's."""

    def __init__(self, owner: CompiledStep, batch: list, form: Any):
        self.owner, self.form = owner, None
        self.leaves = [i for i, t in enumerate(batch) if isinstance(t, Tensor)]
        parameters = list(owner.network.parameters())
        buffers = {(m, name): b for m in owner.modules for name, b in m._buffers.items() if b is not None}
        slots = [p.grad_slot for p in parameters if "grad_slot" in p.__dict__]
        plain = [t for m in owner.modules for t in vars(m).values() if isinstance(t, Tensor)]
        theirs = [p for m in owner.modules for p in m._parameters.values() if p is not None]
        known = list(dict.fromkeys([*theirs, *buffers.values(), *slots, *plain]))
        owner.optimizer.zero_grad()
        with Recorder([batch[i] for i in self.leaves], known) as recorder:
            z, error = gradients(
                owner.network, owner.criterion, *(batch if form is None else tree_unflatten(batch, form))
            )
        found = [(p, p.grad) for p in parameters if p.grad is not None]
        self.slots = [(p, g) for p, g in found if g is p.__dict__.get("grad_slot")]
        self.others = [p for p, g in found if g is not p.__dict__.get("grad_slot")]
        outputs, self.form = ([z], None) if isinstance(z, Tensor) else tree_flatten(z)
        player = recorder.player([*outputs, error, *(p.grad for p in self.others)])
        if any(m._buffers.get(name) is not b for (m, name), b in buffers.items()):
            recorder.refused = "a buffer is made anew at every step, not changed in place"
        if any(g.is_sparse for _, g in found):
            recorder.refused = "a gradient is sparse"
        self.refused = refuse_hooks(owner) or recorder.refused
        self.player: Any = player
        owner.update()
        self.taken = z, error

    def __call__(self, batch: list) -> tuple[Any, Tensor]:
        if is_any_autocast_enabled():  # the operations have cast what they wanted cast
            with torch.autocast(batch[self.leaves[0]].device.type, enabled=False):
                results = self.player([batch[i] for i in self.leaves])
        else:
            results = self.player([batch[i] for i in self.leaves])
        *outputs, error = results[: len(results) - len(self.others)]
        for p, slot in self.slots:
            if p.grad is not slot:
                p.grad = slot
        for p, grad in zip(self.others, results[len(results) - len(self.others) :], strict=True):
            p.grad = grad
        self.owner.update()
        return outputs[0] if self.form is None else tree_unflatten(outputs, self.form), error


class Recording:
    """The step on a batch of one form as a graph, whose arguments are the tensors that the step reads or changes."""

    def __init__(self, owner: CompiledStep, batch: list, form: Any):
        self.owner, self.form = owner, None
        if reason := refuse_hooks(owner):
            raise ValueError(reason)
        parameters = [p for m in owner.modules for p in m._parameters.values() if p is not None]
        buffers = [b for m in owner.modules for b in m._buffers.values() if b is not None]
        self.fixed = list(dict.fromkeys([*parameters, *buffers]))
        self.leaves = [i for i, t in enumerate(batch) if isinstance(t, Tensor)]
        self.cells: dict[Place, list] = {}
        tail = self.with_update(batch)

        def step(*arguments: Tensor) -> tuple:
            given = iter(arguments)
            inputs = [next(given) if isinstance(t, Tensor) else t for t in batch]
            swap: dict[Any, Any] = {}
            for t in self.fixed:
                value = next(given)
                swap[t] = nn.Parameter(value, t.requires_grad) if isinstance(t, nn.Parameter) else value
            with swapped(owner.modules, swap), tail(swap, list(given)):
                z, error = gradients(
                    owner.network, owner.criterion, *(inputs if form is None else tree_unflatten(inputs, form))
                )
            outputs, self.form = ([z], None) if isinstance(z, Tensor) else tree_flatten(z)
            return *outputs, error

        owner.optimizer.zero_grad()
        with definitions():
            from torch.fx.experimental.proxy_tensor import make_fx  # takes a second

            arguments = self.arguments(batch)
            graph = make_fx(step, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
        lasting = [*self.fixed, *(cell[1] for cell in self.cells.values())]
        self.graph = owner.compiler(graph, arguments, lasting)

    def with_update(self, batch: list) -> Callable:
        """Let the graph end with the optimizer's rule, for each parameter by itself: the compiler makes few kernels of them."""
        optimizer = self.owner.optimizer
        trained = []  # of each group, what has a state; all where its rule keeps none
        for group in optimizer.param_groups:
            params = [p for p in group["params"] if p.requires_grad]
            trained.append([p for p in params if p in optimizer.state] or params)
        steps = [_counter([optimizer.state.get(p, {}) for p in params]) for params in trained]
        together = [s is not None and bool((s == s[0]).all()) for s in steps]  # have all been updated equally often?
        states = [v for params in trained for p in params for k, v in optimizer.state.get(p, {}).items()
                  if k != "step" and isinstance(v, Tensor)]  # fmt: skip
        self.device = device = batch[self.leaves[0]].device
        # An optimizer counts on the CPU, where no kernel of another device can read: the graph has numbers of its own there.
        self.counters = dict.fromkeys(s for s in steps if s is not None)
        near = {s: s if s.device == device else torch.empty_like(s, device=device) for s in (*states, *self.counters)}
        self.away = {far: (own, [-1]) for far, own in near.items() if own is not far}
        self.fixed = list(dict.fromkeys([*self.fixed, *near.values()]))
        # autograd must not take a parameter that it saved for unchanged
        self.changed = [*(p for params in trained for p in params), *(s for s in self.counters if s not in self.away)]
        for place in sorted(self.owner.varying, key=str):
            self.cells[place] = [None, torch.zeros((), dtype=finest(device), device=device)]

        @contextlib.contextmanager
        def tail(swap: dict, given: list) -> Iterator[None]:
            with collecting() as gradients:
                yield
            found: dict[Any, Any] = gradients
            if self.owner.max_norm is not None:
                for p, grad in found.items():
                    p.grad = grad
                clip_grad_norm_(found, self.owner.max_norm)
            groups = [dict(group) for group in optimizer.param_groups]
            for (index, name, j), value in zip(self.cells, given, strict=True):
                old = groups[index][name]
                groups[index][name] = value if j is None else (*old[:j], value, *old[j + 1 :])
            for group, params, count, same in zip(groups, trained, steps, together, strict=True):
                # As exact as the number that it is elsewhere.
                t = None if count is None else swap[near[count]].add_(1).to(finest(device))
                for i, p in enumerate(params):
                    if (grad := found.pop(swap[p], None)) is None:
                        if t is not None:
                            raise ValueError("a parameter that the optimizer has moved gets no gradient now")
                        continue
                    state = {k: swap[near[v]] if isinstance(v, Tensor) else v for k, v in optimizer.state.get(p, {}).items()
                             if k != "step"}  # fmt: skip
                    if t is not None:
                        state["step"] = t[0 if same else i]
                    optimizer._update(manual_optimizer.Run([], swap[p], grad, state), group)
            if any(swap[p] in found for group in optimizer.param_groups for p in group["params"] if p in swap):
                raise ValueError("a parameter gets its first gradient only now")

        return tail

    def arguments(self, batch: list) -> list[Tensor]:
        """Of the graph: the batch, what the step reads and changes, and the numbers of the optimizer as they are now."""
        values = []
        for (index, name, j), cell in self.cells.items():
            value = self.owner.optimizer.param_groups[index][name]
            value = value if j is None else value[j]
            if isinstance(value, Tensor):
                values.append(value.to(self.device))
                continue
            if value != cell[0]:
                cell[0] = value
                cell[1].fill_(value)
            values.append(cell[1])
        for far, (own, version) in self.away.items():
            if far._version != version[0]:  # else it was last changed below, as the graph changed its own
                own.copy_(far)
        return [*(batch[i] for i in self.leaves), *self.fixed, *values]

    def __call__(self, batch: list) -> tuple[Any, Tensor]:
        *outputs, error = self.graph(*self.arguments(batch))
        increment_version(self.changed)
        for far, (own, version) in self.away.items():  # which number a counter has is known without looking
            version[0] = (far.add_(1) if far in self.counters else far.copy_(own))._version
        return outputs[0] if self.form is None else tree_unflatten(outputs, self.form), error


def numbers(optimizer: Any) -> Iterator[tuple[Place, Any]]:
    """Where each setting of the optimizer's groups stands, and its value: lr, momentum, each of betas, ..."""
    for index, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if isinstance(value, tuple):
                for j, v in enumerate(value):
                    yield (index, name, j), v
            elif name != "params":
                yield (index, name, None), value


def _counter(states: list[dict]) -> Tensor | None:
    """The numbers of steps that the states of one group have seen, as one tensor of which each is an element."""
    if not states or "step" not in states[0]:
        return None
    whole = coalesce([state["step"] for state in states])
    if whole is None:
        whole, parts = lay([state["step"] for state in states])
        for state, part in zip(states, parts, strict=True):
            state["step"] = part
    return whole


@contextlib.contextmanager
def swapped(modules: list[nn.Module], swap: dict) -> Iterator[None]:
    """Let the modules have other parameters and buffers meanwhile."""
    kept = [(m._parameters, dict(m._parameters), m._buffers, dict(m._buffers)) for m in modules]
    try:
        for parameters, p, buffers, b in kept:
            parameters.update({k: swap.get(v, v) for k, v in p.items()})
            buffers.update({k: swap.get(v, v) for k, v in b.items()})
        yield
        for _, _, buffers, b in kept:
            for name, t in b.items():
                if t is not None and buffers[name] is not swap[t]:
                    raise ValueError(f"the buffer {name} is made anew at every step, not changed in place")
    finally:
        for parameters, p, buffers, b in kept:
            parameters.update(p)
            buffers.update(b)


# --- what becomes of a graph ------------------------------------------------------------------------------------------


def compiled(
    graph: fx.GraphModule,
    arguments: list,
    lasting: list,
    backend: str | Callable,
    mode: str | None,
    options: dict[str, Any] | None,
) -> Callable:
    """The graph by a compiler; lasting: those of its arguments that are the same tensors at every call.

    What guards would look at at every call is looked at in `CompiledStep.key`.
    """  # fmt: skip
    if backend == "inductor":  # without torch.compile's capture, as the graph is there
        return compile_graph(graph, arguments, lasting, mode, {"fallback_random": True, **(options or {})})
    options = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe, **(options or {})}
    return torch.compile(graph, fullgraph=True, dynamic=False, backend=backend, options=options)
