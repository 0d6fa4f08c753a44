"""Shapes: several dimensions as one, and one as several."""

from __future__ import annotations

import torch

from ...core.module import Manual
from ...core.pair import op


@op(builtin=torch.flatten, view=True)
def flatten(input, start_dim=0, end_dim=-1):
    r"""The dimensions from the first to the last given as one: $(*, S_1, \dots, S_k, *) \to (*, S_1 \cdots S_k, *)$.

    A view where the layout allows one. IndexError where there is no such dimension, RuntimeError where start is past end.
    """
    return input.flatten(start_dim, end_dim)


@flatten.gradient
def flatten_gradient(dy, shapes):
    r"""$dx = dy$ in the input's shape."""
    return dy.reshape(shapes.input)


class Flatten(Manual, torch.nn.Flatten):
    """The module of `flatten`."""

    op = flatten


@op(builtin=torch.unflatten, view=True)
def unflatten(input, dim, sizes):
    r"""One dimension as several: $(*, S_1 \cdots S_k, *) \to (*, S_1, \dots, S_k, *)$; one size may be -1.

    A view. IndexError where there is no such dimension, RuntimeError where the sizes do not multiply to it.
    """
    return input.unflatten(dim, sizes)


@unflatten.gradient
def unflatten_gradient(dy, shapes):
    r"""$dx = dy$ in the input's shape."""
    return dy.reshape(shapes.input)


class Unflatten(Manual, torch.nn.Unflatten):
    """The module of `unflatten`."""

    op = unflatten
    attributes = {"dim": "dim", "sizes": "unflattened_size"}
