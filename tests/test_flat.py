"""One tensor for all parameters: what they are then, changes between steps, saved and moved, in every mode."""

from __future__ import annotations

import io

import pytest
import torch
from placed import DEVICE
from test_optim import (
    RULES,
    assert_same,
    assert_same_state,
    both,
    network,
    one_run,
    saved,
    train,
)

from dlref.core.compat import ADAGRAD_STATE
from dlref.core.flat import coalesce, flatten
from dlref.manual import nn, optim


def test_flatten_keeps_what_the_parameters_are():
    model = network()
    model.append(model[0])  # shared
    model[2].bias.requires_grad_(False)
    half = nn.Linear(2, 2, dtype=torch.float32)
    model.append(half)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    identities = [id(p) for p in model.parameters()]
    model[0].weight.grad = torch.ones_like(model[0].weight)
    assert flatten(model) is model
    assert [id(p) for p in model.parameters()] == identities
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    learning = [p for p in model.parameters() if p.requires_grad and p.dtype == torch.float64]
    flat = coalesce(learning)
    assert flat is not None
    assert flat.numel() == sum(p.numel() for p in learning)
    assert coalesce([p.grad_slot for p in learning]) is not None
    assert coalesce([half.weight, half.bias]) is not None
    assert not hasattr(model[2].bias, "grad_slot")
    assert model[0].weight.grad is model[0].weight.grad_slot
    assert model[0].weight.grad.eq(1).all()
    slots = [p.grad_slot for p in learning]
    flatten(model)  # again: nothing to do
    assert all(p.grad_slot is s for p, s in zip(learning, slots, strict=True))


def test_coalesce():
    flat = torch.arange(10.0)
    a, b, c = flat[0:4].view(2, 2), flat[4:9], flat[9]
    assert torch.equal(coalesce([a, b, c]), flat)
    coalesce([b, c]).add_(1)
    assert flat[4] == 5
    for apart in ([b, a], [a, c], [a, a], [a, b.clone()], [a.t(), b], [a, flat.double()[4:9]], [a.to_sparse(), b], []):
        assert coalesce(apart) is None


CHANGES = {
    "a gradient is missing": lambda m, o: None,
    "a gradient is another tensor": lambda m, o: m[0].weight.__dict__.pop("grad_slot"),
    "frozen": lambda m, o: m[0].bias.requires_grad_(False),
    "parameters moved": lambda m, o: [setattr(p, "data", p.data.clone()) for p in m.parameters()],
    "one moved": lambda m, o: setattr(m[2].weight, "data", m[2].weight.data.clone()),
    "state of one set back": lambda m, o: [v.zero_() for v in o.state[m[0].bias].values()],
    "state of one replaced": lambda m, o: o.state[m[0].bias].update(
        {k: torch.ones_like(v) for k, v in o.state[m[0].bias].items()}),
    "state of one forgotten": lambda m, o: o.state.pop(m[0].bias),
    "state loaded": lambda m, o: o.load_state_dict(saved(o.state_dict())),
    "an option": lambda m, o: o.param_groups[0].update(weight_decay=0.3, lr=0.5),
    "order": lambda m, o: o.param_groups[0]["params"].reverse(),
    "values": lambda m, o: [p.data.mul_(2) for p in m.parameters()],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [name for name in RULES if getattr(optim, name).elementwise])
def test_changes_between_steps(name, change):
    """The one update for all notices what was done to the parameters, their gradients or their states."""
    if name == "Adagrad" and change == "state of one forgotten" and not ADAGRAD_STATE:
        pytest.skip(str(ADAGRAD_STATE))
    (ours, a), (theirs, b) = both(name=name)
    missing = 1 if change == "a gradient is missing" else None
    for model, optimizer in ((ours, a), (theirs, b)):
        train(model, optimizer, range(3))
        assert model is theirs or one_run(optimizer)
        if model is ours or "another tensor" not in change:
            CHANGES[change](model, optimizer)
        train(model, optimizer, range(3, 6), missing)
        train(model, optimizer, range(6, 8))
    assert_same(ours, theirs)
    assert_same_state(a, b)


def test_moved_to_another_dtype():
    (ours, a), (theirs, b) = both()
    for model, optimizer in ((ours, a), (theirs, b)):
        train(model, optimizer, range(3))
        model.float()
        for p in model.parameters():
            p.__dict__.pop("grad_slot", None)
        optimizer.load_state_dict(optimizer.state_dict())
        train(model, optimizer, range(3, 6))
    assert_same(ours, theirs)


def test_a_saved_state_is_no_larger():
    (model, ours), (reference, theirs) = both(name="Adam")
    train(model, ours, range(2))
    train(reference, theirs, range(2))
    sizes = []
    for optimizer in (ours, theirs):
        state = {"one": optimizer.state_dict()["state"][0]}
        torch.save(state, file := io.BytesIO())
        sizes.append(file.tell())
    assert sizes[0] <= sizes[1] + 64
    snapshot = ours.state_dict()["state"][0]["exp_avg"]
    kept = snapshot.clone()
    train(model, ours, range(2, 4))
    assert torch.equal(snapshot, kept)


def test_autograd_sees_that_a_flat_parameter_changed():
    (model, ours), _ = both()
    train(model, ours, range(2))
    output = model(torch.ones(1, 3, dtype=torch.float64)).sum()
    ours.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_under_inference_mode():
    (ours, a), (theirs, b) = both()
    with torch.inference_mode():
        a.step()
        slots = [p.grad_slot for p in ours.parameters()]
        for step in range(3):
            generator = torch.Generator().manual_seed(step)
            with torch.inference_mode(False):
                for p, slot in zip(ours.parameters(), slots, strict=True):
                    p.grad = slot.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
            a.step()
    train(theirs, b, range(3))
    assert_same(ours, theirs)
    assert not any(v.is_inference() for state in a.state.values() for v in state.values())


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad"])
def test_the_gradient_scaler_of_mixed_precision(name):
    """Fused optimizers undo the loss scale themselves, and skip a step whose gradients overflowed."""
    if name == "Adagrad" and DEVICE.type != "cpu":
        pytest.skip("torch has no such kernel there")
    results = []
    for namespace, flat in ((optim, True), (torch.optim, False)):
        model = network(dtype=torch.float32, flat=flat)
        optimizer = getattr(namespace, name)(model.parameters(), lr=0.1, fused=True)
        scaler = torch.amp.GradScaler(DEVICE.type, init_scale=1024.0)
        for factor in (1.0, float("inf"), 2.0):
            x = torch.linspace(-1, 1, 6).reshape(2, 3)
            optimizer.zero_grad()
            scaler.scale(model(x)[:, 0].sum() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append((model, optimizer))
    assert_same(results[0][0], results[1][0], 1e-6)
    assert_same_state(results[0][1], results[1][1], 1e-6)


def test_torch_schedules_drive_ours():
    results = []
    for model, optimizer in both():
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=12)
        for step in range(10):
            train(model, optimizer, range(step, step + 1))
            schedule.step()
        results.append(model)
    assert_same(*results)
