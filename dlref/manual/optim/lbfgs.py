"""L-BFGS: steps by an approximate inverse Hessian, with a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..lbfgs import Memory, descend
from ..line_search import Line, Point, strong_wolfe

SEARCHES = (None, "strong_wolfe", "more_thuente")


class LBFGS(torch.optim.LBFGS):
    r"""Step along $-H g$, where $H$ is the inverse Hessian that the last steps and changes of the gradient tell of.

    $$\theta_{k+1} = \theta_k - t_k H_k g_k, \qquad H_{k+1} = V^\top H_k V + \rho\, s s^\top,\ V = I - \rho\, y s^\top, \qquad
    s = \theta_{k+1} - \theta_k,\ y = g_{k+1} - g_k,\ \rho = 1 / s^\top y$$

    All parameters are one vector, a complex one its real and imaginary parts. $H$ is applied by two loops over the last
    history_size pairs $(s, y)$, from $\frac{s^\top y}{y^\top y} I$; a pair with $s^\top y \le 10^{-10}$ is not kept.
    lr: $t_k$ itself, or what a search tries first; in the first iteration times $\min(1, 1 / \sum |g|)$.
    line_search_fn: None; "strong_wolfe"; "more_thuente" (not in torch), with L-BFGS-B's conventions: the first step is
        lr / $\|g\|$, a pair with $s^\top y \le \epsilon\,|s^\top g_k|$ is not kept, and where the search fails the pairs are
        forgotten.
    One step is at most max_iter iterations and about max_eval evaluations; it ends where $\max |g| \le$ tolerance_grad, or
    where $g^\top d$, $\max |t d|$ or the error's change falls to tolerance_change.
    `step(closure)`: closure() sets the gradients, by vjp or autograd, and returns the error. Sparse gradients are taken.
    TypeError: no closure; RuntimeError: another line_search_fn; ValueError: several parameter groups.
    Nocedal and Wright 2006, Algorithms 7.4 and 7.5; line searches: dlref/manual/line_search.py.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take up to max_iter iterations; returns what the closure returned first."""
        if closure is None:
            raise TypeError("LBFGS.step needs a closure that sets the gradients and returns the error, as it evaluates both "
                            "several times: step(closure)")  # fmt: skip
        if torch.is_inference_mode_enabled():  # the state is made of ordinary tensors
            with torch.inference_mode(False), torch.no_grad():
                return self._step(torch.enable_grad()(closure))
        with torch.no_grad():
            return self._step(torch.enable_grad()(closure))

    def _step(self, closure: Callable[[], Any]) -> Any:
        if len(self.param_groups) != 1:
            raise AssertionError(f"LBFGS takes one parameter group, it has {len(self.param_groups)}")
        group = self.param_groups[0]
        params, search = group["params"], group["line_search_fn"]
        if search not in SEARCHES:
            raise RuntimeError(f"line_search_fn must be one of {SEARCHES}, it is {search!r}")
        first_loss = closure()
        if not params:
            return first_loss
        lr, max_iter, max_eval = group["lr"], group["max_iter"], group["max_eval"]
        lr = lr.squeeze() if isinstance(lr, Tensor) else lr
        maximize, size, tolerance = group.get("maximize", False), group["history_size"], group["tolerance_change"]

        def evaluated(error: Any) -> tuple[float, Tensor]:
            g = torch.cat([_real(_gradient(p)).reshape(-1) for p in params])
            return (-float(error), g.neg_()) if maximize else (float(error), g)

        def move(d: Tensor, t: Any) -> None:
            parts = d.split([_real(p).numel() for p in params])
            for p, part in zip(map(_real, params), parts, strict=True):
                p.add_(part.view_as(p), alpha=t)

        def along(d: Tensor, number: type = lambda slope: slope) -> Line:
            start = [p.clone() for p in params]

            def phi(t: Any) -> Point:
                move(d, t)
                value, g = evaluated(closure())
                for p, q in zip(params, start, strict=True):
                    p.copy_(q)
                return Point(t, value, number(g.dot(d)), g)

            return phi

        value, g = evaluated(first_loss)
        evaluations = 1
        state = self.state[params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        state["func_evals"] += 1
        flat = bool(g.abs().max() <= group["tolerance_grad"])
        if flat:
            return first_loss

        d, t, previous = state.get("d"), state.get("t"), state.get("prev_flat_grad")
        pairs = Memory(size)
        if "old_stps" in state:
            pairs = Memory(size, state["old_stps"], state["old_dirs"], state["ro"], state["H_diag"])
        value_before = state.get("prev_loss")
        for iteration in range(1, max_iter + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                pairs, d = Memory(size), g.neg()
                first = 1 / g.norm() if search == "more_thuente" else min(1.0, 1.0 / g.abs().sum())
                t = first * lr
            else:
                y, s = g - previous, d.mul(t)
                product = y.dot(s)
                least = 1e-10 if search != "more_thuente" else -torch.finfo(s.dtype).eps * previous.dot(s)
                if product > least:
                    pairs.add(s, y, product)
                d, alphas = pairs.direction(g)
                state.setdefault("al", [None] * size)[: len(alphas)] = alphas
                t = lr
            previous, value_before = g, value
            slope = g.dot(d)
            if slope > -tolerance:
                break

            count = 0
            if search is None:
                move(d, t)
                if iteration < max_iter:  # in the last, nobody asks for it
                    value, g = evaluated(closure())
                    count = 1
            elif search == "strong_wolfe":
                start = Point(0, value, slope, g)
                end, count = strong_wolfe(along(d), start, t, d.abs().max(), limit=max_eval - evaluations)
            else:
                limit = max(1, min(20, max_eval - evaluations))
                d, _, end, count = descend(pairs, lambda d: along(d, float), value, g, float(t), limit)
                if end is None:
                    t = 0.0
                    break
            if search is not None:
                value, g, t = end.value, end.gradient, end.t
                move(d, t)
            flat = bool(g.abs().max() <= group["tolerance_grad"])
            evaluations += count
            state["func_evals"] += count
            if (
                iteration == max_iter or evaluations >= max_eval or flat
                or d.mul(t).abs().max() <= tolerance or abs(value - value_before) < tolerance
            ):  # fmt: skip
                break

        state |= {"d": d, "t": t, "old_dirs": pairs.y, "old_stps": pairs.s, "ro": pairs.rho, "H_diag": pairs.scale,
                  "prev_flat_grad": previous, "prev_loss": value_before}  # fmt: skip
        return first_loss


def _gradient(p: Tensor) -> Tensor:
    if p.grad is None:
        return torch.zeros_like(p)
    return p.grad.to_dense() if p.grad.is_sparse else p.grad


def _real(p: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers."""
    return torch.view_as_real(p.resolve_conj()) if p.is_complex() else p
