"""Hard samples, wrong calls and equations of what networks of sequences are made of: manual/nn/rotary.py,
gated_linear_unit.py, residual_norm.py, routing.py and linear_attention.py."""

from __future__ import annotations

import math

from ...manual.nn.gated_linear_unit import geglu, swiglu
from ...manual.nn.linear_attention import gated_delta_rule, linear_attention
from ...manual.nn.residual_norm import add_rms_norm, dynamic_tanh
from ...manual.nn.rotary import rotary_embedding
from ...manual.nn.routing import top_k_routing
from .register import EQUATIONS, call, equation, errors, samples


@samples(rotary_embedding)
def rotary_embedding_samples(tensor):
    x = tensor([[[1.0, -2.0, 0.5, 3.0], [0.0, 1.0, -1.0, 2.0], [0.25, -0.5, 1e4, 1e-4]],
                [[2.0, 1.0, -0.5, 0.1], [1.0, 1.0, 1.0, 1.0], [-3.0, 0.0, 0.0, 2.0]]])  # fmt: skip
    angle = tensor([[0.0, 0.0], [1.0, 0.1], [math.pi / 2, -2.0]])
    cos, sin = angle.cos(), angle.sin()
    for interleaved in (False, True):
        yield call(x, cos, sin, interleaved)
        yield call(x[0], cos, sin, interleaved=interleaved)
        yield call(x[0, 0], cos[1], sin[1], interleaved)  # one place
        yield call(x, cos.expand(2, 3, 2), sin.expand(2, 3, 2), interleaved)  # a table for each
        yield call(x[..., :2], cos[:, :1], sin[:, :1], interleaved)  # one pair
        yield call(x[:0], cos, sin, interleaved)
    yield call(x, cos[:1], sin[:1])  # one angle for all places
    yield call(x, 2 * cos, sin - 1)  # no rotation


@errors(rotary_embedding)
def rotary_embedding_errors(tensor):
    x, c = tensor([[1.0, 2.0, 3.0, 4.0]]), tensor([[1.0, 0.0]])
    yield RuntimeError, call(x[:, :3], c, c)
    yield RuntimeError, call(x, c[:, :1], c[:, :1])  # one for all pairs
    yield RuntimeError, call(x, c, c[0])
    yield RuntimeError, call(x, c.expand(2, 2), c.expand(2, 2))  # more places than there are


def _gates(tensor):
    a = tensor([[-1e2, -20.0, -3.0, -1.0], [-1e-4, 0.0, 1e-4, 0.5], [1.0, 3.0, 20.0, 1e2]])
    yield a, tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 1.0, -1.0, 1e3], [2.0, -1e-3, 1.0, -1.0]])
    yield a[0, 0], a[1, 3]
    yield a[:0], a[:0]


@samples(swiglu)
def swiglu_samples(tensor):
    for gate, up in _gates(tensor):
        yield call(gate, up)


@samples(geglu)
def geglu_samples(tensor):
    for approximate in ("none", "tanh"):
        for gate, up in _gates(tensor):
            yield call(gate, up, approximate)


@errors(swiglu)
def swiglu_errors(tensor):
    a = tensor([[1.0, 2.0]])
    yield RuntimeError, call(a, a[:, :1])
    yield RuntimeError, call(a, a.double())


@errors(geglu)
def geglu_errors(tensor):
    a = tensor([[1.0, 2.0]])
    yield RuntimeError, call(a, a[:, :1])
    yield RuntimeError, call(a, a.double())
    yield RuntimeError, call(a, a, "sigmoid")


@equation(swiglu)
def swiglu_equation(sp, gate, up):
    return EQUATIONS["silu"](sp, gate) * up


@equation(geglu)
def geglu_equation(sp, gate, up, approximate):
    return EQUATIONS["gelu"](sp, gate, approximate) * up


@samples(add_rms_norm)
def add_rms_norm_samples(tensor):
    x = tensor([[[1.0, -2.0, 0.5], [1e-4, 2e-4, -1e-4]], [[3.0, 3.0, 3.0], [0.0, -100.0, 50.0]]])
    r = tensor([[[0.5, 1.0, -0.5], [0.0, 1e-4, 1e-4]], [[-1.0, 0.0, 1.0], [1.0, 100.5, -50.0]]])
    w = tensor([1.0, -0.5, 2.0])
    yield call(x, r, w)
    yield call(x, r, w, 0.1)
    yield call(x[0, 0], r[0, 0], w)
    yield call(x, r, x[0], eps=1e-3)  # over two dimensions
    yield call(x[:0], r[:0], w)


@errors(add_rms_norm)
def add_rms_norm_errors(tensor):
    x = tensor([[1.0, 2.0]])
    yield RuntimeError, call(x, x[0], x[0])
    yield RuntimeError, call(x, x, x[0, :1])
    yield RuntimeError, call(x, x, x[0, 0])
    yield RuntimeError, call(x, x.double(), x[0])


