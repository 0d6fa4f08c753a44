"""Hard samples, wrong calls and equations of manual/nn/sparsemax.py."""

from __future__ import annotations

import itertools

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


def _projected(sp, x, root):
    """Of the subsets, the largest first, that one is the support whose root has its entries above and the others not."""
    pieces = []
    for support in sorted(itertools.product((True, False), repeat=len(x)), key=sum, reverse=True)[:-1]:
        tau, exists = root([v for v, inside in zip(x, support, strict=True) if inside])
        fits = [v > tau if inside else v <= tau for v, inside in zip(x, support, strict=True)]
        pieces.append((support, tau, sp.And(exists, *fits)))
    return [[(v - tau if support[i] else sp.S.Zero, fits) for support, tau, fits in pieces] for i, v in enumerate(x)]


@equation(sparsemax)
def sparsemax_equation(sp, input):
    found = _projected(sp, input, lambda inside: ((sum(inside) - 1) / len(inside), sp.true))
    return tuple(sp.Piecewise(*pieces, (0, True)) for pieces in found)


@equation(entmax)
def entmax_equation(sp, input, alpha):
    r"""For $\alpha$ = 3/2: $\sum (x_i / 2 - \tau)^2 = 1$ is a quadratic equation."""

    def root(inside):
        mean = sum(inside) / len(inside)
        rest = (1 - sum((v - mean) ** 2 for v in inside)) / len(inside)
        return mean - sp.Piecewise((sp.sqrt(rest), rest > 0), (0, True)), rest > 0

    found = _projected(sp, [x / 2 for x in input], root)
    return tuple(sp.Piecewise(*((u**2, fits) for u, fits in pieces), (0, True)) for pieces in found)
