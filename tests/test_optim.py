"""Optimizers: PyTorch's own configurations against torch's optimizers, state exchanged, one tensor or many."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
import warnings
from typing import Any

import pytest
import torch
from placed import DEVICE
from test_manual import Seen
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._pytree import tree_leaves_with_path

from dlref.builtin import optim as builtin
from dlref.core.compat import ADAGRAD_STATE, databases
from dlref.core.flat import flatten
from dlref.core.optimizer import Manual
from dlref.manual import nn, optim
from dlref.verify.oracle.courses import objective

with databases():
    from torch.testing._internal.common_optimizers import ErrorOptimizerInput, OptimizerInfo, OptimizerInput, optim_db


def information(name: str, inputs: list[dict[str, Any]], wrong: list[dict[str, Any]]) -> OptimizerInfo:
    """As PyTorch's database has it, of an optimizer that torch lacks."""
    return OptimizerInfo(
        getattr(builtin, name), supported_impls=("foreach",), supports_fused_on=(),
        optim_inputs_func=lambda device: [OptimizerInput(None, kwargs, ", ".join(kwargs) or "default") for kwargs in inputs],
        optim_error_inputs_func=lambda device, dtype: [
            ErrorOptimizerInput(OptimizerInput(None, kwargs, ""), error_type=ValueError, error_regex=next(iter(kwargs)))
            for kwargs in wrong
        ],
    )  # fmt: skip


BEYOND = [
    information("Lion", [{}, {"lr": 0.01, "betas": (0.8, 0.7)}, {"weight_decay": 0.1}, {"maximize": True, "weight_decay": 0.2},
                         {"lr": torch.tensor(0.01)}], [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"weight_decay": -0.1}]),
    information("ScheduleFreeAdamW", [
        {}, {"lr": 0.05, "betas": (0.8, 0.9)}, {"weight_decay": 0.1, "eps": 0.01}, {"warmup_steps": 6}, {"r": 0.5},
        {"maximize": True, "weight_lr_power": 0.0, "warmup_steps": 3}, {"lr": torch.tensor(0.01), "warmup_steps": 20, "r": 1.0},
    ], [{"lr": -1.0}, {"eps": -1.0}, {"weight_decay": -1.0}, {"warmup_steps": -1}, {"betas": (0.0, 0.9)},
        {"betas": (0.9, 1.0)}]),
]  # fmt: skip
NAMES = sorted(n for n in optim.__all__ if isinstance(c := getattr(optim, n), type) and c is not torch.optim.Optimizer)
RULES = [n for n in NAMES if issubclass(getattr(optim, n), Manual)]  # those that the base takes the step for
INFOS = {info.optim_cls.__name__: info for info in (*optim_db, *BEYOND)}
MOMENTUM: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}}


def configurations():
    """What PyTorch tests an optimizer with, each plain, for speed and complex; capturable asks for an accelerator.

    Where the rate is a tensor, Muon and SparseAdam of torch compute with it in its dtype, ours as with a number.
    """
    for name in NAMES:
        for i, config in enumerate(INFOS[name].optim_inputs_func("cpu")):
            if not config.kwargs.get("capturable"):
                kwargs = dict(config.kwargs)
                if name in ("Muon", "SparseAdam") and torch.is_tensor(kwargs.get("lr")):
                    kwargs["lr"] = kwargs["lr"].double()
                yield pytest.param(name, kwargs, id=f"{name}-{i}-{config.desc.replace(' ', '_')}")


CONFIGURATIONS = list(configurations())


def test_every_optimizer_has_configurations():
    assert set(NAMES) == set(INFOS)
    assert set(NAMES) - set(RULES) == {"LBFGS"}


