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
    TypeError: no closure; RuntimeError: another line_search_fn; ValueError: several parameter groups, AssertionError where
    they were added later.
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
        lr, max_iter, max_eval = group["lr"], group["max_iter"], group["max_eval"]
        lr = lr.squeeze() if isinstance(lr, Tensor) else lr
        size, tolerance, tolerance_grad = group["history_size"], group["tolerance_change"], group["tolerance_grad"]
        sign = -1 if group.get("maximize", False) else 1

        first_error = closure()
        if not any(p.numel() for p in params):
            return first_error
        value, g = sign * float(first_error), _gradient(params, sign)
        state, evaluations = self.state[params[0]], 1
        state["func_evals"] = state.get("func_evals", 0) + 1
        state.setdefault("n_iter", 0)
        if g.abs().max() <= tolerance_grad:
            return first_error

        def along(d: Tensor, number: Callable = lambda slope: slope) -> Line:
            start = [p.clone() for p in params]

            def phi(t: Any) -> Point:
                _move(params, d, t)
                value, g = sign * float(closure()), _gradient(params, sign)
                for p, q in zip(params, start, strict=True):
                    p.copy_(q)
                return Point(t, value, number(g.dot(d)), g)

            return phi

        d, t = state.get("d"), state.get("t")
        before, value_before = state.get("prev_flat_grad"), state.get("prev_loss")
        pairs = Memory(size)
        if "old_stps" in state:
            pairs = Memory(size, state["old_stps"], state["old_dirs"], state["ro"], state["H_diag"])
        for iteration in range(1, max_iter + 1):
            # The direction.
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                pairs, d = Memory(size), g.neg()
                first: Any = 1 / g.norm() if search == "more_thuente" else min(1.0, 1.0 / g.abs().sum())
                t = first * lr
            else:
                y, s = g - before, d.mul(t)
                product = y.dot(s)
                if product > (-torch.finfo(s.dtype).eps * before.dot(s) if search == "more_thuente" else 1e-10):
                    pairs.add(s, y, product)
                d, alphas = pairs.direction(g)
                state.setdefault("al", [None] * size)[: len(alphas)] = alphas
                t = lr
            before, value_before = g, value
            slope = g.dot(d)
            if slope > -tolerance:
                break

            # The step.
            count = 0
            if search is None:
                _move(params, d, t)
                if iteration < max_iter:  # after the last, nobody asks for it
                    value, g = sign * float(closure()), _gradient(params, sign)
                    count = 1
            else:
                end: Point | None
                if search == "strong_wolfe":
                    start = Point(0, value, slope, g)
                    end, count = strong_wolfe(along(d), start, t, d.abs().max(), limit=max_eval - evaluations)
                else:
                    limit = max(1, min(20, max_eval - evaluations))
                    d, _, end, count = descend(pairs, lambda d: along(d, float), value, g, float(t), limit)
                    if end is None:
                        end = Point(0.0, value, slope, g)
                t, value, g = end.t, end.value, end.gradient
                _move(params, d, t)
            evaluations += count
            state["func_evals"] += count
            if (
                iteration == max_iter or evaluations >= max_eval or g.abs().max() <= tolerance_grad
                or d.mul(t).abs().max() <= tolerance or abs(value - value_before) < tolerance
            ):  # fmt: skip
                break

        state |= {"d": d, "t": t, "old_dirs": pairs.y, "old_stps": pairs.s, "ro": pairs.rho, "H_diag": pairs.scale,
                  "prev_flat_grad": before, "prev_loss": value_before}  # fmt: skip
        return first_error


def _gradient(params: list[Tensor], sign: int) -> Tensor:
    """The gradients of all parameters as one vector, zeros where there is none; those of sign * error."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    whole = torch.cat([_real(g.to_dense() if g.is_sparse else g).reshape(-1) for g in grads])
    return whole if sign > 0 else whole.neg_()


def _move(params: list[Tensor], d: Tensor, t: Any) -> None:
    r"""$\theta \leftarrow \theta + t d$."""
    reals = [_real(p) for p in params]
    for p, part in zip(reals, d.split([p.numel() for p in reals]), strict=True):
        p.add_(part.view_as(p), alpha=t)


def _real(p: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers."""
    return torch.view_as_real(p.resolve_conj()) if p.is_complex() else p
