"""Losses of logits of 1e4: no overflow, no lost gradient, in every dtype; and a distance of one's own."""

from __future__ import annotations

import harness
import pytest
import torch

import dlref.manual.functional as F

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
CLASSES = torch.tensor([1, 2, 0])
LOGITS = [[1e4, -1e4, 0.0], [0.0, 1e4, 0.0], [-1e4, 1e4, 1e4]]
SIGNS = [[-1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [1.0, -1.0, 1.0]]
CALLS = {
    "cross_entropy": lambda x: F.cross_entropy.vjp(x, CLASSES),
    "cross_entropy of probabilities": lambda x: F.cross_entropy.vjp(x, torch.eye(3, dtype=x.dtype)[CLASSES]),
    "cross_entropy, smoothed": lambda x: F.cross_entropy.vjp(x, CLASSES, label_smoothing=0.1),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits.vjp(x, (x < 0).to(x.dtype)),
    "soft_margin_loss": lambda x: F.soft_margin_loss.vjp(x, torch.tensor(SIGNS, dtype=x.dtype)),
    "multilabel_soft_margin_loss": lambda x: F.multilabel_soft_margin_loss.vjp(x, (x < 0).to(x.dtype)),
    "log_softmax": lambda x: F.log_softmax.vjp(x, 1),
    "logsigmoid": lambda x: F.logsigmoid.vjp(x),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_logits_of_ten_thousand(name, dtype):
    """Wrong by 1e4, the error is about 1e4 (not infinite), and its gradient that of a wrong answer (not 0)."""
    x = torch.tensor(LOGITS, dtype=dtype)
    output, pullback = CALLS[name](x)
    grad = pullback(None if output.dim() == 0 else torch.ones_like(output))[0]
    assert torch.isfinite(output).all() and torch.isfinite(grad).all()
    assert float(output.abs().max()) > 1e3
    assert float(grad.abs().max()) > 0.01


def test_cross_entropy_is_zero_for_a_certain_answer_alone():
    """H(q, p) >= H(q): at p = q it is q's own entropy, which is 0 only where q is one-hot."""
    q = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], dtype=torch.float64)
    at_q = F.cross_entropy(q.log().clamp(min=-1e4), q, reduction="none")
    assert torch.allclose(at_q, torch.tensor([1.5 * 0.6931471805599453, 0.0], dtype=torch.float64))


def test_kl_divergence_is_no_distance():
    p = torch.tensor([0.9, 0.1], dtype=torch.float64)
    q = torch.tensor([0.5, 0.5], dtype=torch.float64)
    there, back = (F.kl_div(a.log(), b, reduction="sum") for a, b in ((p, q), (q, p)))
    assert there > 0 and back > 0 and abs(there - back) > 0.1


def squared(x, y):
    return (x - y).square().sum(-1)


def squared_vjp(x, y):
    return squared(x, y), lambda dy: (2 * dy[..., None] * (x - y), -2 * dy[..., None] * (x - y))


def test_triplet_margin_with_distance_loss():
    """On PyTorch's samples and error inputs, and with distances with and without a vjp."""
    function = F.triplet_margin_with_distance_loss
    theirs = torch.nn.functional.triplet_margin_with_distance_loss
    (info,) = harness.opinfos("triplet_margin_with_distance_loss")
    found = [(s.input, *s.args, s.kwargs) for s in info.sample_inputs("cpu", torch.float64, requires_grad=True)]
    own = found[0][:3]
    with_vjp = lambda x, y: squared(x, y)  # noqa: E731
    with_vjp.vjp = squared_vjp
    for swap in (False, True):
        found += [(*own, {"distance_function": d, "margin": 3.0, "swap": swap}) for d in (squared, with_vjp)]
    assert len(found) > 10
    for *args, kwargs in found:
        a, b = function(*args, **kwargs), theirs(*args, **kwargs)
        harness.assert_equal(a, b, None, kwargs)
        output, pullback = function.vjp(*args, **kwargs)
        harness.assert_equal(output, b.detach(), None, kwargs)
        for layout, dy in harness.upstream(b):
            expected = torch.autograd.grad(b, args, dy, retain_graph=True)
            grads = torch.autograd.grad(a, args, dy, retain_graph=True)
            by_hand = pullback(dy)
            assert len(by_hand) == 3 + len(kwargs)
            for x, y, z in zip(grads, expected, by_hand, strict=False):
                harness.assert_equal(x, y, None, (layout, kwargs))
                harness.assert_equal(z, y, None, (layout, kwargs))
        assert torch.autograd.gradcheck(lambda *t, k=kwargs: function(*t, **k), args, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda *t, k=kwargs: function(*t, **k), args, fast_mode=True)
    for case in info.error_inputs("cpu"):
        s = case.sample_input
        for f in (function, function.vjp):
            with pytest.raises(case.error_type):
                f(s.input, *s.args, **s.kwargs)