def network(name: str = "SGD", dtype=torch.float64, flat: bool = False):
    """One whose parameters the optimizer takes: matrices alone, for Muon."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.LayerNorm(2))
    if name == "Muon":
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex modules are new
        model.to(dtype)
    return flatten(model) if flat else model


def build(namespace, name: str, parameters, kwargs: dict[str, Any]):
    """The optimizer, which takes gradients from here on."""
    optimizer = getattr(namespace, name)(parameters, **copy.deepcopy(kwargs))
    if name == "ScheduleFreeAdamW":
        optimizer.train()
    return optimizer


def train(model, optimizer, steps: range, missing: int | None = None):
    """Steps with gradients that depend on the step only; a flattened model gets them where `vjp` puts them.

    Where the step asks for a closure, they are the slopes at 0 of a bowl; where it takes sparse ones alone, of some elements.
    """
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for i, p in enumerate(model.parameters()):
            g = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            slot = p.__dict__.get("grad_slot")
            if isinstance(optimizer, torch.optim.SparseAdam):
                g = (g * (g.real > 0)).to_sparse(1)
            p.grad = None if i == missing else g if slot is None or g.is_sparse else slot.copy_(g)
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(objective(list(model.parameters()), -1 if optimizer.defaults.get("maximize") else 1))
        else:
            optimizer.step()


def plain(name: str) -> dict[str, Any]:
    """Asks torch for the loop over parameters, where there is another way."""
    return {"foreach": False} if "foreach" in INFOS[name].supported_impls else {}


def one_run(optimizer) -> bool:
    """Whether the last step was one update of all parameters, where it can be."""
    return not getattr(optimizer, "elementwise", False) or [len(plan.runs) for plan in optimizer._plans.values()] == [1]


# Bit for bit; but a GPU's kernels for many tensors at once round a product and a sum together.
EXACTLY = 0.0 if DEVICE.type == "cpu" else 1e-15


def assert_same(a, b, bound: float = EXACTLY):
    """Parameters within the bound of each other; bit for bit by default."""
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.dtype == q.dtype
        assert (p - q).abs().max() <= bound, (p - q).abs().max()


def assert_same_state(ours, theirs, bound: float = EXACTLY):
    a, b = ours.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for key, state in a["state"].items():
        assert list(state) == list(b["state"][key])
        for (path, value), (_, other) in zip(
            *(tree_leaves_with_path(s) for s in (state, b["state"][key])), strict=True
        ):
            assert type(value) is type(other), path
            if isinstance(value, torch.Tensor):
                assert (value.dtype, value.device, value.shape) == (other.dtype, other.device, other.shape), path
            if value is not None:
                assert torch.as_tensor(value - other).abs().max() <= bound, (path, value - other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("flat", [False, True], ids=["single", "flat"])
@pytest.mark.parametrize(("name", "kwargs"), CONFIGURATIONS)
def test_ten_steps(name, kwargs, flat, dtype):
    """Real parameters: the very bits of torch's plain loop, flattened or not. Complex: within rounding."""
    bound = 1e-15 if dtype.is_complex else 4 * torch.finfo(dtype).eps if EXACTLY else 0.0
    kwargs = {**plain(name), **kwargs}
    ours, theirs = network(name, dtype, flat), network(name, dtype)
    if dtype.is_complex and not INFOS[name].supports_complex and name != "LBFGS":
        refused = []
        for namespace, model in ((optim, ours), (builtin, theirs)):
            with pytest.raises((ValueError, RuntimeError), match="omplex") as caught:
                train(model, build(namespace, name, model.parameters(), kwargs), range(1))
            refused.append((type(caught.value), str(caught.value)))
        assert refused[0] == refused[1]
        return
    a, b = build(optim, name, ours.parameters(), kwargs), build(builtin, name, theirs.parameters(), kwargs)
    train(ours, a, range(10))
    train(theirs, b, range(10))
    assert_same(ours, theirs, bound)
    assert_same_state(a, b, bound)
    assert repr(a) == repr(b)
    assert not flat or one_run(a)


@pytest.mark.parametrize("flag", ["foreach", "fused"])
@pytest.mark.parametrize(("name", "kwargs"), CONFIGURATIONS)
def test_flags_of_speed(name, kwargs, flag):
    """They change neither the parameters nor what torch's own state looks like with them."""
    if flag == "fused" and DEVICE.type not in INFOS[name].supports_fused_on:
        pytest.skip("torch has no such kernel there")
    flagged = {**kwargs, flag: True}
    try:
        build(builtin, name, network(name).parameters(), flagged)
    except (TypeError, ValueError) as theirs:  # no such flag, or not with these arguments
        with pytest.raises(type(theirs), match=re.escape(str(theirs))):
            build(optim, name, network(name).parameters(), flagged)
        return
    plain, fast, theirs = network(name), network(name, flat=True), network(name)
    a, b = build(optim, name, plain.parameters(), kwargs), build(optim, name, fast.parameters(), flagged)
    c = build(builtin, name, theirs.parameters(), flagged)
    for model, optimizer in ((plain, a), (fast, b), (theirs, c)):
        train(model, optimizer, range(10))
    assert_same(plain, fast)
    bound = 1e-8 if name == "ASGD" else 1e-12  # torch's ASGD for many tensors computes its rates in float32
    assert_same(fast, theirs, bound)
    assert_same_state(b, c, bound)


