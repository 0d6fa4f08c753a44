"""The third proof: definitions held to their equations in fifty digits; absurd parameters; what torch has wrong, right."""

from __future__ import annotations

import math

import pytest
import torch

import dlref.manual.functional as F
from dlref.core.compat import CLAMP_AT_ITS_BOUND
from dlref.core.modes import definitions
from dlref.core.pair import OPS
from dlref.samples.hard import EQUATIONS
from dlref.verify import points, proof
from dlref.verify.points import Case

INF = math.inf
DTYPES = {"float64": 1, "float32": 2, "bfloat16": 4, "float16": 4}  # of half precision every fourth point
CASES = list({(case.label, i): case for i, case in enumerate(points.cases())}.values())
# Where a value or gradient must be within 1e-12 of itself, two units where it is subnormal or near a root.
STRICT = {"sigmoid", "tanh", "logsigmoid", "softplus", "silu", "gelu", "mish", "binary_cross_entropy_with_logits",
          "soft_margin_loss", "softmax", "log_softmax", "cross_entropy"}  # fmt: skip
UNITS = {"value": 16, "gradient": 16, "second derivative": 1e-12 / 2**-52}
# Whose derivative at a clamp's bound is another subgradient, as torch's is, where torch is older.
CLAMPED = {"elu", "celu", "selu", "huber_loss", "smooth_l1_loss", "hinge_embedding_loss", "margin_ranking_loss"}
KNOWN_UNITS = {"cosine_embedding_loss": 64}  # the projection of one direction off a parallel one


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_fifty_digits(case: Case, dtype: str, record_property):
    """Value, gradient (under autograd and by vjp), second derivative; no worse than torch beyond two units."""
    check(*proof.measure(case, getattr(torch, dtype), every=DTYPES[dtype]), case, dtype)
    record_property("points", len(next(iter(case.points(getattr(torch, dtype)).values()))) // DTYPES[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", [c for c in CASES if OPS[c.name].fast is not None], ids=lambda case: case.label)
def test_fifty_digits_of_the_definition(case: Case, dtype: str):
    """The same without the kernel that the operation has."""
    with definitions():
        check(*proof.measure(case, getattr(torch, dtype), every=2), case, dtype)


def check(ours: dict, theirs: dict, case: Case, dtype: str) -> None:
    another = not CLAMP_AT_ITS_BOUND and case.name in CLAMPED
    for what in ("value", "gradient"):
        assert ours[what].units <= theirs[what].units + 2, (what, ours[what], theirs[what])
        if another and what == "gradient":
            continue
        if not (overflows := math.isinf(theirs[what].units)):
            assert ours[what].units <= KNOWN_UNITS.get(case.name, UNITS[what]), (what, ours[what])
        if dtype == "float64" and case.name in STRICT and not overflows:
            assert ours[what].relative <= 1e-12, (what, ours[what])
    if dtype == "float64" and not another:
        assert ours["second derivative"].units <= UNITS["second derivative"], ours["second derivative"]


def test_every_equation_is_tried():
    assert {case.name for case in CASES} == set(EQUATIONS)
    assert len({case.name for case in CASES}) >= 45


def test_a_planted_error_is_seen(monkeypatch):
    """y (1 - y), which autograd's own checks take for sigmoid's gradient, is 0 where y rounds to 1."""
    monkeypatch.setattr(
        OPS["sigmoid"].definition, "pull", lambda dy, input: dy * torch.sigmoid(input) * (1 - torch.sigmoid(input))
    )
    (case,) = (case for case in CASES if case.name == "sigmoid")
    ours, _ = proof.measure(case, torch.float64)
    assert ours["value"].units < 2 and ours["gradient"].units > 1e10


# --- values ----------------------------------------------------------------------------------------------------------


def both(function, *args, second=False, **kwargs):
    """Value and gradients of the first argument for dy = 1, by both ways, which must agree; under autograd the second."""
    tensors = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args]
    value = function(*tensors, **kwargs)
    (grad,) = torch.autograd.grad(value, tensors[:1], torch.ones_like(value), create_graph=True)
    explicit, pullback = function.vjp(*args, **kwargs)
    torch.testing.assert_close(explicit, value.detach(), rtol=1e-15, atol=0, equal_nan=True)
    by_hand = pullback(torch.ones_like(explicit))[0]
    torch.testing.assert_close(by_hand, grad.detach(), rtol=1e-14, atol=0)
    if second:
        return torch.autograd.grad(grad, tensors[:1], torch.ones_like(grad))[0]
    return value.detach(), by_hand


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_tails():
    close = lambda a, *b: torch.testing.assert_close(a, double(*b), rtol=1e-14, atol=0)  # noqa: E731
    close(both(F.sigmoid, double(40.0, -40.0))[1], 4.248354255291589e-18, 4.248354255291589e-18)
    close(both(F.tanh, double(20.0))[1], 1.6993417021166355e-17)
    bce = F.binary_cross_entropy_with_logits
    close(both(bce, double(-40.0), double(0.0), reduction="none")[0], 4.248354255291589e-18)
    close(both(bce, double(40.0), double(1.0), reduction="none")[1], -4.248354255291589e-18)
    close(both(F.multilabel_soft_margin_loss, double(40.0), double(1.0), reduction="none")[1], -4.248354255291589e-18)
    p = math.exp(-37.43)
    close(both(F.cross_entropy, double([37.43, 0.0]), torch.tensor([0]), reduction="sum")[1], [-p, p])
    close(both(F.cross_entropy, double([37.43, 0.0]), torch.tensor([0]), reduction="sum")[0][None], p)
    close(both(F.log_softmax, double([37.43, 0.0]), 1)[0], [-p, -37.43])


