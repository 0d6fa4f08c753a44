"""The pure pair: a forward and its explicit gradient, and all that is derived from the two.

An operation is written as

    @op(builtin=torch.sigmoid)
    def sigmoid(input):
        return 1 / (1 + exp(-input))                # or: return output, (tensors to save)

    @sigmoid.gradient
    def _(dy, output):                              # names what it uses, and only that is kept
        return dy * output * (1 - output)

A gradient may name any argument of the forward, and `dy` (the upstream gradient), `output`, `saved` (the tuple that the
forward returned next to its output), `needs` (a named tuple of bools: which arguments want a gradient), `shapes` (a named
tuple: the shape of each floating argument, for gradients that need no more of it). It returns one entry per argument of the
forward, trailing Nones left out. An entry may have any shape that the argument was broadcast to and any floating
dtype: it is summed and cast to the argument's here, once for all operations.

An operation of several outputs names them, `@op(outputs=("output", "indices"))`, and returns ((output, indices), saved).
Its gradient names the outputs that it uses; its dy is a tuple, zeros for an output that nobody used, None for one of
integers.

The optional `prepare` checks the arguments, draws the random numbers and returns the arguments of the pure forward; it
is not differentiated, so tensors that want a gradient pass through it unchanged. It returns None where the operation is
the identity (dropout in evaluation): then the output is the first argument itself. The optional `finish` makes the
public result of the outputs, outside of all differentiation (batch normalisation keeps its running statistics there): it
names what it uses among the outputs, `saved` and the public arguments.

This is the definition. A kernel is a second form of it, for speed: a forward (`@name.kernel`), a gradient
(`@name.kernel_gradient`), or both, in dlref/manual/kernels. It computes where kernels run one by one on tensors that stand for
themselves (`plain`), and the definition everywhere else: where somebody asks for a derivative of the steps, in a transform, for
a compiler. A kernel's gradient may name one thing more, `place` (a named tuple: where the argument's gradient may be written,
None where it must be a new tensor).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import linecache
import operator
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import _reduction
from torch.overrides import _get_overloaded_args, handle_torch_function, has_torch_function

from .in_place import Held, any_inference, inference_mode, overwrite

BATCHED: Any = torch._C._parse_dispatch_key("Batched")
TENSORS = frozenset((Tensor, torch.nn.Parameter))  # almost all there are: isinstance is slow for a parameter
RESERVED = ("dy", "saved", "needs", "shapes", "place")
FUNCTORCH = torch._C._functorch
OPS: dict[str, Op] = {}


def op(
    builtin: Callable | None = None,
    *,
    autocast: str | dict[str, str] | None = None,
    view: bool = False,
    outputs: tuple[str, ...] = ("output",),
    layout: Callable[..., torch.memory_format] | None = None,
) -> Callable[[Callable], Op]:
    """Make an operation of a pure forward.

    builtin: torch's function of the same meaning, whose signature the operation takes on.
    autocast: "low", "float32" or "promote" for every device, or {device type: policy}; None computes in what came.
    view: the output is a view of the input; under autograd it stays one (an autograd.Function's output could not be
        changed in place), so there torch's rule for views carries the gradient.
    outputs: the names of what the forward returns.
    layout: of the forward's arguments, the memory format in which torch's function gives its outputs.
    """
    return lambda forward: Op(forward, builtin, autocast, view, outputs, layout)


class Form:
    """A forward and a gradient of an operation: its definition, or its kernel.

    pull: the gradient. where: whether it takes a call, of the forward's arguments. keeps, keeps_outputs: which arguments and
    outputs are kept, for this form's gradient and, of a kernel, for the definition's, which takes its place where a derivative
    of the steps is asked for.
    """

    def __init__(self, op: Op, forward: Callable, where: Callable[..., bool] | None = None):
        self.op, self.forward, self.where = op, forward, where

    def differentiated(self, function: Callable, definition: Form | None = None) -> Form:
        """The form, with this gradient."""
        op = self.op
        self.pull = function
        uses = tuple(inspect.signature(function).parameters)
        if unknown := set(uses) - {*RESERVED, *op.outputs, *op.names}:
            raise TypeError(f"the gradient of {op.__name__} must name arguments of its forward {op.names} or "
                            f"{(*RESERVED, *op.outputs)}; it names {sorted(unknown)}")  # fmt: skip
        self.uses_saved, self.uses_shapes = "saved" in uses, "shapes" in uses
        outputs, reads = tuple(n in uses for n in op.outputs), tuple(n in uses for n in op.names)
        # With tensors of its own saved, the forward runs again for a second derivative and needs every argument.
        self.keeps = tuple(self.uses_saved or read for read in reads)
        self.keeps_outputs = outputs
        if definition is not None:
            self.keeps = tuple(map(operator.or_, reads, definition.keeps))
            self.keeps_outputs = tuple(map(operator.or_, outputs, definition.keeps_outputs))
            reads, outputs = self.keeps, self.keeps_outputs
        names = ", ".join(uses)
        every = f"pull, dy, {''.join(f'{n}, ' for n in op.outputs)}saved, needs, shapes, place, "
        every += "".join(f"{n}, " for n in op.names)
        self.call_pull = _define(f"def {op.__name__}_pull({every}):\n    return pull({names})\n")
        kept = "".join(f"o[{i}], " if uses else "None, " for i, uses in enumerate(outputs))
        read = "".join(f"v[{i}], " if reads else "None, " for i, reads in enumerate(reads))
        self.call_keep = _define(f"def {op.__name__}_keep(o, v):\n    return ({kept}), ({read})\n")
        return self

    def run(self, values: tuple | list) -> tuple[tuple, tuple]:
        """The forward's outputs, and what it saved."""
        return self.op.split(self.forward(*values))

    def evaluate(self, values: tuple | list) -> tuple[Tensor, ...]:
        """The forward's outputs, then what it saved."""
        outputs, saved = self.run(values)
        return (*outputs, *saved)

    def gradients(self, dy, outputs, saved, wants, values, like, place=None) -> list[Tensor | None]:
        """The gradients of the forward's arguments, each in its argument's shape and dtype."""
        op, definition = self.op, self.op.definition
        if _is_any_autocast_enabled():
            device = (dy if op.single else next(d for d in dy if d is not None)).device.type
            if torch.is_autocast_enabled(device):
                with torch.autocast(device, enabled=False):
                    return self.gradients(dy, outputs, saved, wants, values, like, place)
        if self is not definition and (torch.is_grad_enabled() or not kernels_run()):
            # Somebody asks for a derivative of the steps, or for many gradients at once: the definition takes over.
            if definition.uses_saved:
                outputs, saved = definition.run(values)
            return definition.gradients(dy, outputs, saved, wants, values, like)
        needs = op.Each._make([want and kind is not None for want, kind in zip(wants, like, strict=True)])
        where = op.nowhere if place is None else op.Each._make(place)
        shapes = op.Each._make([kind and kind[0] for kind in like]) if self.uses_shapes else None
        grads = self.call_pull(self.pull, dy, *outputs, saved, needs, shapes, where, *values)
        if not isinstance(grads, tuple):
            grads = (grads,)
        fitted: list[Tensor | None] = [None] * len(needs)
        for i, grad in enumerate(grads):
            if grad is not None and needs[i]:
                shape, dtype = like[i]
                if grad.shape != shape:
                    grad = _summed(grad, shape, where[i])
                if grad.dtype is not dtype:
                    grad = (grad.real if grad.is_complex() and not dtype.is_complex else grad).to(dtype)
                fitted[i] = grad
        return fitted