@pytest.mark.parametrize("flat", [False, True], ids=["single", "flat"])
@pytest.mark.parametrize(("name", "kwargs"), CONFIGURATIONS)
def test_state_is_exchanged(name, kwargs, flat):
    """After five steps each side goes on with the other's state, saved and read again."""
    kwargs = {**plain(name), **kwargs}
    ours, theirs = network(name, flat=flat), network(name)
    a, b = build(optim, name, ours.parameters(), kwargs), build(builtin, name, theirs.parameters(), kwargs)
    train(ours, a, range(5))
    train(theirs, b, range(5))
    from_ours, from_theirs = saved(a.state_dict()), saved(b.state_dict())
    a.load_state_dict(from_theirs)
    b.load_state_dict(from_ours)
    train(ours, a, range(5, 10))
    train(theirs, b, range(5, 10))
    assert_same(ours, theirs)
    assert_same_state(a, b)
    assert not flat or one_run(a)


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments(name):
    number = 0
    for wrong in INFOS[name].optim_error_inputs_func("cpu", torch.float64):
        config, raised = wrong.optimizer_error_input, []
        for namespace in (optim, builtin):
            parameters = config.params if config.params is not None else [torch.nn.Parameter(torch.zeros(1, 1))]
            with pytest.raises(wrong.error_type, match=wrong.error_regex) as caught:
                getattr(namespace, name)(parameters, **config.kwargs).step()  # which alone refuses complex parameters
            raised.append(str(caught.value))
        assert raised[0] == raised[1]
        number += 1
    assert number


@pytest.mark.parametrize("name", NAMES)
def test_kernels(name):
    """Tensor algebra; none of torch's optimizer kernels, whatever the flags."""
    options: list[dict[str, Any]] = [
        {flag: True} for flag in ("foreach", "fused") if flag in INFOS[name].supported_impls
    ]
    if name == "LBFGS":
        options = [{"line_search_fn": search} for search in ("strong_wolfe", "more_thuente")]
    for kwargs in ({}, *options):
        model = network(name)
        optimizer = build(optim, name, model.parameters(), {**MOMENTUM.get(name, {}), **kwargs})
        with Seen() as seen:
            train(model, optimizer, range(7))
        allowed = {*ALGEBRA.split(), *MORE.get(name, "").split()}
        assert seen.names <= allowed, sorted(seen.names - allowed)


# In place or not; randn makes the gradients.
ALGEBRA = (
    "add add_ sub_ mul mul_ div neg reciprocal pow sqrt sqrt_ square abs addcmul addcmul_ addcdiv_ lerp_ clamp_ where "
    "lerp sign sign_ gt lt zeros ones ones_like scalar_tensor squeeze "
    "zeros_like detach clone copy_ _local_scalar_dense lift_fresh randn full_like empty_like"
)
MORE = {
    # Of a step along a vector of all parameters; a bowl, and the profiler's mark, as torch wraps that step.
    "LBFGS": "cat sub rsub split_with_sizes dot sum max linalg_vector_norm eq ge le view linspace "
    "_record_function_enter_new _record_function_exit",
    "Adafactor": "mm mean linalg_vector_norm clamp rsqrt_ div_ pow_ new_zeros",
    "Muon": "mm addmm linalg_vector_norm clamp _to_copy permute",
    # What is stored: its places and values; the gradients are made sparse.
    "SparseAdam": "index index_put_ unbind view _indices _values is_coalesced coalesce indices values sub _to_sparse",
}


# --- what the base does for all of them ---------------------------------------------------------------------------


