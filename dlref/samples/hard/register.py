"""Where the hard samples, the wrong calls and the equations of the operations are registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...core.pair import Op

INF, NAN = float("inf"), float("nan")
SAMPLES: dict[str, Callable[[Callable], Iterator[tuple]]] = {}
ERRORS: dict[str, Callable[[Callable], Iterator[tuple]]] = {}
EQUATIONS: dict[str, Callable[..., Any]] = {}


def call(*args: Any, **kwargs: Any) -> tuple:
    """The arguments of a call: a sample reads as the call that it is."""
    return args, kwargs


def samples(operation: Op) -> Callable[[Callable], Callable]:
    """Register a generator of samples: it takes tensor(data) (of the dtype and device under test), yields call(...)."""
    return lambda function: SAMPLES.setdefault(operation.__name__, function)


def errors(operation: Op) -> Callable[[Callable], Callable]:
    """Register a generator of wrong calls: it takes tensor(data), yields (the exception's type, call(...))."""
    return lambda function: ERRORS.setdefault(operation.__name__, function)


def equation(operation: Op) -> Callable[[Callable], Callable]:
    """Register the equation as an expression of sympy, which the definition is held to in 50 digits (dlref/verify/proof.py).

    It takes sympy, then by name the arguments that it uses (symbols, tuples of them for vectors, plain numbers for options),
    and returns an expression, or a tuple of them for a vector. Its derivative is the gradient: which piece of a Piecewise
    holds a kink is the convention there.
    """
    return lambda function: EQUATIONS.setdefault(operation.__name__, function)
