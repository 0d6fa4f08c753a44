"""Schedules: equal to torch's bit for bit over 30 steps, state exchanged, rates changed by hand in between."""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as builtin

from dlref.manual.optim import lr_scheduler as manual
from dlref.verify.oracle.courses import SCHEDULES, halved

STEPS = 30

CASES = [case for case in SCHEDULES if case[0] != "ReduceLROnPlateau"]  # which follows a metric: below
LRS = {"float": 0.1, "float32 tensor": torch.tensor(0.1), "float64 tensor": torch.tensor(0.1, dtype=torch.float64)}


def optimizer(namespace=torch.optim, name="SGD", lr: Any = 0.1, **kwargs):
    """Two groups; the second has a rate of its own."""
    first, second = (torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)) for _ in "ab")
    if name == "SGD":
        kwargs.setdefault("momentum", 0.9)
    return getattr(namespace, name)(
        [{"params": [first]}, {"params": [second], "lr": 3 * lr}], lr=copy.deepcopy(lr), **kwargs
    )


def train(opt):
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = p.detach() - 0.5
    opt.step()


def scheduled(opt):
    """All that a schedule sets in the optimizer, as numbers."""
    return [{key: float(value) if isinstance(value, torch.Tensor) else value for key, value in group.items()
             if key in ("lr", "initial_lr", "momentum", "betas", "max_lr", "min_lr", "max_momentum", "base_momentum")}
            for group in opt.param_groups]  # fmt: skip


def rates(schedule):
    return [float(lr) for lr in schedule.get_last_lr()]


def assert_same(ours, theirs):
    assert scheduled(ours.optimizer) == scheduled(theirs.optimizer)
    assert rates(ours) == rates(theirs)
    assert [type(lr) for lr in ours.get_last_lr()] == [type(lr) for lr in theirs.get_last_lr()]


def compare(ours, theirs, steps=STEPS, by_hand=()):
    """Step both, comparing; return the different states of the optimizer that were seen."""
    assert_same(ours, theirs)
    seen = {str(scheduled(ours.optimizer))}
    for t in range(steps):
        for schedule in (ours, theirs):
            train(schedule.optimizer)
            if t in by_hand:
                for group in schedule.optimizer.param_groups:
                    if isinstance(group["lr"], torch.Tensor):
                        group["lr"].mul_(0.7)
                    else:
                        group["lr"] *= 0.7
            schedule.step()
        assert_same(ours, theirs)
        seen.add(str(scheduled(ours.optimizer)))
    return seen


def pair(name, kwargs, first=None, second=None, **both):
    ours, theirs = getattr(manual, name), getattr(builtin, name)
    return ours(first or optimizer(), **kwargs, **both), theirs(second or optimizer(), **kwargs, **both)


IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]
cases = pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS)


@cases
@pytest.mark.parametrize("lr", LRS)
@pytest.mark.parametrize("by_hand", [(), (2, 13)], ids=["", "changed by hand"])
def test_thirty_steps(name, kwargs, lr, by_hand):
    ours, theirs = pair(name, kwargs, optimizer(lr=LRS[lr]), optimizer(lr=LRS[lr]))
    seen = compare(ours, theirs, by_hand=by_hand)
    assert name == "ConstantLR" or len(seen) > 1


@cases
def test_rates_are_copies(name, kwargs):
    ours, _ = pair(name, kwargs, optimizer(lr=torch.tensor(0.1)))
    before = ours.get_last_lr()
    held = [lr.clone() for lr in before]
    for _ in range(3):
        train(ours.optimizer)
        ours.step()
    assert before == held
    assert all(group["lr"] is not lr for group, lr in zip(ours.optimizer.param_groups, ours.get_last_lr(), strict=True))


@cases
@pytest.mark.parametrize("steps", [1, 12])
def test_state_is_exchanged(name, kwargs, steps):
    if name in ("LambdaLR", "MultiplicativeLR"):
        kwargs = {"lr_lambda": functools.partial(lambda rate, t: rate**t, 0.9)}  # torch saves what has a __dict__ alone
    ours, theirs = pair(name, kwargs)
    compare(ours, theirs, steps)
    a, b = ours.state_dict(), theirs.state_dict()
    assert a == b
    assert list(a) == list(b)
    ours_again, theirs_again = pair(name, kwargs)
    for fresh, old, other in ((ours_again, ours, theirs), (theirs_again, theirs, ours)):
        fresh.load_state_dict(pickle.loads(pickle.dumps(other.state_dict())))
        fresh.optimizer.load_state_dict(old.optimizer.state_dict())
    compare(ours_again, theirs_again, 12)