def both(name: str = "SGD", flat: bool = True):
    """(model, optimizer) of ours, flattened, and of torch's."""
    for namespace, lay in ((optim, flat), (builtin, False)):
        model = network(name, flat=lay)
        yield model, build(namespace, name, model.parameters(), {**plain(name), **MOMENTUM.get(name, {})})


@pytest.mark.parametrize("name", RULES)
def test_groups_and_a_group_that_comes_later(name):
    models = []
    for namespace, flat in ((optim, True), (builtin, False)):
        model = network(name, flat=flat)
        a, b, *rest = model.parameters()
        groups = [{"params": [a]}, {"params": [b, *rest[:1]], "lr": 0.05, "weight_decay": 0.01, "maximize": True}]
        optimizer = build(namespace, name, groups, {"lr": 0.02, **plain(name)})
        train(model, optimizer, range(4))
        if (name != "Adagrad" or ADAGRAD_STATE) and rest:
            optimizer.add_param_group({"params": rest[1:], "lr": torch.tensor([0.03], dtype=torch.float64)})
        optimizer.param_groups[0]["lr"] = 0.2
        train(model, optimizer, range(4, 8))
        models.append(model)
    assert_same(*models)


def test_closure_and_the_grad_mode():
    for grad in (True, False):
        losses = []
        for model, optimizer in both():
            x = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)

            def closure(model=model, optimizer=optimizer, x=x):
                assert torch.is_grad_enabled()
                optimizer.zero_grad()
                loss = model(x).square().sum() + model(x)[:, 0].sum()
                loss.backward()
                return loss

            with torch.set_grad_enabled(grad):
                losses.append([optimizer.step(closure).item() for _ in range(3)])
                assert torch.is_grad_enabled() is grad
        assert losses[0] == pytest.approx(losses[1], abs=1e-12)
        assert len(set(losses[0])) == 3


def test_hooks_run_once_a_step():
    (model, ours), _ = both()
    calls = []
    handles = [
        ours.register_step_pre_hook(lambda o, args, kwargs: calls.append("before")),
        ours.register_step_post_hook(lambda o, args, kwargs: calls.append("after")),
        register_optimizer_step_pre_hook(lambda o, args, kwargs: calls.append("any")),
    ]
    train(model, ours, range(2))
    assert calls == ["any", "before", "after"] * 2
    for handle in handles:
        handle.remove()
    train(model, ours, range(2))
    assert len(calls) == 6
    with torch.profiler.profile() as profile:
        ours.step()
    assert "Optimizer.step#SGD.step" in {event.key for event in profile.key_averages()}


SPARSE: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}, "Adagrad": {"lr_decay": 0.1}, "SparseAdam": {"eps": 0.1}}


@pytest.mark.parametrize("name", RULES)
def test_sparse_gradients(name):
    def steps(namespace, **kwargs):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3))
        optimizer = build(namespace, name, [p], {"lr": 0.1, **plain(name), **kwargs})
        for step in range(4):
            values = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
            p.grad = torch.sparse_coo_tensor(torch.tensor([[0, 2, 0]]), values, p.shape)
            optimizer.step()
        return p

    with torch.sparse.check_sparse_tensor_invariants():
        if name in SPARSE:
            for kwargs in ({}, {"maximize": True}, SPARSE[name]):
                a, b = (steps(namespace, **kwargs) for namespace in (optim, builtin))
                assert (a - b).abs().max() <= EXACTLY  # where rows meet, a GPU adds them up in any order
            if name != "SparseAdam":
                with pytest.raises(RuntimeError, match="sparse"):
                    steps(optim, weight_decay=0.1)
        else:
            for namespace in (optim, builtin):
                with pytest.raises(RuntimeError, match="does not support sparse gradients"):
                    steps(namespace)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize(("shape", "sparse"), [((6,), 1), ((4, 3), 1), ((4, 3), 2), ((2, 3, 2), 2)], ids=str)