@samples(dynamic_tanh)
def dynamic_tanh_samples(tensor):
    x, a = tensor([[-1e3, -20.0, -1.0], [-1e-4, 0.0, 1e-4], [0.5, 10.0, 1e3]]), tensor([0.5])
    w, b = tensor([1.0, -0.5, 2.0]), tensor([0.0, 1.0, -3.0])
    yield call(x, a)
    yield call(x, a, w)
    yield call(x, -a[0], None, b)
    yield call(x, a, w, b)
    yield call(x, 0 * a, weight=x, bias=x)  # over two dimensions
    yield call(x[:0], a, w, b)


@errors(dynamic_tanh)
def dynamic_tanh_errors(tensor):
    x = tensor([[1.0, 2.0]])
    yield RuntimeError, call(x, x[0])
    yield RuntimeError, call(x, x[:, :1], x[:, 0])
    yield RuntimeError, call(x, x[:, 0], None, x[0, :1])
    yield RuntimeError, call(x[0, 0], x[:, 0])


@samples(top_k_routing)
def top_k_routing_samples(tensor):
    z = tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 0.25, -1.0, 0.125], [30.0, -30.0, 10.0, 20.0], [-1.0, -2.0, -3.0, -4.0]])
    for k in (1, 2, 4):
        yield call(z, k)
    yield call(z.view(2, 2, 4), 3)
    yield call(20 * z, 3)  # probabilities of nought
    yield call(z[:1], k=2)
    yield call(z[:, :1], 1)  # one expert
    yield call(z[:0], 2)  # no tokens: 0 / 0


@errors(top_k_routing)
def top_k_routing_errors(tensor):
    z = tensor([[1.0, 2.0]])
    yield RuntimeError, call(z, 3)
    yield RuntimeError, call(z, 0)
    yield RuntimeError, call(z[0], 1)


def _sequences(tensor):
    """q, k and v of (2, 3, 2) and (2, 3, 3)."""
    q = tensor([[[0.5, -1.0], [2.0, 0.25], [-0.5, 1.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    k = tensor([[[1.0, 0.5], [-0.5, 0.5], [0.25, -1.0]], [[0.6, 0.8], [0.8, -0.6], [0.0, 0.0]]])
    v = tensor(
        [[[1.0, 2.0, -1.0], [0.5, 0.0, 1.0], [3.0, -2.0, 0.1]], [[-1.0, 0.5, 0.0], [1.0, 1.0, 1.0], [0.0, 2.0, -3.0]]]
    )
    return q, k, v


@samples(linear_attention)
def linear_attention_samples(tensor):
    q, k, v = _sequences(tensor)
    yield call(q, k, v)
    yield call(q, k, v, 0.3)
    yield call(q[0], k[0], v[0], scale=-2.0)
    yield call(q[:, :1], k[:, :1], v[:, :1])  # one step
    yield call(q.repeat(1, 23, 1), k.repeat(1, 23, 1), v.repeat(1, 23, 1))  # more than a chunk
    yield call(q[:0], k[:0], v[:0])
    yield call(q[:, :0], k[:, :0], v[:, :0])


@samples(gated_delta_rule)
def gated_delta_rule_samples(tensor):
    q, k, v = _sequences(tensor)
    beta, g = tensor([[1.0, 0.5, 0.25], [0.0, 2.0, -0.5]]), tensor([[0.0, -0.1, -2.0], [0.3, -30.0, -1e-3]])
    yield call(q, k, v, beta, g)
    yield call(q, k, v, beta, g, 0.3)
    yield call(q[0], k[0], v[0], beta[0], g[0], scale=-2.0)
    yield call(q[:, :1], k[:, :1], v[:, :1], beta[:, :1], g[:, :1])  # one step
    long = q.repeat(1, 23, 1), k.repeat(1, 23, 1) / 2, v.repeat(1, 23, 1), beta.repeat(1, 23), g.repeat(1, 23)
    yield call(*long)  # more than a chunk
    yield call(*long[:4], -8 * long[4].abs())  # what is forgotten lies below the smallest number
    yield call(q[:0], k[:0], v[:0], beta[:0], g[:0])
    yield call(q[:, :0], k[:, :0], v[:, :0], beta[:, :0], g[:, :0])


@errors(linear_attention)
def linear_attention_errors(tensor):
    q, k, v = _sequences(tensor)
    yield RuntimeError, call(q, k[:, :2], v)
    yield RuntimeError, call(q, k, v[:, :2])
    yield RuntimeError, call(q, k[:1], v)
    yield RuntimeError, call(q[0, 0], k[0, 0], v[0, 0])
    yield RuntimeError, call(q, k, v.double())


@errors(gated_delta_rule)
def gated_delta_rule_errors(tensor):
    q, k, v = _sequences(tensor)
    b = q[..., 0]
    yield RuntimeError, call(q, k[:, :2], v, b, b)
    yield RuntimeError, call(q, k, v, b[:, :2], b)
    yield RuntimeError, call(q, k, v, b, q)
    yield RuntimeError, call(q, k, v.double(), b, b)
