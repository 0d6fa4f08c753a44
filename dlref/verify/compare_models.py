"""One model both ways, or two models: the first module whose output departs, and the last whose gradient does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from ..core.compat import whole
from ..reuse.convert import convert
from .judge import DELTA, JUMP, Error

WIDE = {torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64,
        torch.complex64: torch.complex128}  # fmt: skip
CASTS = {Tensor.float, Tensor.half, Tensor.bfloat16}
# A deep model rounds in another order by hand: how many times the first model's error, and how many units, are the same.
FACTOR, UNITS = 4.0, 64.0
TURNS = 2  # how often the values are moved


@dataclass
class ModelComparison:
    """Errors of each module's output and of the gradient that reaches it, and of each parameter's gradient.

    outputs, gradients: by module, in the order of the forward. parameters: by name. first: the first module whose output
    departs; last: the last one, so the first that the backward passes, whose gradient does; None where none. note: why the
    truth is not of float64, where it is not.
    """

    outputs: dict[str, Error] = field(default_factory=dict)
    gradients: dict[str, Error] = field(default_factory=dict)
    parameters: dict[str, Error] = field(default_factory=dict)
    note: str = ""

    @property
    def first(self) -> str | None:
        return next((n for n, e in self.outputs.items() if e.departs), None)

    @property
    def last(self) -> str | None:
        return next((n for n, e in reversed(self.gradients.items()) if e.departs), None)

    @property
    def ok(self) -> bool:
        return not any(e.departs for part in (self.outputs, self.gradients, self.parameters) for e in part.values())

    def __str__(self) -> str:
        worst = max(
            (e.ours for e in (*self.outputs.values(), *self.gradients.values(), *self.parameters.values())), default=0
        )
        lines = [
            f"{len(self.outputs)} outputs, {len(self.gradients)} gradients of modules and {len(self.parameters)} of "
            f"parameters compared: " + (f"equal within {worst:.3g} units of rounding" if self.ok else "they depart")
        ]
        lines += [f"  {self.note}"] if self.note else []
        for what, name, errors in (("the first output that departs", self.first, self.outputs),
                                   ("the last gradient that departs", self.last, self.gradients)):  # fmt: skip
            if name is not None:
                e = errors[name]
                lines.append(f"  {what}: that of {name or 'the model'}, {e.ours:.3g} units, allowed {e.bound:.3g}")
        wrong = [n for n, e in self.parameters.items() if e.departs]
        return "\n".join(lines + ([f"  gradients of parameters that depart: {', '.join(wrong[:8])}"] if wrong else []))


def compare_models(
    model: nn.Module, batch: Any, loss: Callable[..., Tensor] | None = None, other: nn.Module | None = None
) -> ModelComparison:
    """Run a model built in and by hand, or two models of the same parameters, and compare module by module.

    batch: the model's input, a tuple of them, or a dictionary of them by name; or (inputs, target) where a loss is given.
    loss: of (output, target), or of (output) alone; without one the output is weighted at random. other: a second model with
    modules of the same names; by default the first one converted. Neither model is changed.

    Errors are |a - t| of whole tensors in units of rounding of (|t| + kappa). The truth t is the first model in float64,
    whatever dtype it asks for inside; kappa is what becomes of a rounding of every value on the way, measured by moving the
    parameters, the inputs, each layer's output and each gradient by random parts of themselves: it is large where t is what
    large terms leave of each other. What may be lost is measured on the first model in its own dtype. A model that does not
    run in float64 is its own truth, and what such moves make of it in its own dtype may be lost; `note` says so.
    ValueError where no module of the two has the same name, or parameters differ.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what has no counterpart is the same on both sides
        reference = convert(copy.deepcopy(model), "builtin") if other is None else copy.deepcopy(model)
        ours = convert(copy.deepcopy(model), "manual") if other is None else copy.deepcopy(other)
    if other is not None:
        same_parameters(reference, ours)
    shared = {n for n, _ in reference.named_modules()} & {n for n, _ in ours.named_modules()}
    if len(shared) < 2 and len(list(reference.modules())) > 1:
        raise ValueError("the two models must have modules of the same names, they share none but the model itself")
    theirs, mine = (record(m, batch, loss, shared) for m in (reference, ours))
    found = ModelComparison()
    try:
        wide = copy.deepcopy(reference).double()
        with Widened():
            truth = record(wide, tree_map(widened, batch), loss, shared)
            moved = [record(wide, tree_map(widened, batch), loss, shared, DELTA, turn) for turn in range(TURNS)]
        delta = DELTA
    except Exception as refusal:  # of whatever code the model has
        found.note = f"the first model is its own truth, as it does not run in float64: {refusal}"[:200]
        delta = max(
            torch.finfo(p.dtype).eps for p in (*reference.parameters(), torch.empty(0)) if p.is_floating_point()
        )
        truth, moved = theirs, [record(reference, batch, loss, shared, delta, turn) for turn in range(TURNS)]
    for at, part in enumerate((found.outputs, found.gradients, found.parameters)):
        a, b, t = mine[at], theirs[at], truth[at]
        for name in b:
            if name in a and name in t and a[name].shape == b[name].shape:
                size = distance(t[name], 0.0)
                changes = [distance(m[at][name], t[name]) / delta for m in moved if name in m[at]]
                kappa = max((c for c in changes if c <= JUMP * (1 + size)), default=0.0)  # more is a jump, no slope
                unit = (size + kappa) * torch.finfo(b[name].dtype).eps or 1.0
                error, measure = (distance(v[name], t[name]) / unit for v in (a, b))
                if found.note:
                    measure = kappa * delta / unit
                part[name] = Error(error, measure, FACTOR * measure + UNITS)
            elif name in a and name in t:
                part[name] = Error(float("inf"), 0.0, 0.0)
    return found


