"""The hooks of a module round its explicit gradient, as in a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as torch_module

from .compat import maybe_current_level
from .computed import computes, explicit_of
from .in_place import overwrite, shares_memory, unwrapped
from .modes import without_graph
from .pullback import Pullback, made_of


def has_hooks(module: Any) -> bool:
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_hooks or module._backward_pre_hooks
        or torch_module._global_forward_pre_hooks or torch_module._global_forward_hooks
        or torch_module._global_backward_hooks or torch_module._global_backward_pre_hooks
    )  # fmt: skip


def hooked_vjp(module: Any, inputs: tuple, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
    """`explicit` between the module's hooks, which see and may replace what they see and replace in a call."""
    names = tuple(kwargs)

    def before(*values):
        args, kw = values[: len(values) - len(names)], dict(zip(names, values[len(values) - len(names) :], strict=True))
        hooks = {**torch_module._global_forward_pre_hooks, **module._forward_pre_hooks}
        hooks = {key: hook for key, hook in hooks.items() if not computes(hook)}  # explicit_of sees to those
        for key, hook in hooks.items():
            if key in module._forward_pre_hooks_with_kwargs:
                answer = hook(module, args, kw)
                args, kw = (args, kw) if answer is None else answer
            else:
                answer = hook(module, args)
                args = args if answer is None else answer if isinstance(answer, tuple) else (answer,)
        return (*args, *(kw[name] for name in names))

    def after(*values):
        *passed, output = values if single else (*values[:-number], values[-number:])
        args, kw = passed[: len(passed) - len(names)], dict(zip(names, passed[len(passed) - len(names) :], strict=True))
        for key, hook in {**torch_module._global_forward_hooks, **module._forward_hooks}.items():
            with_kwargs = key in {**torch_module._global_forward_hooks_with_kwargs, **module._forward_hooks_with_kwargs}
            answer = hook(module, tuple(args), kw, output) if with_kwargs else hook(module, tuple(args), output)
            output = output if answer is None else answer
        return output if isinstance(output, tuple) else (output,)

    # A hook that works in place changes what the caller holds, as in a call; a fresh output nobody else holds.
    seen, pull_before = _by_autograd(before, (*inputs, *kwargs.values()))
    args, kwargs = seen[: len(seen) - len(names)], dict(zip(names, seen[len(seen) - len(names) :], strict=True))
    try:
        output, pull = explicit_of(module)(*args, **kwargs)
    except Exception:
        for key in {**torch_module._global_forward_hooks_always_called, **module._forward_hooks_always_called}:
            hook = {**torch_module._global_forward_hooks, **module._forward_hooks}[key]
            hook(module, args, kwargs, None) if key in module._forward_hooks_with_kwargs else hook(module, args, None)
        raise
    single = not isinstance(output, tuple)
    outputs = (output,) if single else output
    number = len(outputs)
    results, pull_after = _by_autograd(after, (*seen, *outputs), fresh=[_fresh(o, seen) for o in (*seen, *outputs)])

    def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
        if dy is None:
            dy = torch.ones_like(results[0])
        grad_output = dy if isinstance(dy, tuple) else (dy,)
        with without_graph():
            for hook in module._get_backward_pre_hooks() if _backward_pre_hooks(module) else ():
                answer = hook(module, grad_output)
                grad_output = grad_output if answer is None else answer if isinstance(answer, tuple) else (answer,)
            *direct, own = _split(pull_after(grad_output), number)
            grads = pull(own[0] if single else own)
            grads = tuple(_add(g, d) for g, d in zip(grads, direct, strict=True))
            full, legacy = module._get_backward_hooks() if _backward_hooks(module) else ((), ())
            for hook in (*full, *legacy):
                answer = hook(module, grads, grad_output)
                grads = grads if answer is None else answer if isinstance(answer, tuple) else (answer,)
            grads = pull_before(grads)
        return grads if needs is None else tuple(g if need else None for g, need in zip(grads, needs, strict=True))

    return results[0] if len(results) == 1 else results, made_of(pullback, pull)


def _backward_pre_hooks(module: Any) -> bool:
    return bool(module._backward_pre_hooks or torch_module._global_backward_pre_hooks)


def _backward_hooks(module: Any) -> bool:
    return bool(module._backward_hooks or torch_module._global_backward_hooks)


def _split(grads: tuple, number: int) -> tuple:
    return (*grads[:-number], grads[-number:])


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _fresh(value: Any, seen: tuple) -> bool:
    """Whether a module's output has memory of its own, which the caller does not hold."""
    return isinstance(value, Tensor) and not any(isinstance(s, Tensor) and shares_memory(value, s) for s in seen)


def _identical(copy: Tensor, value: Tensor) -> bool:
    """Whether a copy still is one; where nobody may look at the values, whether it was written to."""
    if torch.compiler.is_compiling() or maybe_current_level() is not None:
        return unwrapped(copy)._version == 0
    bare = lambda t: t.nan_to_num(0.0, math.inf, -math.inf)  # noqa: E731
    return copy.equal(value) or (copy.isnan().equal(value.isnan()) and bare(copy).equal(bare(value)))


def _by_autograd(
    function: Callable[..., tuple], values: Iterable, fresh: Sequence[bool] = ()
) -> tuple[tuple, Callable[[tuple], tuple]]:
    """Outputs and pullback of a hook: it is its author's code, so autograd differentiates it, and it alone.

    It works on copies; what it leaves alone comes back as it was, and what it changes in place is written to the value itself,
    but for those that are fresh.
    """
    values = tuple(values)

    def learns(value: Any) -> bool:
        return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())

    with torch.inference_mode(False), torch.enable_grad():
        leaves = [(v.clone() if v.is_inference() else v).detach().requires_grad_() if learns(v) else v for v in values]
        copies = [v.clone() if learns(v) else v for v in leaves]
        outputs = function(*copies)
    results = [o.detach() if isinstance(o, Tensor) else o for o in outputs]
    later: list[list[Tensor]] = [[] for _ in outputs]
    for i, (value, copy) in enumerate(zip(values, copies, strict=True)):
        if not learns(value):
            continue
        changed = not _identical(copy.detach(), value)
        if changed and fresh and fresh[i]:
            continue
        written = overwrite(value, copy.detach()) if changed else []
        for j, output in enumerate(outputs):
            if output is copy:
                results[j], later[j] = value, written

    def pullback(grads: tuple) -> tuple:
        grads = tuple([g if g is None else sum(more, g) for g, more in zip(grads, later, strict=True)])
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
        wanted = [leaf for leaf in leaves if learns(leaf)]
        with torch.inference_mode(False):
            upstream = [g.clone() if g.is_inference() else g for _, g in pairs]
            found = iter(torch.autograd.grad([o for o, _ in pairs], wanted, upstream, True, allow_unused=True))
        return tuple(next(found) if learns(leaf) else None for leaf in leaves)

    return tuple(results), pullback
