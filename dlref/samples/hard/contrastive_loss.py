"""Hard samples and wrong calls of manual/nn/contrastive_loss.py."""

from __future__ import annotations

from ...manual.nn.contrastive_loss import info_nce, siglip_loss
from .register import call, errors, samples


def _views(tensor):
    """Pairs that agree, and whose second view is another's."""
    return (tensor([[3.0, 4.0], [-1.0, 0.5], [0.25, -0.125], [1.0, 2.0]]),
            tensor([[6.0, 7.0], [1.0, 0.75], [2.0, -1.5], [-1.0, 0.25]]))  # fmt: skip


@samples(info_nce)
def info_nce_samples(tensor):
    x, y = _views(tensor)
    yield call(x, y)
    yield call(x, y, 1.0)
    yield call(x, y, tensor(0.5))  # a temperature that is learnt
    yield call(x, y, tensor([2.0]))
    yield call(x, y, 1e-3)  # without doubt
    yield call(x, x.clone(), 0.1)
    yield call(x[:1], y[:1])  # one pair: no loss
    yield call(x[:0], y[:0])
    yield call(x.t(), y.t())


@samples(siglip_loss)
def siglip_loss_samples(tensor):
    x, y = ((v / v.norm(dim=1, keepdim=True)).detach() for v in _views(tensor))
    yield call(x, y, 10.0, -10.0)
    yield call(x, y, tensor(10.0), tensor(-10.0))  # as they are learnt
    yield call(x, y, tensor([1.0]), tensor([0.5]))
    yield call(x, y, 500.0, -250.0)  # without doubt
    yield call(x, -y, 500.0, 100.0)
    yield call(x[:1], y[:1], 1.0, 0.0)
    yield call(x[:0], y[:0], 1.0, 0.0)
    yield call(x.t(), y.t(), 2.0, tensor(-1.0))


@errors(info_nce)
def info_nce_errors(tensor):
    x = tensor([[1.0, 2.0], [0.0, 1.0]])
    yield ValueError, call(x, x[:1])
    yield ValueError, call(x[0], x[0])
    yield ValueError, call(x, x, tensor([1.0, 2.0]))


@errors(siglip_loss)
def siglip_loss_errors(tensor):
    x = tensor([[1.0, 2.0], [0.0, 1.0]])
    yield ValueError, call(x, x[:1], 1.0, 0.0)
    yield ValueError, call(x[0], x[0], 1.0, 0.0)
    yield ValueError, call(x, x, tensor([1.0, 2.0]), 0.0)
    yield ValueError, call(x, x, 1.0, tensor([1.0, 2.0]))
