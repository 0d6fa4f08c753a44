r"""The optimizer base: an optimizer is a rule for one parameter, everything else is torch's or written here once.

    class SGD(Manual, torch.optim.SGD):
        elementwise = True

        def update(self, p, g, state, group):
            p.add_(g, alpha=-group["lr"])

Constructor, param_groups, state_dict, hooks, pickling are torch's own. The base turns the gradient into what every rule
starts from,

$$g \leftarrow -g \text{ (maximize)}, \qquad t \leftarrow t + 1, \qquad
g \leftarrow g + \lambda\theta \quad\text{or, decoupled,}\quad \theta \leftarrow \theta - \gamma\lambda\theta,$$

views complex tensors as pairs of real ones, and runs an elementwise rule once for all parameters that lie next to each
other in memory (flat.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from operator import is_
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.autograd.graph import increment_version
from torch.optim import optimizer as torch_optimizer

from .flat import PLAIN, coalesce, lay
from .modes import concrete

State = dict[str, Any]
Group = dict[str, Any]


def _hooked(step: Callable) -> Callable:
    """torch's wrapper of `step` (hooks, the profiler's mark), at no cost where there is nothing to call."""
    with_hooks = torch.optim.Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def wrapper(*args, **kwargs):
        self = args[0]
        if (
            self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks or profiler._is_profiler_enabled
            or torch_optimizer._global_optimizer_pre_hooks or torch_optimizer._global_optimizer_post_hooks
        ):  # fmt: skip
            return with_hooks(*args, **kwargs)
        return step(*args, **kwargs)

    wrapper.hooked = True  # type: ignore[attr-defined]  # torch wraps what does not say so
    return wrapper


class Manual(torch.optim.Optimizer):
    """Mixin in front of a torch.optim class: its mathematics by a rule, `init` and `update`.

    elementwise: each element of a parameter is updated by itself, so that one update may run for several parameters.
    sparse: the rule takes sparse gradients.
    scalars: the keys of the state that hold one number a parameter.
    """

    elementwise: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    scalars: ClassVar[tuple[str, ...]] = ("step",)

    def init(self, p: Tensor, group: Group) -> State:
        """The state of a parameter before its first step."""
        return {}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        """Change parameter and state in place; what it adds to the state becomes the parameter's."""
        raise NotImplementedError

    # --- what rules use -----------------------------------------------------------------------------------------

    def scalar(self, value: float, p: Tensor, group: Group) -> Tensor:
        """A number of the state: on the CPU, but where the step is captured in a graph."""
        fused = group.get("fused")
        device = p.device if fused or group.get("capturable") else "cpu"
        return torch.tensor(value, dtype=torch_optimizer._get_scalar_dtype(fused), device=device)

    @staticmethod
    def number(scalar: Tensor, group: Group) -> Any:
        """The number itself; a tensor where it must not become a constant of a captured graph."""
        if group.get("capturable"):
            return scalar
        return scalar.item() if concrete(scalar) else scalar.double()  # as exact as the number itself

    @staticmethod
    def given(number: Any) -> bool:
        """Whether a setting is not 0; true of a tensor that cannot be looked at."""
        return number != 0 if not isinstance(number, Tensor) or concrete(number) else True

    @staticmethod
    def average(m: Tensor, g: Tensor, beta: Any) -> Tensor:
        r"""$m \leftarrow \beta m + (1 - \beta) g$, in place."""
        return m.lerp_(g, 1 - (beta.to(m) if isinstance(beta, Tensor) else beta))

    @staticmethod
    def descend(p: Tensor, rate: Any, direction: Tensor, denominator: Tensor | None = None) -> None:
        r"""$\theta \leftarrow \theta - r\,d$, or $\theta - r\,d / q$; the rate is a number or a tensor."""
        if isinstance(rate, Tensor) and (rate.requires_grad or not rate.is_cpu or not concrete(rate)):
            if denominator is None:
                p.addcmul_(direction, rate, value=-1)
            else:
                p.addcdiv_(direction * rate, denominator, value=-1)
        elif denominator is None:
            p.add_(direction, alpha=-rate)
        else:
            p.addcdiv_(direction, denominator, value=-rate)

    # --- the step -----------------------------------------------------------------------------------------------

    @_hooked
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient; returns what the closure returned."""
        if torch.is_inference_mode_enabled():  # states are ordinary tensors, wherever the first step was taken
            with torch.inference_mode(False):
                return self._step(closure)
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        previous = torch.is_grad_enabled()
        torch._C._set_grad_enabled(self.defaults["differentiable"])
        try:
            if "capturable" in self.defaults and not self.param_groups[0]["params"][0].is_cpu:
                self._accelerator_graph_capture_health_check()
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            if "found_inf" in self.__dict__ and self._overflowed():
                return loss
            for index, group in enumerate(self.param_groups):
                plan = self._plans.get(index)
                if plan is None or not plan.holds(group["params"], self.state):
                    plan = self._plans[index] = self._plan(group)
                lr = group["lr"]
                if isinstance(lr, Tensor) and lr.dim():
                    group = {**group, "lr": lr.squeeze()}
                for run in plan.runs:
                    if "step" in run.state:
                        (run.shared if "step" in run.shared else run.state)["step"] += 1
                    self._update(run, group)
                if plan.kept:
                    plan.mark()
            return loss
        finally:
            torch._C._set_grad_enabled(previous)

    def _update(self, run: Run, group: Group) -> None:
        p, g, state = run.p, run.g, run.state
        if group["maximize"]:
            g = -g
        decay = group["weight_decay"]
        if self.given(decay):
            if group.get("decoupled_weight_decay"):
                p.mul_(1 - group["lr"] * decay)
            elif g.is_sparse:
                raise RuntimeError("weight_decay option is not compatible with sparse gradients")
            elif isinstance(decay, Tensor) and (decay.requires_grad or not concrete(decay)):
                g = g.addcmul(p.clone(), decay)
            else:
                g = g.add(p, alpha=decay)
        differentiable, pairs = group["differentiable"], p.is_complex() and not g.is_sparse
        if not (differentiable or pairs):
            self.update(p, g, state, group)
        else:
            # The graph of one step saves tensors that the next step would write into.
            work = {k: v.clone() for k, v in state.items()} if differentiable else dict(state)
            if pairs:
                p, g = torch.view_as_real(p), torch.view_as_real(g.resolve_conj())
                work = {k: v if k in self.scalars else torch.view_as_real(v) for k, v in work.items()}
            self.update(p, g, work, group)
            for k, v in work.items():
                if differentiable or k not in state:
                    state[k] = torch.view_as_complex(v) if pairs and k not in self.scalars else v
        run.settle(self.state)

    def _overflowed(self) -> bool:
        """Undo the loss scale of torch.amp.GradScaler, which leaves that to fused optimizers; true: skip the step."""
        if self.found_inf is not None and self.found_inf.item():  # type: ignore[attr-defined]
            return True
        scale = self.__dict__.get("grad_scale")
        if scale is not None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.div_(scale.to(p.grad.device))
        return False

    # --- what one update runs for -------------------------------------------------------------------------------

    def _plan(self, group: Group) -> Plan:
        """The group's parameters that have a gradient, with their states, in runs that are one tensor each."""
        members: list[Member] = []
        for p in group["params"]:
            if (g := p.grad) is not None:
                self._check(p, g, group)
                state = self.state.get(p, {})
                if not state and (state := self.init(p, group)):
                    self.state[p] = state
                if group["differentiable"] and "step" in state and state["step"].requires_grad:
                    raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode")
                members.append((p, g, state))
        together = self.elementwise and not group["differentiable"] and not torch.compiler.is_compiling()
        runs: list[Run] = []
        start = 0
        for i in range(1, len(members) + 1):
            if i == len(members) or not together or not _adjacent(members[i - 1], members[i]):
                whole = _whole(members[start:i], self.scalars) if i - start > 1 else None
                runs += [Run(members[k : k + 1], *members[k]) for k in range(start, i)] if whole is None else [whole]
                start = i
        return Plan(runs, group["params"])

    def _check(self, p: Tensor, g: Tensor, group: Group) -> None:
        if g.is_sparse and not self.sparse:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        if group.get("fused"):
            torch_optimizer._device_dtype_check_for_fused(p)
        if group.get("capturable") and not torch.compiler.is_compiling():
            supported = torch_optimizer._get_capturable_supported_devices()
            if p.device.type not in supported:
                raise AssertionError(
                    f"If capturable=True, params must be on supported devices: {supported}, not on {p.device.type}."
                )

    # --- torch's own, with what the runs ask for ----------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        self._plans: dict[int, Plan] = {}
        # Without torch's guard against being compiled, which imports the compiler: that takes longer than a small training.
        theirs = torch.optim.Optimizer.add_param_group
        getattr(theirs, "__wrapped__", theirs)(self, param_group)

    def __setstate__(self, state: State) -> None:
        self._plans = {}
        super().__setstate__(state)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """torch's, at no cost for the profiler where there is none."""
        if not set_to_none or profiler._is_profiler_enabled:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None
        return None

    def state_dict(self) -> State:
        """torch's, in which a state that is a view of its group's is copied: it is saved, and loaded, by itself."""
        packed = super().state_dict()
        packed["state"] = {
            key: {k: _alone(v) for k, v in state.items()} if isinstance(state, dict) else state
            for key, state in packed["state"].items()
        }
        return packed


def by_one_gradient(optimizer: Any) -> None:
    """ValueError where the optimizer's step asks for a closure, as it evaluates the error several times."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("the optimizer must take its step from one gradient, LBFGS evaluates the error several times: call "
                         "optimizer.step(closure) in a loop of your own")  # fmt: skip


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


def _alone(value: Any) -> Any:
    """The value; where it is a view of a larger tensor, a copy."""
    if isinstance(value, Tensor) and value.layout == torch.strided and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value
