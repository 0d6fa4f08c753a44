"""A pretended GPU: optimizers, schedules, initialisations, steps of every network, one graph of them, the loss scale.

Fake tensors have a device and no values: what is made on the CPU, or meets there what is on the device, is seen without a card.
Operations and modules are pretended in their own tests.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from typing import Any

import pytest
import torch
from test_init import CALLS, SHAPES
from test_models import CASES, data
from test_optim import INFOS, NAMES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import dlref
from dlref import builtin, manual
from dlref.bench import NETWORKS
from dlref.core import modes
from dlref.core.flat import flatten
from dlref.verify.oracle.courses import SCHEDULES

CUDA = torch.device("cuda", 0)
# torch's own constructor of stacked layers copies them by their memory, which fake ones have not.
MADE = [case for case in CASES if case[0] != "vision_transformer"]


class Watched(TorchDispatchMode):
    """Inside, every tensor that is made is on the device; a number without dimensions may stand on the CPU, as counters do."""

    def __init__(self, float64: bool = True):
        super().__init__()
        self.made, self.float64 = 0, float64

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        for t in outputs if isinstance(outputs, (tuple, list)) else [outputs]:
            if isinstance(t, torch.Tensor):
                assert t.device == CUDA or not t.dim(), f"{function} makes {tuple(t.shape)} on {t.device}"
                assert self.float64 or t.device != CUDA or t.dtype not in (torch.float64, torch.complex128), function
                self.made += t.device == CUDA
        return outputs


@pytest.fixture
def pretended():
    """Fake tensors inside; what is built with no device named is built on the pretended GPU."""
    with FakeTensorMode(allow_non_fake_inputs=False):
        yield


def rules():
    for name in NAMES:
        for i, config in enumerate(INFOS[name].optim_inputs_func("cuda")):
            for flag in ({}, {"foreach": True}, {"capturable": True}, {"fused": True})[: None if i == 0 else 1]:
                if set(flag) <= {*INFOS[name].supported_impls, *(["capturable"] if capturable(name) else [])}:
                    kwargs = {**config.kwargs, **flag}
                    if not (kwargs.get("fused") and kwargs.get("foreach")) and name not in ("LBFGS", "SparseAdam"):
                        told = f"{name}-{i}-{config.desc.replace(' ', '_')}-{'-'.join(flag) or 'plain'}"
                        for flat in (False, True) if flag else (bool(i % 2),):
                            yield pytest.param(name, kwargs, flat, 1 if i else 10, id=told + "-flat" * flat)


def capturable(name: str) -> bool:
    return "capturable" in getattr(builtin.optim, name).__init__.__code__.co_varnames


def on_device(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options with their tensors, rates of the database, on the pretended GPU."""
    made = lambda v: torch.empty(v.shape, dtype=v.dtype, device=CUDA) if isinstance(v, torch.Tensor) else v  # noqa: E731
    return {k: tuple(map(made, v)) if isinstance(v, tuple) else made(v) for k, v in kwargs.items()}


def network(flat: bool, name: str = "SGD") -> Any:
    with torch.device(CUDA):
        nn = manual.nn
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.LayerNorm(2))
        if name == "Muon":
            model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
        return flatten(model) if flat else model


@pytest.mark.parametrize(("name", "kwargs", "flat", "number"), list(rules()))
def test_updates(name, kwargs, flat, number, pretended):
    """Ten of each rule with each flag of speed, laid into one tensor and apart; of every other option the first."""
    with torch.device(CUDA):
        model = network(flat, name)
        try:
            optimizer = getattr(manual.optim, name)(model.parameters(), **on_device(copy.deepcopy(kwargs)))
        except (ValueError, RuntimeError) as refusal:
            with pytest.raises(type(refusal)):
                getattr(builtin.optim, name)(model.parameters(), **on_device(copy.deepcopy(kwargs)))
            return
    if name == "ScheduleFreeAdamW":
        optimizer.train()
    for p in model.parameters():
        slot = p.__dict__.get("grad_slot")
        p.grad = torch.empty_like(p) if slot is None else slot
    with Watched() as watched:
        for _ in range(number):
            optimizer.step()
    assert watched.made and all(p.device == CUDA for p in model.parameters())
    for state in optimizer.state.values():
        assert all(v.device == CUDA for v in state.values() if isinstance(v, torch.Tensor) and v.dim())