def distance(a: Tensor, b: Tensor | float) -> float:
    return (a.double() - b).norm().item()


class Widened(TorchFunctionMode):
    """Inside, all is computed in float64: other dtypes are asked for in vain, and tensors of theirs are used as float64."""

    def __enter__(self) -> Any:
        self.default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.set_default_dtype(self.default)
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.startswith("__"):  # what is overwritten stays what it is
            return func(*args[:1], *tree_map(widened, args[1:]), **tree_map(widened, kwargs or {}))
        args, kwargs = tree_map(widened, (args, whole(func, kwargs)))
        return (Tensor.double if func in CASTS else func)(*args, **kwargs)


def widened(v: Any) -> Any:
    if isinstance(v, Tensor):
        return v.to(WIDE[v.dtype]) if v.dtype in WIDE else v
    return WIDE.get(v, v) if isinstance(v, torch.dtype) else v


def same_parameters(a: nn.Module, b: nn.Module) -> None:
    one, two = dict(a.named_parameters()), dict(b.named_parameters())
    for name in sorted({*one, *two}):
        if name not in one or name not in two or not torch.equal(one[name], two[name]):
            raise ValueError(f"the two models must have the same parameters, {name} is "
                             + ("not in both" if name not in one or name not in two else "another one")
                             + ": other.load_state_dict(model.state_dict())")  # fmt: skip


def record(
    model: nn.Module, batch: Any, loss: Callable | None, names: set[str], delta: float = 0.0, turn: int = 0
) -> tuple[dict, dict, dict]:
    """Outputs of the modules, gradients of these outputs, and of the parameters.

    delta: by what part of themselves, at most, parameters, inputs, and outputs and gradients of layers are moved at random.
    """
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    handles = []
    generator = torch.Generator().manual_seed(turn)

    def move(v: Any) -> Any:
        if not delta or not isinstance(v, Tensor) or not v.is_floating_point():
            return v
        return v * (
            1 + delta * (2 * torch.rand(v.shape, generator=generator, dtype=v.dtype, device="cpu").to(v.device) - 1)
        )

    def watch(name: str, leaf: bool) -> Callable:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            output = tree_map(move, output) if delta and leaf else output
            for i, t in enumerate(tree_flatten(output)[0]):
                if isinstance(t, Tensor) and t.is_floating_point():
                    key = name if not i else f"{name}[{i}]"
                    outputs[key] = t.detach().clone()
                    if t.requires_grad:
                        t.register_hook(lambda g, key=key: gradients.__setitem__(key, g.detach().clone()))
                        if delta and leaf:
                            t.register_hook(move)
            return output if delta else None

        return hook

    for name, module in model.named_modules():
        if name in names:
            handles.append(module.register_forward_hook(watch(name, next(module.children(), None) is None)))
    inputs, target = (
        batch if isinstance(batch, (tuple, list)) and len(batch) == 2 and loss is not None else (batch, None)
    )
    inputs = tree_map(move, inputs)
    kept = [p.detach().clone() for p in model.parameters()] if delta else []
    with torch.no_grad():
        for p in model.parameters() if delta else ():
            p.copy_(move(p))
    model.zero_grad()
    torch.manual_seed(0)
    try:
        if isinstance(inputs, dict):
            output = model(**inputs)
        else:
            output = model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
        if loss is not None:
            error = loss(output) if target is None else loss(output, target)
        else:
            error = sum(weighted(t) for t in tree_flatten(output)[0] if isinstance(t, Tensor) and t.is_floating_point())
        error.backward()
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for p, was in zip(model.parameters() if delta else (), kept, strict=True):
                p.copy_(was)
    ordered = {n: gradients[n] for n in outputs if n in gradients}
    return outputs, ordered, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def weighted(t: Tensor) -> Tensor:
    weights = torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64, device="cpu")
    return (t * weights.to(t.device, t.dtype)).sum()