class Op:
    """A forward with its gradient: call it under autograd, or `vjp` it without."""

    __name__: str

    def __init__(
        self,
        forward: Callable,
        builtin: Callable | None,
        autocast: str | dict[str, str] | None,
        view: bool,
        outputs: tuple[str, ...],
        layout: Callable[..., torch.memory_format] | None = None,
    ):
        functools.update_wrapper(self, forward)
        forward = forward if layout is None else laid_out(forward, layout)
        self.forward, self.builtin, self.policy, self.view, self.outputs = forward, builtin, autocast, view, outputs
        self.layout = layout
        self.single = len(outputs) == 1
        self.names = tuple(inspect.signature(forward).parameters)
        each: Any = namedtuple("Each", self.names)  # type: ignore[misc]
        self.Each: Any = each
        self.nowhere: Any = each._make([None] * len(self.names))
        self.call_finish: Callable | None = None
        self.definition = Form(self, forward)
        self.fast: Form | None = None
        self.set_prepare(None)
        OPS[self.__name__] = self

    # --- registration -------------------------------------------------------------------------------------------

    def gradient(self, function: Callable) -> Callable:
        """Register the explicit gradient, and derive the bridge to autograd from it."""
        _name(function, f"{self.__name__}_gradient")
        self.pull = function
        self.definition.differentiated(function)
        return function

    def kernel(self, function: Callable | None = None, *, where: Callable[..., bool] | None = None) -> Callable:
        """Register a second forward, for speed, of the calls that `where` takes (of the forward's arguments; all of them).

        What it saves is read by the kernel's gradient; where it has none, by the definition's.
        """
        if function is None:
            return functools.partial(self.kernel, where=where)
        forward = function if self.layout is None else laid_out(function, self.layout)
        self.fast = Form(self, forward, where).differentiated(self.pull, self.definition)
        return function

    def kernel_gradient(
        self, function: Callable | None = None, *, where: Callable[..., bool] | None = None
    ) -> Callable:
        """Register a second gradient, for speed: it goes with the kernel's forward, if there is one, else the definition's."""
        if function is None:
            return functools.partial(self.kernel_gradient, where=where)
        form = self.fast or Form(self, self.definition.forward, where)
        self.fast = form.differentiated(function, self.definition)
        return function

    def form(self, values: tuple) -> Form:
        """The form that computes these arguments, where no graph is recorded of the steps."""
        fast = self.fast
        if fast is None or not kernels_run() or type(values[0]) not in TENSORS:
            return self.definition
        return fast if fast.where is None or fast.where(*values) else self.definition

    def prepare(self, function: Callable) -> Callable:
        """Register what checks the public arguments and makes the arguments of the forward of them."""
        _name(function, f"{self.__name__}_prepare")
        self.set_prepare(function)
        return function

    def finish(self, function: Callable) -> Callable:
        """Register what makes the public result of the outputs, without a derivative of its own."""
        names = ", ".join(inspect.signature(function).parameters)
        outputs = "".join(f"{name}, " for name in self.outputs)
        public = "".join(f"{name}, " for name in self.public)
        _name(function, f"{self.__name__}_finish")
        source = f"def {self.__name__}_public(finish, {outputs}saved, {public}):\n    return finish({names})\n"
        self.call_finish = functools.partial(_define(source), function)
        return function

    def set_prepare(self, function: Callable | None) -> None:
        self.prepared = function
        self.__signature__ = _signature(self.builtin) or inspect.signature(function or self.forward)
        self.public = tuple(inspect.signature(function or self.forward).parameters)
        self.bind = _binder(self.__name__, self.__signature__, self.public, _tensors(self.builtin, self.__signature__))
        # Where each public argument stands among the forward's: the pullback answers in the order of the call.
        self.indices = {n: self.names.index(n) if n in self.names else None for n in self.__signature__.parameters}
        self.positions = tuple(self.indices.values())

    def __repr__(self) -> str:
        return f"<operation {self.__name__}{self.__signature__}>"

    def __reduce__(self) -> tuple:  # a copy of an operation is the operation
        return _registered, (self.__name__,)

    # --- the two ways to call it --------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        public, inplace = self.bind(*args, **kwargs)
        if not torch.compiler.is_compiling() and has_torch_function(public) and _get_overloaded_args(public):
            return handle_torch_function(self, public, *args, **kwargs)
        values, original = public, public[0]
        if inplace:  # what is overwritten below must not be what the gradient reads
            values = (original.clone(), *values[1:])
        if self.prepared is not None:
            values = self.prepared(*values)
            if values is None:
                return original
        if _is_any_autocast_enabled() and torch.is_autocast_enabled(device := _device_type(values)):
            with torch.autocast(device, enabled=False):
                results = self.apply(self.cast(values, device))
        else:
            results = self.apply(values)
        output = self.result(results, public)
        return original.copy_(output) if inplace else output

    def apply(self, values: tuple) -> tuple[Tensor, ...]:
        """The outputs, then what was saved."""
        if (
            self.view or not torch.is_grad_enabled() or torch._C._is_tracing()
        ):  # a traced graph can hold no Python function
            return (self.definition if torch.is_grad_enabled() else self.form(values)).evaluate(values)
        if torch.compiler.is_compiling():
            return Bridge.apply(self.definition, *values)
        if _forward_over_forward():
            return self.definition.evaluate(values)
        return BridgeWithJvp.apply(
            self.form(values), *(Sequence(v) if isinstance(v, (tuple, list)) else v for v in values)
        )

    def result(self, results: tuple[Tensor, ...], public: tuple) -> Any:
        """What the caller gets of the outputs."""
        if self.call_finish is not None:
            n = len(self.outputs)
            return self.call_finish(*results[:n], results[n:], *public)
        return results[0] if self.single else results[: len(self.outputs)]

    def vjp(self, *args: Any, **kwargs: Any) -> tuple[Any, Callable[..., tuple]]:
        """Output and pullback, without autograd.

        The pullback takes the upstream gradient (nothing where the output is a single number: dE/dE = 1; a tuple, None
        for what nobody used, where there are several outputs) and returns one gradient per argument that was passed, None
        where there is none. `needs`, one bool per argument passed, leaves out what nobody wants.
        """
        if inference_mode() and not any_inference((*args, *kwargs.values())):
            with torch.inference_mode(False):  # whose tensors count no versions
                return self.vjp(*args, **kwargs)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.vjp(*args, **kwargs)
        public, inplace = self.bind(*args, **kwargs)
        passed = self.positions[: len(args)]
        if kwargs:
            passed += tuple([self.indices[name] for name in kwargs])
        output, pull = self.linearize(public, inplace)

        @graphless
        def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple[Tensor | None, ...]:
            grads = pull(dy, self.wanted(passed, needs))
            return tuple([None if i is None else grads[i] for i in passed])

        pullback.held = (pull,)  # type: ignore[attr-defined]
        return output, pullback

    def wanted(self, passed: tuple[int | None, ...], needs: tuple[bool, ...] | None) -> list[bool]:
        """Which arguments of the forward want a gradient, of those that were passed and are needed."""
        wants = [False] * len(self.names)
        if needs is None:
            needs = (True,) * len(passed)
        elif len(needs) != len(passed):
            raise ValueError(f"needs must hold one bool for each of the {len(passed)} arguments that were passed to "
                             f"{self.__name__}, it holds {len(needs)}")  # fmt: skip
        for i, need in zip(passed, needs, strict=True):
            if need and i is not None:
                wants[i] = True
        return wants

    def linearize(self, public: tuple, inplace: bool = False) -> tuple[Any, Callable]:
        """Output, and pull(dy, wants, place) with one gradient per argument of the forward; both without autograd.

        wants: which of them want one. place: where a gradient may be written, None where it must be a new tensor.
        `pull` raises torch's RuntimeError where what it reads was written over meanwhile; `pull.held` is what it reads.
        """
        values, original = public, public[0]
        if inplace:
            values = (original.clone(), *values[1:])
        if self.prepared is not None:
            values = self.prepared(*values)
            if values is None:
                return original, functools.partial(_identity_pull, _like_one(original), len(self.names))
        like = _likes(values)
        if _is_any_autocast_enabled() and torch.is_autocast_enabled(device := _device_type(values)):
            with torch.autocast(device, enabled=False):
                values = self.cast(values, device)
                form = self.form(values)
                outputs, saved = form.run(values)
        else:
            form = self.form(values)
            outputs, saved = form.run(values)
        if self.call_finish is not None:
            output = self.call_finish(*outputs, saved, *public)
        else:
            output = outputs[0] if self.single else outputs
        later: list[Tensor] = []
        if inplace:
            later = overwrite(original, output)
            output = original
            outputs = (output, *outputs[1:])
        elif self.single and output.requires_grad:  # a view of a leaf is known to autograd
            output = output.detach()
        # The closure below keeps what the gradient reads, and no more.
        kinds = None if self.single else _likes(outputs)
        like_one = _like_one(outputs[0]) if self.single else None
        kept, read = form.call_keep(outputs, values)
        held = Held(self, kept, read, saved)
        del outputs, values, saved, kept, read

        def pull(dy: Any, wants: list[bool], place: tuple | None = None) -> list[Tensor | None]:
            kept, values, saved = held.read()
            if dy is None:
                dy = ones(like_one)
            if later:
                dy = sum(later, dy)
            if kinds is not None:
                dy = upstream(dy, kinds)
                if dy is None:
                    return [None] * len(like)
            return form.gradients(dy, kept, saved, wants, values, like, place)

        pull.held = (held,)  # type: ignore[attr-defined]
        return output, pull

    def split(self, result: Any) -> tuple[tuple, tuple]:
        """Outputs and what was saved, of what the forward returned."""
        if type(result) is not tuple:
            return (result,), ()
        outputs, saved = result
        return (outputs,) if self.single else outputs, saved

    # --- autocast -----------------------------------------------------------------------------------------------

    def cast(self, values: tuple, device: str) -> tuple:
        """The arguments as torch.autocast casts them for its own operation of this name."""
        policy = self.policy.get(device) if isinstance(self.policy, dict) else self.policy
        if policy is None:
            return values
        castable = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()
                    and v.dtype != torch.float64 and v.device.type == device]  # fmt: skip
        if policy == "low":
            dtype = torch.get_autocast_dtype(device)
        elif policy == "float32":
            dtype = torch.float32
        else:  # promote: to the widest that came
            dtype = functools.reduce(torch.promote_types, (v.dtype for v in castable), torch.get_autocast_dtype(device))
        return tuple(v.to(dtype) if any(v is c for c in castable) else v for v in values)


