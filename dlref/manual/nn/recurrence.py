"""Time: a state carried from step to step, and what the gradients of all recurrences share.

Sequences stand packed: the rows of all sequences at step 1, then those at step 2, ..., the longest sequences first, and
`sizes` says how many rows each step has. Sequences of one length are the case of equal sizes. The input's products for all
steps are one matrix product, and so are the weights' gradients; only what depends on the step before is in the loop.

Gates are torch.sigmoid, and not `logistic`: that keeps the digits of a sigmoid below the smallest normal number, which as a
gate is a factor of a term of a sum, where they are lost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .common import outer

State = tuple[Tensor, ...]
Sizes = tuple[int, ...]
Columns = list[list[Tensor]]


def scan(step: Callable, first: State, rows: State, sizes: Sizes, reverse: bool) -> tuple[Columns, State]:
    """Carry a state through the steps: `step(*state, *rows of the step)` returns the next state and a record, a tuple.

    first: the state (N, *) each sequence begins with. Where a step has fewer rows than the one before, the last sequences
    have ended; where it has more, they begin. Returns what was recorded, for each entry the list of the steps' tensors in
    the order of the rows, and each sequence's last state.
    """
    order = slice(None, None, -1 if reverse else 1)
    steps = list(zip(sizes, *(r.split(sizes) for r in rows), strict=True))[order]
    state, ended, records = tuple(s[: steps[0][0]] for s in first), [], []
    for now, *values in steps:
        before = len(state[0])
        if now < before:
            ended.append(tuple(s[now:] for s in state))
            state = tuple(s[:now] for s in state)
        elif now > before:
            state = tuple(torch.cat([s, f[before:now]]) for s, f in zip(state, first, strict=True))
        state, record = step(*state, *values)
        records.append(record)
    if ended:
        state = tuple(torch.cat([s, *(e[i] for e in reversed(ended))]) for i, s in enumerate(state))
    return [list(column) for column in zip(*records[order], strict=True)], state


def joined(columns: Columns) -> list[Tensor]:
    """The rows of all steps, of each entry of the records; none is held twice for longer than it takes."""
    return [torch.cat(columns.pop(0)) for _ in range(len(columns))]


def before(output: Tensor, h0: Tensor, sizes: Sizes, reverse: bool) -> Tensor:
    """The state that each row started from, $h_{t-1}$ of $h_t$."""
    ((h,), _) = scan(lambda h, h_next: ((h_next,), (h,)), (h0,), (output,), sizes, reverse)
    return torch.cat(h)


def outer_before(delta: Tensor, output: Tensor, h0: Tensor, sizes: Sizes, reverse: bool) -> Tensor:
    r"""$\sum_t \delta_t h_{t-1}^\top$, the gradient of the hidden state's weight.

    Where sequences have one length, it is the sum over the rows that begin and those that follow: none is copied.
    """
    n = sizes[0]
    if len(sizes) == 1 or sizes[-1] != n:
        return outer(delta, before(output, h0, sizes, reverse))
    if reverse:
        return outer(delta[-n:], h0) + outer(delta[:-n], output[n:])
    return outer(delta[:n], h0) + outer(delta[n:], output[:-n])


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """$W x + b$ of rows x."""
    return x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())


def affine_gradient(delta: Tensor, needs, input: Tensor, w_ih: Tensor) -> tuple:
    r"""The gradients of input, w_ih and bias in `affine`: $W^\top \delta,\ \sum \delta x^\top,\ \sum \delta$."""
    return (
        delta @ w_ih if needs.input else None,
        outer(delta, input) if needs.w_ih else None,
        delta.sum(0) if needs.b_ih or needs.b_hh else None,
    )
