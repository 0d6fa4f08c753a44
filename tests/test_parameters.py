"""Parameters that are legal and absurdly small or large: as torch, and no NaN where torch has none."""

from __future__ import annotations

import inspect
import math

import harness
import pytest
import test_modules
import torch
import torch.nn.functional as T
from harness import MODULES, quietly, since
from torch.utils._pytree import tree_map

from dlref.core.compat import EVALUATION_WITHOUT_EPS, LP_POOL_OF_INFINITE_NORM, LP_POOL_OF_NORM_NOUGHT
from dlref.manual import functional as F
from dlref.manual import nn, optim

ABSURD = (0.0, 1e-300, 1e-30, 1e-5, 1e5, 1e30, 1e300, -1.0, math.inf)
X = torch.arange(60.0, dtype=torch.float64).sin().view(3, 4, 5)
W, B = (
    torch.tensor([0.5, -2.0, 1.0, 0.0], dtype=torch.float64),
    torch.tensor([1.0, 0.0, -1.0, 2.0], dtype=torch.float64),
)
M, V = torch.zeros(4, dtype=torch.float64), torch.tensor([1.0, 0.5, 1e-30, 1e30], dtype=torch.float64)
CALLS = {
    "layer_norm": lambda f, x, a: f.layer_norm(x, (5,), eps=a),
    "rms_norm": lambda f, x, a: f.rms_norm(x, (5,), eps=a),
    "group_norm": lambda f, x, a: f.group_norm(x, 2, W.to(x), B.to(x), a),
    "instance_norm": lambda f, x, a: f.instance_norm(x, eps=a),
    "instance_norm, momentum": lambda f, x, a: f.instance_norm(x, M.to(x, copy=True), V.to(x, copy=True), momentum=a),
    "batch_norm": lambda f, x, a: f.batch_norm(x, None, None, W.to(x), B.to(x), True, eps=a),
    "batch_norm, evaluated": lambda f, x, a: f.batch_norm(x, M.to(x), V.to(x), W.to(x), B.to(x), False, eps=a),
    "local_response_norm, alpha": lambda f, x, a: f.local_response_norm(x, 2, a),
    "local_response_norm, beta": lambda f, x, a: f.local_response_norm(x, 2, 0.1, a),
    "local_response_norm, k": lambda f, x, a: f.local_response_norm(x, 2, k=a),
    "lp_pool1d": lambda f, x, a: f.lp_pool1d(x, a, 2),
    "lp_pool2d": lambda f, x, a: f.lp_pool2d(x.abs(), a, 2, 1, True),
    "scaled_dot_product_attention": lambda f, x, a: f.scaled_dot_product_attention(x, x, x, scale=a),
    "dropout": lambda f, x, a: f.dropout(x, a),
    "alpha_dropout": lambda f, x, a: f.alpha_dropout(x, a, True),
    "dropout1d": lambda f, x, a: f.dropout1d(x, a),
    "interpolate": lambda f, x, a: f.interpolate(x, scale_factor=min(a, 10.0), mode="linear"),
    "embedding, max_norm": lambda f, x, a: f.embedding(torch.tensor([0, 2]), x[0].detach().clone(), max_norm=a),
    "embedding, norm_type": lambda f, x, a: f.embedding(torch.tensor([0, 2]), x[0].detach().clone(), None, 1.0, a),
    "pad": lambda f, x, a: f.pad(x, (1, 1), value=a),
}


def answer(function, space, x, value):
    """Output and gradient of one upstream gradient, or the type of the error."""
    torch.manual_seed(0)
    x = x.clone().requires_grad_()
    try:
        y = function(space, x, value)
    except (RuntimeError, ValueError) as error:
        return type(error)
    except ZeroDivisionError:
        if space is F or LP_POOL_OF_NORM_NOUGHT:
            raise
        return ValueError
    if not y.requires_grad:
        return (y,)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return y, *torch.autograd.grad(y, x, dy.to(y.dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", CALLS)
def test_operation(name, dtype):
    """NaN and infinities only where torch has them; where torch's numbers are finite and large enough to tell, those."""
    for scale in (1.0, 1e-20, 1e12):
        for value in ABSURD:
            x, what = (scale * X).to(dtype), (name, scale, value)
            theirs, ours = answer(CALLS[name], T, x, value), answer(CALLS[name], F, x, value)
            if (name, value) == ("batch_norm, evaluated", 0) and not EVALUATION_WITHOUT_EPS:
                assert theirs is ValueError and not isinstance(ours, type), (what, theirs, ours)
                continue
            if name.startswith("lp_pool") and math.isinf(value) and not LP_POOL_OF_INFINITE_NORM:
                continue  # test_infinite_norms has them
            if isinstance(theirs, type) or isinstance(ours, type):
                assert theirs is ours, (what, theirs, ours)
                continue
            for a, b in zip(ours, theirs, strict=True):
                assert not bool((~a.isfinite() & b.isfinite()).any()), (what, a, b)
                if dtype == torch.float64 and bool(b.isfinite().all()) and name != "scaled_dot_product_attention":
                    assert harness.error(a, b) <= 1e-9, (what, a, b)


def test_response_of_nothing():
    """$x\\,d^{-\\beta}$ is finite where $d^{-\\beta - 1}$ is not."""
    x = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    y = F.local_response_norm(x, 2, k=1e-300)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y).cumsum(-1))
    torch.testing.assert_close(dx, torch.full_like(dx, 1e225).cumsum(-1), rtol=1e-9, atol=0)