def laid_out(forward: Callable, layout: Callable[..., torch.memory_format]) -> Callable:
    """The forward with its outputs in a memory format, which is said of ordinary tensors: a transform sees others."""

    @functools.wraps(forward)
    def formatted(*values: Any) -> Any:
        result = forward(*values)
        if torch._C._functorch.maybe_current_level() is not None:
            return result
        outputs, *saved = result if type(result) is tuple else (result,)
        form = layout(*values)
        several = type(outputs) is tuple
        outputs = tuple([_contiguous(o, form) for o in outputs]) if several else _contiguous(outputs, form)
        return (outputs, *saved) if saved else outputs

    return formatted


def _contiguous(t: Tensor, form: torch.memory_format) -> Tensor:
    fits = t.dim() == {torch.channels_last: 4, torch.channels_last_3d: 5}.get(form, t.dim())
    return t.contiguous(memory_format=form) if fits else t


def _registered(name: str) -> Op:
    return OPS[name]


def _forward_over_forward() -> bool:
    """Whether a torch.func.jvp runs within another: torch drops the outer tangents inside an autograd.Function there."""
    stack = torch._C._functorch.get_interpreter_stack()
    return stack is not None and sum(level.key() == torch._C._functorch.TransformType.Jvp for level in stack) > 1


