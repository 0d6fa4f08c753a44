"""The part of the reference's domain that a candidate is made for: `where`, a predicate on the call."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from ..samples import Sample
from ..samples.edges import accepted
from .crossing import REFUSED, Options, put, settings, usable

ENOUGH = 40  # calls inside
SIZES = (1, 2, 3, 5, 8, 16, 17, 32, 33, 64, 128)
ATTEMPTS = 60  # for each call that is made
LARGEST = 10_000  # numbers in a call: a convolution multiplies them


class Where:
    """A predicate on the call, by the reference's names of its arguments.

    It is an expression of them, `"input.dim() == 2 and target.dtype == torch.int64"`, in which torch and math are known;
    or a function. A function takes the arguments that it names; with one parameter of another name, the call as an object
    with the arguments as its attributes; with *args, the call as it is. A call on which it raises lies outside.

    ValueError where it is no expression, knows other names, or raises on every call.
    """

    def __init__(self, predicate: str | Callable, names: list[str]):
        self.text = predicate if isinstance(predicate, str) else getattr(predicate, "__name__", "a function")
        self.names = names
        self.answers, self.raised = 0, ""
        if isinstance(predicate, str):
            self.function = self.expression(predicate)
        elif callable(predicate):
            self.function = self.called(predicate)
        else:
            raise ValueError(f"where must be a function of the call or an expression, it is {predicate!r}")

    def expression(self, text: str) -> Callable[[dict[str, Any]], Any]:
        try:
            code = compile(text.strip(), "where", "eval")
        except (SyntaxError, ValueError) as error:
            raise ValueError(
                f"where must be an expression over {', '.join(self.names)}; {text!r} is none: {error}"
            ) from None
        known = {"torch": torch, "math": math}
        return lambda given: eval(code, {**known, **given})

    def called(self, function: Callable) -> Callable[[dict[str, Any]], Any]:
        parameters = list(inspect.signature(function).parameters.values())
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return lambda given: function(*given.values())
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return lambda given: function(**given)
        named = [p.name for p in parameters if p.name in self.names]
        other = [p.name for p in parameters if p.name not in self.names and p.default is p.empty]
        if len(parameters) == 1 and other:
            return lambda given: function(SimpleNamespace(**given))
        if other:
            raise ValueError(
                f"where must take arguments of the reference, {', '.join(self.names)}; it takes {', '.join(other)}"
            )
        return lambda given: function(**{n: given[n] for n in named})

    def __call__(self, given: dict[str, Any]) -> bool:
        try:
            answer = bool(self.function(given))
        except NameError as error:
            raise ValueError(f"where must be over {', '.join(self.names)}; in {self.text!r} {error}") from None
        except Exception as error:  # an expression may raise anything, as input.shape[1] of a vector
            self.raised = self.raised or f"{type(error).__name__}: {error}"
            return False
        self.answers += 1
        return answer

    def told(self) -> None:
        """ValueError where it could be asked of no call."""
        if self.raised and not self.answers:
            raise ValueError(
                f"where must be a condition on {', '.join(self.names)}; {self.text!r} raises {self.raised}"
            )


def inside(options: Options, found: list[Sample], where: Where, number: int) -> list[Sample]:
    """So many calls more inside the domain, or as many as are found: options crossed, sizes varied."""
    draw = random.Random(0)
    values = settings(options, found)
    calls = usable(found)
    within = [s for s in calls if where(options.given(s))] or calls
    made: dict[str, Sample] = {}
    for _ in range(number * ATTEMPTS if within else 0):
        if len(made) == number:
            break
        sample = varied(options, draw.choice(within), values, draw)
        if sample is None or sum(t.numel() for t in sample.tensors()) > LARGEST or not where(options.given(sample)):
            continue
        shapes = [(tuple(t.shape), t.dtype) for t in sample.tensors()]
        key = repr((shapes, {n: v for n, v in options.off(sample).items() if not isinstance(v, torch.Tensor)}))
        if key not in made and accepted(sample):
            made[key] = sample
    for i, sample in enumerate(made.values()):
        sample.where = f"inside-{i}"
    return list(made.values())


def varied(options: Options, base: Sample, values: dict, draw: random.Random) -> Sample | None:
    """The call with other options and other sizes."""
    chosen: dict = {}
    for setting in draw.sample(list(values), min(len(values), draw.randrange(4))):
        name, what = setting
        if not any(n == name for n, _ in chosen) and what not in ("given", "mask"):
            chosen[setting] = draw.choice(values[setting]) if values[setting] else None
    drop = [n for n in options.off(base) if draw.random() < 0.3 and all(n != m for m, _ in chosen)]
    try:
        made = options.without(base, drop) if drop else base
        made = made and put(options, made, chosen)
        for old in dict.fromkeys(n for t in (made.learning() if made else ()) for n in t.shape):
            if made is not None and draw.random() < 0.8:
                made = options.resized(made, old, draw.choice(SIZES)) or made
    except REFUSED:
        return None
    return made
