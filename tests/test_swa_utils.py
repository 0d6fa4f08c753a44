"""Averages of a model's parameters: torch's names, the true mean, models of either side, batch norms that count again."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from placed import DEVICE
from test_lr_scheduler import assert_same, compare, optimizer, train

from dlref import builtin, manual
from dlref.core.flat import flatten

OURS, THEIRS = manual.optim.swa_utils, torch.optim.swa_utils


def network(ns, seed: int = 0):
    torch.manual_seed(seed)
    model = ns.nn.Sequential(ns.nn.Linear(3, 4), ns.nn.BatchNorm1d(4), ns.nn.Tanh(), ns.nn.Linear(4, 2)).double()
    model(torch.randn(7, 3, dtype=torch.float64))
    return model


def states(model) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def furthest(a, b) -> float:
    return max(float((x.detach() - y.detach()).double().abs().max()) for x, y in zip(states(a), states(b), strict=True))


MEANS = {
    "the default": lambda space: {},
    "swa": lambda space: {"avg_fn": space.get_swa_avg_fn()},
    "swa, lists": lambda space: {"multi_avg_fn": space.get_swa_multi_avg_fn()},
    "ema": lambda space: {"avg_fn": space.get_ema_avg_fn(0.7)},
    "ema, lists": lambda space: {"multi_avg_fn": space.get_ema_multi_avg_fn(0.7)},
}


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("ns", [manual, builtin], ids=["manual", "builtin"])
@pytest.mark.parametrize("mean", MEANS)
def test_means(mean, ns, use_buffers):
    """torch's; but the equal weights of its lists are float32's, ours are exact, and it refuses integers in them."""
    lists = {"swa, lists"} if DEVICE.type == "cpu" else {"swa, lists", "the default"}  # which those are on a GPU
    models = [network(ns, seed) for seed in range(5)]
    ours, theirs = (
        space.AveragedModel(models[0], **MEANS[mean](space), use_buffers=use_buffers) for space in (OURS, THEIRS)
    )
    for model in models:
        for averaged in (ours, theirs) if mean not in lists or not use_buffers else (ours,):
            averaged.update_parameters(model)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert int(ours.n_averaged) == 5
    if int(theirs.n_averaged) == 5:
        assert furthest(ours, theirs) <= (1e-7 if mean in lists else 1e-15)
    if "ema" not in mean:
        for p, *values in zip(ours.module.parameters(), *(m.parameters() for m in models), strict=True):
            assert (p - sum(values) / 5).abs().max() <= 1e-15
    fresh = THEIRS.AveragedModel(models[1])
    fresh.load_state_dict(ours.state_dict())
    assert furthest(fresh, ours) == 0
    ours.load_state_dict(theirs.state_dict())
    assert furthest(ours, theirs) == 0


def test_functions_leave_their_arguments():
    a, p = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
    assert OURS.get_swa_avg_fn()(a, p, 1).tolist() == [2.0, 4.0]
    assert OURS.get_ema_avg_fn(0.75)(a, p, 1).tolist() == [1.5, 3.0]
    assert a.tolist() == [1.0, 2.0]
    counts = torch.tensor([4]), torch.tensor([8])
    for space in (OURS, THEIRS):
        mean = counts[0].clone()
        space.get_ema_multi_avg_fn(0.5)([mean], [counts[1]], 1)
        assert mean.tolist() == [6]  # integers, too


@pytest.mark.parametrize("flat", [False, True])
def test_a_model_by_hand_learns_beside_its_average(flat):
    """The average goes its own way, and has the model's vjp."""
    model = network(manual)
    if flat:
        flatten(model)
    averaged, x = OURS.AveragedModel(model), torch.randn(7, 3, dtype=torch.float64)
    averaged.update_parameters(model)
    kept = copy.deepcopy(averaged)
    descent = manual.optim.SGD(model.parameters(), lr=0.5)
    y, pullback = model.vjp(x)
    pullback(torch.ones_like(y))
    descent.step()
    assert furthest(averaged, kept) == 0
    averaged.update_parameters(model)
    assert furthest(averaged.module, kept.module) > 0.01
    model.eval(), averaged.eval()
    y, pullback = averaged.vjp(x)
    assert torch.equal(y, averaged(x))
    pullback(torch.ones_like(y))
    assert all(p.grad is not None for p in averaged.module.parameters())