_definitions: ContextVar[bool] = ContextVar("definitions", default=False)


def kernels_run() -> bool:
    """Whether kernels compute: one by one, on tensors that stand for themselves; not in a transform, nor for a compiler."""
    return not (_definitions.get() or torch.compiler.is_compiling() or torch._C._is_tracing()) and (
        FUNCTORCH.maybe_current_level() is None
    )


def fusing() -> bool:
    return _definitions.get() or torch.compiler.is_compiling() or torch._C._is_tracing()


@contextlib.contextmanager
def said(what: ContextVar[bool]) -> Iterator[None]:
    token = what.set(True)
    try:
        yield
    finally:
        what.reset(token)


def definitions() -> contextlib.AbstractContextManager:
    """Inside, definitions alone compute, and no kernel."""
    return said(_definitions)


_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


def recorded() -> contextlib.AbstractContextManager:
    """Say that what is computed now will be played back with other values, at which nobody may look."""
    return said(_recorded)


def values_hidden() -> bool:
    """Whether nobody may look at the values, as what is computed now stands for what is computed of others."""
    return _recorded.get() or torch.compiler.is_compiling()


def concrete(tensor: Tensor) -> bool:
    """Whether its values can be looked at: not while it is compiled, recorded, faked, or inside a transform of torch.func."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not values_hidden()
    return plain and torch._C._functorch.maybe_current_level() is None


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


def _like_one(output: Tensor) -> tuple | None:
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


def graphless(function: Callable) -> Callable:
    """The function under no_grad. One that called itself there would hold itself, and what it saved, in a cycle."""

    def called(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return called


_NOTHING = contextlib.nullcontext()
_is_any_autocast_enabled = torch._C._is_any_autocast_enabled


def without_graph():
    """torch.no_grad(), at no cost where it is on already."""
    return torch.no_grad() if torch.is_grad_enabled() else _NOTHING


def _identity_pull(
    like_one: tuple | None, number: int, dy: Tensor | None, wants: list[bool], place: Any = None
) -> list:
    dy = ones(like_one) if dy is None else dy
    return [dy if wants[0] else None, *(None for _ in range(number - 1))]


def _summed(grad: Tensor, shape: torch.Size, out: Tensor | None) -> Tensor:
    """The gradient of what was broadcast: the sum over what it was broadcast along, written to `out` where that fits."""
    more = grad.dim() - len(shape)
    if out is not None and more > 0 and grad.shape[more:] == shape and grad.dtype is out.dtype:
        return torch.sum(grad, tuple(range(more)), out=out)
    return grad.sum_to_size(shape)


def _likes(values: tuple | list) -> list[tuple[torch.Size, torch.dtype] | None]:
    """Shape and dtype that each argument's gradient must have; None where it can have none."""
    return [
        (v.shape, v.dtype) if isinstance(v, Tensor) and (v.is_floating_point() or v.is_complex()) else None
        for v in values
    ]


