"""Losses of logits of 1e4: no overflow, no lost gradient, in every dtype; and a distance of one's own."""

from __future__ import annotations

import harness
import pytest
import torch

import dlref.manual.functional as F
from dlref import builtin

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


def test_focal_loss_of_gamma_0_is_cross_entropy():
    x, y = torch.randn(6, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 3, 0, 1])
    for reduction in ("none", "mean", "sum"):
        ours, theirs = F.focal_loss(x, y, 0.0, reduction=reduction), F.cross_entropy(x, y, reduction=reduction)
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(
            *(torch.autograd.grad(v.sum(), x)[0] for v in (ours, theirs)), rtol=1e-13, atol=1e-15
        )


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 2.0])
def test_focal_loss_of_what_is_certain(gamma):
    """At p = 1 the slope of (1 - p) ** gamma is infinite below 1; that of the loss is 0, and so are its further ones."""
    x = torch.tensor([[800.0, 0.0, -800.0]], dtype=torch.float64, requires_grad=True)
    for loss in (F.focal_loss(x, torch.tensor([0]), gamma), builtin.functional.focal_loss(x, torch.tensor([0]), gamma)):
        (dx,) = torch.autograd.grad(loss, x, create_graph=True)
        assert loss == 0 and not dx.any() and not torch.autograd.grad(dx.sum(), x)[0].any()


def test_the_reference_point_of_kto_is_a_constant():
    logps, reference, kl = (torch.randn(4, requires_grad=True) for _ in range(3))
    for function in (F.kto_loss, builtin.functional.kto_loss):
        loss = function(logps, reference, logps > 0, kl)
        assert torch.autograd.grad(loss, [kl, logps], allow_unused=True)[0] is None


def test_info_nce_of_no_direction():
    """A vector of zeros is divided by normalize's eps, and so is its gradient."""
    query, key = (torch.randn(3, 2, dtype=torch.float64) for _ in range(2))
    query[1], key[2] = 0, 1e-20
    results = []
    for function in (F.info_nce, builtin.functional.info_nce):
        leaves = [v.clone().requires_grad_() for v in (query, key)]
        loss = function(*leaves, 0.5)
        results.append([loss, *torch.autograd.grad(loss, leaves)])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.001, 1.2, 1.5, 2.0, 3.0])
def test_entmax_of_many(alpha):
    """Of a hundred thousand that are all but even each has its share, and the sum is 1."""
    x = 1e-6 * torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, rough = F.entmax(x, alpha), F.entmax(x.float(), alpha)
    assert abs(float(y.sum()) - 1) < 1e-12
    torch.testing.assert_close(rough, F.entmax(x.float().double(), alpha).float(), rtol=1e-3, atol=1e-10)


def test_a_complex_number_as_target_keeps_its_imaginary_part():
    x, target = torch.randn(3, dtype=torch.float64), torch.tensor(1 + 2j, dtype=torch.complex128)
    with harness.quietly():  # of another shape
        expected, found = (f.l1_loss(x, target, reduction="none") for f in (torch.nn.functional, F))
    torch.testing.assert_close(found, expected)