@pytest.mark.parametrize("ns", [manual, builtin], ids=["manual", "builtin"])
def test_update_bn(ns):
    """Batch norms have the statistics of the data that they are shown, all batches alike."""
    model = OURS.AveragedModel(network(ns))
    batches = [(torch.randn(6, 3, dtype=torch.float64), None) for _ in range(4)]
    model.eval()
    OURS.update_bn(batches, model)
    hidden = [model.module[0](x) for x, _ in batches]
    norm = model.module[1]
    assert not model.training and norm.momentum == 0.1
    assert (norm.running_mean - torch.stack([h.mean(0) for h in hidden]).mean(0)).abs().max() <= 1e-15
    assert (norm.running_var - torch.stack([h.var(0) for h in hidden]).mean(0)).abs().max() <= 1e-15


SCHEDULES = [{"swa_lr": 0.02}, {"swa_lr": 0.5, "anneal_strategy": "linear", "anneal_epochs": 7},
             {"swa_lr": [0.3, 0.01], "anneal_epochs": 3}, {"swa_lr": 0.05, "anneal_epochs": 0}]  # fmt: skip


@pytest.mark.parametrize("kwargs", SCHEDULES, ids=str)
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)], ids=str)
@pytest.mark.parametrize("by_hand", [(), (2, 5)], ids=str)
def test_schedule(kwargs, lr, by_hand):
    ours, theirs = OURS.SWALR(optimizer(lr=lr), **kwargs), THEIRS.SWALR(optimizer(lr=lr), **kwargs)
    assert len(compare(ours, theirs, 12, by_hand)) > (kwargs.get("anneal_epochs") != 0)
    a, b = ours.state_dict(), theirs.state_dict()
    assert a == b and list(a) == list(b)
    ours.load_state_dict(copy.deepcopy(b))
    theirs.load_state_dict(copy.deepcopy(a))
    compare(ours, theirs, 5)


def test_behind_another_schedule():
    def build(space, schedules):
        descent = optimizer()
        return schedules.ExponentialLR(descent, 0.9), space.SWALR(descent, 0.05, anneal_epochs=4)

    sides = build(OURS, manual.optim.lr_scheduler), build(THEIRS, torch.optim.lr_scheduler)
    for t in range(12):
        for first, second in sides:
            train(first.optimizer)
            (first if t < 5 else second).step()
        assert_same(*(second for _, second in sides))


@pytest.mark.parametrize("call", [
    lambda space: space.SWALR(optimizer(), 0.1, anneal_strategy="x"),
    lambda space: space.SWALR(optimizer(), 0.1, anneal_epochs=-1),
    lambda space: space.SWALR(optimizer(), [0.1]),
    lambda space: space.get_ema_avg_fn(1.5),
    lambda space: space.get_ema_multi_avg_fn(-0.5),
    lambda space: space.AveragedModel(network(manual), avg_fn=max, multi_avg_fn=max),
])  # fmt: skip
def test_wrong_use(call):
    with pytest.raises((ValueError, AssertionError)) as theirs:
        call(THEIRS)
    with pytest.raises(theirs.type) as ours:
        call(OURS)
    assert str(ours.value) == str(theirs.value)


def test_names():
    assert set(OURS.__all__) == set(THEIRS.__all__)
    assert builtin.optim.swa_utils.AveragedModel is THEIRS.AveragedModel
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert OURS.update_bn([], network(manual)) is None