def _device_type(values: tuple) -> str:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
    return "cpu"


# --- the bridge to autograd -------------------------------------------------------------------------------------


class Bridge(torch.autograd.Function):
    """Any operation as torch.autograd sees it: apply(form, *values). The saved tensors are outputs of their own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(form, *values):
        return form.evaluate(_plain(values))

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        form, *values = inputs
        op = form.op
        results, saved = outputs[: len(op.outputs)], outputs[len(op.outputs) :]
        ctx.like_outputs = _likes(results)
        ctx.mark_non_differentiable(*saved, *(r for r, k in zip(results, ctx.like_outputs, strict=True) if k is None))
        ctx.set_materialize_grads(False)
        ctx.form = form
        ctx.like = _likes(values)
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
        batched = any(d is not None and torch._C._dispatch_keys(d).has(BATCHED) for d in dy)
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


# --- signatures -------------------------------------------------------------------------------------------------


def _signature(builtin: Callable | None) -> inspect.Signature | None:
    """torch's signature without its annotations; None where it has none of its own."""
    try:
        signature = inspect.signature(builtin)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
        return None  # torch's dispatch on a flag
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def _tensors(builtin: Callable | None, signature: inspect.Signature) -> dict[str, bool]:
    """The arguments that torch says are tensors, and whether they may be None; none of an operation that only ours call."""
    if builtin is None:
        return {}
    first = next(iter(signature.parameters))
    try:
        said = {name: str(p.annotation) for name, p in inspect.signature(builtin).parameters.items()}
    except ValueError:  # written in C++: its schema says
        schemas = torch._C._jit_get_schemas_for_operator(f"aten::{builtin.__name__}")
        said = {a.name: str(a.type) for a in schemas[0].arguments}
    said = {name: kind for name, kind in said.items() if "Tensor" in kind and "float" not in kind}
    return {first: False} | {n: "None" in said[n] or "Opt" in said[n] for n in signature.parameters if n in said}