def test_what_counts_nothing_may_be_infinite():
    logits = double([-INF, 0.0, 1.0])
    torch.testing.assert_close(both(F.cross_entropy, logits, double([0.0, 1.0, 0.0]))[0].item(), 1.3132616875182228)
    _, grad = both(F.cross_entropy, logits, double([0.0, 1.0, 0.0]))
    torch.testing.assert_close(grad, double([0.0, -0.7310585786300049, 0.7310585786300049]))
    weight = double(0.0, 1.0, 1.0)
    assert both(F.cross_entropy, logits, torch.tensor([0]), weight, reduction="sum")[0] == 0
    assert both(F.kl_div, double(-INF, 0.0), double(0.0, 1.0), reduction="sum")[0] == 0
    assert both(F.kl_div, double(-INF, 0.0), double(-INF, 0.0), reduction="sum", log_target=True)[0] == 0
    assert both(F.poisson_nll_loss, double(-INF), double(0.0), reduction="sum")[0] == 0
    assert both(F.poisson_nll_loss, double(0.0), double(0.0), log_input=False, eps=0.0, reduction="sum")[0] == 0
    bce = F.binary_cross_entropy_with_logits
    assert both(bce, double(INF, -INF), double(1.0, 0.0), reduction="sum")[0] == 0


def test_gradients_at_the_ends_of_what_is_a_probability():
    bce = F.binary_cross_entropy
    assert both(bce, double(0.0), double(0.0), reduction="sum")[1].item() == 1
    assert both(bce, double(1.0), double(1.0), reduction="sum")[1].item() == -1
    x = double(0.0).requires_grad_()
    (bounded,) = torch.autograd.grad(torch.nn.functional.binary_cross_entropy(x, double(1.0)), x)
    torch.testing.assert_close(both(bce, double(0.0), double(1.0))[1], bounded, rtol=1e-15, atol=0)
    q = double(0.0, 0.5).requires_grad_()
    divergence, x = F.kl_div(double(-1.0, -1.0), q, reduction="sum"), double(-1.0, -1.0)
    slope = double(-INF, 2 - math.log(2))
    torch.testing.assert_close(torch.autograd.grad(divergence, q)[0], slope, rtol=1e-15, atol=0)
    torch.testing.assert_close(
        F.kl_div.vjp(x, q, reduction="sum")[1](double(1.0).squeeze())[1], slope, rtol=1e-15, atol=0
    )


def test_second_derivatives_where_a_bound_or_a_root_lies():
    assert both(F.binary_cross_entropy, double(0.0), double(0.0), second=True, reduction="sum").item() == 1
    assert both(F.binary_cross_entropy, double(1.0), double(1.0), second=True, reduction="sum").item() == 1
    for p in (1.5, 2.0, 3.0):
        assert not both(F.normalize, double([0.0, 0.0, 0.0]), p, second=True).any()
    assert not both(F.cosine_similarity, double([0.0, 0.0]), double([1.0, 2.0]), second=True).any()
    assert not both(F.pairwise_distance, double([0.0, 0.0]), double([0.0, 0.0]), second=True, eps=0.0).any()
    mixed = []
    for function in (F.cosine_similarity, torch.nn.functional.cosine_similarity):
        x, y = double([0.0, 0.0]).requires_grad_(), double([1.0, 2.0]).requires_grad_()
        (dx,) = torch.autograd.grad(function(x, y), x, double(0.7), create_graph=True)
        mixed.append(torch.autograd.grad(dx, y, double([0.3, -1.1]))[0])
    torch.testing.assert_close(*mixed, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e160, 1e300])
def test_lengths_of_every_size(scale):
    """[3, 4] times the scale has the direction [0.6, 0.8], and no square of it is a number."""
    x = scale * double([3.0, 4.0])
    direction = double([0.6, 0.8])
    torch.testing.assert_close(F.normalize(x, eps=0.0), direction, rtol=1e-14, atol=0)
    torch.testing.assert_close(F.cosine_similarity(x, x, eps=0.0), double(1.0), rtol=1e-14, atol=0)
    torch.testing.assert_close(F.pairwise_distance(x, 0 * x, eps=0.0), 5 * double(scale), rtol=1e-14, atol=0)
    dy = double([0.3, -0.7])
    _, pull = F.normalize.vjp(x, eps=0.0)
    expected = (dy - direction * (dy * direction).sum()) / 5 / scale
    torch.testing.assert_close(pull(dy)[0], expected, rtol=1e-13, atol=0)


