"""LBFGS, the optimizer that asks for a closure: torch's searches, the minimum, what it needs."""

from __future__ import annotations

import pytest
import torch
from test_optim import (
    assert_same_state,
    network,
)

import dlref
from dlref.core.compat import LBFGS_MAXIMIZE
from dlref.manual import nn, optim
from dlref.manual.optim.named import optimizer_named


def bowls(namespace, dtype=torch.float64, scale=1.0, **options):
    """Parameters, optimizer and closure: two parameters, one complex if the dtype is, in an error that is no parabola."""
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in ((3, 4), (5,)))
    optimizer = namespace.LBFGS([p, q], **options)

    def closure():
        optimizer.zero_grad()
        error = scale * sum((c * r.abs() ** 2 + (r - 1).abs() ** 4).sum() for c, r in ((1.0, p), (9.0, q)))
        error = -error if optimizer.defaults.get("maximize") else error
        error.backward()
        return error

    return [p, q], optimizer, closure


SEARCHES = [None, "strong_wolfe", "more_thuente"]
LBFGS_OPTIONS = [
    {}, {"line_search_fn": "strong_wolfe"}, {"lr": 5.0, "line_search_fn": "strong_wolfe", "max_iter": 3, "max_eval": 4},
    {"lr": 0.05, "history_size": 2, "max_iter": 30}, {"lr": torch.tensor([0.1])}, {"max_iter": 1}, {"lr": 0.0},
    {"tolerance_grad": 1.0},
    {"tolerance_change": 0.5}, {"max_eval": 1},
    {"scale": 1e-7, "tolerance_grad": 0, "tolerance_change": 0},  # too little to be kept
    {"max_iter": 4, "line_search_fn": "strong_wolfe", "history_size": 1},
]  # fmt: skip
if LBFGS_MAXIMIZE:
    LBFGS_OPTIONS += [{"maximize": True, "lr": 0.1}, {"maximize": True, "line_search_fn": "strong_wolfe"}]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("options", LBFGS_OPTIONS, ids=str)
def test_lbfgs_searches_as_torch_does(options, dtype):
    results = []
    for namespace in (optim, torch.optim):
        params, optimizer, closure = bowls(namespace, dtype, **options)
        results.append(([optimizer.step(closure).item() for _ in range(5)], params, optimizer))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    assert_same_state(results[0][2], results[1][2])


@pytest.mark.parametrize("lr", [0.01, 0.3, 3.0, 100.0])
def test_lbfgs_searches_among_waves_as_torch_does(lr):
    """One parameter in an error of many minima: each branch of the search is taken by some of these."""
    for seed in range(40):
        a, b, c, start = (
            torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(6).tolist()
        )
        results = []
        for namespace in (optim, torch.optim):
            p = torch.nn.Parameter(torch.tensor([start, -start], dtype=torch.float64))
            optimizer = namespace.LBFGS([p], lr=lr, line_search_fn="strong_wolfe", max_iter=6)

            def closure(p=p, optimizer=optimizer, a=a, b=b, c=c):
                optimizer.zero_grad()
                error = (0.02 * p**2 + a * torch.sin(b * p + c) + 0.1 * torch.sin(9 * p)).sum()
                error.backward()
                return error

            results.append([[optimizer.step(closure).item() for _ in range(3)], p, optimizer])
        assert results[0][0] == results[1][0]
        assert torch.equal(results[0][1], results[1][1])
        assert_same_state(results[0][2], results[1][2])


@pytest.mark.parametrize("search", SEARCHES)
def test_lbfgs_reaches_the_minimum(search):
    for dtype in (torch.float64, torch.complex128):
        params, optimizer, closure = bowls(optim, dtype, line_search_fn=search, lr=0.5 if search is None else 1)
        first = optimizer.step(closure)
        for _ in range(5):
            optimizer.step(closure)
        last = closure()
        assert last < 0.7 * first
        assert max(p.grad.abs().max() for p in params) < 1e-4
        assert optimizer.state[params[0]]["func_evals"] < 125


