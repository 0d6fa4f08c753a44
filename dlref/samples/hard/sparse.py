"""Hard samples, wrong calls and equations of manual/nn/sparse.py."""

from __future__ import annotations

from ...core.compat import COUNTS_OF_BAGS
from ...manual.nn.sparse import embedding, embedding_bag
from .register import call, errors, samples


@samples(embedding)
def embedding_samples(tensor):
    w = tensor([[1.0, 2.0], [3.0, -4.0], [0.5, 0.0]])
    x = (tensor([[2.0, 0.0], [2.0, 2.0]]) * 1).long()
    yield call(x, w)
    yield call(x, w, -1)
    yield call(x, w, 2, None, 2.0, True)
    yield call(x.int(), w, None, None, 2.0, True)
    yield call(x[0, 0], w)
    yield call(x[:0], w)


@errors(embedding)
def embedding_errors(tensor):
    w = tensor([[1.0, 2.0], [3.0, -4.0]])
    yield IndexError, call(tensor([2]), w)
    yield IndexError, call(tensor([-1]), w)
    yield AssertionError, call(tensor([0]), w, 2)
    yield RuntimeError, call(tensor([0.0]), w)
    yield RuntimeError, call(tensor([0]), w[0])


@samples(embedding_bag)
def embedding_bag_samples(tensor):
    w = tensor([[1.0, 2.0, -0.5], [3.0, -4.0, 2.0], [0.5, 0.0, -1.0], [3.0, -6.0, 2.0]])
    x, o, s = (
        tensor(v) for v in ([0.0, 3.0, 1.0, 1.0, 2.0, 3.0, 0.0], [0.0, 4.0, 4.0], [0.5, -2.0, 3.0, 0.0, 1.5, -1.0, 1.0])
    )
    x, o = x.long(), o.long()  # bags of four, none and three
    ended = tensor([0.0, 4.0, 4.0, 7.0, 7.0]).long()
    for mode in ("sum", "mean", "max"):
        yield call(x, w, o, mode=mode)
        yield call(x, w, o, mode=mode, padding_idx=0)
        yield call(x, w, ended, mode=mode, include_last_offset=True)
        yield call(x, w, ended, mode=mode, include_last_offset=True, padding_idx=-1)
        yield call(x.int(), w, o.int(), mode=mode)
        yield call(x[:6].view(2, 3), w, mode=mode)
        yield call(x[2:4].view(1, 2), w, mode=mode, padding_idx=1)  # nothing but padding
        yield call(x[:0], w, o[:0], mode=mode)
        yield call(x[:0], w, o * 0, mode=mode)
        if mode != "max" and COUNTS_OF_BAGS:
            yield call(x, w, o, mode=mode, scale_grad_by_freq=True)
            yield call(x, w, ended, None, 2.0, True, mode, include_last_offset=True, padding_idx=3)
    yield call(x, w, o, mode="sum", per_sample_weights=s)
    yield call(x, w, ended, None, 2.0, bool(COUNTS_OF_BAGS), "sum", False, s, True, 1)
    yield call(x[:6].view(3, 2), w, mode="sum", per_sample_weights=s[:6].view(3, 2))


@errors(embedding_bag)
def embedding_bag_errors(tensor):
    w, x, o = tensor([[1.0, 2.0], [3.0, -4.0]]), tensor([0, 1, 1]), tensor([0, 2])
    for mode in ("sum", "mean", "max"):
        yield RuntimeError, call(x + 1, w, o, mode=mode)  # an index beyond the table
        yield RuntimeError, call(x - 1, w, o, mode=mode)
        yield RuntimeError, call(x, w, o + 1, mode=mode)  # that begin later
        yield RuntimeError, call(x, w, o * 2, mode=mode)  # that begin beyond the indices
        yield RuntimeError, call(x * 1.0, w, o, mode=mode)
        yield RuntimeError, call(x, w, o * 1.0, mode=mode)
        yield RuntimeError, call(x, w.long(), o, mode=mode)
        yield RuntimeError, call(x, w, o[:0], mode=mode, include_last_offset=True)
        yield RuntimeError, call(x, w, o, mode=mode, padding_idx=2)
        yield RuntimeError, call(x, w, o, mode=mode, padding_idx=-3)
        yield RuntimeError, call(x[:0].view(2, 0), w, mode=mode)
        yield ValueError, call(x, w, mode=mode)
        yield ValueError, call(x, w, o[0], mode=mode)
        yield ValueError, call(x[0], w, o, mode=mode)
        yield ValueError, call(x.view(1, 1, 3), w, mode=mode)
        yield ValueError, call(x.view(1, 3), w, o, mode=mode)
        yield ValueError, call(x, w[0], o, mode=mode)
        yield ValueError, call(x, w, o, mode=mode, per_sample_weights=w[0])
    for mode in ("mean", "max"):
        yield NotImplementedError, call(x, w, o, mode=mode, per_sample_weights=w.flatten()[:3])
    yield RuntimeError, call(x, w, o, mode="sum", per_sample_weights=w.flatten()[:3].double())
    yield ValueError, call(x, w, o, mode="min")
    yield ValueError, call(x, w, o, mode="max", scale_grad_by_freq=True)
    yield ValueError, call(x, w, o, mode="max", sparse=True)
