"""Manual against built-in, over all samples: how far each is from what float64 says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.names import one_of
from ..core.pair import OPS
from ..samples import (
    CONDITION,
    DRAWN_BY_DTYPE,
    NAMES,
    RANDOM,
    TORCH_ERROR,
    TORCH_NAN,
    TORCH_REFUSES,
    Sample,
    draws,
    error,
    exactly,
    flat,
    gradients,
    layouts,
    run,
    samples,
    supported,
    widened,
)
from .judge import distance, gradient_slopes, slopes, true_upstream
from .oracle.care import usual

SINGLE = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Departure:
    """A value of the manual side that is further from the truth than it may be.

    sample: the call. what: the output or gradient, and the layout of the upstream gradient. manual, builtin: their errors;
    bound: what was allowed; all three in units of the dtype's rounding, relative to the largest value.
    """

    sample: str
    what: str
    manual: float
    builtin: float
    bound: float

    def __str__(self) -> str:
        return (f"{self.what}: {self.manual:.3g} units from the truth, the built-in {self.builtin:.3g}, allowed "
                f"{self.bound:.3g}; {self.sample}")  # fmt: skip


@dataclass
class Comparison:
    """What `compare` found: the numbers of samples and of values compared, the largest errors, the departures, and the error
    of every value by hand; errors are in units of the dtype's rounding."""

    name: str
    device: str
    dtype: torch.dtype
    samples: int = 0
    values: int = 0
    largest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(
        ("manual output", "built-in output", "manual gradient", "built-in gradient"), 0.0))  # fmt: skip
    departures: list[Departure] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.values) and not self.departures

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "device": self.device, "dtype": str(self.dtype).removeprefix("torch."), "ok": self.ok,
                "samples": self.samples, "values": self.values, "largest": self.largest,
                "departures": [str(d) for d in self.departures]}  # fmt: skip

    def __str__(self) -> str:
        head = (f"{self.name}, {self.dtype} on {self.device}: {self.values} values of {self.samples} samples, "
                f"{len(self.departures)} departures")  # fmt: skip
        errors = ", ".join(f"{what} {value:.3g}" for what, value in self.largest.items())
        return "\n".join([head, f"largest errors, in units of rounding: {errors}", *map(str, self.departures)])