def test_coalesced_gradients_of_a_view(name, shape, sparse):
    """A parameter that lies within a larger tensor: torch's sum of it and a sparse one writes past it."""
    found = []
    for namespace, flat in ((optim, True), (builtin, False)):
        generator = torch.Generator().manual_seed(0)
        shapes = ((7,), shape, (5,))
        module = torch.nn.ParameterList(torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes)
        if flat:
            flatten(module)
        optimizer = build(namespace, name, module.parameters(), {"lr": 0.1, **plain(name), **SPARSE[name]})
        for _ in range(4):
            g = torch.randn(shape, dtype=torch.float64, generator=generator)
            module[1].grad = (g * (g > 0)).to_sparse(sparse).coalesce()
            with torch.sparse.check_sparse_tensor_invariants():
                optimizer.step()
        found.append(module)
    assert_same(*found)


RATES = {"SGD": ("lr", "weight_decay"), "Adam": ("lr", "beta1", "beta2", "weight_decay")}  # those that torch can learn
OPTIONS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9, "nesterov": True}, "Adam": {"amsgrad": True},
                                      "RMSprop": {"momentum": 0.9, "centered": True}}  # fmt: skip


def unrolled(namespace, name, steps, options, differentiable=True):
    """The parameter after some steps, as a function of its start, the gradients and the rates; and where to take it."""
    names = RATES.get(name, ())
    values = {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.2}

    def function(start, *rest):
        grads, rates = rest[:steps], dict(zip(names, rest[steps:], strict=True))
        kwargs = {k: v for k, v in rates.items() if not k.startswith("beta")} or {"lr": 0.1, "weight_decay": 0.2}
        kwargs = {k: v for k, v in kwargs.items() if k in inspect.signature(getattr(builtin, name)).parameters}
        if "beta1" in rates:
            kwargs["betas"] = (rates["beta1"], rates["beta2"])
        p = start.clone()
        # for many tensors at once, which it takes where they are on a GPU, torch has no derivative of the rates
        kwargs["foreach"] = False
        optimizer = getattr(namespace, name)([p], differentiable=differentiable, **kwargs, **options)
        for g in grads:
            p.grad = g.clone()
            optimizer.step()
        return p

    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, dtype=torch.float64, generator=generator) for _ in range(steps + 1)]
    return function, [*tensors, *(torch.tensor(values[k], dtype=torch.float64) for k in names)]


@pytest.mark.parametrize("name", [n for n in RULES if "differentiable" in INFOS[n].supported_impls])
def test_differentiable(name):
    """Gradients through one step are torch's, and through three (where torch's raises for some) the true ones."""
    results = []
    torch.set_default_dtype(torch.float64)  # the dtype in which torch counts the steps
    try:
        for namespace in (optim, builtin):
            function, inputs = unrolled(namespace, name, 1, OPTIONS.get(name, {}))
            inputs = [v.requires_grad_() for v in inputs]
            p = function(*inputs)
            error = (p * torch.arange(6.0, dtype=torch.float64).reshape(2, 3)).sum()
            results.append([p, *torch.autograd.grad(error, inputs)])
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12
    # SGD's first momentum is, as in torch, no function of the first gradient: it is cut from the graph.
    options = {} if name == "SGD" else OPTIONS.get(name, {})
    function, inputs = unrolled(optim, name, 3, options)
    plain = unrolled(optim, name, 3, options, differentiable=False)[0](*inputs)
    assert torch.equal(function(*inputs), plain)
    assert torch.autograd.gradcheck(function, [v.requires_grad_() for v in inputs])


@pytest.mark.parametrize("flat", [False, True], ids=["single", "flat"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), None], ids=["deepcopy", "pickle", "save"]
)
def test_copies_go_on(name, flat, copied):
    (model, optimizer), (reference, theirs) = both(name=name, flat=flat)
    train(model, optimizer, range(5))
    train(reference, theirs, range(5))
    if copied is None:
        file = io.BytesIO()
        torch.save((model, optimizer), file)
        file.seek(0)
        model2, optimizer2 = torch.load(file, weights_only=False)
    else:
        model2, optimizer2 = copied((model, optimizer))
    assert type(optimizer2) is type(optimizer)
    train(model2, optimizer2, range(5, 8))
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), model2.parameters(), strict=True))
    for m, o in ((model, optimizer), (reference, theirs)):  # untouched by the copy's steps
        train(m, o, range(5, 8))
    assert_same(model, reference)
    assert_same(model2, reference)