@pytest.mark.parametrize(("name", "kwargs"), SCHEDULES, ids=[f"{i}-{n}" for i, (n, _) in enumerate(SCHEDULES)])
def test_schedules(name, kwargs, pretended):
    """The rate and the momentum that they set, in an optimizer whose counters are on the device, too."""
    with torch.device(CUDA):
        params = [torch.nn.Parameter(torch.zeros(2)) for _ in "ab"]
    optimizer = manual.optim.NAdam([{"params": [p]} for p in params], lr=0.1, capturable=True)
    with Watched() as watched:
        schedule = getattr(manual.optim.lr_scheduler, name)(optimizer, **copy.deepcopy(kwargs))
        for p in params:
            p.grad = torch.empty_like(p)
        for _ in range(10):
            optimizer.step()
            schedule.step(*([1.0] if name == "ReduceLROnPlateau" else []))
    assert watched.made


# trunc_normal_ looks at what it has drawn, and the rows of sparse_ are put in order on the CPU, as torch's are.
@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("trunc_normal_", "sparse_")])
def test_initialisations(name, pretended):
    number = 0
    for shape in SHAPES:
        for args in CALLS[name]:
            tensor = torch.empty(shape, device=CUDA)
            with warnings.catch_warnings(action="ignore"), contextlib.suppress(ValueError), Watched() as watched:
                assert getattr(manual.init, name)(tensor, *args) is tensor
                number += watched.made > 0
    assert number


# torch's own constructor of recurrent layers asks for their memory.
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("name,make,shape,target,loss", MADE, ids=[case[0] for case in MADE])
def test_steps_of_models(name, make, shape, target, loss, pretended):
    """Three steps, of which the error, the parameters and their gradients are on the device."""
    with torch.device(CUDA):
        model, criterion = make(manual), getattr(manual.nn, loss)()
    optimizer = manual.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for x, y in given(shape, target):
        with Watched():
            error = manual.training.step(model, criterion, optimizer, x, y, 1.0)
        assert error.device == CUDA
    for t in (*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)):
        assert t.device == CUDA


def given(shape: tuple, target: str) -> list:
    """Three batches of a model's, without their values."""
    floating = lambda t: torch.float32 if t.is_floating_point() else t.dtype  # noqa: E731
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch._subclasses.fake_tensor.unset_fake_temporarily())
        real = [
            [(t.shape, floating(t)) for t in batch] for batch, _ in zip(data(shape, target), range(3), strict=False)
        ]
    return [[torch.empty(size, dtype=dtype, device=CUDA) for size, dtype in batch] for batch in real]


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "transformer"])
def test_steps_without_float64(name, pretended, monkeypatch):
    """Those of the benchmark, with each of their optimizers; no float64 is made where the device is said to have none."""
    monkeypatch.setattr(modes, "WITHOUT_FLOAT64", {"cuda"})
    case = NETWORKS[name]
    for rule, options in case.optimizers:
        with torch.device(CUDA):
            model, criterion = case.make(manual), getattr(manual.nn, case.loss)()
        optimizer = getattr(manual.optim, rule)(model.parameters(), **options)
        x = (torch.empty((3, *case.shape), dtype=torch.long, device=CUDA) if case.target == "next"
             else torch.empty((3, *case.shape), device=CUDA))  # fmt: skip
        y = x if case.target in ("next", "input") else torch.empty(3, dtype=torch.long, device=CUDA)
        with Watched(float64=False) as watched:
            for _ in range(2 if rule == case.optimizers[0][0] else 1):
                assert manual.training.step(model, criterion, optimizer, x, y).device == CUDA
        assert watched.made


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_one_graph(name, rule, pretended):
    """compile_step records on the device and plays back there."""
    case = NETWORKS[name]
    with torch.device(CUDA):
        model, criterion = case.make(manual), getattr(manual.nn, case.loss)()
    take = dlref.compile_step(
        model, criterion, getattr(manual.optim, rule)(model.parameters(), lr=0.1), backend="eager"
    )
    x, y = torch.empty((3, *case.shape), device=CUDA), torch.empty(3, dtype=torch.long, device=CUDA)
    with Watched() as watched:
        for _ in range(4):
            assert take(x, y).device == CUDA
    assert watched.made


def test_the_loss_scale(pretended, monkeypatch):
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    model = network(False)
    optimizer, scaler = manual.optim.SGD(model.parameters(), lr=0.1), manual.amp.GradScaler("cuda")
    assert scaler.is_enabled()
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    with Watched():
        assert scaler.scale(torch.empty((), device=CUDA)).device == CUDA
        scaler.unscale_(optimizer)
        scaler.update()
    assert scaler._scale.device == CUDA


def test_what_is_made_elsewhere_is_seen(pretended):
    """The watch itself: a tensor on the CPU, and float64 where there is none."""
    with pytest.raises(AssertionError, match="on cpu"), Watched():
        torch.zeros(3)
    with pytest.raises(AssertionError), Watched(float64=False):
        torch.zeros(3, device=CUDA, dtype=torch.float64)
