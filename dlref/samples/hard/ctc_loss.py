"""Hard samples and wrong calls of manual/nn/ctc_loss.py."""

from __future__ import annotations

import torch

from ...manual.nn.ctc_loss import ctc_loss
from .register import call, errors, samples


@samples(ctc_loss)
def ctc_loss_samples(tensor):
    x = tensor([[[0.1, 0.7, -0.4], [1.2, -0.3, 0.0]], [[-0.8, 0.2, 0.5], [0.3, 0.9, -1.1]],
                [[0.4, -0.6, 1.0], [-0.2, 0.6, 0.1]], [[0.0, 0.3, -0.9], [0.7, -0.5, 0.8]]])  # fmt: skip
    p = x - x.exp().sum(2, keepdim=True).log()
    whole = lambda *values: torch.tensor(values, device=x.device)  # noqa: E731
    targets = whole(1, 2, 2, 1).view(2, 2)
    for reduction in ("none", "mean", "sum"):
        yield call(p, targets, (4, 4), (2, 2), reduction=reduction)
        yield call(x, targets, (3, 4), (1, 2), 0, reduction, True)  # logits that are no logarithms of probabilities
    yield call(p[:, 0], targets[0], whole(4), whole(2))
    yield call(p[:, 0], targets[0], (3,), (2,), reduction="none")
    yield call(p, targets, whole(4, 4), whole(2, 2))
    yield call(p, targets.int(), whole(4, 2).int(), whole(1, 2).int())
    yield call(p, whole(1, 2, 2), (4, 4), (1, 2))  # one after the other
    yield call(p, whole(1, 2, 2), whole(4, 3), whole(2, 1), reduction="none")
    yield call(p, whole(0, 1, 1, 0).view(2, 2), (4, 4), (2, 2), 2)
    yield call(p, whole(1, 1, 2, 2).view(2, 2), (4, 3), (2, 2), reduction="none")  # the same label twice
    yield call(p, whole(2, 2, 1, 2).view(2, 2), (4, 4), (1, 1), reduction="none")  # and once more behind the end
    yield call(p, targets, (4, 4), (0, 1), reduction="none")
    yield call(p, targets[:, :0], (4, 3), (0, 0))
    yield call(p, targets[0, :0], whole(4, 3), whole(0, 0))
    yield call(p, targets, (0, 4), (0, 2), reduction="none")
    yield call(p[:, :, :1], targets[:, :0], (4, 4), (0, 0))  # nothing but the blank
    yield call(p[:1], targets, (1, 1), (1, 1), reduction="sum")
    for reduction in ("none", "mean", "sum"):  # no path: too few frames
        for zero_infinity in (False, True):
            yield call(p, whole(1, 1, 2, 1).view(2, 2), (2, 4), (2, 2), 0, reduction, zero_infinity)
    yield call(p, whole(1, 1, 0, 1).view(2, 2), (2, 4), (2, 2), 2, "none", True)
    yield call(p, targets, (0, 4), (1, 2), reduction="none")
    yield call(p, targets, (0, 4), (1, 2), zero_infinity=True)
    sure = tensor([[[-90.0, 0.0, -120.0]], [[0.0, -150.0, -90.0]], [[-700.0, -90.0, 0.0]], [[0.0, -1e4, -1e4]]])
    yield call(sure, whole(1, 2).view(1, 2), (4,), (2,))
    yield call(sure, whole(2, 1).view(1, 2), (4,), (2,))
    yield call(p * 1e3, targets, (4, 4), (2, 2), reduction="none")


@errors(ctc_loss)
def ctc_loss_errors(tensor):
    p, targets = tensor([[[-1.0, -1.0, -1.0]] * 2] * 3), tensor([[1, 2], [2, 1]])
    good = (p, targets, (3, 3), (2, 2))
    yield ValueError, call(*good, reduction="median")
    for blank in (-1, 3):
        yield RuntimeError, call(*good, blank)
    yield RuntimeError, call(p[:0], targets, (0, 0), (0, 0))
    yield RuntimeError, call(p[:, :0], targets[:0], (), ())
    yield RuntimeError, call(p[..., :0], targets[:, :0], (3, 3), (0, 0))
    yield RuntimeError, call(p[0, 0], targets[0], (3,), (2,))
    yield RuntimeError, call(p[None], targets, (3, 3), (2, 2))
    yield NotImplementedError, call(p.long(), targets, (3, 3), (2, 2))
    yield TypeError, call(p, targets, 3, 2)
    yield TypeError, call(p, targets, (3.0, 3.0), (2, 2))
    yield TypeError, call(p, targets, (3, 3), tensor([2, 2]))
    yield RuntimeError, call(p, targets, tensor([3.0, 3.0]), tensor([2.0, 2.0]))
    yield RuntimeError, call(p, targets, tensor(3), tensor(2))
    for lengths in ((3,), (3, 3, 3), (4, 3), (-1, 3)):
        yield RuntimeError, call(p, targets, lengths, (2, 2))
    for lengths in ((2,), (2, 2, 2), (3, 2), (-2, 2)):
        yield RuntimeError, call(p, targets, (3, 3), lengths)
    for wrong in (targets[:1], targets[None], targets[0], targets.flatten()[:3], targets.flatten().repeat(2)):
        yield RuntimeError, call(p, wrong, (3, 3), (2, 2))