# --- infinite norms ---------------------------------------------------------------------------------------------


def test_infinite_norms():
    x = torch.tensor([[[1.0, -2.0, 3.0, 4.0]]], requires_grad=True)
    for p, value, slope in (
        (math.inf, [2.0, 4.0], [0.0, -1.0, 0.0, 1.0]),
        (-math.inf, [1.0, 3.0], [1.0, 0.0, 1.0, 0.0]),
    ):
        dy = torch.tensor([[[0.5, -3.0]]])
        right = torch.tensor([[slope]]) * dy.repeat_interleave(2, -1)
        for y in (F.lp_pool1d(x, p, 2), nn.LPPool1d(p, 2)(x)):
            assert y.flatten().tolist() == value
            assert torch.equal(*torch.autograd.grad(y, x, dy), right.view(1, 1, 4))
        y, pullback = F.lp_pool1d.vjp(x.detach(), p, 2)
        assert y.flatten().tolist() == value and torch.equal(pullback(dy)[0], right.view(1, 1, 4))


@since(LP_POOL_OF_INFINITE_NORM)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("p", [math.inf, -math.inf])
def test_infinite_norms_of_ties(n, p):
    """As torch: the first of equals is chosen, and the slope of |x| at 0 is 0."""
    x = (3 * torch.arange(3.0 * 5**n).sin()).round().view(1, 3, *(5,) * n).requires_grad_()
    for options in ((2,), (3, 1), (2, 2, True)):
        name = f"lp_pool{n}d"
        theirs, ours = (getattr(space, name)(x, p, *options) for space in (T, F))
        assert torch.equal(ours, theirs)
        dy = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(*torch.autograd.grad(ours, x, dy), *torch.autograd.grad(theirs, x, dy))


def test_no_norm_of_order_nought():
    for n in (1, 2, 3):
        with pytest.raises(ValueError, match="norm_type"):
            getattr(F, f"lp_pool{n}d")(torch.ones(1, *(4,) * n), 0, 2)


# --- optimizers and schedules -----------------------------------------------------------------------------------

SETTINGS = {
    "lr": (0.0, 1e-300, 1e-30, 1e30, 1e300), "eps": (0.0, 1e-300, 1e-30, 1e30, 1e300),
    "weight_decay": (1e-300, 1.0, 1e30, 1e300), "momentum": (1e-300, 1 - 1e-9, 1.0, 1e30), "dampening": (1.0, 1e30, -1e3),
    "betas": ((0.0, 0.0), (1 - 1e-9, 1 - 1e-9), (0.0, 1 - 1e-9), (0.9, 0.0), (1 - 2**-53, 1 - 2**-53), (1e-300, 1e-300)),
    "alpha": (0.0, 1e-300, 1 - 1e-9, 1.0, 1e30), "rho": (0.0, 1e-300, 1 - 1e-9, 1.0), "lr_decay": (1e-300, 1e30, 1e300),
    "initial_accumulator_value": (1e-300, 1e30, 1e300), "momentum_decay": (0.0, 1e-300, 1e30, 1e300),
}  # fmt: skip
OPTIONS = {"SGD": ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}), "Adam": ({}, {"amsgrad": True}),
           "RMSprop": ({}, {"centered": True}, {"momentum": 0.9}), "RAdam": ({}, {"decoupled_weight_decay": True})}  # fmt: skip
OPTIMIZERS = ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adadelta", "Adagrad")


def trained(kind, settings, dtype):
    """The parameters after seven steps by gradients of every size, or the type of the error."""
    p = torch.nn.Parameter(torch.arange(8.0, dtype=torch.float64).cos().to(dtype))
    try:
        optimizer = kind([p], **settings)
        for step in range(7):
            g = (torch.arange(8.0, dtype=torch.float64) + step).sin()
            p.grad = (g * torch.tensor([0.0, 1e-30, 1e15, 1e-10, 1, 1, 1, 1], dtype=torch.float64)).to(dtype)
            optimizer.step()
    except (RuntimeError, ValueError, OverflowError, ZeroDivisionError) as error:
        return type(error)
    return p.detach()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    theirs, ours = getattr(torch.optim, name), getattr(optim, name)
    for options in OPTIONS.get(name, ({},)):
        for setting in SETTINGS.keys() & inspect.signature(theirs).parameters.keys():
            for value in SETTINGS[setting]:
                for dtype in (torch.float32, torch.float64):
                    settings = {"lr": 0.1, **options, setting: value}
                    a, b = trained(ours, settings, dtype), trained(theirs, {**settings, "foreach": False}, dtype)
                    if isinstance(a, type) or isinstance(b, type):
                        assert a is b, (settings, a, b)
                    else:
                        bound = 1e-4 if dtype == torch.float32 else 1e-10
                        torch.testing.assert_close(
                            a, b, rtol=bound, atol=0, equal_nan=True, msg=lambda m, what=settings: f"{what} {m}"
                        )