@cases
@pytest.mark.parametrize("last_epoch", [0, 6, 8])
def test_resumed(name, kwargs, last_epoch):
    first, second = optimizer(), optimizer()
    for opt in (first, second):
        getattr(builtin, name)(opt, **kwargs)  # sets initial_lr and the like
    ours, theirs = pair(name, kwargs, first, second, last_epoch=last_epoch)
    if name == "CosineAnnealingWarmRestarts" and kwargs.get("T_mult", 1) > 1:  # where torch loses the periods gone by
        theirs = getattr(builtin, name)(optimizer(), **kwargs)
        for _ in range(last_epoch + 1):
            train(theirs.optimizer)
            theirs.step()
        for opt, p in zip(first.param_groups, theirs.optimizer.param_groups, strict=True):
            assert opt["lr"] == p["lr"]
        return
    compare(ours, theirs, 20)


@cases
def test_step_to_an_epoch(name, kwargs):
    if name == "CosineAnnealingWarmRestarts":
        pytest.skip("there it is no deprecated way: below")
    ours, theirs = pair(name, kwargs)
    for epoch in (0, 5, 17, 3, 30):
        for schedule in (ours, theirs):
            train(schedule.optimizer)
            with pytest.warns(UserWarning, match="epoch parameter"):
                schedule.step(epoch)
        assert_same(ours, theirs)


@cases
def test_get_lr_outside_of_step_warns(name, kwargs):
    ours, theirs = pair(name, kwargs)
    for schedule in (ours, theirs):
        train(schedule.optimizer)
        schedule.step()
    with pytest.warns(UserWarning, match="get_last_lr") as warned:
        ours.get_lr()
    with pytest.warns(UserWarning, match="get_last_lr") as their_warning:
        theirs.get_lr()
    assert str(warned[0].message) == str(their_warning[0].message)


@pytest.mark.parametrize("name", ["StepLR", "MultiStepLR", "ExponentialLR", "ConstantLR", "LinearLR", "PolynomialLR"])
def test_chained_is_closed(name):
    """The product of the changes is the multiplier: two formulas on one screen say the same."""
    kwargs = next(kwargs for n, kwargs in reversed(CASES) if n == name and kwargs.get("end_factor") != 0.0)
    schedule = getattr(manual, name)(optimizer(), **kwargs)
    product = schedule.multiplier(0)
    for t in range(1, STEPS):
        product *= schedule.change(t)
        assert product == pytest.approx(schedule.multiplier(t), rel=1e-12, abs=1e-15)


def test_cosine_chained_is_closed():
    schedule = manual.CosineAnnealingLR(optimizer(), T_max=9, eta_min=0.003)
    for _ in range(STEPS):
        train(schedule.optimizer)
        schedule.step()
        assert rates(schedule) == pytest.approx(schedule._get_closed_form_lr(), rel=1e-12)


@pytest.mark.parametrize("kwargs", [{}, {"anneal_strategy": "linear", "three_phase": True}], ids=str)
def test_one_cycle_turns_beta1(kwargs):
    kwargs = {"max_lr": 0.1, "total_steps": 33, **kwargs}
    compare(*pair("OneCycleLR", kwargs, optimizer(name="Adam"), optimizer(name="Adam")), by_hand=(4,))


def test_one_cycle_ends():
    for schedule in pair("OneCycleLR", {"max_lr": 0.1, "total_steps": 3}):
        for _ in range(3):
            train(schedule.optimizer)
            schedule.step()
        train(schedule.optimizer)
        with pytest.raises(ValueError, match="Tried to step 4 times"):
            schedule.step()


