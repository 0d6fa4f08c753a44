"""The third proof: what holds for float64 too is arithmetic of 50 digits.

An operation has its equation once more, as an expression of sympy (`@equation(name)`). It is differentiated symbolically and
evaluated by mpmath at numbers that a dtype holds: zeros, subnormals, kinks and their neighbours, tails, the largest. The
definition's value, gradient and second derivative, and torch's value and gradient, are measured against that.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.pair import OPS
from ..samples.hard import EQUATIONS
from .points import Case

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DIGITS = 50
ABSENT = -(2.0**-13)  # stands for a gradient that torch does not give


class Truth(NamedTuple):
    """The value, the derivatives by each argument and their derivatives, [output][argument][argument], at one point."""

    value: list
    first: list[list]
    second: list[list[list]]


@functools.cache
def _derivatives(name: str, lengths: tuple[tuple[str, int], ...], options: tuple[tuple[str, Any], ...]) -> Callable:
    """The equation of arguments (of so many entries, 0 for a number) and its derivatives, as a function of mpmath's numbers."""
    import inspect

    import sympy

    symbols: list = []
    given: dict[str, Any] = {}
    for argument, length in lengths:
        entries = tuple(sympy.Symbol(f"{argument}{i}", real=True) for i in range(max(length, 1)))
        symbols += entries
        given[argument] = entries if length else entries[0]
    given |= {key: sympy.Rational(v) if isinstance(v, float) else v for key, v in options}
    assert name in EQUATIONS, f"{name} has no equation: give it one, @equation({name})"
    expression = EQUATIONS[name]
    wanted = list(inspect.signature(expression).parameters)[1:]
    found = expression(sympy, **{key: given.get(key) for key in wanted})
    outputs = [sympy.sympify(e) for e in (found if isinstance(found, tuple) else (found,))]
    first = [[sympy.diff(e, s) for s in symbols] for e in outputs]
    second = [[[sympy.diff(d, s) for s in symbols] for d in row] for row in first]
    return sympy.lambdify(symbols, [outputs, first, second], modules=[{"exp": _exp, "erfc": _erfc}, "mpmath"], cse=True)


def _exp(x: Any) -> Any:
    """mpmath's takes a large integer for a power of e, digit by digit: a little beside it it does not."""
    import mpmath

    if abs(x) < 1e4:
        return mpmath.exp(x)
    digits = mpmath.mp.prec
    with mpmath.workprec(digits + int(mpmath.mag(x)) + 10):
        beside = x + mpmath.ldexp(1, -digits - 5)
        return mpmath.exp(beside)


def _erfc(x: Any) -> Any:
    """mpmath's wants an argument whose square is a float."""
    import mpmath

    return mpmath.erfc(x) if abs(x) < 1e6 else mpmath.mpf(0 if x > 0 else 2)