def compare(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Comparison:
    """Compare a pair on all its samples: outputs, and every gradient for every layout of the upstream gradient, under
    autograd and by vjp.

    A value departs where its error against float64 is more than twice the built-in's and a few units of rounding; in
    float64 where the two differ by more than 1e-12. Inside, products are in full precision, whatever TF32 or autocast are set
    to, and afterwards those are as they were. ValueError where the name is unknown, or the dtype not of this pair.
    """
    one_of("name", name, NAMES)
    if dtype not in supported(name, backward=True, device=device):
        raise ValueError(f"dtype must be one that torch's {name} has a gradient in on {device}, it is {dtype}")
    comparison = Comparison(name, device, dtype)
    with usual():
        for sample in samples(name, dtype, device=device):
            compare_sample(comparison, OPS[name], sample)
    return comparison


def compare_sample(comparison: Comparison, candidate: Callable[..., Any], sample: Sample) -> None:
    """Compare one call; what is found is added to the comparison."""
    name = comparison.name
    on_cpu = torch.device(comparison.device).type == "cpu"
    equal = on_cpu and comparison.dtype in (torch.float64, torch.complex128)
    judged = not equal and name not in DRAWN_BY_DTYPE  # the others draw other numbers
    if name in RANDOM and not on_cpu and draws(sample):
        return
    theirs, ours = run(sample.builtin, sample), run(candidate, sample)
    explicit, pullback = run(candidate.vjp, sample)  # type: ignore[attr-defined]
    wide = widened(sample)
    truth = run(sample.builtin, wide) if judged else theirs
    comparison.samples += 1

    def output(s: Sample) -> list[Any]:
        return flat(run(s.builtin, s))

    def judge(kind: str, what: str, values: tuple, kappa: Callable[[], list], first: int = 0) -> None:
        for i, (a, b, c) in enumerate(zip(*map(flat, values), strict=True), first):
            if b.is_floating_point() or b.is_complex():
                _judge(comparison, sample, kind, what, (a, b, c), lambda i=i: kappa()[i])  # type: ignore[misc]
            elif not torch.equal(a, b):
                comparison.departures.append(Departure(repr(sample), what, float("inf"), 0.0, 0.0))

    kappa = functools.cache(lambda: slopes(lambda s: [t.detach() for t in output(s)], wide, flat(truth)))
    judge("output", "output", (ours, theirs, truth), kappa)
    judge("output", "output by vjp", (explicit, theirs, truth), kappa)
    outputs = flat(theirs)
    if not any(o.requires_grad for o in outputs):
        return
    passed = [*sample.args, *sample.kwargs.values()]
    for layout, dy in layouts(outputs):
        try:
            best = expected = gradients(theirs, sample, dy)
        except RuntimeError as e:
            if not any(known in str(e) for known in TORCH_REFUSES):
                raise
            continue
        if judged:
            best = gradients(truth, wide, true_upstream(dy))
        wanted = functools.partial(gradient_slopes, output, wide, true_upstream(dy), list(best))
        kappa = functools.cache(wanted)
        by_hand = pullback(tuple(dy) if len(dy) > 1 else dy[0])
        by_hand = list(entries(by_hand, passed))
        for side, grads in (("autograd", gradients(ours, sample, dy)), ("vjp", by_hand)):
            for i, (a, b, c) in enumerate(zip(grads, expected, best, strict=True)):
                if b is None or c is None:  # torch has no gradient there
                    continue
                if a is None:
                    a = torch.zeros_like(b)
                if name in TORCH_NAN:
                    a, b, c = (torch.where(b.isnan().to(t.device), 0, t) for t in (a, b, c))
                what = f"gradient {i} ({side}, upstream gradient {layout})"
                judge("gradient", what, (a, b, c), kappa, i)


def _beyond(manual: Tensor, truth: Tensor, kappa: Tensor, unit: float) -> float:
    """The error that is left beside what a few units of rounding of the arguments may become; half is computed in float32."""
    t = exactly(truth.detach())
    excess = (distance(exactly(manual.detach()).to(t.dtype), t) - 8 * unit * kappa).clamp(min=0)
    return error(t + excess, t)


def entries(grads: Any, values: Any) -> Iterator[Tensor | None]:
    """Of gradients in the structure of the arguments those of the tensors that learn."""
    if isinstance(values, Tensor):
        if values.requires_grad:
            yield grads
    elif isinstance(values, (tuple, list)):
        for g, v in zip([None] * len(values) if grads is None else grads, values, strict=True):
            yield from entries(g, v)


def _judge(
    comparison: Comparison, sample: Sample, kind: str, what: str, values: tuple, kappa: Callable[[], Tensor]
) -> None:
    """One value by hand, the built-in's and the truth; what departs is judged by how well it is posed, too."""
    manual, builtin, truth = values
    unit = torch.finfo(manual.dtype).eps
    if truth is not builtin:  # what is too large for this dtype is infinite in it
        rounded = truth.to(manual.dtype)
        truth = torch.where(rounded.isinf(), rounded.to(truth.dtype), truth)
    ours, theirs = error(manual, truth), error(builtin, truth)
    # Where the built-in overflows in this dtype and float64 does not, its own value is as right as the truth.
    overflown = theirs == float("inf")
    if unit < 1e-10:
        bound = 2 * (0.0 if overflown or truth is builtin else theirs) + TORCH_ERROR.get(comparison.name, 1e-12)
    elif truth is builtin:
        bound = 16 * unit
    else:
        # A half precision is rounded once, at the end; in float32 the rounding of the sums adds up.
        bound = (
            2 * (0.0 if overflown else theirs) + (8 if unit < 1e-6 else 2) * unit + CONDITION.get(comparison.name, 0.0)
        )
    comparison.values += 1
    largest = comparison.largest
    if (
        ours > bound
        and not (overflown and error(manual, builtin) <= 8 * unit)
        and (truth is builtin or _beyond(manual, truth, kappa(), min(unit, SINGLE)) > bound)
    ):
        comparison.departures.append(Departure(repr(sample), what, ours / unit, theirs / unit, bound / unit))
    for side, value in (("manual", ours), ("built-in", theirs)):
        if value < float("inf"):
            comparison.errors += [value / unit] if side == "manual" else []
            largest[f"{side} {kind}"] = max(largest[f"{side} {kind}"], value / unit)
