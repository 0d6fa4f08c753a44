"""No operation is less exact than torch's: at most four times its largest error and two units, on the same input.

The inputs are those that part exact forms from inexact ones: numbers that differ by little beside their mean, large means,
numbers near the dtype's ends, sums over many; the upstream gradients are drawn about 0 and above it. In float64 the built-in
is no truth; what is computed there is computed by the same lines.
"""

from __future__ import annotations

import math

import harness
import numpy as np
import pytest
import torch
from harness import CONDITION, DRAWN_BY_DTYPE, FORMS, Sample
from torch import Tensor

from dlref.manual import functional as F
from dlref.samples import edges
from dlref.samples.hard import EQUATIONS

LONG = 1025
# Where what is left of terms that cancel is their rounding: the bias's gradient of saturated rows, ours as torch's; the
# gradient of the decay, which a chunk has of $q^\\top k$, a sum of 1,025 numbers of both signs, and a step of a mean over them.
LEFT = {("linear_cross_entropy", "huge"), ("gated_delta_rule", "huge")}


def drawn(t: Tensor, center: float, spread: float) -> Tensor:
    noise = torch.randn(t.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (center + spread * noise).to(t.dtype)


def families(dtype: torch.dtype) -> dict[str, tuple[float, float]]:
    """Mean and spread of the first argument's numbers."""
    eps = torch.finfo(dtype).eps
    return {
        "little variance": (1, 8 * eps),
        "large mean": (30, 1),
        "huge": (0, 1e4 if dtype == torch.float16 else 1e30),
    }


def longer(sample: Sample) -> Sample | None:
    """With its first dimension, or another, of many: a long sum for some gradient."""
    for old in dict.fromkeys(n for t in sample.learning()[:2] for n in t.shape):
        for lists in (False, True):
            made = edges.resize(sample, old, LONG, lists)
            if made is not None and edges.accepted(made):
                made.where = f"{sample.where}/{old}to{LONG}"
                return made
    return None


def taken(sample: Sample) -> bool:
    """Whether torch's function takes it: a probability is no such number, and 1e-300 no number in half precision."""
    try:
        harness.run(sample.builtin, sample)
    except RuntimeError:
        return False
    return True


def hard(name: str, dtype: torch.dtype):
    found = harness.pair_samples(name, dtype)
    found = [s for s in found if all(t.numel() for t in s.tensors()) and taken(s)]
    yield from found[:40]
    for base in edges.distinct(found)[:3]:
        long = None if name.startswith(edges.FIXED) else longer(base)
        for sample in filter(None, (base, long)):
            first = sample.learning()[0]
            yield sample
            if name.startswith("conv") and sample is long and LONG not in first.shape:
                continue  # a kernel of many: no other numbers are convolved with it than with a small one
            for how, (center, spread) in families(dtype).items():
                made = sample.map(
                    lambda t, first=first, center=center, spread=spread: drawn(t, center, spread).requires_grad_()
                    if t is first else t
                )  # fmt: skip
                made.where = f"{sample.where}/{how}"
                if taken(made) and (name, how) not in LEFT:
                    yield made


def furthest(actual: Tensor, truth: Tensor) -> float:
    """The largest error; infinite where a number is none, or is infinite, and should not be."""
    actual = actual.detach().double()
    held = truth.isfinite()
    if bool((held & ~actual.isfinite()).any()):
        return math.inf
    return float(torch.where(held, actual - truth, 0).abs().max()) if truth.numel() else 0.0


def check(ours, theirs, truth, what, condition: float) -> None:
    for a, b, t in zip(harness.flat(ours), harness.flat(theirs), harness.flat(truth), strict=True):
        if not b.is_floating_point() or b.dtype == torch.float64:
            continue
        assert a.shape == b.shape and a.dtype == b.dtype, what
        kind, t = torch.finfo(b.dtype), t.detach().double()
        t = torch.where(t.abs() > kind.max, math.inf, t)  # too large for this dtype
        size = float(torch.where(t.isfinite(), t, 0).abs().max()) if t.numel() else 0.0
        allowed = 4 * furthest(b, t) + (2 * kind.eps + condition) * size + 2 * kind.tiny * kind.eps
        assert (error := furthest(a, t)) <= allowed, (
            what,
            f"{error / kind.eps} of {allowed / kind.eps} units",
            a,
            b,
            t,
        )


def upstream(outputs: list[Tensor]):
    for shift in (0.0, 1.0):
        generator = torch.Generator().manual_seed(5)
        yield [torch.randn(o.shape, generator=generator, dtype=torch.float64).add(shift).to(o.dtype)
               if o.requires_grad else None for o in outputs]  # fmt: skip


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d).removeprefix("torch.")
)
@pytest.mark.parametrize("name", FORMS)
def test_no_less_exact(name, dtype, record_property):
    if dtype not in harness.supported(name, backward=True):
        pytest.skip("torch's function does not take this dtype")
    if name in DRAWN_BY_DTYPE:
        pytest.skip("it draws other numbers than torch's function")
    op, condition, count = harness.operation(name), CONDITION.get(name, 0.0), 0
    for sample in hard(name, dtype):
        theirs, ours = harness.run(sample.builtin, sample), harness.run(op, sample)
        explicit, pullback = harness.run(op.vjp, sample)
        wide = sample.map(harness.lifted)
        # What is proven in fifty digits is right where torch's float64 has lost the tail.
        truth = harness.run(op if name in EQUATIONS else sample.builtin, wide)
        check(ours, theirs, truth, sample, condition)
        if not all(map(harness.same, harness.flat(explicit), harness.flat(ours))):
            check(explicit, theirs, truth, sample, condition)
        outputs, passed = harness.flat(theirs), [*sample.args, *sample.kwargs.values()]
        for dy in upstream(outputs) if any(o.requires_grad for o in outputs) else ():
            expected = harness.unless_refused(lambda dy=dy: harness.gradients(theirs, sample, dy))  # noqa: B023
            if expected is None:
                continue
            true = harness.gradients(truth, wide, [d if d is None else d.double() for d in dy])
            by_hand = pullback(tuple(dy) if len(dy) > 1 else dy[0])
            by_hand = [g for g, a in zip(by_hand, passed, strict=True) if isinstance(a, Tensor) and a.requires_grad]
            rows = zip(harness.gradients(ours, sample, dy), by_hand, expected, true, strict=True)
            for i, (a, c, b, t) in enumerate(rows):
                if b is not None and t is not None:
                    for grad in (a,) if harness.same(a, c) else (a, c):
                        check(grad, b, t, (f"gradient {i}", sample), condition)
            count += 1
    record_property("upstream gradients", count)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_normalisations_of_any_size(scale):
    """The squares of 1e30 are infinite in float32, those of 1e-30 are 0; the normalised numbers are what they are."""
    x = torch.tensor([1.0, -1.0, 2.0, 0.0])
    right, root = (x - 0.5) / 1.25**0.5, x / 1.5**0.5
    x = scale * x
    torch.testing.assert_close(F.layer_norm(x, (4,), eps=0.0), right)
    torch.testing.assert_close(F.rms_norm(x, (4,), eps=0.0), root)
    torch.testing.assert_close(F.group_norm(x.view(1, 4, 1), 1, eps=0.0).flatten(), right)
    torch.testing.assert_close(F.instance_norm(x.view(1, 1, 4), eps=0.0).flatten(), right)
    torch.testing.assert_close(F.batch_norm(x.view(4, 1), None, None, training=True, eps=1e-300).flatten(), right)


