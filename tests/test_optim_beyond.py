"""Optimizers that torch lacks, beside the packages of their authors and others; what no name alone sets going."""

from __future__ import annotations

import pytest
import torch

import dlref
from dlref import builtin, manual
from dlref.core.flat import flatten
from dlref.manual.optim.named import optimizer_named, schedule_named

SHAPES = ((4, 3), (5,), ())
BOTH = pytest.mark.parametrize("ns", [manual, builtin], ids=["manual", "builtin"])


def after(make, steps: int = 50, mode: bool = False, flat: bool = False) -> torch.Tensor:
    """The parameters after steps by gradients that are drawn; with `mode` as they are evaluated, often in between."""
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.ParameterList(torch.randn(s, dtype=torch.float64, generator=generator) for s in SHAPES)
    params = list((flatten(module) if flat else module).parameters())
    optimizer = make(params)
    for step in range(steps):
        if mode and step % 10 == 0:
            optimizer.eval()
            optimizer.train()
        for p in params:
            p.grad = torch.randn(p.shape, dtype=p.dtype, generator=generator)
        optimizer.step()
    if mode:
        optimizer.eval()
    return torch.cat([p.detach().flatten() for p in params])


LION = [{}, {"lr": 0.01, "betas": (0.8, 0.95)}, {"lr": 0.01, "weight_decay": 0.3}]
FREE = [{}, {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1}, {"lr": 0.05, "warmup_steps": 8, "r": 0.5},
        {"lr": 0.05, "weight_lr_power": 1.0, "eps": 1e-3, "warmup_steps": 70}]  # fmt: skip


@BOTH
@pytest.mark.parametrize("kwargs", LION, ids=str)
def test_lion(ns, kwargs):
    other = pytest.importorskip("lion_pytorch").Lion
    theirs = after(lambda params: other(params, **kwargs))
    for more in ({}, {"foreach": True}):
        assert (after(lambda params, m=more: ns.optim.Lion(params, **kwargs, **m)) - theirs).abs().max() <= 1e-14
    assert (theirs - after(lambda params: other(params, **kwargs), steps=0)).abs().max() > 1e-4


@BOTH
@pytest.mark.parametrize("kwargs", FREE, ids=str)
def test_schedule_free(ns, kwargs):
    other = pytest.importorskip("schedulefree").AdamWScheduleFree
    theirs = after(lambda params: other(params, **kwargs), mode=True)
    for more in ({}, {"foreach": True}):
        ours = after(lambda params, m=more: ns.optim.ScheduleFreeAdamW(params, **kwargs, **m), mode=True, flat=not more)
        assert (ours - theirs).abs().max() <= 1e-13
    assert (theirs - after(lambda params: other(params, **kwargs), steps=0, mode=True)).abs().max() > 1e-3


@BOTH
def test_the_answer_is_the_average(ns):
    """x is the mean of all z, weighed alike; and y lies between them, as far from z as the first beta says."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer, zs = ns.optim.ScheduleFreeAdamW([p], lr=0.1, betas=(0.7, 0.9)), []
    optimizer.train()
    for step in range(20):
        p.grad = torch.full_like(p, 1.0 + step) * p.detach()
        optimizer.step()
        zs.append(optimizer.state[p]["z"].clone())
    y = p.detach().clone()
    optimizer.eval()
    optimizer.eval()  # it is there
    x = p.detach().clone()
    assert (x - torch.stack(zs).mean(0)).abs().max() <= 1e-14
    assert (y - (0.3 * zs[-1] + 0.7 * x)).abs().max() <= 1e-14
    with pytest.raises(RuntimeError, match=r"call optimizer.train\(\)"):
        optimizer.step()
    optimizer.train()
    assert (p - y).abs().max() <= 1e-14


def test_signs_do_not_underflow():
    """Two gradients whose product is no number of the dtype, but whose signs differ."""
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = manual.optim.Rprop([p], lr=0.1)
    for g in (1e-30, -1e-30):
        p.grad = torch.tensor([g, 1.0])
        optimizer.step()
    assert p.tolist() == pytest.approx([-0.1, -0.22]) and optimizer.state[p]["step_size"].tolist() == pytest.approx(
        [0.05, 0.12]
    )


def test_adafactor_of_mixed_dtypes():
    """Each parameter has the eps of its own dtype."""
    a, b = (torch.nn.Parameter(torch.ones(2, 3, dtype=d)) for d in (torch.float32, torch.float64))
    alone = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    both, single = manual.optim.Adafactor([a, b]), torch.optim.Adafactor([alone])
    for p in (a, b, alone):
        p.grad = torch.full_like(p, 1e-9)
    both.step(), single.step()
    assert torch.equal(b, alone)


@BOTH
@pytest.mark.parametrize(("name", "told"), [("SparseAdam", "sparse gradients alone"), ("ScheduleFreeAdamW", "call those round"),
                                            ("Muon", "2D parameters")])  # fmt: skip
def test_refused_by_name(ns, name, told):
    with pytest.raises(ValueError, match=told):
        optimizer_named(ns, name, [torch.nn.Parameter(torch.zeros(3))])


@BOTH
@pytest.mark.parametrize("name", ["ASGD", "Rprop", "Adafactor", "Muon", "Lion"])
def test_by_name(ns, name):
    optimizer = optimizer_named(ns, name, [torch.nn.Parameter(torch.zeros(3, 2))], lr=0.1)
    assert type(optimizer) is getattr(ns.optim, name)
    schedule_named(ns, "CyclicLR" if name == "Lion" else "CosineAnnealingWarmRestarts", optimizer, **(
        {"base_lr": 0.1, "max_lr": 0.2} if name == "Lion" else {"T_0": 3}))  # fmt: skip


def test_a_graph_would_hold_the_count():
    network = manual.nn.Linear(3, 2)
    optimizer = manual.optim.ScheduleFreeAdamW(network.parameters())
    with pytest.raises(ValueError, match="train without compile"):
        dlref.compile_step(network, manual.nn.MSELoss(), optimizer)


@BOTH
def test_fit_between_train_and_eval(ns):
    torch.manual_seed(0)
    x = torch.randn(64, 3, dtype=torch.float64)
    network, criterion = ns.nn.Linear(3, 1).double(), ns.nn.MSELoss()
    y = x.sum(1, keepdim=True)
    optimizer = ns.optim.ScheduleFreeAdamW(network.parameters(), lr=0.1)
    before = float(criterion(network(x), y).detach())
    optimizer.train()
    ns.training.fit(network, criterion, optimizer, (x, y), epochs=20, batch_size=16)
    optimizer.eval()
    assert float(criterion(network(x), y).detach()) < 0.1 * before
