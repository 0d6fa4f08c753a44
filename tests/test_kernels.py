"""Kernels: each against its definition in parts of every size, judged as a stranger's would be; who sees them, who does not."""

from __future__ import annotations

import harness
import pytest
import torch
from harness import NAMES

import dlref
import dlref.manual.functional as F
from dlref.core.modes import definitions, kernels_run
from dlref.core.pair import OPS, op
from dlref.manual.kernels import conv, normalization

KERNELS = [name for name in NAMES if OPS[name].fast is not None]
PARTS = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "layer_norm", "group_norm",
         "instance_norm", "batch_norm"]  # fmt: skip


def answers(op, sample) -> list:
    """Output and gradients by vjp, of a random upstream gradient."""
    output, pullback = harness.run(op.vjp, sample)
    if not output.is_floating_point():
        return [output]
    generator = torch.Generator().manual_seed(0)
    dy = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    return [output, *pullback(dy)]


@pytest.mark.parametrize("held", [1, 7])
@pytest.mark.parametrize("name", PARTS)
def test_parts_of_every_size(name, held, monkeypatch, record_property):
    """One number at a time, and a few: many parts, of which the last is smaller, and images whose products stand alone."""
    for limit in ("WINDOWS", "PLACES", "ROWS"):
        monkeypatch.setattr(conv, limit, held)
    monkeypatch.setattr(normalization, "HELD", held)
    found = harness.samples(name, torch.float64, requires_grad=False)
    for sample in found:
        with torch.no_grad():
            ours = answers(OPS[name], sample)
            with definitions():
                expected = answers(OPS[name], sample)
        for a, b in zip(ours, expected, strict=True):
            assert (a is None) == (b is None), sample
            if a is not None:
                assert a.shape == b.shape and a.dtype == b.dtype
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)
    record_property("samples", len(found))


@pytest.mark.parametrize("name", KERNELS)
def test_judged_as_a_strangers(name):
    """dlref.check of the operation, whose forward and gradient are the kernel's in an ordinary call."""
    operation = OPS[name]
    report = dlref.check(operation, name, dtypes=["float32"], beyond=False)
    assert report.ok, str(report)


def test_who_sees_kernels():
    seen = []

    def forward(input):
        seen.append(kernels_run())
        return input.clamp(min=0)

    class Watched:
        def __enter__(self):
            self.before = OPS["relu"].fast.forward
            OPS["relu"].fast.forward = lambda input: forward(input)
            return self

        def __exit__(self, *_):
            OPS["relu"].fast.forward = self.before

    x = torch.tensor([-1.0, 2.0])
    with Watched():
        F.relu.vjp(x)
        F.relu(x.clone().requires_grad_()).sum().backward()
        assert seen == [True, True]
        torch.func.vmap(F.relu)(x)
        torch.func.grad(lambda t: F.relu(t).sum())(x)
        torch.compile(F.relu, backend="eager", fullgraph=True)(x)
        with dlref.definitions():
            F.relu(x)
        assert len(seen) == 2


def test_a_second_derivative_is_the_definitions():
    """What a kernel saved is no part of a graph: the definition's forward runs again."""
    draw = lambda *shape: torch.rand(*shape, dtype=torch.float64)  # noqa: E731
    calls = {"layer_norm": ((5,), draw(5), draw(5)), "leaky_relu": (0.1,), "silu": (), "mse_loss": (draw(4, 5),)}
    for name, more in calls.items():
        x = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda t, op=OPS[name], more=more: op(t, *more), (x,))
        for form in (dlref.definitions, torch.enable_grad):
            with form():
                y = OPS[name](x, *more)
            with dlref.definitions():
                (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
                assert first.requires_grad


def test_a_batch_of_gradients_after_a_kernel():
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    for name, more in (("layer_norm", ((4,),)), ("relu6", ()), ("hardswish", ())):
        y = OPS[name](x, *more)
        dys = torch.rand(5, 3, 4, dtype=torch.float64)
        each = torch.stack([torch.autograd.grad(y, x, dy, retain_graph=True)[0] for dy in dys])
        (together,) = torch.autograd.grad(y, x, dys, retain_graph=True, is_grads_batched=True)
        mapped = torch.vmap(lambda dy, y=y: torch.autograd.grad(y, x, dy, retain_graph=True)[0])(dys)
        _, pull = OPS[name].vjp(x.detach(), *more)
        by_vjp = torch.vmap(lambda dy, pull=pull: pull(dy)[0])(dys)
        for found in (together, mapped, by_vjp):
            torch.testing.assert_close(found, each)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ["leaky_relu", "softplus", "hardswish", "layer_norm"])
def test_tangents_pass_where_nobody_records(name, grad):
    """Forward mode under no_grad: what is written over its own would lose the tangent."""
    x, more = torch.randn(4, 5, dtype=torch.float64), ((5,),) if name == "layer_norm" else ()
    with torch.set_grad_enabled(grad), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.randn(4, 5, dtype=torch.float64))
        ours, theirs = (
            torch.autograd.forward_ad.unpack_dual(f(dual, *more)).tangent for f in (OPS[name], OPS[name].builtin)
        )
    torch.testing.assert_close(ours, theirs)


def test_what_would_be_ignored_is_refused():
    @op()
    def doubled(x):
        return 2 * x

    with pytest.raises(TypeError, match="it names \\['place'\\]"):
        doubled.gradient(lambda dy, place: 2 * dy)
    doubled.gradient(lambda dy: 2 * dy)
    doubled.kernel(lambda x: x + x)
    with pytest.raises(TypeError, match="one gradient, of the calls that its forward takes"):
        doubled.kernel_gradient(lambda dy: dy + dy, where=lambda x: x.dim() == 1)
    doubled.kernel_gradient(lambda dy: dy + dy)
    for again in (doubled.kernel, doubled.kernel_gradient):
        with pytest.raises(TypeError, match="must"):
            again(lambda x: x)
    del OPS["doubled"]
