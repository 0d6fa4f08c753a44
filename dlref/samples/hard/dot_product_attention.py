"""Hard samples, wrong calls and equations of manual/nn/dot_product_attention.py."""

from __future__ import annotations

from ...manual.nn.dot_product_attention import attention, scaled_dot_product_attention
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


@samples(attention)
def attention_samples(tensor):
    q = tensor([[[[0.1, 2.0], [-1.0, 0.5], [3.0, -2.0]], [[0.5, 0.5], [1.0, -2.0], [0.0, 0.25]]]])  # (1, 2, 3, 2)
    k = tensor(
        [[[[1.0, 0.0], [0.0, 1.0], [0.5, -1.0], [2.0, 1.0]], [[1.0, 0.5], [-0.5, 1.0], [-1.0, -1.0], [0.0, 3.0]]]]
    )
    v = k.cumsum(-1) * tensor([0.5, -1.0])
    v = v.flip(-2)
    mask = tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]]) > 0  # a row that sees nothing
    c, m = tensor([0.5, -1.0]), tensor([0.5, 0.125])
    yield call(q, k, v)
    yield call(q, k, v, mask)
    yield call(q, k, v, None, 0.0, True, 0.3)
    yield call(q, k, v, mask, 0.5, sinks=c)
    yield call(q, k, v, dropout_p=1.0, window=1)
    yield call(q, k, v, softcap=2.0)
    yield call(30 * q, k, v, softcap=1.0)  # saturated
    yield call(q, k, v, softcap=2.0, is_causal=True, scale=0.3)
    yield call(q, k, v, mask, softcap=2.0)
    yield call(q, k, v, window=1)
    yield call(q, k, v, window=(-1, 0))  # causal, from the last query
    yield call(q, k, v, window=(0, -1))
    yield call(q, k, v, window=(1, 0), is_causal=True)
    yield call(k, q, q, window=(1, 0))  # the first query stands before the first key
    yield call(q, k, v, mask, window=(1, 1), softcap=0.5)
    yield call(q, k, v, sinks=c)
    yield call(q, k, v, mask, sinks=30 * c)
    yield call(q, k, v, mask.to(q.dtype).log(), sinks=c, window=(2, 0), scale=0.5)
    yield call(q, k, v, alibi_slopes=m)
    yield call(q, k, v, alibi_slopes=m.view(1, 2), is_causal=True, softcap=2.0)
    yield call(k, q, q, mask.t(), alibi_slopes=m, sinks=c, window=(0, 2))
    numbers = mask.to(q.dtype).log()
    yield call(q, k, v, numbers, alibi_slopes=m)
    four = q.repeat_interleave(2, 1).cumsum(1), k, v  # heads, of two keys
    yield call(*four, enable_gqa=True)
    yield call(*four, numbers, enable_gqa=True, sinks=c.repeat(2))
    yield call(*four, mask, scale=0.3, enable_gqa=True, alibi_slopes=m.repeat(2))
    yield call(*four, is_causal=True, enable_gqa=True, softcap=2.0, window=2)
    yield call(
        *four, enable_gqa=True, softcap=2.0, window=(2, 1), sinks=c.repeat(2), alibi_slopes=m.repeat(2).view(1, 4)
    )
    yield call(q[0], k[0], v[0], sinks=c, alibi_slopes=m)  # (H, L, E)
    yield call(q[0, 0], k[0, 0], v[0, 0], window=(1, 0))  # no heads
    yield call(q[:0], k[:0], v[:0], sinks=c, window=1)
    yield call(q, k[..., :0, :], v[..., :0, :], sinks=c, alibi_slopes=m)  # no keys


@errors(attention)
def attention_errors(tensor):
    q = tensor([[[1.0, 2.0], [3.0, 4.0]]])
    yield RuntimeError, call(q, q[..., :1], q)
    yield RuntimeError, call(q, q, q, q[0] > 0, 0.0, True)
    yield RuntimeError, call(q, q, q, q[0] > 0, 0.0, True, softcap=1.0)
    yield RuntimeError, call(q, q.double(), q)
    yield RuntimeError, call(q, q, q, softcap=0.0)
    yield RuntimeError, call(q, q, q, window=-2)
    yield RuntimeError, call(q, q, q, window=(1, 2, 3))
    yield RuntimeError, call(q, q, q, sinks=q[0, 0])  # two for one head
    yield RuntimeError, call(q, q, q, alibi_slopes=q[0])
    yield RuntimeError, call(q[0], q[0], q[0], sinks=q[0, 0, :1])  # no heads