# --- absurd parameters -----------------------------------------------------------------------------------------------

TINY_TO_HUGE = (1e-300, 1e-38, 1e-8, 1e8, 1e38, 1e300, INF)
SIGNED = (*TINY_TO_HUGE, *(-v for v in TINY_TO_HUGE))
NONE = {"reduction": "none"}
ABSURD = [
    ("softplus", 1, "beta", SIGNED, {}), ("softplus", 1, "threshold", SIGNED, {}), ("elu", 1, "alpha", SIGNED, {}),
    ("leaky_relu", 1, "negative_slope", SIGNED, {}), ("hardshrink", 1, "lambd", TINY_TO_HUGE, {}),
    ("softshrink", 1, "lambd", TINY_TO_HUGE, {}), ("hardtanh", 1, "max_val", TINY_TO_HUGE, {}),
    ("threshold", 1, "threshold", SIGNED, {"value": 2.0}), ("threshold", 1, "value", SIGNED, {"threshold": 0.5}),
    ("smooth_l1_loss", 2, "beta", TINY_TO_HUGE, NONE), ("huber_loss", 2, "delta", TINY_TO_HUGE, NONE),
    ("hinge_embedding_loss", "signs", "margin", SIGNED, NONE), ("multi_margin_loss", "class", "margin", SIGNED, NONE),
    ("multi_margin_loss", "class", "margin", SIGNED, {**NONE, "p": 2}), ("gaussian_nll_loss", 3, "eps", TINY_TO_HUGE, NONE),
    ("poisson_nll_loss", 3, "eps", TINY_TO_HUGE, {**NONE, "log_input": False}),
    ("normalize", "rows", "eps", TINY_TO_HUGE, {}), ("gumbel_softmax", "rows", "tau", TINY_TO_HUGE, {}),
    ("cross_entropy", "class", "label_smoothing", TINY_TO_HUGE[:3], NONE),
]  # fmt: skip


def absurd_arguments(kind, dtype):
    x = [-1e4, -3.0, -1.0, -1e-3, -0.0, 0.0, 1e-3, 0.5, 1.0, 3.0, 1e4]
    y = [0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.5, -2.0, 3.0, 1.0]
    values = {
        1: [x], 2: [x, y], "signs": [x, [(-1.0) ** i for i in range(11)]],
        3: [[0.0, 1e-3, 0.5, 3.0], [0.0, 1.0, 0.0, 30.0], [0.0, 1.0, 2.0, 1e-2]],
        "rows": [[[3.0, 4.0, -4.0], [0.0, 0.0, 0.0], [1e-3, 0.0, -1e-3], [2.0, -2.0, 3.0]]],
    }  # fmt: skip
    found = [torch.tensor(v, dtype=torch.float64).to(dtype) for v in values["rows" if kind == "class" else kind]]
    if kind == 3:
        return found
    return [*found, torch.tensor([0, 1, 2, 0])] if kind == "class" else found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "kind", "option", "values", "rest"), ABSURD, ids=lambda v: v if isinstance(v, str) else ""
)
def test_absurd_parameters(name, kind, option, values, rest, dtype):
    """Where torch gives a number, that number, by both ways; nowhere NaN where torch has none."""
    dtype = getattr(torch, dtype)
    arguments = absurd_arguments(kind, dtype)
    if name == "poisson_nll_loss":
        arguments = arguments[:2]

    def leaves():
        return [a.clone().requires_grad_() if a.is_floating_point() and i == 0 else a for i, a in enumerate(arguments)]

    tried = 0
    for value in values:
        op = OPS[name]
        given = {option: value, **rest}
        torch.manual_seed(0)
        try:
            theirs = op.builtin(*(first := leaves()), **given)
        except RuntimeError as error:  # of what the dtype does not hold, or that is not legal
            assert "overflow" in str(error) or "range" in str(error) or "convert" in str(error), error
            continue
        dy = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
        (expected,) = torch.autograd.grad(theirs, first[:1], dy)
        torch.manual_seed(0)
        output = op(*(first := leaves()), **given)
        (grad,) = torch.autograd.grad(output, first[:1], dy)
        torch.manual_seed(0)
        explicit, pullback = op.vjp(*arguments, **given)
        tried += 1
        bound = (
            {"rtol": 1e-12, "atol": 0}
            if dtype is torch.float64
            else {"rtol": 32 * torch.finfo(dtype).eps, "atol": 1e-37}
        )
        for found, true in ((output, theirs), (explicit, theirs), (grad, expected), (pullback(dy)[0], expected)):
            found, true = found.detach(), true.detach()
            known = true.isfinite()  # log(1 + e^x) overflows there, as it is written
            assert not found[~true.isnan()].isnan().any(), (option, value)
            torch.testing.assert_close(found[known], true[known], **bound, msg=lambda m: f"{option}={value}: {m}")  # noqa: B023
    assert tried
