"""CTC: all paths one by one, fifty digits, no path, nothing behind the lengths, minus infinity; what torch gives of it."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, error

import dlref.manual.functional as M
from dlref.manual import nn


def normalised(*shape, dtype=torch.float64, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    return x.log_softmax(-1).to(DEVICE, dtype).requires_grad_()


def labels(*rows):
    return torch.tensor(rows, device=DEVICE)


def merged(path, blank):
    return [c for c, _ in itertools.groupby(path) if c != blank]


def truth(x, target, blank=0):
    """Loss and gradient of one sample in fifty digits, of probabilities that are no logarithms."""
    with mpmath.workdps(50):
        p = [[mpmath.exp(mpmath.mpf(v)) for v in row] for row in x.tolist()]
        states = [blank, *itertools.chain.from_iterable((c, blank) for c in target)]
        steps = [[r for r in (s, s - 1, s - 2) if r >= 0 and (r > s - 2 or states[s] not in (blank, states[r]))]
                 for s in range(len(states))]  # fmt: skip
        a = [[p[0][c] if s < 2 else mpmath.mpf(0) for s, c in enumerate(states)]]
        for row in p[1:]:
            a.append([row[c] * sum(a[-1][r] for r in steps[s]) for s, c in enumerate(states)])
        b = [[mpmath.mpf(s >= len(states) - 2) for s in range(len(states))]]
        for row in p[:0:-1]:
            b.append([mpmath.mpf(0)] * len(states))
            for s, came in enumerate(steps):
                for r in came:
                    b[-1][r] += row[states[s]] * b[-2][s]
        whole = sum(a[-1][-2:])
        gradient = torch.zeros(x.shape, dtype=torch.float64)
        for t, (left, right) in enumerate(zip(a, reversed(b), strict=True)):
            shares = [mpmath.mpf(0)] * x.shape[1]
            for c, u, v in zip(states, left, right, strict=True):
                shares[c] += u * v / whole
            gradient[t] = -torch.tensor([float(v) for v in shares], dtype=torch.float64)
        return float(-mpmath.log(whole)), gradient


@pytest.mark.parametrize("target", [[], [1], [1, 1], [1, 2], [2, 1, 2], [1, 1, 1]], ids=str)
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_every_path(target, frames):
    """The sum over all paths that are merged to the target; and the truth in fifty digits is that sum too."""
    x = normalised(frames, 3)
    found = [sum(x[t, c].item() for t, c in enumerate(path)) for path in itertools.product(range(3), repeat=frames)
             if merged(path, 0) == target]  # fmt: skip
    loss = M.ctc_loss(x, labels(*target).long(), (frames,), (len(target),), reduction="none")
    if not found:
        assert len(target) + sum(a == b for a, b in itertools.pairwise(target)) > frames
        assert loss == math.inf
        return
    expected = -math.log(sum(map(math.exp, found)))
    assert abs(loss.item() - expected) < 1e-12
    (grad,) = torch.autograd.grad(loss, x)
    value, slope = truth(x, target)
    assert abs(value - expected) < 1e-12 and error(grad, slope) < 1e-14


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0, 12.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fifty_digits(dtype, scale):
    """30 labels, some of them twice, in 200 frames: loss and gradient to the digits that the logarithms leave.

    The loss is of 200 logarithms, of which each is rounded; a state's share is of what it stands below the largest.
    """
    x = normalised(200, 21, dtype=dtype, scale=scale)
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(1, 21, (30,), generator=generator).tolist()
    target[11:13] = [7, 7]
    loss = M.ctc_loss(x, labels(*target), (200,), (30,), reduction="sum")
    (grad,) = torch.autograd.grad(loss, x)
    value, slope = truth(x, target)
    unit = torch.finfo(dtype).eps
    assert abs(loss.item() - value) <= 8 * unit * max(1.0, abs(value))
    assert (grad.double() - slope).abs().max() <= 200 * unit
    assert (grad.double().sum(1) + 1).abs().max() <= 16 * unit  # every path is somewhere at each frame
    assert torch.autograd.grad(F.ctc_loss(x, labels(*target), (200,), (30,), reduction="sum"), x)[0].isfinite().all()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_no_path(reduction):
    """Infinite and without a gradient; with zero_infinity both are 0, and the other samples have theirs."""
    x, targets = normalised(4, 3, 3), labels([1, 1, 1], [1, 2, 1], [2, 2, 2])
    arguments = (targets, (4, 4, 3), (3, 3, 2))
    alone = M.ctc_loss(x[:, 1:], targets[1:], (4, 3), (3, 2), reduction="none")
    loss = M.ctc_loss(x, *arguments, reduction=reduction)
    assert loss.flatten()[0] == math.inf
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert grad[:, 0].isnan().all() and grad[:, 1:].isfinite().all()
    loss = M.ctc_loss(x, *arguments, reduction=reduction, zero_infinity=True)
    expected = {"none": torch.cat([alone.new_zeros(1), alone]), "sum": alone.sum(),
                "mean": (alone / alone.new_tensor([3, 2])).sum() / 3}[reduction]  # fmt: skip
    assert error(loss, expected) < 1e-14
    grads = [torch.autograd.grad(v.sum(), x)[0] for v in (loss, expected)]
    assert not grads[0][:, 0].any() and error(*grads) < 1e-14


def test_nothing_behind_the_lengths_is_read():
    x, targets = normalised(5, 2, 4), labels([1, 2, 3], [3, 3, 1])
    with torch.no_grad():
        x[3:, 0] = math.nan
        x[4:, 1] = math.inf
    targets[0, 1:] = 99
    targets[1, 2] = -1
    loss = M.ctc_loss(x, targets, (3, 4), (1, 2), reduction="sum")
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    first = M.ctc_loss(x[:3, 0], labels(1), (3,), (1,), reduction="sum")
    second = M.ctc_loss(x[:4, 1], labels(3, 3), (4,), (2,), reduction="sum")
    assert error(loss, first + second) < 1e-14
    assert not grad[3:, 0].any() and not grad[4:, 1].any()
    assert error(grad, torch.autograd.grad(first + second, x)[0]) < 1e-14
    (second,) = torch.autograd.grad(grad.square().sum(), x)
    assert second.isfinite().all() and not second[3:, 0].any()


def test_no_labels():
    """The loss is that of the blanks, and so is the gradient; no frames and no labels are certain."""
    x = normalised(3, 2, 4)
    for targets in (labels([1, 2], [1, 1]), labels([1], [1])[:, :0], labels(1)[:0]):
        for lengths in ((3, 0), torch.tensor([3, 0], device=DEVICE)):
            empty = (0, 0) if isinstance(lengths, tuple) else torch.zeros_like(lengths)
            loss = M.ctc_loss(x, targets, lengths, empty, 2, "none")
            assert error(loss, torch.stack([-x[:, 0, 2].sum(), x.new_zeros(())])) < 1e-14
            (grad,) = torch.autograd.grad(loss.sum(), x)
            assert (grad[:, 0, 2] == -1).all() and grad.sum() == -3


def test_impossible_classes():
    """Of a log_probs of minus infinity the gradient is 0, and it leaves the others theirs; so do second derivatives."""
    x = normalised(5, 1, 4)
    with torch.no_grad():
        x[1, 0, 2] = x[3, 0, 3] = x[4, 0, 1] = -math.inf
    far = x.detach().clamp(min=-300.0).requires_grad_()
    ends = []
    for value in (x, far):
        loss = M.ctc_loss(value, labels([1, 2]), (5,), (2,))
        (grad,) = torch.autograd.grad(loss, value, create_graph=True)
        ends.append((loss, grad, *torch.autograd.grad((grad * torch.arange(4, device=DEVICE).cos()).sum(), value)))
    for a, b in zip(*ends, strict=True):
        assert a.isfinite().all() and error(a, b) < 1e-14


def test_long_odds():
    """A path that the largest of the states leaves e^500 behind, then is the only one: no share is lost in float32."""
    x = torch.full((60, 1, 3), -50.0, device=DEVICE)
    x[:, :, 0] = 0.0
    x.requires_grad_()
    target = labels([1, 2] * 10)
    (grad,) = torch.autograd.grad(M.ctc_loss(x, target, (60,), (20,), reduction="sum"), x)
    _, slope = truth(x[:, 0], target[0].tolist())
    assert error(grad[:, 0], slope) < 1e-4


def test_second_derivatives():
    x = normalised(6, 3, 4, seed=3)
    calls = [(labels([1, 2, 3], [2, 2, 1], [3, 1, 1]), (6, 5, 6), (3, 3, 2)), (labels(1, 2, 2, 2), (6, 5, 2), (1, 3, 0)),
             (labels([1, 1], [2, 2], [3, 3]), (2, 6, 3), (2, 2, 2))]  # fmt: skip
    for targets, inputs, lengths in calls:
        for reduction in ("none", "mean", "sum"):

            def loss(x, targets=targets, inputs=inputs, lengths=lengths, reduction=reduction):  # fmt: skip
                return M.ctc_loss(x, targets, inputs, lengths, reduction=reduction, zero_infinity=True)

            assert torch.autograd.gradcheck(loss, x, check_forward_ad=True)
            assert torch.autograd.gradgradcheck(loss, x)
    with pytest.raises(RuntimeError, match="not implemented"):
        (grad,) = torch.autograd.grad(F.ctc_loss(x, *calls[0]), x, create_graph=True)
        grad.sum().backward()


def test_batches_of_calls():
    """vmap over log_probs, targets and lengths, of which nobody can look at the values."""
    x = torch.stack([normalised(5, 2, 4, seed=seed) for seed in range(3)])
    targets = labels([[1, 2], [3, 3]], [[2, 0], [1, 3]], [[1, 1], [0, 0]])
    inputs, lengths = labels([5, 4], [5, 5], [3, 5]), labels([2, 2], [1, 2], [2, 0])
    one = torch.func.grad_and_value(M.ctc_loss)
    grads, losses = torch.func.vmap(one)(x, targets, inputs, lengths)
    for i in range(3):
        grad, loss = one(x[i], targets[i], inputs[i], lengths[i])
        assert error(losses[i], loss) < 1e-14 and error(grads[i], grad) < 1e-14
    flat = labels([1, 2, 3], [2, 1, 3], [3, 3, 1])  # one after the other: as many states as labels in all
    flat_grads, _ = torch.func.vmap(one, (0, 0, None, None))(x, flat, labels(5, 5), labels(1, 2))
    assert error(flat_grads[2], one(x[2], flat[2], (5, 5), (1, 2))[0]) < 1e-14


def test_labels_that_no_path_gives():
    x = normalised(4, 2, 3)
    for wrong in (labels([1, 3], [1, 2]), labels([1, 2], [-1, 2]), labels([1, 0], [1, 2])):
        with pytest.raises(RuntimeError, match="other than the blank, 0"):
            M.ctc_loss(x, wrong, (4, 4), (2, 2))


def test_what_torch_gives():
    """Its gradient is larger by the exponentials, which log_softmax takes out; of minus infinity it is NaN."""
    x, arguments = normalised(5, 2, 4), (labels([1, 2], [3, 3]), (5, 4), (2, 2))
    logits = x.detach().clone().requires_grad_()
    ours, theirs = (torch.autograd.grad(f(x, *arguments), x)[0] for f in (M.ctc_loss, F.ctc_loss))
    frames = torch.arange(5, device=DEVICE).view(5, 1, 1) < torch.tensor([5, 4], device=DEVICE).view(2, 1)
    assert error(theirs - ours, x.detach().exp() * frames / 4) < 1e-14
    both = [torch.autograd.grad(f(logits.log_softmax(2), *arguments), logits)[0] for f in (M.ctc_loss, F.ctc_loss)]
    assert error(*both) < 1e-14
    module = nn.CTCLoss()
    _, pullback = module.vjp(x.detach(), *arguments)
    assert error(pullback()[0], ours) < 1e-14
