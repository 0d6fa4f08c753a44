"""The loss scale by hand next to torch's: scales, skipped steps, parameters, state, misuse."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from placed import DEVICE

from dlref import builtin, manual

BOTH = (manual, builtin)


def trained(namespace, optimizer, steps, clip=False, **options):
    """200 steps of a small network with planted overflows; scales on the way, parameters, the scaler."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    learner = optimizer(network.parameters())
    scaler = namespace.amp.GradScaler(DEVICE.type, **options)
    generator, scales = torch.Generator().manual_seed(1), []
    for step in range(steps):
        x, y = (torch.randn(3, n, generator=generator, dtype=torch.float64) for n in (5, 2))
        learner.zero_grad()
        scaler.scale(((network(x) - y) ** 2).mean()).backward()
        if step % 17 == 3:
            next(network.parameters()).grad[0, 1] = (float("inf"), float("nan"), -float("inf"))[step % 3]
        if clip:
            scaler.unscale_(learner)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        scaler.step(learner)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales, list(network.parameters()), scaler


OPTIMIZERS = {
    "SGD": lambda space: lambda p: space.optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda space: lambda p: space.optim.Adam(p, lr=0.01),
    "fused Adam": lambda space: lambda p: space.optim.Adam(p, lr=0.01, fused=True),
}


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"init_scale": 3.0, "growth_interval": 5}, {"init_scale": 2.0**120,
                         "growth_factor": 7.3, "backoff_factor": 0.3, "growth_interval": 2}], ids=str)  # fmt: skip
def test_two_hundred_steps_with_overflows(optimizer, options, clip):
    """Same optimizer on both sides: parameters to the bit, and every scale. The third lets the scale itself overflow."""
    make = OPTIMIZERS[optimizer](builtin)
    ours, theirs = (trained(namespace, make, 200, clip, **options) for namespace in BOTH)
    assert ours[0] == theirs[0] and len(set(ours[0])) > 1
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert torch.equal(a, b)
    assert ours[2].state_dict() == theirs[2].state_dict()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_optimizers_by_hand(optimizer):
    ours, theirs = (trained(n, OPTIMIZERS[optimizer](n), 200, growth_interval=9) for n in BOTH)
    assert ours[0] == theirs[0]
    for a, b in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 3.0, 65536.0, 1e-30])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_unscaled_gradients_to_the_bit(dtype, scale):
    found = []
    for namespace in BOTH:
        p = torch.nn.Parameter(torch.zeros(50, 3, dtype=dtype))
        q = torch.nn.Parameter(torch.zeros(6, 2, dtype=dtype))
        learner = torch.optim.SGD([{"params": [p]}, {"params": [q, torch.nn.Parameter(torch.zeros(2))]}], lr=1.0)
        generator = torch.Generator().manual_seed(0)
        p.grad = torch.randn(3, 50, generator=generator).t().to(dtype)
        rows, values = torch.tensor([[1, 4, 1]]), torch.randn(3, 2, generator=generator).to(dtype)
        q.grad = torch.sparse_coo_tensor(rows, values, (6, 2))
        scaler = namespace.amp.GradScaler(DEVICE.type, init_scale=scale)
        scaler.scale(torch.ones(()))
        scaler.unscale_(learner)
        found.append((p.grad, q.grad.to_dense()))
    assert all(map(torch.equal, *found))


def test_by_vjp():
    """dE = s gives s times the gradients."""
    network, x = manual.nn.Linear(3, 2), torch.randn(4, 3)
    criterion, target = manual.nn.MSELoss(), torch.randn(4, 2)
    scaler = manual.amp.GradScaler(DEVICE.type, init_scale=8.0)
    gradients = []
    for scaled in (True, False):
        network.zero_grad()
        output, network_pullback = network.vjp(x)
        error, error_pullback = criterion.vjp(output, target)
        one = torch.ones_like(error)
        network_pullback(error_pullback(scaler.scale(one) if scaled else one)[0])
        gradients.append(network.weight.grad.clone())
    torch.testing.assert_close(gradients[0], 8 * gradients[1])


def test_what_is_scaled():
    a, b = torch.randn(3, requires_grad=True), torch.randn(2, dtype=torch.float64)
    ours, theirs = (n.amp.GradScaler(DEVICE.type, init_scale=4.0) for n in BOTH)
    for scaler in (ours, theirs):
        first, (second,) = scaler.scale((a, [b]))
        assert torch.equal(first, 4 * a) and torch.equal(second, 4 * b) and second.dtype == b.dtype
        assert [type(s) for s in (scaler.scale([a]), scaler.scale((a,)))] == [list, tuple]
        assert torch.equal(next(iter(scaler.scale(iter([b])))), 4 * b)
        with pytest.raises(ValueError):
            scaler.scale(3)
    assert ours.scale(a).grad_fn is not None and isinstance(ours, torch.amp.GradScaler)


