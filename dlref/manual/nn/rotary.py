"""Rotary positions: each pair of features turned by an angle that grows with the place in the sequence."""

from __future__ import annotations

import torch

from ...builtin import sequence as builtin
from ...builtin.nn import sequence as builtin_nn
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import made_of
from .common import wide


def _pairs(x, interleaved):
    """The first and the second of each pair of features, each (*, T, D / 2): neighbours, or one of each half."""
    n = x.shape[-1] // 2
    return x.unflatten(-1, (n, 2)).unbind(-1) if interleaved else x.unflatten(-1, (2, n)).unbind(-2)


def _joined(first, second, interleaved):
    """(*, T, D) of its pairs."""
    return torch.stack((first, second), -1 if interleaved else -2).flatten(-2)


@op(builtin=builtin.rotary_embedding)
def rotary_embedding(input, cos, sin, interleaved=False):
    r"""Rotary position embedding: each pair of features turned by an angle $\theta$,
    $(y_1, y_2) = (x_1 \cos\theta - x_2 \sin\theta,\ x_2 \cos\theta + x_1 \sin\theta)$.

    input (*, T, D), cos and sin (*, T, D / 2) of one shape, broadcast to the input's; output as input. Pair i is the features
    i and i + D / 2; where interleaved, 2i and 2i + 1. RuntimeError where D is odd or the shapes do not fit. Su et al. 2021,
    arXiv:2104.09864, eq. 34, whose pairs are interleaved.
    """
    x1, x2 = _pairs(wide(input), interleaved)
    c, s = wide(cos), wide(sin)
    return _joined(x1 * c - x2 * s, x2 * c + x1 * s, interleaved).to(input.dtype)


@rotary_embedding.gradient
def rotary_embedding_gradient(dy, needs, input, cos, sin, interleaved):
    r"""A rotation's transpose turns back: $(dx_1, dx_2) = (dy_1 \cos\theta + dy_2 \sin\theta,\
    dy_2 \cos\theta - dy_1 \sin\theta)$; and, with the cosine and the sine as independent numbers,
    $d\cos\theta = dy_1 x_1 + dy_2 x_2,\quad d\sin\theta = dy_2 x_1 - dy_1 x_2$.
    """
    (dy1, dy2), (x1, x2) = _pairs(wide(dy), interleaved), _pairs(wide(input), interleaved)
    c, s = wide(cos), wide(sin)
    return (
        _joined(dy1 * c + dy2 * s, dy2 * c - dy1 * s, interleaved) if needs.input else None,
        dy1 * x1 + dy2 * x2 if needs.cos else None,
        dy2 * x1 - dy1 * x2 if needs.sin else None,
    )


class RotaryEmbedding(Manual, builtin_nn.RotaryEmbedding):
    """The module of `rotary_embedding`."""

    op = rotary_embedding
    attributes = {"interleaved": "interleaved"}

    def forward(self, input, positions=None):
        return self.__op__(input, *self.angles(input, positions), **self.arguments())

    def explicit(self, input, positions=None):
        output, pull = self.__op__.vjp(input, *self.angles(input, positions), **self.arguments())

        def pullback(dy=None, needs=None):
            dx, *_ = pull(dy, (needs is None or needs[0], *(False for _ in range(3))))
            return (dx, None)[: 1 if positions is None else 2]

        return output, made_of(pullback, pull, trains=False)


@rotary_embedding.prepare
def rotary_embedding_prepare(input, cos, sin, interleaved=False):
    builtin.check_rotary_embedding(input, cos, sin)
    return input, cos, sin, interleaved