@pytest.mark.parametrize("search", SEARCHES)
def test_lbfgs_by_explicit_gradients_in_any_mode(search):
    """By vjp, with and without gradients, in inference mode: the numbers that autograd gives."""
    modes = {"autograd": torch.enable_grad(), "vjp": torch.no_grad(), "inference": torch.inference_mode()}
    losses: dict[str, list[float]] = {}
    x, y = torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(20, 3), torch.arange(20) % 2
    criterion = nn.CrossEntropyLoss()
    for name, mode in modes.items():
        model = network(flat=name != "autograd")
        optimizer = optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn=search)

        def closure(model=model, optimizer=optimizer, name=name):
            optimizer.zero_grad()
            if name == "autograd":
                error = criterion(model(x), y)
                error.backward()
                return error
            output, pullback = model.vjp(x)
            error, error_pullback = criterion.vjp(output, y)
            pullback(error_pullback()[0])
            return error

        with mode:
            losses[name] = [optimizer.step(closure).item() for _ in range(4)]
            assert torch.is_inference_mode_enabled() is (name == "inference")
        state = optimizer.state[next(model.parameters())]
        assert not state["d"].is_inference() and not state["d"].requires_grad
        losses[name].append(optimizer.step(closure).item())  # outside
    assert losses["autograd"] == pytest.approx(losses["vjp"], rel=1e-9)
    assert losses["vjp"] == losses["inference"]
    assert losses["vjp"][-1] < losses["vjp"][0]


def test_lbfgs_sparse_missing_and_transposed_gradients():
    results = []
    for namespace in (optim, torch.optim):
        p, q, r = (torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)) for _ in range(3))
        optimizer = namespace.LBFGS([p, q, r], lr=0.1)

        def closure(p=p, q=q, namespace=namespace):
            p.grad = torch.sparse_coo_tensor(torch.tensor([[0, 2, 0]]), 1 + p.detach()[[0, 2, 0]], p.shape)
            q.grad = (q * torch.arange(1.0, 4.0)).detach()
            if namespace is optim:
                q.grad = q.grad.t().contiguous().t()  # torch's step asks for contiguous ones
            return p.sum()

        with torch.sparse.check_sparse_tensor_invariants():
            for _ in range(3):
                optimizer.step(closure)
        results.append((p, q, r))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert torch.equal(results[0][2], torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3))


def test_lbfgs_says_what_it_needs():
    params, optimizer, closure = bowls(optim, line_search_fn="wolfe")
    with pytest.raises(RuntimeError, match="line_search_fn must be one of"):
        optimizer.step(closure)
    with pytest.raises(TypeError, match="needs a closure"):
        optimizer.step()
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    with pytest.raises(AssertionError, match="one parameter group"):
        optimizer.step(closure)
    messages = []
    for namespace in (optim, torch.optim):
        with pytest.raises(ValueError, match="parameter groups") as caught:
            namespace.LBFGS([{"params": params[:1]}, {"params": params[1:]}])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert optim.LBFGS([torch.nn.Parameter(torch.zeros(0))]).step(lambda: 3.0) == 3.0


def test_what_cannot_give_a_closure_says_so():
    x, y = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3), torch.arange(5) % 2
    for namespace in (dlref.manual, dlref.builtin):
        model, criterion = network(), namespace.nn.CrossEntropyLoss()
        optimizer = namespace.optim.LBFGS(model.parameters())
        calls = [
            lambda m=model, c=criterion, o=optimizer, ns=namespace: ns.training.fit(m, c, o, (x, y), epochs=1),
            lambda m=model, c=criterion, o=optimizer: dlref.compile_step(m, dlref.manual.nn.CrossEntropyLoss(), o),
            lambda m=model, ns=namespace: optimizer_named(ns, "LBFGS", m.parameters()),
        ]
        for call in calls:
            with pytest.raises(
                ValueError, match=r"must take its step from one gradient, LBFGS .* call optimizer.step\(closure\)"
            ):
                call()
