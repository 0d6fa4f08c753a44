"""One model both ways, or two models: the first module whose output departs, and the last whose gradient does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from .convert import convert
from .judge import Error

# A deep model rounds in another order by hand: how many times the first model's error, and how many units, are the same.
FACTOR, UNITS = 4.0, 64.0


@dataclass
class ModelComparison:
    """Errors of each module's output and of the gradient that reaches it, and of each parameter's gradient.

    outputs, gradients: by module, in the order of the forward. parameters: by name. first: the first module whose output
    departs; last: the last one, so the first that the backward passes, whose gradient does; None where none.
    """

    outputs: dict[str, Error] = field(default_factory=dict)
    gradients: dict[str, Error] = field(default_factory=dict)
    parameters: dict[str, Error] = field(default_factory=dict)

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

    batch: the model's input, or (inputs, target). loss: of (output, target), or of (output) alone; without one the output is
    weighted at random. other: a second model with modules of the same names; by default the first one converted. Neither
    model is changed. Errors are |a - t| / |t| as whole tensors: the truth t is the first model in float64, the measure of what
    may be lost the first model in its own dtype.
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
    truth = record(copy.deepcopy(reference).double(), tree_map(widened, batch), loss, shared)
    theirs, mine = (record(m, batch, loss, shared) for m in (reference, ours))
    found = ModelComparison()
    for part, a, b, t in zip((found.outputs, found.gradients, found.parameters), mine, theirs, truth, strict=True):
        for name in b:
            if name in a and name in t and a[name].shape == b[name].shape:
                size = t[name].norm().item() * torch.finfo(b[name].dtype).eps or 1.0
                error, measure = ((v[name].double() - t[name]).norm().item() / size for v in (a, b))
                part[name] = Error(error, measure, FACTOR * measure + UNITS)
            elif name in a and name in t:
                part[name] = Error(float("inf"), 0.0, 0.0)
    return found


def widened(v: Any) -> Any:
    return v.double() if isinstance(v, Tensor) and v.is_floating_point() else v


def same_parameters(a: nn.Module, b: nn.Module) -> None:
    one, two = dict(a.named_parameters()), dict(b.named_parameters())
    for name in sorted({*one, *two}):
        if name not in one or name not in two or not torch.equal(one[name], two[name]):
            raise ValueError(f"the two models must have the same parameters, {name} is "
                             + ("not in both" if name not in one or name not in two else "another one")
                             + ": other.load_state_dict(model.state_dict())")  # fmt: skip


def record(model: nn.Module, batch: Any, loss: Callable | None, names: set[str]) -> tuple[dict, dict, dict]:
    """Outputs of the modules, gradients of these outputs, and of the parameters."""
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    handles = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for i, t in enumerate(tree_flatten(output)[0]):
                if isinstance(t, Tensor) and t.is_floating_point():
                    key = name if not i else f"{name}[{i}]"
                    outputs[key] = t.detach().clone()
                    if t.requires_grad:
                        t.register_hook(lambda g, key=key: gradients.__setitem__(key, g.detach().clone()))

        return hook

    for name, module in model.named_modules():
        if name in names:
            handles.append(module.register_forward_hook(watch(name)))
    inputs, target = (
        batch if isinstance(batch, (tuple, list)) and len(batch) == 2 and loss is not None else (batch, None)
    )
    model.zero_grad()
    torch.manual_seed(0)
    output = model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)
    if loss is not None:
        error = loss(output) if target is None else loss(output, target)
    else:
        error = sum(weighted(t) for t in tree_flatten(output)[0] if isinstance(t, Tensor) and t.is_floating_point())
    error.backward()
    for handle in handles:
        handle.remove()
    ordered = {n: gradients[n] for n in outputs if n in gradients}
    return outputs, ordered, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def weighted(t: Tensor) -> Tensor:
    weights = torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (t * weights.to(t.device, t.dtype)).sum()
