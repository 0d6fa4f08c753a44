"""Hard samples and wrong calls of manual/nn/rnn_cell.py."""

from __future__ import annotations

import math

from ...core.compat import DIMENSIONS_OF_CELLS
from ...manual.nn.rnn_cell import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from .register import call, errors, samples

CELLS = {rnn_relu_cell: (1, 1), rnn_tanh_cell: (1, 1), lstm_cell: (4, 2), gru_cell: (3, 1)}  # its gates and its states


def arguments(tensor, gates, states):
    """Of two rows, three features and a state of two: input, states; weights; biases."""

    def draw(*shape):
        return tensor([math.sin(7 * k + sum(shape)) for k in range(math.prod(shape))]).reshape(shape)

    hx = tuple(draw(2, 2) * (-1) ** i for i in range(states))
    return (draw(2, 3), *hx), (draw(2 * gates, 3), draw(2 * gates, 2)), (draw(2 * gates), -2 * draw(2 * gates))


def of_cell(operation, gates, states):
    @samples(operation)
    def cell_samples(tensor):
        given, weights, biases = arguments(tensor, gates, states)
        yield call(*given, *weights, *biases)
        yield call(*given, *weights)
        yield call(*(t[:1] for t in given), *weights, *biases)
        yield call(*(t[:0] for t in given), *weights, *biases)  # no row
        yield call(given[0] * 1e3, *given[1:], *weights, *biases)  # saturated
        yield call(given[0], *(0 * h for h in given[1:]), *weights, *biases)

    @errors(operation)
    def cell_errors(tensor):
        (x, *h), weights, biases = arguments(tensor, gates, states)
        yield (
            RuntimeError if DIMENSIONS_OF_CELLS else (IndexError, RuntimeError),
            call(x[0], *(s[0] for s in h), *weights),
        )
        yield RuntimeError, call(x[:, :2], *h, *weights, *biases)
        yield RuntimeError, call(x, *h[:-1], h[-1][:1], *weights)
        yield RuntimeError, call(x, *h[:-1], h[-1][:, :1], *weights)
        yield RuntimeError, call(x, *h, weights[0][:1], weights[1])
        yield RuntimeError, call(x, *h, *weights, biases[0].repeat(2), biases[1])


for operation, numbers in CELLS.items():
    of_cell(operation, *numbers)
