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
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim import optimizer as torch_optimizer

from .compat import (
    ALPHA_OF_A_SUM,
    device_dtype_check_for_fused,
    get_capturable_supported_devices,
    get_scalar_dtype,
    set_grad_enabled,
    sparse_tensor,
)
from .flat import Member, Plan, Run, State, runs
from .modes import concrete, finest

Group = dict[str, Any]
ORDINARY = {float, int, bool, type(None), list, tuple}  # types of settings that hold no tensor


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
    decoupled: weight decay shrinks the parameters, whatever the group says of it.
    scalars: the keys of the state that hold one number a parameter.
    """

    elementwise: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    decoupled: ClassVar[bool] = False
    scalars: ClassVar[tuple[str, ...]] = ("step",)

    def init(self, p: Tensor, group: Group) -> State:
        """The state of a parameter before its first step."""
        return {}

    def update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        """Change parameter and state in place; what it adds to the state becomes the parameter's."""
        raise NotImplementedError

    def begin(self, group: Group) -> None:
        """What a step changes of a group's numbers, before its parameters."""

    def decayed(self, p: Tensor, g: Tensor, group: Group) -> Tensor:
        r"""The gradient with weight decay, $g + \lambda\theta$; where that is decoupled $g$, and the parameter shrinks."""
        decay = self.option(group, "weight_decay")
        if not self.given(decay):
            return g
        if self.decoupled or self.option(group, "decoupled_weight_decay"):
            p.mul_(1 - group["lr"] * decay)
            return g
        if g.is_sparse:
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        return self.plus(g, p, decay)

    # --- what rules use -----------------------------------------------------------------------------------------

    def option(self, group: Group, name: str) -> Any:
        """A setting; False where the optimizer has none of that name, whatever the group holds, as in torch."""
        return group.get(name, False) if name in self.defaults else False

    def scalar(self, value: float, p: Tensor, group: Group) -> Tensor:
        """A number of the state: on the CPU, but where the step is captured in a graph."""
        fused = group.get("fused")
        device = p.device if fused or group.get("capturable") else "cpu"
        return torch.tensor(value, dtype=get_scalar_dtype(fused), device=device)

    @staticmethod
    def number(scalar: Tensor, group: Group) -> Any:
        """The number itself; a tensor where it must not become a constant of a captured graph."""
        if concrete(scalar) and not group.get("capturable"):
            return scalar.item()
        return scalar.to(finest(scalar.device))  # as exact as the number itself

    @staticmethod
    def times(scalar: Tensor, factor: Any) -> Tensor:
        """A number of the state times a factor, in place and in the state's dtype, whether the factor is a tensor or not."""
        return scalar.mul_(factor.to(scalar.dtype) if isinstance(factor, Tensor) else factor)

    @staticmethod
    def given(number: Any) -> bool:
        """Whether a setting is not 0; true of a tensor that cannot be looked at."""
        return number != 0 if not isinstance(number, Tensor) or concrete(number) else True

    @staticmethod
    def average(m: Tensor, g: Tensor, beta: Any) -> Tensor:
        r"""$m \leftarrow \beta m + (1 - \beta) g$, in place."""
        return m.lerp_(g, 1 - (beta.to(m) if isinstance(beta, Tensor) else beta))

    @staticmethod
    def average_square(v: Tensor, g: Tensor, beta: Any) -> Tensor:
        r"""$v \leftarrow \beta v + (1 - \beta) g^2$, in place."""
        if isinstance(beta, Tensor):
            return v.lerp_(g.square(), 1 - beta.to(v))
        return v.mul_(beta).addcmul_(g, g, value=1 - beta)

    @staticmethod
    def root(v: Tensor, eps: Any, correction: Any = None) -> Tensor:
        r"""$\sqrt{v} + \epsilon$, or $\sqrt{v / c} + \epsilon$, with $c$ the correction."""
        if correction is None:
            return v.sqrt().add(eps)
        root = v.sqrt()
        over = root if not torch.is_grad_enabled() and concrete(root) else None  # autograd keeps the root
        return torch.div(root, correction**0.5, out=over).add_(eps)

    @staticmethod
    def plus(g: Tensor, d: Tensor, factor: Any) -> Tensor:
        r"""$g + \lambda d$; the factor is a number or a tensor."""
        if isinstance(factor, Tensor):
            return g.addcmul(d.clone(), factor)  # autograd keeps what the next step writes into
        d, alpha = Manual.scaled(d, factor)
        return g.add(d, alpha=alpha)

    @staticmethod
    def scaled(d: Tensor, factor: float) -> tuple[Tensor, float]:
        r"""What `add` takes to add $\lambda d$: a tensor, and its alpha."""
        return (d, factor) if ALPHA_OF_A_SUM or concrete(d) else (d * factor, 1)

    @staticmethod
    def at_least(a: Any, b: Any) -> Any:
        r"""$\max(a, b)$ of numbers, or tensors that hold one."""
        if isinstance(a, Tensor):
            return a.clamp(min=b)
        return b.clamp(min=a) if isinstance(b, Tensor) else max(a, b)

    @staticmethod
    def choose(test: Any, value: Callable[[], Tensor], other: Tensor) -> Tensor:
        """value() where the test holds, else the other; the test is a bool or a tensor."""
        if isinstance(test, Tensor):
            return torch.where(test, value(), other)
        return value() if test else other

    @staticmethod
    def descend(p: Tensor, rate: Any, direction: Tensor, denominator: Tensor | None = None) -> None:
        r"""$\theta \leftarrow \theta - r\,d$, or $\theta - r\,d / q$; the rate is a number or a tensor."""
        if direction.is_sparse and direction.is_coalesced():  # with which torch writes past a parameter that is a view
            direction = sparse_tensor(direction.indices(), direction.values(), direction.shape)
        if isinstance(rate, Tensor):
            if denominator is None:
                p.addcmul_(direction, rate, value=-1)
            else:
                p.addcdiv_(direction * rate, denominator, value=-1)
        elif denominator is None:
            direction, alpha = Manual.scaled(direction, -rate)
            p.add_(direction, alpha=alpha)
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
        set_grad_enabled(self.option(self.defaults, "differentiable"))
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
                self.begin(group)
                group = _numbers(group)
                for run in plan.runs:
                    if "step" in run.state:
                        (run.shared if "step" in run.shared else run.state)["step"] += 1
                    self._update(run, group)
                if plan.kept:
                    plan.mark()
            return loss
        finally:
            set_grad_enabled(previous)

    def _update(self, run: Run, group: Group) -> None:
        p, g, state = run.p, run.g, run.state
        if self.option(group, "maximize"):
            g = -g
        g = self.decayed(p, g, group)
        differentiable, pairs = self.option(group, "differentiable"), p.is_complex() and not g.is_sparse
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
                if self.option(group, "differentiable") and "step" in state and state["step"].requires_grad:
                    raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode")
                members.append((p, g, state))
        together = self.elementwise and not self.option(group, "differentiable") and not torch.compiler.is_compiling()
        return Plan(runs(members, self.scalars) if together else [Run([m], *m) for m in members], group["params"])

    def _check(self, p: Tensor, g: Tensor, group: Group) -> None:
        if g.is_sparse and not self.sparse:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        if group.get("fused"):
            device_dtype_check_for_fused(p)
        if group.get("capturable") and not torch.compiler.is_compiling():
            supported = get_capturable_supported_devices()
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
    """Refuse LBFGS by ValueError: its step asks for a closure, as it evaluates the error several times."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("the optimizer must take its step from one gradient, LBFGS evaluates the error several times: call "
                         "optimizer.step(closure) in a loop of your own")  # fmt: skip


def _numbers(group: Group) -> Group:
    """The group, in which tensors are numbers; those on a device, with a graph or compiled stay tensors, without dimensions."""
    if ORDINARY.issuperset(map(type, group.values())) and ORDINARY.issuperset(map(type, group.get("betas", ()))):
        return group
    return {k: tuple(map(_number, v)) if type(v) is tuple else _number(v) for k, v in group.items()}


def _number(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.is_cpu and not value.requires_grad and concrete(value) else value.squeeze()


def _alone(value: Any) -> Any:
    """The value; where it is a view of a larger tensor, a copy."""
    if isinstance(value, Tensor) and value.layout == torch.strided and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value