def test_layer_norm_near_the_largest():
    x = torch.tensor([1e30, -1e30, 2e30, 0.0], requires_grad=True)
    y = F.layer_norm(x, (4,))
    torch.testing.assert_close(y, torch.tensor([0.4472136, -1.3416408, 1.3416408, -0.4472136]))
    dy = torch.tensor([0.3, -0.7, 0.2, 1.1])
    hat, g = y.detach().double(), dy.double()
    expected = (g - g.mean() - hat * (g * hat).mean()) / (1.25**0.5 * 1e30)
    for dx in (*torch.autograd.grad(y, x, dy), F.layer_norm.vjp(x.detach(), (4,))[1](dy)[0]):
        assert float((dx.double() - expected).abs().max()) <= 4e-7 * float(expected.abs().max())


def extended(x, dy, dims, eps):
    """The normalised numbers and the gradient, in 80 bits; what all numbers have in common leaves first, exactly."""
    x, dy = (t.numpy().astype(np.longdouble) for t in (x, dy))
    x = x - x.flat[0]
    mean = lambda v: v.mean(dims, keepdims=True)  # noqa: E731
    centred = x - mean(x)
    rho = 1 / np.sqrt(mean(centred**2) + np.longdouble(eps))
    hat = centred * rho
    return hat, rho * (dy - mean(dy) - hat * mean(dy * hat))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double is not longer here")
@pytest.mark.parametrize("center,spread", [(1.0, 1e-15), (5.0, 1e-13), (3.0, 0.05), (0.0, 1.0), (0.0, 1e200)])
@pytest.mark.parametrize("kind", ["layer_norm", "group_norm", "instance_norm", "batch_norm"])
def test_float64(kind, center, spread):
    """In float64 too, against arithmetic of 80 bits."""
    generator = torch.Generator().manual_seed(0)
    x = center + spread * torch.randn(4, 6, 65, generator=generator, dtype=torch.float64)
    dy = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    dims, function = {
        "layer_norm": ((2,), lambda f, x: f.layer_norm(x, (65,), eps=1e-20)),
        "group_norm": ((1, 2), lambda f, x: f.group_norm(x, 1, eps=1e-20)),
        "instance_norm": ((2,), lambda f, x: f.instance_norm(x, eps=1e-20)),
        "batch_norm": ((0, 2), lambda f, x: f.batch_norm(x, None, None, training=True, eps=1e-20)),
    }[kind]
    truth = extended(x, dy, dims, 1e-20)
    found = []
    for space in (F, torch.nn.functional):
        leaf = x.clone().requires_grad_()
        y = function(space, leaf)
        values = (y.detach(), *torch.autograd.grad(y, leaf, dy))
        found.append([float(np.abs(v.numpy() - t).max() / np.abs(t).max()) for v, t in zip(values, truth, strict=True)])
    for ours, theirs in zip(*found, strict=True):
        allowed = 4 * theirs if math.isfinite(theirs) else math.inf
        assert ours <= min(allowed + 2 * 2.2e-16, 1e-13), (ours, theirs)


@pytest.mark.parametrize("number", [0.1, 1 / 3, 1e30, 7e-12])
def test_of_equal_numbers_nothing_is_left(number):
    """Exactly: their mean is rounded, and what it lacks is found."""
    for n in (3, 7, 65, 1025):
        x = torch.full((2, n), number)
        assert not F.layer_norm(x, (n,)).any() and not F.group_norm(x, 1).any()
        assert not F.instance_norm(x.unsqueeze(0)).any()
        assert not F.batch_norm(x.t().contiguous(), None, None, training=True).any()