def test_state_goes_both_ways_and_is_pickled():
    _, _, theirs = trained(builtin, OPTIMIZERS["SGD"](builtin), 25, growth_interval=4)
    ours = manual.amp.GradScaler(DEVICE.type)
    ours.load_state_dict(theirs.state_dict())
    again = builtin.amp.GradScaler(DEVICE.type)
    again.load_state_dict(ours.state_dict())
    assert ours.state_dict() == theirs.state_dict() == again.state_dict()
    ours.scale(torch.ones(()))
    for copied in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert copied.state_dict() == ours.state_dict() and copied.scale(torch.ones(())) == ours.get_scale()


@pytest.mark.parametrize("namespace", BOTH, ids=("manual", "builtin"))
def test_misuse(namespace):
    p = torch.nn.Parameter(torch.ones(2))
    learner = torch.optim.SGD([p], lr=1.0)
    for options in ({"growth_factor": 1.0}, {"backoff_factor": 1.0}):
        with pytest.raises(AssertionError):
            namespace.amp.GradScaler(DEVICE.type, **options)
    scaler = namespace.amp.GradScaler(DEVICE.type)
    for early in (scaler.update, lambda: scaler.step(learner), lambda: scaler.unscale_(learner)):
        with pytest.raises(AssertionError):
            early()
    scaler.scale(p.sum()).backward()
    with pytest.raises(RuntimeError):
        scaler.step(learner, closure=lambda: None)
    with pytest.raises(AssertionError):
        scaler.update()
    scaler.unscale_(learner)
    with pytest.raises(RuntimeError):
        scaler.unscale_(learner)
    scaler.step(learner)
    for late in (lambda: scaler.step(learner), lambda: scaler.unscale_(learner)):
        with pytest.raises(RuntimeError):
            late()
    for wrong in (torch.ones(2), torch.ones((), requires_grad=True), torch.ones((), device="meta")):
        with pytest.raises(AssertionError):
            scaler.update(wrong)
    scaler.update(7.0)
    assert scaler.get_scale() == 7
    scaler.update(torch.tensor(3.0))
    assert scaler.get_scale() == 3
    half = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    half.grad = torch.ones_like(half)
    with pytest.raises(ValueError):
        scaler.unscale_(torch.optim.SGD([half], lr=1.0))
    with pytest.raises(AssertionError):
        scaler.step(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0))


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*cannot be pickled")
@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.1, "accumulate_grad_batches": 2}], ids=str)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_lightning_in_mixed_precision(precision, options):
    """By hand, bridged and built-in in one precision; the scale starts where the first steps overflow float16."""
    import lightning
    from lightning.pytorch.plugins import MixedPrecision

    from dlref.lightning import Classifier, DigitsDataModule

    found = {}
    for backend in ("manual", "bridged", "builtin"):
        torch.manual_seed(0)
        module = Classifier(backend=backend, hidden=(16,), lr=0.1, **options)
        scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**22) if precision == "16-mixed" else None
        trainer = lightning.Trainer(
            max_epochs=2, accelerator=DEVICE.type, devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, plugins=MixedPrecision(precision, DEVICE.type, scaler),
        )  # fmt: skip
        trainer.fit(module, DigitsDataModule(batch_size=100))
        found[backend] = [p.detach().clone() for p in module.network.parameters()], trainer, scaler
    reference, trainer, scaler = found["builtin"]
    assert trainer.callback_metrics["validation_accuracy"] > (0.1 if options else 0.5)
    for backend in ("manual", "bridged"):
        parameters, _, mine = found[backend]
        for a, b in zip(parameters, reference, strict=True):
            assert a.dtype == torch.float32 and torch.isfinite(a).all()
            torch.testing.assert_close(a, b, rtol=0.03, atol=0.01)
        if scaler is not None:
            assert mine.get_scale() == scaler.get_scale() < 2.0**22
            assert (type(mine) is manual.amp.GradScaler) == (backend == "manual")


def test_not_enabled_does_nothing():
    p = torch.nn.Parameter(torch.ones(2))
    learner = torch.optim.SGD([p], lr=1.0)
    scaler = manual.amp.GradScaler(DEVICE.type, enabled=False)
    assert scaler.scale(p) is p and scaler.state_dict() == {} and scaler.get_scale() == 1
    p.grad = torch.full_like(p, 2.0)
    scaler.unscale_(learner)
    scaler.step(learner)
    scaler.update()
    assert p.tolist() == [-1, -1]


def test_whether_onednn_is_exact_is_asked_outside_autocast():
    from dlref.step.products import onednn_rounds_as_float32

    with torch.autocast(DEVICE.type):
        assert onednn_rounds_as_float32.__wrapped__() == onednn_rounds_as_float32()
