"""The pure pair: a forward and its explicit gradient, and all that is derived from the two.

An operation is written as

    @op(builtin=torch.sigmoid)
    def sigmoid(input):
        return 1 / (1 + exp(-input))                # or: return output, (tensors to save)

    @sigmoid.gradient
    def sigmoid_gradient(dy, output):               # names what it uses, and only that is kept
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
themselves (`modes.kernels_run`), and the definition everywhere else: where somebody asks for a derivative of the steps, in a
transform, for a compiler. A kernel's gradient may name one thing more, `place` (a named tuple: where the argument's gradient
may be written, None where it must be a new tensor).
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from .bridge import Bridge, BridgeWithJvp, Sequence, forward_over_forward, like_number, likes, ones, upstream
from .call import TENSORS, binder, define, name_function, signature_of, tensor_arguments
from .compat import get_overloaded_args, is_any_autocast_enabled, is_tracing, maybe_current_level
from .dtypes import Dtypes, cast
from .finite import without_nan
from .in_place import Held, any_inference, inference_mode, overwrite
from .modes import graphless, kernels_run

RESERVED = ("dy", "saved", "needs", "shapes")
OPS: dict[str, Op] = {}


def op(
    builtin: Callable | None = None,
    *,
    autocast: str | dict[str, str] | None = None,
    dtypes: Dtypes | None = None,
    view: bool = False,
    outputs: tuple[str, ...] = ("output",),
    layout: Callable[..., torch.memory_format] | None = None,
) -> Callable[[Callable], Op]:
    """Make an operation of a pure forward.

    builtin: torch's function of the same meaning, whose signature the operation takes on.
    autocast: "low", "float32" or "promote" for every device, or {device type: policy}; None computes in what came.
    dtypes: which arguments must have one dtype, or are made of one; None leaves it to the forward.
    view: the output is a view of the input; under autograd it stays one (an autograd.Function's output could not be
        changed in place), so there torch's rule for views carries the gradient.
    outputs: the names of what the forward returns.
    layout: of the forward's arguments, the memory format in which torch's function gives its outputs.
    """
    return lambda forward: Op(forward, builtin, autocast, view, outputs, layout, dtypes)


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
        known = (*RESERVED, *(("place",) if definition is not None else ()), *op.outputs)
        if unknown := set(uses) - {*known, *op.names}:
            raise TypeError(f"the gradient of {op.__name__} must name arguments of its forward {op.names} or {known}; it names "
                            f"{sorted(unknown)}")  # fmt: skip
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
        self.call_pull = define(f"def {op.__name__}_pull({every}):\n    return pull({names})\n")
        kept = "".join(f"o[{i}], " if uses else "None, " for i, uses in enumerate(outputs))
        read = "".join(f"v[{i}], " if reads else "None, " for i, reads in enumerate(reads))
        self.call_keep = define(f"def {op.__name__}_keep(o, v):\n    return ({kept}), ({read})\n")
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
        if is_any_autocast_enabled():
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
        dtypes: Dtypes | None = None,
    ):
        functools.update_wrapper(self, forward)
        forward = forward if layout is None else laid_out(forward, layout)
        self.builtin, self.policy, self.dtypes, self.view, self.outputs = builtin, autocast, dtypes, view, outputs
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
        name_function(function, f"{self.__name__}_gradient")
        self.definition.differentiated(function)
        return function

    @property
    def forward(self) -> Callable:
        """The definition's forward."""
        return self.definition.forward

    @property
    def pull(self) -> Callable:
        """The definition's gradient."""
        return self.definition.pull

    def kernel(self, function: Callable | None = None, *, where: Callable[..., bool] | None = None) -> Callable:
        """Register a second forward, for speed, of the calls that `where` takes (of the forward's arguments; all of them).

        What it saves is read by the kernel's gradient; where it has none, by the definition's.
        """
        if function is None:
            return functools.partial(self.kernel, where=where)
        if self.fast is not None:
            raise TypeError(f"the kernel of {self.__name__} must be registered once, and before a gradient of its own")
        forward = function if self.layout is None else laid_out(function, self.layout)
        self.fast = Form(self, forward, where).differentiated(self.pull, self.definition)
        return function

    def kernel_gradient(
        self, function: Callable | None = None, *, where: Callable[..., bool] | None = None
    ) -> Callable:
        """Register a second gradient, for speed: it goes with the kernel's forward, if there is one, else the definition's."""
        if function is None:
            return functools.partial(self.kernel_gradient, where=where)
        if self.fast is not None and (where is not None or self.fast.pull is not self.pull):
            raise TypeError(
                f"the kernel of {self.__name__} must have one gradient, of the calls that its forward takes"
            )
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
        name_function(function, f"{self.__name__}_prepare")
        self.set_prepare(function)
        return function

    def finish(self, function: Callable) -> Callable:
        """Register what makes the public result of the outputs, without a derivative of its own."""
        names = ", ".join(inspect.signature(function).parameters)
        outputs = "".join(f"{name}, " for name in self.outputs)
        public = "".join(f"{name}, " for name in self.public)
        name_function(function, f"{self.__name__}_finish")
        source = f"def {self.__name__}_public(finish, {outputs}saved, {public}):\n    return finish({names})\n"
        self.call_finish = functools.partial(define(source), function)
        return function

    def set_prepare(self, function: Callable | None) -> None:
        self.prepared = function
        self.__signature__ = signature_of(self.builtin) or inspect.signature(function or self.forward)
        self.public = tuple(inspect.signature(function or self.forward).parameters)
        self.bind = binder(
            self.__name__, self.__signature__, self.public, tensor_arguments(self.builtin, self.__signature__)
        )
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
        if not torch.compiler.is_compiling() and has_torch_function(public) and get_overloaded_args(public):
            return handle_torch_function(self, public, *args, **kwargs)
        values, original = public, public[0]
        if inplace:  # what is overwritten below must not be what the gradient reads
            values = (original.clone(), *values[1:])
        if self.prepared is not None:
            values = self.prepared(*values)
            if values is None:
                return original
        if is_any_autocast_enabled() and torch.is_autocast_enabled(device := _device_type(values)):
            with torch.autocast(device, enabled=False):
                results = self.apply(self.fitted(cast(self.policy, values, device)))
        else:
            results = self.restored(self.apply(fitted := self.fitted(values)), values, fitted)
        output = self.result(results, public)
        return original.copy_(output) if inplace else output

    def apply(self, values: tuple) -> tuple[Tensor, ...]:
        """The outputs, then what was saved."""
        compiling = torch.compiler.is_compiling()
        if self.view or not torch.is_grad_enabled() or (not compiling and is_tracing()):
            # a traced graph can hold no Python function
            return (self.definition if torch.is_grad_enabled() else self.form(values)).evaluate(values)
        if compiling:
            return Bridge.apply(self.definition, *values)
        if forward_over_forward():
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
                return original, functools.partial(_identity_pull, like_number(original), len(self.names))
        like = likes(values)
        if is_any_autocast_enabled() and torch.is_autocast_enabled(device := _device_type(values)):
            with torch.autocast(device, enabled=False):
                values = self.fitted(cast(self.policy, values, device))
                form = self.form(values)
                outputs, saved = form.run(values)
        else:
            form = self.form(fitted := self.fitted(values))
            outputs, saved = form.run(fitted)
            outputs, values = self.restored(outputs, values, fitted), fitted
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
        kinds = None if self.single else likes(outputs)
        like_one = like_number(outputs[0]) if self.single else None
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
            grads = form.gradients(dy, kept, saved, wants, values, like, place)
            looks = not torch.compiler.is_compiling() and torch.is_anomaly_enabled()
            return without_nan(self.__name__, grads) if looks else grads

        pull.held = (held,)  # type: ignore[attr-defined]
        return output, pull

    def split(self, result: Any) -> tuple[tuple, tuple]:
        """Outputs and what was saved, of what the forward returned."""
        if type(result) is not tuple:
            return (result,), ()
        outputs, saved = result
        return (outputs,) if self.single else outputs, saved

    def fitted(self, values: tuple) -> tuple:
        """The forward's arguments in dtypes that go together."""
        if self.dtypes is None or len({v.dtype for v in values if isinstance(v, Tensor)}) < 2:
            return values
        return self.dtypes.fit(self.__name__, self.Each._make(values))

    def restored(self, outputs: tuple, values: tuple, fitted: tuple) -> tuple:
        """The outputs, the first in the dtype of the argument that torch's has."""
        if fitted is values or self.dtypes is None or not self.dtypes.result:
            return outputs
        return outputs[0].to(getattr(self.Each._make(values), self.dtypes.result).dtype), *outputs[1:]


def laid_out(forward: Callable, layout: Callable[..., torch.memory_format]) -> Callable:
    """The forward with its outputs in a memory format, which is said of ordinary tensors: a transform sees others."""

    @functools.wraps(forward)
    def formatted(*values: Any) -> Any:
        result = forward(*values)
        if maybe_current_level() is not None:
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


def _device_type(values: tuple) -> str:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
    return "cpu"
