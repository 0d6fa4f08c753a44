r"""How far a value may be from the truth: what float64 says, how well it is posed, and how far torch's own function is.

The truth $t$ is the built-in in float64 on the same values. How well it is posed is measured: every element of the
arguments and of the upstream gradient is moved by a part $\delta r$ of itself, $r$ random, and the slope
$\kappa = |f(x (1 - \delta r)) - f(x)| / \delta$ is what one unit of rounding of the arguments becomes. The error of a
value $a$ is

$$E(a) = \max_i \frac{|a_i - t_i|}{\epsilon\,s_i},\qquad s_i = \max(|t_i| + \kappa_i,\; 10^{-3} \max_j (|t_j| + \kappa_j))$$

in units of rounding, $\epsilon$ that of the dtype under test, and it departs where $E(a) > \max(2\,E(b) + c,\; 4\,E(b))$:
$b$ is the built-in in that dtype, $c$ the few units that a sum of that many terms may lose. Where the built-in itself loses
more than those, its largest error is a matter of chance, within the factor of 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..samples import Sample, exact, exactly, gradients

DELTA = 1e-10
JUMP = 1e7  # a change of more than this many deltas is a jump, not a slope
TURNS = 3
# float64 is the truth itself: within this of it, where torch's kernels order sums and constants otherwise.
EXACT = 1e-12


@dataclass(frozen=True)
class Error:
    """Errors in units of rounding: of the value, of the built-in, and what is allowed; and the worst element's index."""

    ours: float
    theirs: float
    bound: float
    index: tuple[int, ...] = ()
    share: float = math.nan  # of the worst element's true value, what it is off by
    special: bool = False  # the built-in has NaN or an infinity where the truth has none, or none where it has

    @property
    def departs(self) -> bool:
        return not self.ours <= self.bound


def slopes(function: Callable[[Sample], list[Any]], sample: Sample, values: Sequence[Tensor | None]) -> list:
    """kappa of each of the values, which function(sample) has in float64; 0 where a jump lies within delta."""
    found: list[Any] = [
        None if v is None else torch.zeros(v.shape, dtype=torch.float64, device=v.device) for v in values
    ]
    for turn in range(TURNS):
        generator = torch.Generator().manual_seed(turn)

        def move(t: Tensor, generator: torch.Generator = generator) -> Tensor:
            if not (t.is_floating_point() or t.is_complex()):
                return t
            r = 2 * torch.rand(t.shape, generator=generator, dtype=torch.float64, device="cpu").to(t.device)
            return (t.detach() * (1 - DELTA * r)).requires_grad_(t.requires_grad)

        try:
            moved = function(sample.map(move))
        except (RuntimeError, ValueError):  # the sample lies on the edge of what the function takes
            continue
        for i, (value, other) in enumerate(zip(values, moved, strict=True)):
            if value is not None and other is not None and value.shape == other.shape:
                change = ((other - value).detach().abs() / DELTA).nan_to_num(math.inf, math.inf)
                known = value.isfinite() & (change <= JUMP * (1 + value.abs()))
                found[i] = torch.maximum(found[i], torch.where(known, change, 0.0))
    return found


def gradient_slopes(function: Callable[[Sample], list[Tensor]], sample: Sample, dy: list, values: list) -> list:
    """kappa of the gradients of function(sample), where the upstream gradient is moved, too."""

    def moved(joint: Sample) -> list[Tensor | None]:
        own = Sample(sample.builtin, joint.args[:-1], joint.kwargs, sample.where, sample.name)
        return list(gradients(function(own), own, joint.args[-1]))

    joint = Sample(sample.builtin, (*sample.args, dy), sample.kwargs, sample.where, sample.name)
    return slopes(moved, joint, values)


