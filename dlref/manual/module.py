"""Modules with an explicit pullback: `Manual`, the mixin that gives torch.nn's classes one, and the containers.

    class Sigmoid(Manual, torch.nn.Sigmoid):
        op = sigmoid

Constructor, parameters, state_dict, repr, pickling are torch's own; forward and `vjp` call the operation, whose
arguments are the module's inputs and, by name, its attributes.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .in_place import Held, any_inference, held, inference_mode, overwrite, shares_memory, unwrapped, watching
from .op import Op, graphless, said, values_hidden, without_graph

Pullback = Callable[..., tuple]
# torch's class, or the composed one: the manual class.
COUNTERPARTS: dict[type, type] = {}
# Arguments of torch's functions that no torch module has as an attribute.
NEVER_ATTRIBUTES = {"size_average", "reduce", "_stacklevel", "dtype"}


class ModuleName(str):
    """Where a class is defined; its objects, asked for it, name the module of the torch class that they stand for.

    That is how torch.fx, and others after it, tell torch's layers, whose names they keep, from code to be looked into.
    """

    theirs: str

    def __new__(cls, ours: str, theirs: str) -> ModuleName:
        name = super().__new__(cls, ours)
        name.theirs = theirs
        return name

    def __get__(self, module: Any, owner: type | None = None) -> str:
        return self if module is None else self.theirs

    def __reduce__(self) -> tuple:
        return str, (str(self),)


class Declared:
    """What a class line of a definition says, to be read of the class: the module has the name free for its own attribute."""

    def __init__(self, value: Any):
        self.value = value

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self.value
        raise AttributeError  # nn.Module goes on among parameters, buffers and submodules


class Manual:
    """Mixin in front of a torch.nn class: its mathematics by an operation, explicit gradients by `vjp`.

    op: the operation.
    attributes: {argument of the operation: attribute of the module}; by default every argument that torch's forward
        does not take, under its own name.

    Both are lines of a class's definition; a module keeps them as `__op__` and `__attributes__`, names that nobody has.
    """

    op: ClassVar[Any]
    attributes: ClassVar[Any]
    __op__: ClassVar[Op]
    __attributes__: ClassVar[dict[str, str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        theirs = next((base for base in cls.__mro__ if base.__module__.startswith("torch.nn.")), nn.Module)
        if cls.__module__.startswith("dlref.manual."):
            beside = next((b for b in cls.__mro__ if issubclass(b, nn.Module) and not issubclass(b, Manual)), nn.Module)
            if beside.__name__ == cls.__name__:
                COUNTERPARTS[beside] = cls
        if theirs is not nn.Module and cls.__module__.startswith("dlref.manual."):
            cls.__module__ = ModuleName(cls.__module__, theirs.__module__)
        declares = isinstance(vars(cls).get("op"), Op)
        if declares:
            cls.__op__, cls.op = cls.op, Declared(cls.op)
        if "attributes" in vars(cls) and (declares or not issubclass(cls, nn.Module)):
            cls.__attributes__, cls.attributes = cls.attributes, Declared(cls.attributes)
        shared = any(
            "__attributes__" in vars(base) and "__op__" not in vars(base) for base in cls.__mro__
        )  # by a mixin
        if declares and "attributes" not in vars(cls) and not shared:
            theirs = next(base for base in cls.__mro__[1:] if not issubclass(base, Manual) and "forward" in vars(base))
            inputs = tuple(inspect.signature(theirs.forward).parameters)[1:]  # type: ignore[attr-defined]
            names = tuple(cls.__op__.__signature__.parameters)
            if names[: len(inputs)] != inputs:
                raise TypeError(f"{cls.__name__}.forward takes {inputs}, its operation {names}")
            found = {name: name for name in names[len(inputs) :] if name not in NEVER_ATTRIBUTES}
            cls.__attributes__, cls.attributes = found, Declared(found)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.__op__(*inputs, **kwargs, **self.arguments())

    def arguments(self) -> dict[str, Any]:
        """What the operation gets beside the inputs; a module whose call decides on some of them overrides this."""
        own: dict[str, nn.Parameter | None] = self._parameters  # type: ignore[attr-defined]
        return {name: own[at] if at in own else getattr(self, at) for name, at in self.__attributes__.items()}

    def vjp(self, *inputs: Any, per_sample: bool = False, **kwargs: Any) -> tuple[Any, Pullback]:
        """Output and pullback of the module, without autograd; hooks run as they do in a call.

        The pullback takes the gradient of the output (nothing, where that is a single number: dE/dE = 1), adds the
        parameters' gradients to their `.grad` (frozen ones get none) and returns one gradient per input. `needs`, one
        bool per input, leaves out what nobody wants: `pullback(dy, needs=(False,))` for the first layer of a network.

        per_sample: the first dimension of the inputs and of the output counts samples that do not see each other (what is
        passed by keyword is the same for all), and each parameter gets, in `.grad_sample` (N, *shape) in place of `.grad`,
        the gradient that each of them alone gives it. ValueError where samples are found to see each other.
        """
        if inference_mode() and not any_inference(_state(self)):
            with torch.inference_mode(False):  # whose tensors count no versions
                return self.vjp(*inputs, per_sample=per_sample, **kwargs)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self.vjp(*inputs, per_sample=per_sample, **kwargs)
        if per_sample:
            return _per_sample(self, inputs, kwargs)
        return _hooked_vjp(self, inputs, kwargs) if has_hooks(self) else self.explicit(*inputs, **kwargs)

    def explicit(self, *inputs: Any, **kwargs: Any) -> tuple[Any, Pullback]:
        """What `vjp` does between the hooks: the module's own output and pullback."""
        return self.vjp_with(self.arguments(), inputs, kwargs)

    def vjp_with(self, bound: dict[str, Any], inputs: tuple, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
        """The operation's output and pullback with these arguments beside the inputs."""
        op, learnt = self.__op__, []
        for name, value in bound.items():
            if isinstance(value, Tensor):
                if isinstance(value, nn.Parameter):
                    if value.requires_grad and (i := op.indices[name]) is not None:
                        learnt.append((i, value))
                elif name in self.__attributes__ and self._computed(value):
                    raise RuntimeError(
                        f"{name} of {type(self).__name__} is computed from other parameters (a parametrization), which vjp "
                        "does not see: call the module under autograd instead"
                    )
        public, inplace = op.bind(*inputs, **kwargs, **bound)
        output, pull = op.linearize(public, inplace)
        passed = op.positions[: len(inputs)]
        if kwargs:
            passed += tuple([op.indices[name] for name in kwargs])

        @graphless
        def pullback(dy: Tensor | None = None, needs: tuple[bool, ...] | None = None) -> tuple[Tensor | None, ...]:
            wants = op.wanted(passed, needs)
            place: list[Tensor | None] = [None] * len(wants)
            taken: list[nn.Parameter] = []  # one that is two arguments has one place, and a gradient of each
            for i, parameter in learnt:
                wants[i] = True
                if all(parameter is not other for other in taken):
                    place[i] = place_of(parameter)
                    taken.append(parameter)
            grads = pull(dy, wants, place)
            for i, parameter in learnt:
                if (grad := grads[i]) is not None:
                    accumulate(parameter, grad, place[i])
            return tuple([None if i is None else grads[i] for i in passed])

        pullback.trains = bool(learnt)  # type: ignore[attr-defined]
        pullback.held = (pull,)  # type: ignore[attr-defined]
        return output, pullback

    def _computed(self, value: Tensor) -> bool:
        return all(value is not buffer for buffer in self._buffers.values())  # type: ignore[attr-defined]


def by_name(explicit: Callable) -> Callable:
    """Let an `explicit` whose pullback returns {argument: gradient} answer with one entry for each argument passed."""
    names = tuple(inspect.signature(explicit).parameters)[1:]

    @functools.wraps(explicit)
    def ordered(self: Any, *inputs: Any, **named: Any) -> tuple[Any, Pullback]:
        output, pull = explicit(self, *inputs, **named)
        order = (*names[: len(inputs)], *named)

        def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
            grads = pull(dy)
            wanted = (True,) * len(order) if needs is None else needs
            return tuple(grads.get(name) if need else None for name, need in zip(order, wanted, strict=True))

        return output, made_of(pullback, pull, trains=any(p.requires_grad for p in self.parameters()))

    return ordered


def _state(module: Any) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def made_of(pullback: Any, *parts: Pullback, trains: bool = False) -> Pullback:
    """Let a pullback tell of those that it calls: whether one of them trains parameters, and what they hold."""
    pullback.held = parts
    pullback.trains = trains or any(getattr(part, "trains", False) for part in parts)
    return pullback


# Where the parameters' gradients go while somebody collects them: {parameter: gradient}.
_collected: ContextVar[dict[nn.Parameter, Tensor] | None] = ContextVar("collected", default=None)


@contextlib.contextmanager
def collecting() -> Iterator[dict[nn.Parameter, Tensor]]:
    """Let the parameters' gradients go into a dictionary instead of their `.grad`; no hook of theirs is called."""
    found: dict[nn.Parameter, Tensor] = {}
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


_again: ContextVar[bool] = ContextVar("again", default=False)


def again() -> bool:
    """Whether a call is computed a second time: what it changed beside its output, it has changed already."""
    return _again.get()


def _check_separate(module: Any) -> None:
    """ValueError where a module inside takes a batch's own statistics, by its path."""
    for path, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise ValueError("per_sample=True needs samples that do not see each other, and "
                             f"{path or 'this'} ({type(part).__name__}) takes the statistics of its batch: call eval() "
                             "where it has running ones, or take GroupNorm in its place")  # fmt: skip


def _check_same(alone: Tensor, output: Tensor) -> None:
    """ValueError where the samples' outputs, each alone, are not those of the batch, by more than rounding explains."""
    if values_hidden() or torch._C._functorch.maybe_current_level() is not None or not output.is_floating_point():
        return
    size = torch.nan_to_num(output).abs().amax() if output.numel() else 0
    if not torch.allclose(alone, output, 0, float(torch.finfo(output.dtype).eps ** 0.5 * size), equal_nan=True):
        raise ValueError("per_sample=True needs samples that do not see each other, along the first dimension of inputs and "
                         "output, and here a sample's output depends on the others: use batch_first=True, eval(), or a "
                         "layer that works on each sample by itself")  # fmt: skip


def _per_sample(module: Any, inputs: tuple, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
    """The module's output, and a pullback that runs forward and gradient once more, of every sample by itself."""
    _check_separate(module)
    called = inputs
    if any(getattr(m, "inplace", False) for m in module.modules()):  # the samples are run once more, as they were
        inputs = tuple(t.clone() if isinstance(t, Tensor) else t for t in inputs)
    output, _ = module.vjp(*called, **kwargs)
    # What the second run reads, and the output that it is held to.
    whose = types.SimpleNamespace(__name__=type(module).__name__, outputs=("output",), names=["an input"] * len(inputs))
    kept = Held(whose, (output,), inputs, tuple(module.parameters()))
    parameters = [p for p in module.parameters() if p.requires_grad]
    samples = {len(t) if isinstance(t, Tensor) and t.dim() else None for t in (*inputs, output)}
    if len(samples) > 1 or None in samples:
        raise ValueError("per_sample=True needs inputs and an output whose first dimensions count the samples, they have "
                         f"the shapes {[tuple(getattr(t, 'shape', ())) for t in (*inputs, output)]}")  # fmt: skip

    learns: list[bool] = []

    def one(dy: Tensor, *sample: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        with collecting() as found:
            alone, pull = module.vjp(*(t.unsqueeze(0) for t in sample), **kwargs)
            grads = pull(dy.unsqueeze(0))
        learns[:] = [g is not None for g in grads]
        return (alone.squeeze(0), [g.squeeze(0) for g in grads if g is not None],
                [found.get(p, torch.zeros_like(p)) for p in parameters])  # fmt: skip

    def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
        if not isinstance(dy, Tensor) or dy.shape != output.shape:
            raise ValueError("with per_sample=True the pullback takes the upstream gradient of every sample's output, of "
                             f"shape {tuple(output.shape)}; it got {getattr(dy, 'shape', dy)}")  # fmt: skip
        _, originals, _ = kept.read()
        buffers = [(b, b._version, b.clone()) for b in module.buffers()]
        with torch.no_grad(), said(_again):
            try:
                alone, given, each = torch.vmap(one)(dy, *originals)
            except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                if "random" in str(error):
                    raise ValueError("per_sample=True needs a module that draws nothing at random, as the samples are run a "
                                     "second time: use eval(), or p=0 for dropout") from error  # fmt: skip
                raise ValueError("per_sample=True runs each sample as a batch of its own, where the module fails: the first "
                                 "dimension of what is passed by position must count the samples, and what is passed by "
                                 f"keyword is the same for all ({error})") from error  # fmt: skip
            finally:
                for buffer, version, before in buffers:  # changed by the first run, once
                    if buffer._version != version:
                        buffer.copy_(before)
        _check_same(alone, output)
        for p, g in zip(parameters, each, strict=True):
            p.grad_sample = g  # type: ignore[attr-defined]
        rest = iter(given)
        grads = [next(rest) if learned else None for learned in learns]
        return (
            tuple(grads) if needs is None else tuple(g if need else None for g, need in zip(grads, needs, strict=True))
        )

    return output, pullback


_spending: ContextVar[bool] = ContextVar("spending", default=False)


class spending:
    """With it, each layer of a chain frees what it saved as soon as its gradient is done: its pullback is called once."""

    def __enter__(self) -> None:
        self.token = _spending.set(True)

    def __exit__(self, *_: Any) -> None:
        _spending.reset(self.token)


def gradients(network: Any, criterion: Any, x: Any, y: Any) -> tuple[Any, Tensor]:
    """Output and error; the parameters' gradients are added to their `.grad`."""
    z, network_pullback = network.vjp(x)  # a. forward
    error, error_pullback = criterion.vjp(z, y)  # b. error
    with spending():
        network_pullback(error_pullback()[0], needs=(False,))  # c. chain rule; nobody wants dE/dx
    return z, error


def place_of(parameter: nn.Parameter) -> Tensor | None:
    """Where the parameter's gradient may be written: a tensor that becomes its `.grad`; None where it has one already.

    In a flattened model it is the place that was kept for it (flat.py), else it is new memory.
    """
    if parameter.grad is not None or _collected.get() is not None or parameter.is_sparse:
        return None
    slot = parameter.__dict__.get("grad_slot")
    return torch.empty_like(parameter) if slot is None else slot


def accumulate(parameter: nn.Parameter, grad: Tensor, place: Tensor | None = None) -> None:
    """Add to a parameter's `.grad` as autograd does, its tensor hooks and post-accumulate hooks included.

    place: what `place_of` gave; the gradient is in it, or is copied to it.
    """
    if (found := _collected.get()) is not None:
        found[parameter] = found[parameter] + grad if parameter in found else grad
        return None
    if torch.is_grad_enabled() or inference_mode():  # a .grad is an ordinary tensor, without a graph
        with torch.inference_mode(False), torch.no_grad():
            return accumulate(parameter, grad)
    for hook in tuple((parameter._backward_hooks or {}).values()):
        changed = hook(grad)
        grad = grad if changed is None else changed
    if grad.is_sparse and (parameter.grad is None or parameter.grad.is_sparse):
        parameter.grad = grad if parameter.grad is None else parameter.grad + grad
    elif parameter.grad is not None:
        parameter.grad.add_(grad)
    else:
        # A tensor of its own, in the parameter's layout: the gradient may be a view of somebody's upstream gradient.
        place = place_of(parameter) if place is None else place
        parameter.grad = place if grad is place else place.copy_(grad)  # type: ignore[union-attr]
    for hook in tuple((parameter._post_accumulate_grad_hooks or {}).values()):  # type: ignore[attr-defined]
        hook(parameter)
    return None


def vjp_of(module: nn.Module) -> Callable[..., tuple[Any, Pullback]]:
    """The module's `vjp`, or an error that says what to do."""
    vjp = getattr(module, "vjp", None)
    if vjp is None:
        raise TypeError(
            f"{type(module).__module__}.{type(module).__name__} has no vjp: build the network of dlref.manual.nn, give the "
            "module a vjp(*inputs) -> (output, pullback), or train under autograd"
        )
    return vjp


class Sequential(Manual, nn.Sequential):
    """torch.nn.Sequential whose pullback is the chain rule, layer by layer from the last to the first.

    dE/dx_l = J_l^T dE/dx_{l+1}. A layer that stands in it twice gets the sum of its two gradients.
    """

    __module__ = "dlref.manual.nn"  # the path that a pickle holds
    forward = nn.Sequential.forward  # type: ignore[assignment]

    def explicit(self, input: Any) -> tuple[Any, Pullback]:
        return through(map(vjp_of, self), input)

    def __add__(self, other: nn.Sequential) -> Sequential:
        return type(self)(*super().__add__(other))

    def __mul__(self, other: int) -> Sequential:
        return type(self)(*super().__mul__(other))

    __rmul__ = __mul__


def through(vjps: Iterable[Callable[..., tuple[Any, Pullback]]], input: Any) -> tuple[Any, Pullback]:
    """Output and pullback of layers, given by their `vjp`, one after the other.

    Where a layer works in place, those before it keep copies of what it overwrites and they would read.
    """
    pullbacks: list[Pullback] = []
    with watching(functools.partial(_part, pullbacks)):
        for vjp in vjps:
            input, pullback = vjp(input)
            pullbacks.append(pullback)
    return input, chain(pullbacks)


def _part(pullbacks: list[Pullback], overwritten: Tensor, later: list[Tensor]) -> None:
    for pullback in pullbacks:
        for kept in held(pullback):
            kept.part_from(overwritten)


def chain(pullbacks: list[Pullback]) -> Pullback:
    """The pullback of a composition: each one's answer is the upstream gradient of the one before it."""
    trains = [getattr(pullback, "trains", False) for pullback in pullbacks]

    @graphless
    def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
        wanted, spent = needs is None or any(needs), _spending.get()
        # Where nobody wants the input's gradient, the chain ends at the first layer that learns.
        first = 0 if wanted else next((i for i, trained in enumerate(trains) if trained), len(pullbacks))
        for i in range(len(trains) - 1, first - 1, -1):
            pull = pullbacks.pop() if spent else pullbacks[i]
            dy = (pull(dy) if i > first or wanted else pull(dy, needs=(False,)))[0]
            del pull
        return (dy if wanted else None,)

    pullback.trains = any(trains)  # type: ignore[attr-defined]
    # The list itself, which shrinks as they are spent.
    pullback.held = pullbacks  # type: ignore[attr-defined]
    return pullback


ModuleList, ModuleDict = nn.ModuleList, nn.ModuleDict
ParameterList, ParameterDict = nn.ParameterList, nn.ParameterDict


# --- hooks ------------------------------------------------------------------------------------------------------


def has_hooks(module: Any) -> bool:
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_hooks or module._backward_pre_hooks
        or torch_module._global_forward_pre_hooks or torch_module._global_forward_hooks
        or torch_module._global_backward_hooks or torch_module._global_backward_pre_hooks
    )  # fmt: skip


def _hooked_vjp(module: Any, inputs: tuple, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
    """`explicit` between the module's hooks, which see and may replace what they see and replace in a call."""
    names = tuple(kwargs)

    def before(*values):
        args, kw = values[: len(values) - len(names)], dict(zip(names, values[len(values) - len(names) :], strict=True))
        hooks = {**torch_module._global_forward_pre_hooks, **module._forward_pre_hooks}
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
        output, pull = module.explicit(*args, **kwargs)
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
    if torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None:
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
