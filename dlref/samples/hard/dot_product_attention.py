"""Hard samples, wrong calls and equations of manual/nn/dot_product_attention.py."""

from __future__ import annotations

from ...manual.nn.dot_product_attention import scaled_dot_product_attention
from .register import call, errors, samples


@samples(scaled_dot_product_attention)
def scaled_dot_product_attention_samples(tensor):
    q = tensor([[[0.1, 2.0], [-1.0, 0.5], [30.0, -20.0]]])
    k, v = tensor([[[1.0, 0.0], [0.0, 1.0]]]), tensor([[[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]])
    seen = tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]) > 0  # a row that sees nothing
    yield call(q, k, v)
    yield call(q, k, v, seen)
    yield call(q, k, v, seen.to(q.dtype).log())  # the same as numbers
    yield call(q, k, v, None, 0.0, True, scale=0.3)
    yield call(q[0], k[0], v[0], None, 0.0, True)
    yield call(q * 1e3, k, v)  # saturated
    grouped = q.expand(4, 3, 2), k.expand(2, 2, 2), v.expand(2, 2, 3)
    yield call(*grouped, enable_gqa=True)
    yield call(*grouped, seen, enable_gqa=True)
    yield call(*grouped, seen.to(q.dtype).log(), enable_gqa=True)


@errors(scaled_dot_product_attention)
def scaled_dot_product_attention_errors(tensor):
    q = tensor([[[1.0, 2.0], [3.0, 4.0]]])
    yield RuntimeError, call(q, q[..., :1], q)
    yield RuntimeError, call(q, q, q, q[0] > 0, 0.0, True)
    yield RuntimeError, call(q[0, 0], q, q)
    yield RuntimeError, call(q, q.double(), q)