def _binder(name: str, signature: inspect.Signature, wanted: tuple[str, ...], tensors: dict[str, bool]) -> Callable:
    """A function of the public signature that returns the wanted arguments as a tuple, and whether to work in place.

    The arguments that mean the same in every operation of torch's end here: size_average and reduce are folded into
    reduction, inplace is told apart, _stacklevel is dropped. It has the operation's name, which a wrong call's error then
    says, and is compiled once, as a call through inspect.Signature.bind takes longer than a small operation.
    """
    public = signature.parameters
    folded = {"size_average", "reduce", "inplace", "_stacklevel"} - set(wanted)
    if set(public) - folded != set(wanted):  # until its `prepare` is registered, an operation cannot be called

        def refuse(*args, **kwargs):
            raise TypeError(f"the operation must take {sorted(set(public) - folded)}, it takes {sorted(wanted)}: give it "
                            "a prepare that takes the former and returns the latter")  # fmt: skip

        return refuse
    values = {name: name for name in wanted}
    if "size_average" in folded and "size_average" in public:
        values["reduction"] = "_fold_reduction(size_average, reduce, reduction)"
    inplace = "inplace" if "inplace" in public else "False"
    namespace: dict[str, Any] = {f"_{name}": p.default for name, p in public.items()}
    optional = {argument for argument, may_be_none in tensors.items() if may_be_none}
    refuse_others = functools.partial(_refuse, name, tuple(public), optional)
    namespace |= {"_fold_reduction": _fold_reduction, "_TENSORS": TENSORS, "_refuse": refuse_others,
                  "_is_compiling": torch.compiler.is_compiling}  # fmt: skip
    parts, star = [], False
    for parameter, p in public.items():
        if p.kind is p.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        parts.append(parameter if p.default is p.empty else f"{parameter}=_{parameter}")
    lines = [f"def {name}({', '.join(parts)}):"]
    if tensors:
        checks = [f"({t} is None or type({t}) in _TENSORS)" if t in optional else f"type({t}) in _TENSORS"
                  for t in tensors]  # fmt: skip
        lines += [
            f"    if not (_is_compiling() or {' and '.join(checks)}):",
            f"        _refuse({', '.join(f'{t}={t}' for t in tensors)})",
        ]
    lines += [f"    return ({''.join(f'{values[n]}, ' for n in wanted)}), {inplace}"]
    return _define("\n".join(lines) + "\n", namespace)


