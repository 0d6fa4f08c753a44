"""Hard samples, wrong calls and equations of manual/nn/smooth_activation.py."""

from __future__ import annotations

from ...manual.nn.smooth_activation import (
    CUBIC,
    gelu,
    glu,
    logsigmoid,
    mish,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)
from .register import INF, NAN, call, equation, errors, samples


def _extremes(tensor):
    yield call(tensor([-1e4, -90.0, -20.0, -1.0, -1e-6, -0.0, 0.0, 1e-6, 1.0, 20.0, 90.0, 1e4]))
    yield call(tensor([INF]))
    yield call(tensor([-INF, NAN]))
    yield call(tensor([]))
    yield call(tensor(0.5))


samples(sigmoid)(_extremes)


@equation(sigmoid)
def sigmoid_equation(sp, input):
    return 1 / (1 + sp.exp(-input))


samples(tanh)(_extremes)


@equation(tanh)
def tanh_equation(sp, input):
    return sp.tanh(input)


samples(logsigmoid)(_extremes)


@equation(logsigmoid)
def logsigmoid_equation(sp, input):
    return -sp.log(1 + sp.exp(-input))


@samples(softplus)
def softplus_samples(tensor):
    yield from _extremes(tensor)
    x = tensor([-1e4, -1.0, 0.0, 1.0, 1.5, 2.0, 1e4])
    yield call(x, 2.0, 3.0)  # the piece boundary, and beyond it
    yield call(x, -1.0)
    yield call(x, 0.5, -1.0)
    for beta in (1e-300, 1e-30, 1e30, INF):
        yield call(x, beta)


@equation(softplus)
def softplus_equation(sp, input, beta, threshold):
    return sp.Piecewise((input, beta * input > threshold), (sp.log(1 + sp.exp(beta * input)) / beta, True))


@samples(softsign)
def softsign_samples(tensor):
    yield call(tensor([-1e4, -1.0, -1e-6, -0.0, 0.0, 1e-6, 1.0, 1e4, NAN]))
    yield call(tensor([]))


@equation(softsign)
def softsign_equation(sp, input):
    return sp.Piecewise((input / (1 + input), input > 0), (input / (1 - input), input < 0), (input, True))


samples(tanhshrink)(_extremes)


@equation(tanhshrink)
def tanhshrink_equation(sp, input):
    return input - sp.tanh(input)


samples(silu)(_extremes)


@equation(silu)
def silu_equation(sp, input):
    return input / (1 + sp.exp(-input))


samples(mish)(_extremes)


@equation(mish)
def mish_equation(sp, input):
    square = (1 + sp.exp(input)) ** 2
    return input * (square - 1) / (square + 1)


@samples(gelu)
def gelu_samples(tensor):
    for approximate in ("none", "tanh"):
        for args, _ in _extremes(tensor):
            yield call(*args, approximate=approximate)


@equation(gelu)
def gelu_equation(sp, input, approximate):
    if approximate == "none":
        return input * sp.erfc(-input / sp.sqrt(2)) / 2
    return input / (1 + sp.exp(-sp.sqrt(8 / sp.pi) * (input + sp.Rational(CUBIC) * input**3)))


@samples(glu)
def glu_samples(tensor):
    x = tensor([[1e4, -1e4, 0.0, 2.0], [1e4, -1e4, 3.0, -90.0]])
    for dim in (0, 1, -1):
        yield call(x, dim)
    yield call(tensor([]).reshape(3, 0))
    yield call(tensor([INF, -1.0, 1.0, 1.0]))


@equation(glu)
def glu_equation(sp, input):
    a, b = input
    return (a / (1 + sp.exp(-b)),)


@errors(glu)
def glu_errors(tensor):
    yield RuntimeError, call(tensor(1.0))  # no dimension to halve
    yield RuntimeError, call(tensor([1.0, 2.0, 3.0]))  # an odd one
    yield IndexError, call(tensor([1.0, 2.0]), 1)
