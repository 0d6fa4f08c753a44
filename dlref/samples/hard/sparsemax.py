"""Hard samples, wrong calls and equations of manual/nn/sparsemax.py."""

from __future__ import annotations

from ...manual.nn.sparsemax import entmax, sparsemax
from .register import INF, NAN, call, equation, errors, samples


def _rows(tensor):
    return tensor([[0.5, 0.25, -0.375], [3.0, -1.0, 0.75], [1e3, -1e3, 999.75], [-INF, 0.0, 0.375]])


def _kinks(tensor):
    """Ties, also of the threshold; beside a row that is nowhere, as no difference has the derivative there."""
    return tensor(
        [[-INF, -INF, -INF], [1.0, 0.0, 0.0], [1.0, 1.0, 0.5], [2.0, 2.0, 2.0], [0.0, -2.0, -1e4], [NAN, 0.0, 1.0]]
    )


def _common(tensor, *options):
    yield call(_rows(tensor), *options)
    yield call(_kinks(tensor), *options)
    yield call(_rows(tensor)[:, :2], *options, dim=0)
    yield call(tensor(3.0), *options)
    yield call(tensor([[1.0], [-2.0]]), *options)  # one class
    for shape in ([0, 3], [3, 0]):
        yield call(tensor([]).reshape(shape), *options)
    yield call(tensor([[0.1, 0.2], [0.3, -0.1], [0.0, 0.7], [0.2, 0.2]]).reshape(2, 2, 2), *options, dim=1)


@samples(sparsemax)
def sparsemax_samples(tensor):
    yield from _common(tensor)


@samples(entmax)
def entmax_samples(tensor):
    for alpha in (1.5, 2.0, 1, 1.25):
        yield from _common(tensor, alpha)
    x = _rows(tensor)
    for alpha in (1.01, 1.75, 3.0):
        yield call(x, alpha)
    yield call(tensor([]).reshape(0, 3), 4.0)


@errors(sparsemax)
def sparsemax_errors(tensor):
    yield IndexError, call(tensor([1.0]), 1)


@errors(entmax)
def entmax_errors(tensor):
    x = tensor([[1.0, 2.0]])
    yield ValueError, call(x, 0.5)
    yield ValueError, call(x, INF)
    yield ValueError, call(x, NAN)
    yield TypeError, call(x, tensor(1.5))
    yield IndexError, call(x, dim=2)


@equation(sparsemax)
def sparsemax_equation(sp, input):
    """Of three: all of them, the larger two or the largest are the support, the most that the threshold leaves above 0."""
    a, b, c = input
    total = sum(input)
    least = sp.Min(a, b, c)
    most = sp.Max(a, b, c)
    second = total - least - most
    three, two = (total - 1) / 3, (most + second - 1) / 2
    tau = sp.Piecewise((three, least > three), (two, second > two), (most - 1, True))
    return tuple(sp.Piecewise((x - tau, x > tau), (0, True)) for x in input)