def truth(case: Case, at: dict[str, Any]) -> Truth:
    """What the equation says at one point, {argument: number or row}, of exact numbers.

    With digits enough that differences keep fifty: of $1 - \\tanh^2 x$ the first that differs is the 0.87 |x|-th.
    """
    import mpmath

    lengths = tuple((name, len(v) if isinstance(v, tuple) else 0) for name, v in at.items())
    function = _derivatives(case.name, lengths, tuple((case.options | case.fixed).items()))
    numbers = [v for entry in at.values() for v in (entry if isinstance(entry, tuple) else (entry,))]
    sizes = [abs(v) for v in numbers if v]
    decades = max((abs(math.log10(s)) for s in sizes), default=0.0)
    exponent = max((s for s in sizes if s < 1500), default=0.0)  # of a larger one e^-x is 0 in every dtype
    digits = DIGITS + 20 + int(2.2 * decades + 0.9 * exponent + 0.25 * min(exponent, 45.0) ** 2)
    with mpmath.workdps(digits):
        found = Truth(*function(*map(mpmath.mpf, numbers)))
    if not any(isinstance(entry, tuple) for entry in at.values()):
        return found
    entries = list(map(abs, _entries(found)))
    if min((e for e in entries if e), default=0) > max(entries) * mpmath.mpf(10) ** -40:
        return found
    with mpmath.workdps(
        2 * digits
    ):  # what is 0 by cancellation, as the slope of a length along itself, is smaller then
        more = Truth(*function(*map(mpmath.mpf, numbers)))

    def settled(a: Any, b: Any) -> Any:
        return a if abs(b) > abs(a) / 2 else mpmath.mpf(0)

    return Truth(
        [settled(a, b) for a, b in zip(found.value, more.value, strict=True)],
        [[settled(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(found.first, more.first, strict=True)],
        [[[settled(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(*blocks, strict=True)]
         for blocks in zip(found.second, more.second, strict=True)],
    )  # fmt: skip


def _entries(found: Truth) -> Iterator[Any]:
    yield from found.value
    for slopes, curvatures in zip(found.first, found.second, strict=True):
        yield from slopes
        for row in curvatures:
            yield from row


def unit(size: Any, dtype: torch.dtype) -> Any:
    """The unit in the last place of a number of this size."""
    import mpmath

    kind = torch.finfo(dtype)
    exponent = mpmath.frexp(size)[1] - 1 if size else -(10**9)
    return mpmath.ldexp(mpmath.mpf(kind.eps), max(int(exponent), round(math.log2(kind.tiny))))


def units(found: float, true: Any, size: Any, dtype: torch.dtype) -> float:
    """How far it is from the truth, in units in the last place of size."""
    import mpmath

    largest = torch.finfo(dtype).max
    if abs(true) >= largest or not math.isfinite(found):  # beyond the dtype it may be infinite
        bounded = math.copysign(largest, true) if abs(true) >= largest else true
        if math.isnan(found) or abs(true) < largest * (1 - 4 * torch.finfo(dtype).eps):
            return math.inf
        found, true = max(-largest, min(largest, found)), bounded
    return float(abs(mpmath.mpf(found) - true) / unit(max(abs(true), min(size, largest)), dtype))


# --- how far from it --------------------------------------------------------------------------------------------


class Error(NamedTuple):
    """The largest error in units in the last place, and where it is; the largest in parts of the result.

    The latter leaves out what is within two units where the result is subnormal or, near a root, within two of the largest
    term.
    """

    units: float
    where: str
    relative: float


class Measured(NamedTuple):
    """By what was computed ("value", "gradient", "second derivative"), the errors of the definition and of torch."""

    ours: dict[str, Error]
    theirs: dict[str, Error]


def measure(case: Case, dtype: torch.dtype, every: int = 1) -> Measured:
    """Hold the definition, under autograd and by vjp, and torch's function to fifty digits.

    A unit is that of the result or, where that is larger, of what the result changes by, to first order, when an argument
    changes by its size: at a root the result has no size of its own. Of a second derivative it is that of the largest term.
    every: which of the points.
    """
    import mpmath

    columns = {name: values[::every] for name, values in case.points(dtype).items()}
    number = len(next(iter(columns.values())))
    arguments = {name: torch.tensor(values, dtype=torch.float64).to(dtype) for name, values in columns.items()}
    exact = {name: [tuple(v) if isinstance(v, list) else v for v in t.tolist()] for name, t in arguments.items()}
    if case.batch:
        one = next(iter(arguments))
        arguments[one] = arguments[one].unsqueeze(0)
    truths = [truth(case, {name: values[i] for name, values in exact.items()}) for i in range(number)]
    op, kind = OPS[case.name], torch.finfo(dtype)
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(1), dtype=torch.float64, device="cpu")
    tensors = {
        key: torch.full((number,), v, dtype={bool: torch.bool, int: torch.int64}.get(type(v), dtype))
        for key, v in case.fixed.items()
    }
    rest = tensors | case.options | case.only_call

    def learning(function: Callable, how_many: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
        leaves = {name: t.clone() for name, t in arguments.items()}
        for leaf in list(leaves.values())[:how_many]:
            leaf.requires_grad_()
        return leaves, quietly(function, **leaves, **rest)

    leaves, value = learning(op)
    dy = draw(value.shape).to(dtype)
    v = {name: draw(t.shape).to(dtype) for name, t in leaves.items()}
    grads = torch.autograd.grad(value, list(leaves.values()), dy, create_graph=True, allow_unused=True)
    total = [g for g in grads if g is not None and g.requires_grad]
    weights = [v[name] for name, g in zip(leaves, grads, strict=True) if g is not None and g.requires_grad]
    again = (
        torch.autograd.grad(total, list(leaves.values()), weights, allow_unused=True) if total else [None] * len(leaves)
    )
    by_hand, pullback = quietly(op.vjp, **arguments, **rest)
    explicit = pullback(dy)[: len(arguments)]
    ours = {
        "value": [value, by_hand],
        "gradient": [stacked(grads, leaves), stacked(explicit, leaves)],
        "second derivative": [stacked(again, leaves)],
    }
    try:
        their_leaves, their_value = learning(op.builtin)  # type: ignore[arg-type]
        wanted = list(their_leaves.values())
    except RuntimeError as error:  # of a target, which torch refuses to differentiate
        if "not differentiable with respect to argument" not in str(error):
            raise
        their_leaves, their_value = learning(op.builtin, 1)  # type: ignore[arg-type]
        wanted = list(their_leaves.values())[:1]
    their_grads = [*torch.autograd.grad(their_value, wanted, dy, allow_unused=True), *(None for _ in their_leaves)]
    their_grads = their_grads[: len(their_leaves)]
    theirs = {"value": [their_value], "gradient": [stacked(their_grads, their_leaves, ABSENT)]}

    expected: dict[str, list[list[tuple[Any, Any]]]] = {"value": [], "gradient": [], "second derivative": []}
    d = dy.reshape(number, -1).tolist()
    w = torch.cat([t.reshape(number, -1) for t in v.values()], 1).tolist()
    for i, (values, first, second) in enumerate(truths):
        at = [t[i] if isinstance(t[i], tuple) else (t[i],) for t in exact.values()]
        size = [mpmath.mpf(max(map(abs, entries))) for entries in at for _ in entries]
        each, out = range(len(size)), range(len(values))
        moved = functools.partial(_moved, size)
        expected["value"].append([(y, max(abs(y), moved(slopes))) for y, slopes in zip(values, first, strict=True)])
        expected["gradient"].append([
            (mpmath.fsum(d[i][o] * first[o][s] for o in out),
             max(abs(d[i][o]) * max(abs(first[o][s]), moved(second[o][s])) for o in out)) for s in each])  # fmt: skip
        terms = max(
            abs(d[i][o] * w[i][t]) * (abs(second[o][t][s]) + abs(first[o][s])) for o in out for t in each for s in each
        )
        expected["second derivative"].append([
            (mpmath.fsum(d[i][o] * w[i][t] * second[o][t][s] for o in out for t in each), terms) for s in each])  # fmt: skip

    def worst(found: list[Tensor], true: list[list[tuple[Any, Any]]]) -> Error:
        most, relative = Error(0.0, "", 0.0), 0.0
        for tensor in found:
            for i, entries in enumerate(tensor.detach().double().reshape(number, -1).tolist()):
                for entry, (t, size) in zip(entries, true[i], strict=True):
                    if entry == ABSENT:
                        continue
                    error = units(entry, t, size, dtype)
                    if (
                        error > 2
                        and t
                        and math.isfinite(entry)
                        and not (abs(t) < kind.tiny and units(entry, t, t, dtype) <= 2)
                    ):
                        relative = max(relative, float(abs((mpmath.mpf(entry) - t) / t)))
                    if not error <= most.units:
                        at = {name: values[i] for name, values in exact.items()}
                        most = Error(error, f"{at}: {entry!r}, {mpmath.nstr(t, 17)} in {DIGITS} digits", 0.0)
        return most._replace(relative=math.inf if math.isinf(most.units) else relative)

    return Measured(
        {what: worst(found, expected[what]) for what, found in ours.items()},
        {what: worst(found, expected[what]) for what, found in theirs.items()},
    )


def _moved(sizes: list, slopes: list) -> Any:
    return max(abs(s) * size for s, size in zip(slopes, sizes, strict=True))


def quietly(function: Callable, **arguments: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(**arguments)


def stacked(grads: Any, leaves: dict[str, Tensor], absent: float = 0.0) -> Tensor:
    """The gradients of one point side by side."""
    there = [torch.full_like(t, absent) if g is None else g for g, t in zip(grads, leaves.values(), strict=True)]
    number = len(list(leaves.values())[-1])
    return torch.cat([g.detach().reshape(number, -1) for g in there], 1)