@pytest.mark.parametrize(("T_0", "T_mult"), [(5, 1), (3, 2), (1, 10)])
def test_restarts_at_any_epoch(T_0, T_mult):
    """Parts of an epoch, and back: the place in the cosine is counted, torch takes a logarithm, which may round down."""
    ours, theirs = pair("CosineAnnealingWarmRestarts", {"T_0": T_0, "T_mult": T_mult, "eta_min": 0.01})
    for epoch in (0.25, 2.5, 3, 3.75, None, 1.5, 9, 20.25, None, None, 4.5):
        for schedule in (ours, theirs):
            train(schedule.optimizer)
            schedule.step(epoch)
        assert (ours.T_cur, ours.T_i, ours.last_epoch) == (theirs.T_cur, theirs.T_i, theirs.last_epoch)
        assert_same(ours, theirs)
    if T_mult == 10:
        for schedule in (ours, theirs):
            schedule.step(111)
        assert (ours.T_cur, ours.T_i) == (0, 1000)
        assert rates(ours) == pytest.approx(ours.base_lrs)
        assert rates(theirs) == pytest.approx([0.01, 0.01])  # a restart that is not one


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cycles_turn_beta1(mode):
    kwargs = {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "mode": mode, "gamma": 0.95}
    compare(*pair("CyclicLR", kwargs, optimizer(name="Adam"), optimizer(name="Adam")), by_hand=(4,))


@pytest.mark.parametrize("lr", LRS)
def test_chained(lr):
    """Several at once, of either side in a chain of either side; their state goes over."""

    def build(outer, first, second):
        opt = optimizer(lr=LRS[lr])
        return outer.ChainedScheduler([first.ConstantLR(opt, 0.1, total_iters=9), second.ExponentialLR(opt, 0.9)], opt)

    for sides in itertools.product((builtin, manual), repeat=3):
        ours, theirs = build(*sides), build(builtin, builtin, builtin)
        compare(ours, theirs, 12, by_hand=(4,))
        a, b = ours.state_dict(), theirs.state_dict()
        assert a == b
        ours.load_state_dict(copy.deepcopy(b))
        compare(ours, theirs, 12)


def test_added_group():
    """A group that is added later is scheduled as torch schedules it."""
    for name, kwargs in CASES:
        if name in ("CosineAnnealingWarmRestarts", "CyclicLR", "LambdaLR", "MultiplicativeLR", "OneCycleLR"):
            continue
        both = pair(name, kwargs)
        for schedule in both:
            schedule.optimizer.add_param_group(
                {"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.2, "momentum": 0.5}
            )
        if kwargs == {"T_max": 1}:
            compare(*both, steps=1)  # at the turn torch asks for the rate that the group started with
            for schedule in both:
                train(schedule.optimizer)
                with pytest.raises(ValueError, match="zip"):
                    schedule.step()
        else:
            compare(*both, steps=6)


# --- on a plateau ---------------------------------------------------------------------------------------------------

METRICS = [1.0, 0.9, 0.9, 0.899999, 0.95, 0.9, 0.9, 0.9, 0.5, 0.5, 0.51, 0.5, 0.49, 0.485, 0.485, 0.485, 0.485, 0.48,
           float("nan"), 0.4, float("inf"), 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, -0.1, -0.2, -0.2]  # fmt: skip
PLATEAUS: list[dict[str, Any]] = [
    {"mode": mode, "threshold_mode": threshold_mode, "threshold": threshold, "patience": patience, "cooldown": cooldown}
    for mode in ("min", "max") for threshold_mode in ("rel", "abs") for threshold in (1e-4, 0.02)
    for patience, cooldown in ((0, 0), (2, 0), (1, 3))
] + [{"patience": 1, "min_lr": [0.01, 0.05], "factor": 0.5}, {"patience": 0, "min_lr": 0.02},
     {"patience": 0, "eps": 0.02, "factor": 0.7}]  # fmt: skip


@pytest.mark.parametrize("kwargs", PLATEAUS, ids=str)
@pytest.mark.parametrize("lr", LRS)
@pytest.mark.parametrize("sign", [1, -1])
def test_plateau(kwargs, lr, sign):
    ours, theirs = pair("ReduceLROnPlateau", kwargs, optimizer(lr=LRS[lr]), optimizer(lr=LRS[lr]))
    seen = set()
    for t, metric in enumerate(METRICS):
        for schedule in (ours, theirs):
            schedule.step(torch.tensor(sign * metric) if t % 2 else sign * metric)
        assert_same(ours, theirs)
        assert ours.state_dict() == theirs.state_dict()
        seen.add(str(rates(ours)))
        if t == 11:
            a, b = ours.state_dict(), theirs.state_dict()
            ours, theirs = pair("ReduceLROnPlateau", {}, ours.optimizer, theirs.optimizer)
            ours.load_state_dict(b)
            theirs.load_state_dict(a)
    assert len(seen) > 1 or (sign, kwargs["mode"]) == (-1, "max")  # minus these metrics, "max" sees them improve


def test_plateau_edges():
    for schedule in pair("ReduceLROnPlateau", {"patience": 0, "min_lr": [0.01, 0.02]}):
        schedule.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
        schedule.step(1.0)
        with pytest.raises(RuntimeError, match="min_lrs"):
            schedule.step(1.0)
    ours, theirs = pair("ReduceLROnPlateau", {"patience": 0, "min_lr": 0.05})
    for schedule in (ours, theirs):
        schedule.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
        for epoch in (4, 9, 10):
            with pytest.warns(UserWarning, match="epoch parameter"):
                schedule.step(1.0, epoch)
        assert schedule.last_epoch == 10
    assert_same(ours, theirs)


# --- one after another ----------------------------------------------------------------------------------------------


def sequence(namespace, opt, parts, milestones):
    schedules = [getattr(namespace, name)(opt, **kwargs) for name, kwargs in parts]
    return manual.SequentialLR(opt, schedules, milestones) if namespace is manual else builtin.SequentialLR(
        opt, schedules, milestones
    )  # fmt: skip


SEQUENCES = [
    ([("LinearLR", {"start_factor": 0.1, "total_iters": 6}), ("CosineAnnealingLR", {"T_max": 20})], [6]),
    ([("ConstantLR", {"factor": 0.1, "total_iters": 4}), ("ExponentialLR", {"gamma": 0.9}), ("StepLR", {"step_size": 3})],
     [4, 15]),
    ([("PolynomialLR", {"total_iters": 10}), ("MultiStepLR", {"milestones": [2, 5]}), ("LambdaLR", {"lr_lambda": halved})],
     [0, 9]),
    ([("ExponentialLR", {"gamma": 0.9})], []),
    ([("LinearLR", {}), ("PolynomialLR", {"total_iters": 9}), ("LinearLR", {"end_factor": 0.2})], [5, 14]),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "milestones"), SEQUENCES, ids=lambda v: str(len(v)))