def natural(argument: Tensor, dy: list[Tensor | None], outputs: list[Tensor]) -> float:
    """The size that a gradient of no special structure has, |dy| |y| / |x|, spread over what is summed.

    The gradient of a function that is constant along some direction (softmax of one class, the norm of one feature) is
    nought as a difference of terms of this size.
    """
    size = max(
        (_largest(d) * _largest(o) * o.numel() for d, o in zip(dy, outputs, strict=True) if d is not None), default=0
    )
    x = exactly(argument.detach().abs()).nan_to_num(0.0, 0.0)
    largest = _largest(argument)
    smallest = max(float(x[x > 0].min()), 1e-3 * largest) if largest else 0.0
    return size / smallest / max(argument.numel(), *(o.numel() for o in outputs)) if largest else 0.0


def true_upstream(dy: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The upstream gradients of the truth: in its dtype, and contiguous, as torch's batch norm is wrong for some transposed
    ones."""
    return [d if d is None else exactly(d).contiguous() for d in dy]


class Measure:
    """What the errors of values that must be one and the same are measured by: the truth, its scale and what is allowed.

    slope: kappa. length: the terms that are summed in one element. size: of a gradient, the natural one. through: the
    outputs of a gradient, which is no more exact than what it passes, where an option asks for a coarser dtype there.
    """

    def __init__(self, builtin: Tensor, truth: Tensor, slope: Tensor | None = None, length: int = 1, size: float = 0.0,
                 through: Sequence[Tensor] = ()):  # fmt: skip
        dtype = builtin.dtype
        eps = max(torch.finfo(t.dtype).eps for t in (builtin, *through) if t.is_floating_point() or t.is_complex())
        double = eps < 1e-10
        self.exact = exact(dtype)
        self.builtin, t = exactly(builtin.detach()), exactly(truth.detach()).to(self.exact)
        self.truth = t
        if not t.numel():
            return
        rounded = t.to(dtype)
        # What is too large for this dtype is infinite in it.
        self.truth = t = torch.where(rounded.isinf(), rounded.to(t.dtype), t)
        scale = t.abs().nan_to_num(0.0, 0.0)
        scale = scale if slope is None else scale + slope
        largest = float(scale.max())
        if largest < 1e-4 * size:
            largest = size * (1.0 if double else 1e3)
        # What is too small for the dtype's full precision is known to its smallest step, no better.
        self.scale = scale.clamp(min=max(largest * (1.0 if double else 1e-3), torch.finfo(dtype).tiny)) * eps
        theirs = distance(self.builtin, t) / self.scale
        # Where the built-in overflows and float64 does not, its own value is as right as the truth.
        self.overflown = theirs.isinf()
        self.special = bool(self.overflown.any())
        self.allowed = float((torch.where(self.overflown, 0.0, theirs) if self.special else theirs).max())
        bound = EXACT / eps if double else 10.0 if eps > 1e-4 else 8.0 + math.sqrt(length)
        self.bound = max(2 * self.allowed + bound, 4 * self.allowed)

    def error(self, actual: Tensor) -> Error:
        """How far a value is; NaN and infinities must stand where they stand in the truth."""
        if not self.truth.numel():
            return Error(0.0, 0.0, 0.0)
        a = exactly(actual.detach()).to(self.exact)
        off = distance(a, self.truth)
        ours = off / self.scale
        if self.special:
            ours = torch.where(self.overflown & (distance(a, self.builtin) <= 8 * self.scale), 0.0, ours)
        worst = int(ours.argmax())
        index = tuple(worst // math.prod(a.shape[i + 1 :]) % n for i, n in enumerate(a.shape))
        share = float(off.flatten()[worst] / self.truth.abs().flatten()[worst].double())
        return Error(float(ours.flatten()[worst]), self.allowed, self.bound, index, share, self.special)


def distance(a: Tensor, t: Tensor) -> Tensor:
    """|a - t|; 0 where both are the same infinity or both NaN, infinite where only one is."""
    distance = (a - t).abs().double()
    if bool(distance.isfinite().all()):
        return distance
    same = (a == t) | (a.isnan() & t.isnan())
    return torch.where(same, 0.0, distance.nan_to_num(math.inf, math.inf))


def _largest(values: Tensor) -> float:
    finite = exactly(values.detach().abs()).nan_to_num(0.0, 0.0)
    return float(finite.max()) if finite.numel() else 0.0
