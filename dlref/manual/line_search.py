r"""Line searches: how far to go from a point along a direction.

Along the direction $d$ the error is a function of the step, $\phi(t) = f(x + t d)$ with slope $\phi'(t) = g(x + t d)^\top d$
and $\phi'(0) < 0$. Both searches look for a step that satisfies the strong Wolfe conditions,

$$\phi(t) \le \phi(0) + c_1\,t\,\phi'(0), \qquad |\phi'(t)| \le c_2\,|\phi'(0)|, \qquad 0 < c_1 < c_2 < 1:$$

the error falls by a part of what the slope promises, and the slope has flattened, so that $s^\top y > 0$.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A step, the error there, its slope along the direction (numbers or tensors of no dimension), and its gradient."""

    t: Any
    value: Any
    slope: Any
    gradient: Any = None


Line = Callable[[Any], Point]

FURTHEST = 1e10  # the longest step of `more_thuente`


def strong_wolfe(
    phi: Line,
    start: Point,
    t: Any,
    size: Any,
    *,
    tolerance: float = 1e-9,
    limit: int = 25,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> tuple[Point, int]:
    r"""Go further until a bracket holds a good step, then narrow it (torch.optim.LBFGS's "strong_wolfe").

    phi: the point at a step; start: that at 0; t: the first step. size: $\max|d|$; tolerance: a bracket $[a, b]$ with
    $(b - a) \max|d|$ below it is narrowed no more. limit: of evaluations after the first.
    Returns the best point found, whether or not the conditions hold there, and the number of evaluations.
    Nocedal and Wright 2006, Algorithms 3.5 and 3.6.
    """

    def rises(p: Point) -> Any:
        return p.value > start.value + c1 * p.t * start.slope

    def flattened(p: Point) -> Any:
        return abs(p.slope) <= -c2 * start.slope

    previous, point, count = start, phi(t), 0
    while count < limit:
        if rises(point) or (count > 1 and point.value >= previous.value):
            bracket = [previous, point]
            break
        if flattened(point):
            return point, 1 + count
        if point.slope >= 0:
            bracket = [previous, point]
            break
        t = _wolfe_cubic(previous, point, point.t + 0.01 * (point.t - previous.t), point.t * 10)
        previous, point = point, phi(t)
        count += 1
    else:
        bracket = [start, point]

    stuck = False  # was the last step close to an end of the bracket?
    low = 0 if bracket[0].value <= bracket[1].value else 1  # the better end
    while count < limit:
        a, b = bracket[0].t, bracket[1].t
        if abs(b - a) * size < tolerance:
            break
        left, right = min(a, b), max(a, b)
        t = _wolfe_cubic(bracket[0], bracket[1], left, right)
        margin = 0.1 * (right - left)
        close = min(right - t, t - left) < margin
        if close and (stuck or t >= right or t <= left):
            t = right - margin if abs(t - right) < abs(t - left) else left + margin
            close = False
        stuck = close
        point = phi(t)
        count += 1
        if rises(point) or point.value >= bracket[low].value:
            bracket[1 - low] = point
            low = 0 if bracket[0].value <= bracket[1].value else 1
            continue
        if flattened(point):
            return point, 1 + count
        if (
            point.slope * (bracket[1 - low].t - bracket[low].t) >= 0
        ):  # the minimum lies between the old and the new better end
            bracket[1 - low] = bracket[low]
        bracket[low] = point
    return bracket[low], 1 + count


def _wolfe_cubic(a: Point, b: Point, lower: Any, upper: Any) -> Any:
    r"""The minimum of the cubic through values and slopes at $a < b$, within the bounds; their middle where it has none.

    $$\theta = \phi'_a + \phi'_b - 3\,\frac{\phi_a - \phi_b}{a - b}, \quad \gamma = \sqrt{\theta^2 - \phi'_a \phi'_b}, \quad
    t = b - (b - a)\,\frac{\phi'_b + \gamma - \theta}{\phi'_b - \phi'_a + 2\gamma}$$

    Nocedal and Wright 2006, equation 3.59.
    """
    if a.t > b.t:
        a, b = b, a
    theta = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = theta**2 - a.slope * b.slope
    if not square >= 0:
        return (lower + upper) / 2.0
    gamma = square**0.5
    t = b.t - (b.t - a.t) * ((b.slope + gamma - theta) / (b.slope - a.slope + 2 * gamma))
    return min(max(t, lower), upper)


# --- Moré and Thuente -------------------------------------------------------------------------------------------------


def more_thuente(
    phi: Line,
    start: Point,
    t: float,
    *,
    ftol: float = 1e-3,
    gtol: float = 0.9,
    xtol: float = 0.1,
    limit: int = 20,
) -> tuple[Point | None, int]:
    r"""Narrow an interval that holds a good step, by cubic and quadratic interpolation (L-BFGS-B's search).

    A step that is lower, but not enough so, is interpolated in $\psi(t) = \phi(t) - \phi(0) - \mu t \phi'(0)$. (The paper does
    that until a step $t$ has $\psi(t) \le 0 \le \phi'(t)$. All later ones are shorter, so that those not higher than it have
    decreased enough.) phi, start, t: as of `strong_wolfe`; values and slopes are numbers.
    ftol $\mu = c_1$, gtol $c_2$; xtol: an interval $[l, u]$ with $u - l \le$ xtol $u$ is narrowed no more and its better end
    taken. limit: of evaluations.
    Returns the last point evaluated and the number of evaluations; no point where the limit was reached, or where the slope
    at 0 is not negative and finite.
    Moré and Thuente 1994, ACM TOMS 20(3), sections 2 to 4, with MINPACK-2's constants.
    """
    if not -math.inf < start.slope < 0:
        return None, 0
    promised = ftol * start.slope
    best = other = start  # ends of the interval; best has the least value of those steps that were tried
    bracketed = False
    lower, upper = 0.0, 5 * t  # where the next step may lie
    width, before = FURTHEST, 2 * FURTHEST  # of the interval, now and one step ago
    for count in range(1, limit + 1):
        point = phi(t)
        allowed = start.value + t * promised
        enough = point.value <= allowed
        if (
            (enough and abs(point.slope) <= -gtol * start.slope)
            or (bracketed and (t <= lower or t >= upper or upper - lower <= xtol * upper))
            or (t == FURTHEST and enough and point.slope <= promised)
            or (t == 0 and (point.value > allowed or point.slope >= promised))
        ):
            return point, count
        a, b, c = best, other, point
        if allowed < point.value <= best.value:
            a, b, c = (Point(p.t, p.value - p.t * promised, p.slope - promised) for p in (a, b, c))
        t, higher, opposite = _trial(a, b, c, bracketed, lower, upper)
        bracketed = bracketed or higher or opposite
        if higher:
            other = point
        else:
            best, other = point, best if opposite else other

        if bracketed:
            if abs(other.t - best.t) >= 0.66 * before:  # two steps must take a third of it away
                t = best.t + 0.5 * (other.t - best.t)
            width, before = abs(other.t - best.t), width
            lower, upper = min(best.t, other.t), max(best.t, other.t)
        else:
            lower, upper = t + 1.1 * (t - best.t), t + 4 * (t - best.t)
        t = _clipped(t, 0.0, FURTHEST)
        if bracketed and (t <= lower or t >= upper or upper - lower <= xtol * upper):
            t = best.t
    return None, limit


def _trial(
    best: Point, other: Point, point: Point, bracketed: bool, lower: float, upper: float
) -> tuple[float, bool, bool]:
    """The next step, and two cases of section 4: whether the point is higher than the best; if not, whether its slope turned.

    c: minimum of the cubic through values and slopes of two points; q: of the parabola through two values and a slope; s: of
    that through two slopes.
    """
    t, far = point.t, point.t - best.t
    opposite = point.slope * math.copysign(1.0, best.slope) < 0
    if (
        point.value > best.value
    ):  # case 1: a minimum lies before the point; the cubic is trusted where it is the shorter
        fraction, _ = _cubic(best, point)
        c = best.t + fraction * far
        drop = _ratio(best.value - point.value, far)
        q = best.t + _ratio(best.slope, drop + best.slope) / 2 * far
        return (c if abs(c - best.t) <= abs(q - best.t) else c + (q - c) / 2), True, opposite
    s = t - _ratio(point.slope, point.slope - best.slope) * far
    if opposite:  # case 2: so it does if the slopes differ in sign; the longer of both
        fraction, _ = _cubic(point, best)
        c = t - fraction * far
        return (c if abs(c - t) > abs(s - t) else s), False, True
    if abs(point.slope) < abs(best.slope):  # case 3: the slope flattens
        fraction, gamma = _cubic(point, best, at_least=0.0)
        beyond = fraction < 0 and gamma != 0  # the cubic has its minimum beyond the point
        c = t - fraction * far if beyond else upper if far > 0 else lower
        if not bracketed:  # the longer of both, within bounds
            return _clipped(c if abs(c - t) > abs(s - t) else s, lower, upper), False, False
        nearer = c if abs(c - t) < abs(s - t) else s
        bound = t + 0.66 * (other.t - t)
        return (min(bound, nearer) if far > 0 else max(bound, nearer)), False, False
    if bracketed:  # case 4: the slope does not flatten
        fraction, _ = _cubic(point, other)
        return t + fraction * (other.t - t), False, False
    return (upper if far > 0 else lower), False, False


def _cubic(a: Point, b: Point, at_least: float = -math.inf) -> tuple[float, float]:
    r"""Where between $a$ (0) and $b$ (1) the cubic through their values and slopes has its minimum; and $\gamma$.

    $$\theta = 3\,\frac{\phi_a - \phi_b}{b - a} + \phi'_a + \phi'_b, \quad
    \gamma = \operatorname{sign}(b - a) \sqrt{\theta^2 - \phi'_a \phi'_b}, \quad
    r = \frac{\gamma - \phi'_a + \theta}{2\gamma - \phi'_a + \phi'_b}$$

    at_least: of what stands under the root, relative to the largest of $\theta$ and the slopes, by which all is divided.
    """
    theta = _ratio(3 * (a.value - b.value), b.t - a.t) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    square = _ratio(theta, scale) ** 2 - _ratio(a.slope, scale) * _ratio(b.slope, scale)
    square = max(at_least, square)
    gamma = scale * (math.sqrt(square) if square >= 0 else math.nan)
    if b.t < a.t:
        gamma = -gamma
    return _ratio((gamma - a.slope) + theta, ((gamma - a.slope) + gamma) + b.slope), gamma


def _ratio(a: float, b: float) -> float:
    """a / b, as IEEE 754 has it: infinite or not a number where b is 0."""
    if b:
        return a / b
    return math.copysign(math.inf, a) * math.copysign(1.0, b) if a and a == a else math.nan


def _clipped(t: float, lower: float, upper: float) -> float:
    """t within the bounds; the lower one where it is not a number."""
    return min(t if t >= lower else lower, upper)
