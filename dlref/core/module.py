"""Modules with an explicit pullback: `Manual`, the mixin that gives torch.nn's classes one, and the containers.

    class Sigmoid(Manual, torch.nn.Sigmoid):
        op = sigmoid

Constructor, parameters, state_dict, repr, pickling are torch's own; forward and `vjp` call the operation, whose
arguments are the module's inputs and, by name, its attributes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .computed import explicit_of
from .hooks import has_hooks, hooked_vjp
from .in_place import any_inference, inference_mode
from .modes import graphless
from .pair import Op
from .per_sample import per_sample_vjp
from .pullback import Pullback, accumulate, made_of, place_of

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
    TypeError where forward and operation take other inputs; `vjp` raises RuntimeError for a parameter that is computed from
    others.
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
            return per_sample_vjp(self, inputs, kwargs)
        return hooked_vjp(self, inputs, kwargs) if has_hooks(self) else explicit_of(self)(*inputs, **kwargs)

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


def vjp_of(module: nn.Module) -> Callable[..., tuple[Any, Pullback]]:
    """The module's `vjp`, or an error that says what to do."""
    vjp = getattr(module, "vjp", None)
    if vjp is None:
        raise TypeError(
            f"{type(module).__module__}.{type(module).__name__} has no vjp: build the network of dlref.manual.nn, give the "
            "module a vjp(*inputs) -> (output, pullback), or train under autograd"
        )
    return vjp
