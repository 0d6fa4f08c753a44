"""Hard samples, wrong calls and equations of manual/nn/activation.py."""

from __future__ import annotations

from ...manual.nn.activation import (
    SELU_ALPHA,
    SELU_SCALE,
    celu,
    elu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    prelu,
    relu,
    relu6,
    rrelu,
    selu,
    softshrink,
    threshold,
)
from .register import INF, NAN, call, equation, samples


@samples(relu)
def relu_samples(tensor):
    yield call(tensor([-1.0, -0.0, 0.0, 1e-30, 1.0, INF, -INF, NAN]))


@equation(relu)
def relu_equation(sp, input):
    return sp.Piecewise((input, input > 0), (0, True))


@samples(relu6)
def relu6_samples(tensor):
    yield call(tensor([-1.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 7.0, INF, -INF]))
    yield call(tensor([NAN]))
    yield call(tensor([]))


@equation(relu6)
def relu6_equation(sp, input):
    return sp.Piecewise((0, input <= 0), (input, input < 6), (6, True))


@samples(threshold)
def threshold_samples(tensor):
    yield call(tensor([-1.0, 0.0, 0.5, 0.7, 1.0, INF, -INF, NAN]), 0.5, -1.0)
    yield call(tensor([0.69, 0.7, 0.71, 0.0]), 0.7, 20.0)  # half precision cannot hold the threshold
    yield call(tensor([]), 0.0, 1.0)


@equation(threshold)
def threshold_equation(sp, input, threshold, value):
    return sp.Piecewise((input, input > threshold), (value, True))


@samples(leaky_relu)
def leaky_relu_samples(tensor):
    yield call(tensor([-1e4, -1.0, -0.0, 0.0, 1e-30, 1e4, INF, -INF, NAN]))
    for slope in (0.0, 1.0, -0.5, 2.0):
        yield call(tensor([-1.0, 0.0, 2.0]), slope)
    yield call(tensor([]))


@equation(leaky_relu)
def leaky_relu_equation(sp, input, negative_slope):
    return sp.Piecewise((input, input > 0), (negative_slope * input, True))


@samples(prelu)
def prelu_samples(tensor):
    x = tensor([[-1.0, -0.0], [0.0, 1e4], [INF, -1e4]])
    yield call(x, tensor([0.25]))
    yield call(x, tensor([0.0, -2.0]))  # one a channel
    yield call(x, tensor(0.5))  # a weight without dimensions
    yield call(tensor(-2.0), tensor([0.5]))  # an input without dimensions
    yield call(tensor([-2.0, NAN]), tensor([0.5]))  # an input without channels
    yield call(tensor([]).reshape(0, 2, 3), tensor([0.5, 1.0]))


@equation(prelu)
def prelu_equation(sp, input, weight):
    return sp.Piecewise((input, input > 0), (weight * input, True))


@samples(rrelu)
def rrelu_samples(tensor):
    x = tensor([-1e4, -1.0, -0.0, 0.0, 1e-30, 1e4, INF, -INF])
    for training in (False, True):
        yield call(x, training=training)
        yield call(x, 0.2, 0.2, training=training)  # no choice
        yield call(tensor([]), training=training)
        yield call(tensor(-2.0), training=training)


@equation(rrelu)
def rrelu_equation(sp, input, lower, upper):
    return sp.Piecewise((input, input > 0), (input * (lower + upper) / 2, True))


def _elu_samples(tensor, *options):
    for option in ({}, *options):
        yield call(tensor([-1e4, -20.0, -1.0, -1e-6, -0.0, 0.0, 1e-6, 1.0, 1e4, INF, -INF]), **option)
    yield call(tensor([NAN]))
    yield call(tensor([]))


@samples(elu)
def elu_samples(tensor):
    yield from _elu_samples(tensor, *({"alpha": alpha} for alpha in (0.3, -2.0, 0.0, 1e-300, 1e30, INF)))


@equation(elu)
def elu_equation(sp, input, alpha):
    return sp.Piecewise((input, input > 0), (alpha * (sp.exp(input) - 1), input < 0), (alpha * input, True))


@samples(celu)
def celu_samples(tensor):
    yield from _elu_samples(
        tensor, *({"alpha": alpha} for alpha in (0.25, 4.0, 2.0**-99, 2.0**99))
    )  # torch rounds 1 / alpha
    yield call(tensor([-1.0, 0.0, 2.0]), -2.0)


@equation(celu)
def celu_equation(sp, input, alpha):
    return sp.Piecewise((input, input > 0), (alpha * (sp.exp(input / alpha) - 1), input < 0), (input, True))


@samples(selu)
def selu_samples(tensor):
    yield from _elu_samples(tensor)


@equation(selu)
def selu_equation(sp, input):
    alpha, scale = sp.Rational(SELU_ALPHA), sp.Rational(SELU_SCALE)
    return scale * sp.Piecewise((input, input > 0), (alpha * (sp.exp(input) - 1), input < 0), (alpha * input, True))


@samples(hardtanh)
def hardtanh_samples(tensor):
    yield call(tensor([-1e4, -1.0, -0.5, -0.0, 0.5, 1.0, 1e4, INF, -INF]))
    yield call(tensor([0.69, 0.7, 0.71, -0.3, -0.31, -0.29]), -0.3, 0.7)  # half precision cannot hold the bounds
    yield call(tensor([0.0, 1.0, 2.0]), 1.0, 1.0)
    yield call(tensor([NAN]))
    yield call(tensor([]))


@equation(hardtanh)
def hardtanh_equation(sp, input, min_val, max_val):
    return sp.Piecewise((min_val, input <= min_val), (input, input < max_val), (max_val, True))


def _knots(tensor):
    yield call(tensor([-1e4, -4.0, -3.0, -2.9, 0.0, 2.9, 3.0, 4.0, 1e4, INF, -INF]))
    yield call(tensor([NAN]))
    yield call(tensor([]))


samples(hardsigmoid)(_knots)


@equation(hardsigmoid)
def hardsigmoid_equation(sp, input):
    return sp.Piecewise((0, input <= -3), ((input + 3) / 6, input < 3), (1, True))


samples(hardswish)(_knots)


@equation(hardswish)
def hardswish_equation(sp, input):
    return sp.Piecewise((0, input <= -3), (input * (input + 3) / 6, input < 3), (input, True))


def _shrink_samples(tensor):
    for lambd in (0.5, 0.0, 0.7):
        yield call(tensor([-1e4, -0.7, -0.5, -0.1, -0.0, 0.1, 0.5, 0.7, 1e4, INF, -INF]), lambd)
    yield call(tensor([NAN]))
    yield call(tensor([]))


@samples(hardshrink)
def hardshrink_samples(tensor):
    yield from _shrink_samples(tensor)
    yield call(tensor([-1.0, 0.0, 1.0]), -0.5)


@equation(hardshrink)
def hardshrink_equation(sp, input, lambd):
    return sp.Piecewise((input, input > lambd), (input, input < -lambd), (0, True))


samples(softshrink)(_shrink_samples)


@equation(softshrink)
def softshrink_equation(sp, input, lambd):
    return sp.Piecewise((input - lambd, input > lambd), (input + lambd, input < -lambd), (0, True))
