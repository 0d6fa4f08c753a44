"""The bridge of any operation to autograd and torch.func, and what upstream gradients are made of."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from .compat import BATCHED, INTERMEDIATE_RESULTS, TransformType, dispatch_keys, get_interpreter_stack
from .modes import _NOTHING, definitions


def forward_over_forward() -> bool:
    """Whether a torch.func.jvp runs within another: torch drops the outer tangents inside an autograd.Function there."""
    stack = get_interpreter_stack()
    return stack is not None and sum(level.key() == TransformType.Jvp for level in stack) > 1


class Sequence:
    """A list argument on its way over the bridge: torch.func would take it apart and look for tensors in it."""

    def __init__(self, items: tuple | list):
        self.items = items


def ones(like: tuple | None) -> Tensor:
    """dE/dE = 1, the upstream gradient of an error of this shape, dtype and device; None for what is no single number."""
    if like is None:
        raise RuntimeError("the pullback may be called with nothing only where the output is a single number (an error); "
                           "pass the upstream gradient, of the output's shape")  # fmt: skip
    shape, dtype, device = like
    return torch.ones(shape, dtype=dtype, device=device)


def like_number(output: Tensor) -> tuple | None:
    """What `ones` needs of an output that is a single number, lest it be kept."""
    return (output.shape, output.dtype, output.device) if output.numel() == 1 else None


def upstream(dy: Any, like: list) -> tuple[Tensor | None, ...] | None:
    """One upstream gradient an output: zeros where it is absent, None for an output of integers; None if all are absent."""
    given = dy if isinstance(dy, (tuple, list)) else (dy,)
    given = (*given, *(None for _ in like[len(given) :]))
    first = next((d for d in given if d is not None), None)
    if first is None:
        return None
    return tuple(
        None if kind is None else first.new_zeros((), dtype=kind[1]).expand(kind[0]) if d is None else d
        for d, kind in zip(given, like, strict=True)
    )


def likes(values: tuple | list) -> list[tuple[torch.Size, torch.dtype] | None]:
    """Shape and dtype that each argument's gradient must have; None where it can have none."""
    return [
        (v.shape, v.dtype) if isinstance(v, Tensor) and (v.is_floating_point() or v.is_complex()) else None
        for v in values
    ]


class Bridge(torch.autograd.Function):
    """Any operation as torch.autograd sees it: apply(form, *values). The saved tensors are outputs of their own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(form, *values):
        results = form.evaluate(_plain(values))
        return results if INTERMEDIATE_RESULTS else tuple(r.view_as(r) for r in results)

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        form, *values = inputs
        op = form.op
        results, saved = outputs[: len(op.outputs)], outputs[len(op.outputs) :]
        ctx.like_outputs = likes(results)
        ctx.mark_non_differentiable(*saved, *(r for r, k in zip(results, ctx.like_outputs, strict=True) if k is None))
        ctx.set_materialize_grads(False)
        ctx.form = form
        ctx.like = likes(values)
        ctx.values = [None if isinstance(v, Tensor) else v for v in _plain(values)]
        kept = [v if keep and isinstance(v, Tensor) else None for v, keep in zip(values, form.keeps, strict=True)]
        tensors = (*(r if uses else None for r, uses in zip(results, form.keeps_outputs, strict=True)), *kept, *saved)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, *dy):
        form, op = ctx.form, ctx.form.op
        upstreams = dy[0] if op.single else upstream(dy[: len(op.outputs)], ctx.like_outputs)
        if upstreams is None:
            return None, *(None for _ in ctx.like)
        outputs, values, saved = _restore(ctx)
        if torch.is_grad_enabled() and form is op.definition and form.uses_saved:
            # Somebody wants a second derivative: what the forward saved must be part of the graph.
            outputs, saved = form.run(values)
        # Batched by torch.autograd.grad(is_grads_batched=True), they stand for several: no kernel takes those.
        batched = any(d is not None and dispatch_keys(d).has(BATCHED) for d in dy)
        with definitions() if batched else _NOTHING:
            return None, *form.gradients(upstreams, outputs, saved, ctx.needs_input_grad[1:], values, ctx.like)


class BridgeWithJvp(Bridge):
    """The bridge with forward-mode derivatives: a class of its own, because Dynamo stops at a Function with a jvp."""

    @staticmethod
    def forward(form, *values):
        # An output must be no view of something inside: forward mode would want its tangent in the same memory layout.
        return tuple(r.detach() if r._is_view() else r for r in form.evaluate(_plain(values)))

    @staticmethod
    def jvp(ctx, _, *tangents):
        # The gradient u -> J^T u is linear in u, so J t is its transpose applied to t. What was saved is made anew, lest
        # the derivative of this derivative miss it.
        definition = ctx.form.op.definition
        outputs, values, saved = _restore(ctx)
        fresh: tuple = ()
        if definition.uses_saved:
            outputs, fresh = definition.run(values)
        needs = [t is not None for t in tangents]

        def transposed(*u):
            given = iter(u)
            dy = tuple(None if kind is None else next(given) for kind in ctx.like_outputs)
            grads = definition.gradients(dy[0] if definition.op.single else dy, outputs, fresh, needs, values, ctx.like)
            return tuple(torch.zeros_like(t) if g is None else g
                         for g, t in zip(grads, tangents, strict=True) if t is not None)  # fmt: skip

        given = tuple(t for t in tangents if t is not None)
        zeros = [given[0].new_zeros(kind[0], dtype=kind[1]) for kind in ctx.like_outputs if kind is not None]
        _, transpose = torch.func.vjp(transposed, *zeros)  # type: ignore[misc]
        found = iter(transpose(given))
        # The integers and the saved tensors are outputs too, without tangents.
        return (*(None if kind is None else next(found) for kind in ctx.like_outputs), *(None for _ in saved))


for _bridge in (Bridge, BridgeWithJvp):  # which `apply` asks for at every call
    _bridge.forward.__signature__ = inspect.signature(_bridge.forward)  # type: ignore[attr-defined]


def _restore(ctx) -> tuple[tuple, list, tuple]:
    """Outputs, arguments and saved tensors of a bridge's context, None where the gradient needs them not."""
    n, tensors = len(ctx.form.op.outputs), ctx.saved_tensors
    kept, saved = tensors[n : n + len(ctx.values)], tensors[n + len(ctx.values) :]
    return tensors[:n], [v if t is None else t for t, v in zip(kept, ctx.values, strict=True)], saved


def _plain(values: tuple) -> tuple:
    return tuple(v.items if isinstance(v, Sequence) else v for v in values)