NUMBERS, COUNTS = (0.0, 1e-300, 1 - 1e-9, 1.0, 1e30, 1e300, -1.0, math.inf, math.nan), (1, 2, 10**9, 0, -1)
SCHEDULES = {
    "StepLR": ({"step_size": 2}, {"step_size": COUNTS, "gamma": NUMBERS}),
    "MultiStepLR": ({"milestones": [2, 4]}, {"milestones": ([], [0], [1, 1], [10**9], [3, 1]), "gamma": NUMBERS}),
    "ConstantLR": ({}, {"factor": NUMBERS, "total_iters": COUNTS}),
    "LinearLR": ({}, {"start_factor": NUMBERS, "end_factor": NUMBERS, "total_iters": COUNTS}),
    "ExponentialLR": ({"gamma": 0.9}, {"gamma": NUMBERS}),
    "CosineAnnealingLR": ({"T_max": 5}, {"T_max": COUNTS, "eta_min": NUMBERS}),
    "PolynomialLR": ({}, {"total_iters": COUNTS, "power": NUMBERS}),
    "ReduceLROnPlateau": ({}, {"factor": NUMBERS, "patience": COUNTS, "threshold": NUMBERS, "cooldown": COUNTS,
                               "min_lr": NUMBERS, "eps": NUMBERS}),
    "OneCycleLR": ({"max_lr": 0.5, "total_steps": 12}, {"max_lr": NUMBERS, "total_steps": COUNTS, "pct_start": NUMBERS,
                   "base_momentum": NUMBERS, "max_momentum": NUMBERS, "div_factor": NUMBERS, "final_div_factor": NUMBERS}),
}  # fmt: skip


def scheduled(space, name, settings):
    """The rates of nine steps, or the type of the error."""
    optimizer = space.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
    rates = []
    try:
        schedule = getattr(space.lr_scheduler, name)(optimizer, **settings)
        for step in range(9):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step(abs(math.sin(step))) if name == "ReduceLROnPlateau" else schedule.step()
    except (RuntimeError, ValueError, OverflowError, ZeroDivisionError) as error:
        return type(error)
    return torch.tensor(rates, dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name):
    usual, settings = SCHEDULES[name]
    for setting, values in settings.items():
        for value in values:
            with quietly():
                a, b = (scheduled(space, name, {**usual, setting: value}) for space in (optim, torch.optim))
            if isinstance(a, type) or isinstance(b, type):
                assert a is b, (setting, value, a, b)
            else:
                torch.testing.assert_close(
                    a, b, rtol=1e-9, atol=0, equal_nan=True, msg=lambda m, what=(setting, value): f"{what} {m}"
                )


# --- what has no gradient ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.bool, torch.float64], ids=["bool", "numbers"])
@pytest.mark.parametrize("weights", [True, False])
def test_masks(kind, weights):
    """A mask of bools has no gradient; one of numbers has that of autograd."""
    attention = nn.MultiheadAttention(4, 2).double()
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    see = torch.tensor([[False, True, False], [False, False, False], [True, False, False]])
    pad = torch.tensor([[False, False, True], [False, False, False]])
    masks = [m if kind == torch.bool else (-2.0 * m).double().requires_grad_() for m in (pad, see)]
    y, _ = attention(x, x, x, masks[0], weights, masks[1])
    dy = torch.randn(y.shape, dtype=y.dtype)
    learning = [m for m in masks if m.requires_grad]
    expected = iter(torch.autograd.grad(y, learning, dy) if learning else ())
    _, pullback = attention.vjp(x, x, x, masks[0], weights, masks[1])
    grads = pullback((dy, None))
    assert len(grads) == 6 and grads[4] is None
    for grad in grads[3::2]:
        if kind == torch.bool:
            assert grad is None
        else:
            torch.testing.assert_close(grad, next(expected))


@pytest.mark.parametrize("name", [n for n in MODULES if not n.startswith("Lazy")])
def test_no_gradient_of_what_is_no_number(name):
    """The pullback's entry is None for integers, bools, flags and None; where autograd gives a gradient it is a tensor."""
    for args, kwargs, inputs, named in test_modules.cases(name)[:24]:
        module = test_modules.build(nn, name, args, kwargs, True)
        output, pullback = test_modules.call(module.vjp, inputs, named)
        outputs = harness.flat(output)
        if not outputs or not outputs[0].is_floating_point():
            continue
        dy = tree_map(
            lambda o: torch.randn_like(o) if isinstance(o, torch.Tensor) and o.is_floating_point() else None, output
        )
        grads = pullback(dy)
        passed = [*inputs, *named.values()]
        assert len(grads) == len(passed)
        for grad, value in zip(grads, passed, strict=True):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                assert grad is None or (grad.shape, grad.dtype) == (value.shape, value.dtype), (name, args, kwargs)
            elif not isinstance(value, (tuple, list)):
                assert grad is None, (name, args, kwargs, value)
