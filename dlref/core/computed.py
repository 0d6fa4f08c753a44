"""Weights that are computed from other parameters: what `vjp` computes them by, and where their gradients go.

A parametrization (torch.nn.utils.parametrize) is a chain of modules between the parameters and the weight; weight_norm and
spectral_norm in their old form, and pruning, are hooks before the forward. A layer with such weights is run as one without,
whose parameters the computed weights are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from .pullback import Pullback, accumulate, collecting, made_of

# The weight, and what hands its gradient to the parameters that it is computed of.
Computed = tuple[Tensor, Callable[[Tensor], None]]


def explicit_of(module: Any) -> Callable[..., tuple[Any, Pullback]]:
    """The module's `explicit`, which sees through weights that are computed: its own, and its layers' that it reads."""
    found = computed_of(module)
    if getattr(module, "_reads_layers", False):
        for path, layer in module.named_modules():
            if path and not path.partition("parametrizations")[1]:
                found |= {f"{path}.{name}": compute for name, compute in computed_of(layer).items()}
    return functools.partial(with_computed, module, found) if found else module.explicit


def computed_of(module: Any) -> dict[str, Callable[[], Computed]]:
    """The module's own weights that are computed, by name."""
    found: dict[str, Callable[[], Computed]] = {}
    for name, parts in module._modules.get("parametrizations", {}).items():
        found[name] = functools.partial(through_parametrizations, module, name, parts)
    for hook in module._forward_pre_hooks.values():
        if computes(hook):
            name = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
            found[name] = functools.partial(
                pruned if isinstance(hook, BasePruningMethod) else type(hook).vjp, hook, module
            )
    return found


def computes(hook: Any) -> bool:
    """Whether a hook before the forward computes a weight, and tells its gradient."""
    return isinstance(hook, BasePruningMethod) or (hasattr(hook, "vjp") and hasattr(hook, "compute_weight"))


def with_computed(
    module: Any, found: dict[str, Callable[[], Computed]], *inputs: Any, **kwargs: Any
) -> tuple[Any, Pullback]:
    """Output and pullback of a module of these computed weights."""
    weights: dict[str, nn.Parameter] = {}
    pulls: dict[str, Callable[[Tensor], None]] = {}
    for name, compute in found.items():
        value, pulls[name] = compute()
        weights[name] = nn.Parameter(value, requires_grad=value.is_floating_point() or value.is_complex())
    output, pull = like(module, weights).explicit(*inputs, **kwargs)

    def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
        with collecting() as gradients:
            grads = pull(dy) if needs is None else pull(dy, needs=needs)
        for parameter, grad in gradients.items():
            name = next((n for n, weight in weights.items() if weight is parameter), None)
            if name is None:
                accumulate(parameter, grad)
            else:
                pulls[name](grad)
        return grads

    return output, made_of(pullback, pull, trains=any(p.requires_grad for p in module.parameters()))


def like(module: Any, weights: dict[str, nn.Parameter]) -> Any:
    """The module as one that has the weights, by name or path, for parameters; all else it shares."""
    parts: dict[str, dict[str, nn.Parameter]] = {}
    for path in [path for path in weights if "." in path]:
        head, _, rest = path.partition(".")
        parts.setdefault(head, {})[rest] = weights[path]
    weights = {name: weight for name, weight in weights.items() if "." not in name}
    cls: Any = type(module).__bases__[0] if weights and "parametrizations" in module._modules else type(module)
    plain = cls.__new__(cls)
    plain.__dict__.update({name: value for name, value in module.__dict__.items() if name not in weights})
    plain.__dict__["_parameters"] = {**module._parameters, **weights}
    plain.__dict__["_modules"] = {**module._modules, **{n: like(module._modules[n], w) for n, w in parts.items()}}
    plain.__dict__["_buffers"] = {n: b for n, b in module._buffers.items() if n not in weights}
    return plain


def through_parametrizations(module: Any, name: str, parts: Any) -> Computed:
    """The weight by the parametrizations' own `vjp`, one after the other."""
    originals = [parts.original] if parts.is_tensor else [getattr(parts, f"original{i}") for i in range(parts.ntensors)]
    values, pulls = tuple(originals), []
    for part in parts:
        if not hasattr(part, "vjp"):
            raise RuntimeError(
                f"{name} of {type(module).__name__} is computed from other parameters by {type(part).__module__}."
                f"{type(part).__name__}, which has no vjp: take it from dlref.manual.nn, dlref.convert the model, give it a "
                "vjp(*originals) -> (weight, pullback), or train under autograd"
            )
        value, pull = part.vjp(*values)
        values = (value,)
        pulls.append(pull)

    def pullback(grad: Tensor) -> None:
        grads: tuple = (grad,)
        for pull in reversed(pulls):
            grads = pull(grads[0])
        give(originals, grads)

    return values[0], pullback


def pruned(hook: Any, module: Any) -> Computed:
    r"""A weight of which some are pruned: $w = m \odot v$, with the gradient $dv = m \odot dw$."""
    original = getattr(module, f"{hook._tensor_name}_orig")
    mask = getattr(module, f"{hook._tensor_name}_mask").to(original.dtype)
    weight = mask * original
    setattr(module, hook._tensor_name, weight)
    return weight, lambda grad: give([original], (mask * grad,))


def give(originals: list[Any], grads: tuple) -> None:
    """Add gradients to the `.grad` of those parameters that learn."""
    for original, grad in zip(originals, grads, strict=True):
        if isinstance(original, nn.Parameter) and original.requires_grad and grad is not None:
            accumulate(original, grad)