@pytest.mark.parametrize("lr", LRS)
def test_sequence(parts, milestones, lr):
    ours = sequence(manual, optimizer(lr=LRS[lr]), parts, milestones)
    theirs = sequence(builtin, optimizer(lr=LRS[lr]), parts, milestones)
    compare(ours, theirs, 11, by_hand=(3,))
    a, b = ours.state_dict(), theirs.state_dict()
    assert a == b
    for schedule, opt in ((ours, optimizer(lr=LRS[lr])), (theirs, optimizer(lr=LRS[lr]))):
        opt.load_state_dict(schedule.optimizer.state_dict())
    ours, theirs = (sequence(n, optimizer(lr=LRS[lr]), parts, milestones) for n in (manual, builtin))
    ours.load_state_dict(copy.deepcopy(b))
    theirs.load_state_dict(copy.deepcopy(a))
    compare(ours, theirs, 19)


def test_mixed_sequence():
    """Parts of either side, in a sequence of either side."""

    def build(outer, first, second):
        opt = optimizer()
        return outer.SequentialLR(opt, [first.LinearLR(opt, total_iters=7), second.CosineAnnealingLR(opt, 12)], [7])

    reference = build(builtin, builtin, builtin)
    others = [build(manual, builtin, manual), build(builtin, manual, builtin), build(manual, builtin, builtin)]
    for _ in range(STEPS):
        for schedule in (reference, *others):
            train(schedule.optimizer)
            schedule.step()
        for schedule in others:
            assert_same(schedule, reference)


# --- wrong use ------------------------------------------------------------------------------------------------------