def _refuse(name: str, order: tuple[str, ...], optional: set[str], **tensors: Any) -> None:
    """Say which argument is no tensor, in torch's words; what answers for itself (a proxy of torch.fx) may pass."""
    for argument, value in tensors.items():
        if not (isinstance(value, Tensor) or (value is None and argument in optional)
                or hasattr(type(value), "__torch_function__")):  # fmt: skip
            raise TypeError(f"{name}(): argument '{argument}' (position {order.index(argument) + 1}) must be Tensor, not "
                            f"{type(value).__name__}")  # fmt: skip


def _fold_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that torch's deprecated pair of flags means (with torch's warning)."""
    if size_average is None and reduce is None:
        return reduction
    return _reduction.legacy_get_string(size_average, reduce)


def _define(source: str, namespace: dict[str, Any] | None = None) -> Callable:
    """The function that the source defines, with a name and lines that a traceback, a profile and a debugger show."""
    name = source[len("def ") : source.index("(")]
    file = f"<generated: {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace = {} if namespace is None else namespace
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]


def _name(function: Any, name: str) -> None:
    """Give a function that was written as `_` the name that a traceback and a profile show."""
    if getattr(function, "__name__", "") == "_":
        function.__name__ = function.__qualname__ = name
        function.__code__ = function.__code__.replace(co_name=name)
