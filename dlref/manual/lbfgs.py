r"""L-BFGS: steps by the inverse Hessian that the last few steps and changes of the gradient tell of.

With $s_k = x_{k+1} - x_k$, $y_k = g_{k+1} - g_k$ and $\rho_k = 1 / s_k^\top y_k$ the BFGS update of the inverse Hessian is

$$H_{k+1} = (I - \rho_k s_k y_k^\top)\,H_k\,(I - \rho_k y_k s_k^\top) + \rho_k s_k s_k^\top,$$

of which only the last m pairs are kept; $H_k g$ takes two loops over them and no matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .line_search import FURTHEST, Line, Point, more_thuente


@dataclass
class Memory:
    r"""The last pairs $(s, y)$, oldest first, their $\rho$, and the scale $\gamma$ of the first inverse Hessian $\gamma I$."""

    size: int
    s: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)
    rho: list[Any] = field(default_factory=list)
    scale: Any = 1

    def add(self, s: Tensor, y: Tensor, product: Any) -> None:
        r"""Keep a pair and its product $s^\top y > 0$ in place of the oldest; $\gamma = s^\top y / y^\top y$."""
        if len(self.s) == self.size:
            for kept in (self.s, self.y, self.rho):
                kept.pop(0)
        self.s.append(s)
        self.y.append(y)
        self.rho.append(1.0 / product)
        self.scale = product / y.dot(y)

    def forget(self) -> None:
        self.s, self.y, self.rho, self.scale = [], [], [], 1

    def direction(self, g: Tensor) -> tuple[Tensor, list[Tensor]]:
        r"""$d = -H g$, and the $\alpha_i$ of its two loops.

        $$q = -g; \quad \text{newest to oldest: } \alpha_i = \rho_i\,s_i^\top q,\ q \leftarrow q - \alpha_i y_i; \qquad
        d = \gamma q; \quad \text{oldest to newest: } d \leftarrow d + (\alpha_i - \rho_i\,y_i^\top d)\,s_i$$

        Nocedal and Wright 2006, Algorithm 7.4.
        """
        q = g.neg()
        alphas: list[Any] = [None] * len(self.s)
        for i in reversed(range(len(self.s))):
            alphas[i] = self.s[i].dot(q) * self.rho[i]
            q.add_(self.y[i], alpha=-alphas[i])
        d = q.mul_(self.scale)
        for s, y, rho, alpha in zip(self.s, self.y, self.rho, alphas, strict=True):
            d.add_(s, alpha=alpha - y.dot(d) * rho)
        return d, alphas


def descend(
    pairs: Memory, line: Callable[[Tensor], Line], value: float, g: Tensor, t: float, limit: int = 20
) -> tuple[Tensor, Point, Point | None, int]:
    """One step by `more_thuente`; where it finds none the pairs are forgotten and it goes straight down the gradient.

    line: the points along a direction, each with a value and a slope that are numbers. value, g: at the start; t: first tried.
    Returns the direction, the points of start and end, no end where there was nothing to forget, and the number of evaluations.
    """
    count = 0
    while True:
        d, _ = pairs.direction(g)
        start = Point(0.0, value, float(g.dot(d)), g)
        end, more = more_thuente(line(d), start, t, limit=limit)
        count += more
        if end is not None or not pairs.s:
            return d, start, end, count
        pairs.forget()


@dataclass
class MinimizeResult:
    """What `minimize_lbfgs` found, under the names of scipy.optimize.OptimizeResult.

    x, fun, jac: the point, its error and gradient. nit, nfev: iterations and evaluations. status: 0 converged, 1 a limit was
    reached, 2 ended otherwise; message says what for; success: whether it converged.
    """

    x: Tensor
    fun: float
    jac: Tensor
    nit: int = 0
    nfev: int = 1
    status: int = 2
    message: str = ""

    @property
    def success(self) -> bool:
        return self.status == 0


def minimize_lbfgs(
    value_and_gradient: Callable[[Tensor], tuple[Any, Tensor]],
    x0: Tensor,
    *,
    max_iter: int = 15000,
    max_fun: int = 15000,
    gtol: float = 1e-5,
    ftol: float = 2.220446049250313e-09,
    memory: int = 10,
    callback: Callable[[MinimizeResult], Any] | None = None,
) -> MinimizeResult:
    r"""Minimize a function of a vector as scipy.optimize.minimize(method="L-BFGS-B") does without bounds.

    $$x_{k+1} = x_k - t_k H_k g_k, \qquad t_k \text{ by } \texttt{more\_thuente} \text{, first tried: } 1,
    \text{ for } k = 0\ 1 / \|g_0\|$$

    value_and_gradient: x -> (error, gradient as x), by vjp or autograd. x0 (n,), of a floating dtype; iterates are float32 in
    half precision.
    It converges where $\max|g| \le$ gtol or $f_k - f_{k+1} \le$ ftol $\max(|f_k|, |f_{k+1}|, 1)$, and ends after max_iter
    iterations or in the first that has more than max_fun evaluations; limits are looked at first. A pair with
    $s^\top y \le \epsilon\,|s^\top g_k|$ is not kept. Where the line search fails the memory is forgotten, and if it was empty
    the end is abnormal, at the last good point.
    callback: called after each iteration with the result so far; raising StopIteration ends.
    ValueError: x0 or the gradient is not such a vector, memory is below 1.
    Byrd, Lu, Nocedal and Zhu 1995, SIAM J. Sci. Comput. 16(5); Zhu, Byrd, Lu and Nocedal 1997, ACM TOMS 23(4).
    """
    if x0.dim() != 1 or not x0.numel() or not x0.is_floating_point():
        raise ValueError(f"x0 must be a vector of floating dtype and at least one element, it is {x0.dtype} of shape "
                         f"{tuple(x0.shape)}: ravel it")  # fmt: skip
    if memory < 1:
        raise ValueError(f"memory must be at least 1, it is {memory}")
    evaluate = _Evaluations(value_and_gradient, x0)
    with torch.no_grad():
        return _minimize(evaluate, max_iter, max_fun, gtol, ftol, memory, callback)


def _minimize(
    evaluate: _Evaluations,
    max_iter: int,
    max_fun: int,
    gtol: float,
    ftol: float,
    memory: int,
    callback: Callable[[MinimizeResult], Any] | None,
) -> MinimizeResult:
    x, pairs = evaluate.start, Memory(memory)
    eps = torch.finfo(x.dtype).eps
    value, g = evaluate(x)
    iterations = 0

    def result(status: int = 2, message: str = "") -> MinimizeResult:
        return MinimizeResult(
            x.to(evaluate.dtype), value, g.to(evaluate.dtype), iterations, evaluate.count, status, message
        )

    if _largest(g) <= gtol:
        return result(0, FLAT)

    def line(d: Tensor) -> Line:
        def phi(t: float) -> Point:
            value, g = evaluate(x.add(d, alpha=t))
            return Point(t, value, float(g.dot(d)), g)

        return phi

    while True:
        first = 1.0 if iterations else 1 / max(float(g.norm()), 1 / FURTHEST)
        d, start, point, _ = descend(pairs, line, value, g, first)
        if point is None:
            return result(2, "ABNORMAL: ")
        x, value, g = x.add(d, alpha=point.t), point.value, point.gradient
        iterations += 1

        halted = False
        if callback is not None:
            try:
                callback(result())
            except StopIteration:
                halted = True
        limits = iterations >= max_iter, evaluate.count > max_fun
        if any(limits):
            return result(1, ITERATIONS if limits[0] else EVALUATIONS)
        if halted:
            return result(2, HALTED)
        if _largest(g) <= gtol:
            return result(0, FLAT)
        if start.value - value <= ftol * max(abs(start.value), abs(value), 1):
            return result(0, LEVEL)

        product = (point.slope - start.slope) * point.t
        if product > eps * -start.slope * point.t:
            pairs.add(d.mul(point.t), g - start.gradient, product)


FLAT = "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL"
LEVEL = "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH"
ITERATIONS = "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT"
EVALUATIONS = "STOP: TOTAL NO. OF F,G EVALUATIONS EXCEEDS LIMIT"
HALTED = "`callback` raised `StopIteration`."


def _largest(g: Tensor) -> float:
    r"""$\max|g|$; not a number where an element is not."""
    return float(g.abs().max())


class _Evaluations:
    """The function, counted; a point that was the last one is not evaluated again."""

    def __init__(self, function: Callable[[Tensor], tuple[Any, Tensor]], x0: Tensor):
        self.function, self.dtype, self.count = function, x0.dtype, 0
        self.with_grad = torch.is_grad_enabled()  # for a function that uses autograd
        self.start = x0.detach().to(torch.promote_types(x0.dtype, torch.float32), copy=True)
        self.last: tuple[Tensor, float, Tensor] | None = None

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        if self.last is None or not torch.equal(self.last[0], x):
            with torch.set_grad_enabled(self.with_grad):
                value, g = self.function(x.to(self.dtype))
            if g.shape != x.shape:
                raise ValueError(f"the gradient must have x's shape, {tuple(x.shape)}, it has {tuple(g.shape)}")
            self.count += 1
            self.last = x, float(value), g.detach().to(x, copy=True)
        return self.last[1], self.last[2]