def wrong(namespace):
    """Calls that must raise."""
    opt, other = optimizer(), optimizer()
    adagrad = optimizer(name="Adagrad")
    for name, kwargs in CASES:
        yield name, lambda name=name, kwargs=kwargs: getattr(namespace, name)("no optimizer", **kwargs)
        yield name, lambda name=name, kwargs=kwargs: getattr(namespace, name)(optimizer(), **kwargs, last_epoch=3)
    for kwargs in ({"start_factor": 0}, {"start_factor": 1.5}, {"end_factor": -0.1}, {"end_factor": 1.1}):
        yield "LinearLR", lambda kwargs=kwargs: namespace.LinearLR(opt, **kwargs)
    for factor in (-0.1, 1.1):
        yield "ConstantLR", lambda factor=factor: namespace.ConstantLR(opt, factor)
    yield "LambdaLR", lambda: namespace.LambdaLR(opt, [halved])
    for kwargs in ({"factor": 1.0}, {"mode": "x"}, {"threshold_mode": "x"}, {"min_lr": [1.0]}):
        yield "ReduceLROnPlateau", lambda kwargs=kwargs: namespace.ReduceLROnPlateau(opt, **kwargs)
    for kwargs in ({}, {"total_steps": 0}, {"total_steps": 1.5}, {"epochs": 2}, {"epochs": 0, "steps_per_epoch": 2},
                   {"total_steps": 5, "pct_start": 2.0}, {"total_steps": 5, "anneal_strategy": "x"},
                   {"total_steps": 5, "base_momentum": [0.1]}):  # fmt: skip
        yield "OneCycleLR", lambda kwargs=kwargs: namespace.OneCycleLR(opt, 0.1, **kwargs)
    yield "OneCycleLR", lambda: namespace.OneCycleLR(opt, [0.1], total_steps=5)
    yield "OneCycleLR", lambda: namespace.OneCycleLR(adagrad, 0.1, total_steps=5)
    yield "MultiplicativeLR", lambda: namespace.MultiplicativeLR(opt, [halved])
    yield "MultiplicativeLR", lambda: namespace.MultiplicativeLR(opt, [halved, 3])
    for kwargs in ({"T_0": 0}, {"T_0": 1.5}, {"T_0": 2, "T_mult": 0}, {"T_0": 2, "eta_min": "0"}):
        yield "CosineAnnealingWarmRestarts", lambda kwargs=kwargs: namespace.CosineAnnealingWarmRestarts(opt, **kwargs)
    yield "CosineAnnealingWarmRestarts", lambda: namespace.CosineAnnealingWarmRestarts(opt, 2).step(-1)
    for kwargs in ({"mode": "x"}, {"base_momentum": [0.1]}):
        yield "CyclicLR", lambda kwargs=kwargs: namespace.CyclicLR(opt, 0.1, 0.2, **kwargs)
    yield "CyclicLR", lambda: namespace.CyclicLR(opt, [0.1], 0.2)
    yield "CyclicLR", lambda: namespace.CyclicLR(adagrad, 0.1, 0.2)
    step = namespace.StepLR(opt, 2)
    plateau = namespace.ReduceLROnPlateau(opt)
    yield "ChainedScheduler", lambda: namespace.ChainedScheduler([])
    yield "ChainedScheduler", lambda: namespace.ChainedScheduler([step, plateau])
    yield "ChainedScheduler", lambda: namespace.ChainedScheduler([step], other)
    yield "ChainedScheduler", lambda: namespace.ChainedScheduler([step, "no schedule"])
    yield "SequentialLR", lambda: namespace.SequentialLR(opt, [], [])
    yield "SequentialLR", lambda: namespace.SequentialLR(opt, [step], [3])
    yield "SequentialLR", lambda: namespace.SequentialLR(other, [step], [])
    yield "SequentialLR", lambda: namespace.SequentialLR(opt, [step, plateau], [3])
    yield "SequentialLR", lambda: namespace.SequentialLR(opt, ["no schedule"], [])


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_wrong_use_raises_as_torch_does():
    count = 0
    for (name, ours), (_, theirs) in zip(wrong(manual), wrong(builtin), strict=True):
        try:
            theirs()
        except Exception as e:
            with pytest.raises(type(e)) as raised:
                ours()
            assert str(raised.value).split(" <")[0] == str(e).split(" <")[0], name
            count += 1
        else:
            ours()
    assert count > 2 * len(CASES)


def test_names():
    for name in manual.__all__:
        ours, theirs = getattr(manual, name), getattr(builtin, name)
        assert issubclass(ours, theirs)
        assert name == "LRScheduler" or ("rates" in dir(ours) or "step" in vars(ours)), name
    assert {name for name, _ in CASES} | {"ChainedScheduler", "ReduceLROnPlateau", "SequentialLR", "LRScheduler"} == {
        *manual.__all__
    }
    assert set(builtin.__all__) <= set(manual.__all__)
