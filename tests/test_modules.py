"""Every module against torch.nn's: PyTorch's ModuleInfo inputs, state, copies, and the explicit pullback with accumulation."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings

import harness
import pytest
import torch
from harness import MODULES
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from dlref.builtin import nn
from dlref.manual import nn as manual_nn
from dlref.samples import MEASURED as measured
from dlref.samples.modules import CALLS, Made

# What is measured in the place of torch's module, where that is wrong: samples.TORCH_WRONG.
MEASURED = {
    "CTCLoss": lambda m, *inputs: measured["ctc_loss"](*inputs, m.blank, m.reduction, m.zero_infinity),
    "CrossMapLRN2d": lambda m, x: torch.nn.functional.local_response_norm(
        x, n := (m.size - 1) // 2 * 2 + 1, m.alpha * n / m.size, m.beta, m.k
    ),
}


def cases(name: str, training: bool = True) -> list:
    """(constructor arguments, keyword arguments, inputs, input keyword arguments) in float64."""
    found = []
    for info in harness.module_infos(name):
        for case in info.module_inputs_func(
            info, device=str(harness.DEVICE), dtype=torch.float64, requires_grad=True, training=training
        ):
            made, called = case.constructor_input, case.forward_input
            found.append((made.args, made.kwargs, called.args, called.kwargs))
    here = lambda a: a.to(harness.DEVICE) if isinstance(a, torch.Tensor) else a  # noqa: E731
    found += [(tuple(map(here, args)), kwargs, inputs, {}) for args, kwargs, inputs in CALLS.get(name, [])]

    def leaf(t):
        t = t.to(harness.DEVICE) if isinstance(t, torch.Tensor) else t
        double = isinstance(t, torch.Tensor) and t.is_floating_point()
        return t.detach().double().requires_grad_(t.requires_grad or t.dtype == torch.float32) if double else t

    return [(args, kwargs, *tree_map(leaf, (inputs, named))) for args, kwargs, inputs, named in found]


def build(namespace, name: str, args: tuple, kwargs: dict, training: bool, dtype=torch.float64):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kwargs = {k: v for k, v in kwargs.items() if k not in ("device", "dtype")}
        args = [a.make(namespace) if isinstance(a, Made) else a for a in args]
        module = getattr(namespace, name)(*args, **kwargs).train(training)
        if namespace is nn and name in MEASURED:
            module.forward = functools.partial(MEASURED[name], module)
        return module if dtype is None else module.to(harness.DEVICE, dtype)


def lazy(module) -> bool:
    return any(torch.nn.parameter.is_lazy(p) for p in (*module.parameters(), *module.buffers()))


def call(function, args, kwargs, seed: int = 1):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def draws(module, args, kwargs) -> bool:
    """Whether it draws random numbers off the CPU, where torch's and ours of one seed are not the same."""
    if harness.DEVICE.type == "cpu" or not module.training:
        return False
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those that are deprecated
        ends = [harness.flat(call(copy.deepcopy(module), args, kwargs, seed)) for seed in (1, 2)]
    return any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(*ends, strict=True))


def learning(args, kwargs) -> list:
    return [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor) and t.requires_grad]


def gradients(module, inputs: list) -> list:
    return [t.grad for t in (*inputs, *module.parameters())]


def backward(output, dys: list) -> None:
    given = [(o, d) for o, d in zip(harness.flat(output), dys, strict=True) if d is not None]
    torch.autograd.backward(*map(list, zip(*given, strict=True)))


def pairs(both: tuple) -> list:
    """Each tensor of the arguments with its entry of the pullback's answer, which has the arguments' structure."""
    grads, values = both
    if isinstance(values, torch.Tensor):
        return [(grads, values)]
    if isinstance(values, (tuple, list)):
        return [p for g, v in zip(grads or [None] * len(values), values, strict=True) for p in pairs((g, v))]
    return []


def clear(module, inputs: list) -> None:
    for t in (*inputs, *module.parameters()):
        t.grad = None


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", MODULES)
def test_module(name, training, record_property):
    """Output, gradients of inputs and parameters, under autograd and by vjp (no_grad, inference_mode, accumulated).

    Wherever two options, and two sizes in training, meet: all that an operation takes are test_ops's.
    """
    found = harness.meetings(cases(name, training), sizes=training)
    for args, kwargs, inputs, named in found:
        what = (name, args, kwargs, inputs, named)
        bound = harness.torch_error(name.lower())
        theirs, ours = build(nn, name, args, kwargs, training), build(manual_nn, name, args, kwargs, training)
        if lazy(ours):  # the one by a call, the other by vjp
            with torch.no_grad():
                call(theirs.eval(), inputs, named), call(ours.eval().vjp, inputs, named)
            theirs.train(training), ours.train(training)
        if draws(theirs, inputs, named):
            continue
        assert type(ours).__module__.startswith("dlref.manual"), what
        assert repr(ours) == repr(theirs)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b), "the same seed must give the same parameters"
        wanted = learning(inputs, named)
        with torch.backends.cudnn.flags(enabled=training):  # whose recurrent layers have no gradient in evaluation
            expected = call(theirs, inputs, named)
        dys = [torch.randn(o.shape, dtype=o.dtype, generator=torch.Generator().manual_seed(2)) if o.requires_grad else None
               for o in harness.flat(expected)]  # fmt: skip
        dy = tree_unflatten(dys, tree_flatten(expected)[1])
        differentiable = any(d is not None for d in dys)
        if differentiable:
            clear(theirs, wanted)
            backward(expected, dys)
        grads = [None if g is None else g.clone() for g in gradients(theirs, wanted)]

        clear(ours, wanted)
        output = call(ours, inputs, named)
        harness.assert_equal(output, expected, None, what, harness.value_error(name.lower()))
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            assert harness.error(a, b) <= 1e-12, ("buffers", what)
        if differentiable:
            backward(output, dys)
        for a, b in zip(gradients(ours, wanted), grads, strict=True):
            assert b is None or harness.error(a, b) <= bound, what

        for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            clear(ours, wanted)
            with mode():
                output, pullback = call(ours.vjp, inputs, named)
                harness.assert_equal(output, expected, None, what, harness.value_error(name.lower()))
                assert not any(o.requires_grad for o in harness.flat(output)) or output is inputs[0]
                if not differentiable:
                    continue
                by_hand = pullback(dy)
            assert len(by_hand) == len(inputs) + len(named)
            by_hand = [g for g, t in pairs((by_hand, (*inputs, *named.values()))) if t.requires_grad]
            for a, b in zip([*by_hand, *(p.grad for p in ours.parameters())], grads, strict=True):
                assert b is None or harness.error(a, b) <= bound, (mode, what)
        # The gradients accumulate, frozen parameters get none.
        first = [None if p.grad is None else p.grad.clone() for p in ours.parameters()]
        if differentiable and any(g is not None for g in first):
            call(ours.vjp, inputs, named)[1](dy)
            for p, g in zip(ours.parameters(), first, strict=True):
                assert harness.error(p.grad, 2 * g) <= harness.ORDER, what
            clear(ours, wanted)
            next(ours.parameters()).requires_grad_(False)
            call(ours.vjp, inputs, named)[1](dy)
            assert next(ours.parameters()).grad is None
            assert all(p.grad is not None for p in list(ours.parameters())[1:]), what
    record_property("inputs", len(found))


@pytest.mark.parametrize("name", MODULES)
def test_state_and_copies(name):
    for args, kwargs, inputs, named in cases(name):
        if any(callable(v) for v in (*args, *kwargs.values())):
            continue  # a distance function of the database's own, which cannot be pickled
        theirs, ours = build(nn, name, args, kwargs, True), build(manual_nn, name, args, kwargs, True)
        if lazy(ours):
            call(theirs, inputs, named), call(ours, inputs, named)
        if draws(theirs, inputs, named):
            continue
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert isinstance(ours, getattr(nn, name.removeprefix("Lazy")))
        with torch.no_grad():
            for p in theirs.parameters():
                p.add_(1)
        ours.load_state_dict(theirs.state_dict())
        expected = call(theirs, inputs, named)
        for twin in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            harness.assert_equal(
                call(twin, inputs, named), expected, None, (name, args), harness.value_error(name.lower())
            )
        theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("name", MODULES)
def test_errors(name):
    for info in harness.module_infos(name):
        if info.module_error_inputs_func is None:
            continue
        for case in info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=False, training=True
        ):
            made, called = case.module_error_input.constructor_input, case.module_error_input.forward_input
            with pytest.raises(case.error_type):
                module = getattr(manual_nn, name)(*made.args, **made.kwargs)
                call(module, called.args, called.kwargs)


@pytest.mark.parametrize("name", MODULES)
def test_compile(name):
    """Compiled as it stands, with no setting of Dynamo's changed: one graph, the module's own outputs and gradients.

    A recurrent layer inside of another module breaks the graph, as torch's own does. The graph of one operation, or of layers
    that are tried here, is made of graphs that AOTAutograd has taken in test_ops or here.
    """
    whole = name not in ("LastStep", "SequenceModel")
    alone = getattr(getattr(getattr(manual_nn, name), "op", None), "__name__", None) in harness.NAMES
    stacked = name in ("LastStep", "SequenceModel", "Transformer", "TransformerDecoder", "TransformerEncoder")
    backend = "eager" if alone or stacked else "aot_eager"
    for args, kwargs, inputs, named in cases(name)[:1]:
        module = build(manual_nn, name, args, kwargs, False)
        torch._dynamo.reset()
        compiled = torch.compile(module, fullgraph=whole, backend=backend)
        answer = call(compiled, inputs, named)
        expected = call(module, inputs, named)
        harness.assert_equal(answer, expected, None, name)
        wanted = [*learning(inputs, named), *(p for p in module.parameters() if p.requires_grad)]
        learnt = [(a, e) for a, e in zip(harness.flat(answer), harness.flat(expected), strict=True) if e.requires_grad]
        dys = [torch.randn(e.shape, dtype=e.dtype, generator=torch.Generator().manual_seed(2)) for _, e in learnt]
        if learnt and wanted:
            ours, theirs = (
                torch.autograd.grad([pair[i] for pair in learnt], wanted, dys, allow_unused=True) for i in (0, 1)
            )
            for a, b in zip(ours, theirs, strict=True):
                assert (a is None and b is None) or harness.error(a, b) <= 1e-10, name


@pytest.mark.parametrize("name", MODULES)
def test_cases_exist(name):
    assert cases(name), f"no input for {name}: add one to samples.modules.CALLS"


@pytest.mark.parametrize("name", MODULES)
def test_fake_cuda(name):
    """Made and run on a pretended GPU, forward and pullback; nothing is made on the CPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    if name.startswith("Lazy"):
        pytest.skip("torch cannot make an uninitialized parameter of a fake tensor")
    if name == "TransformerDecoder":
        pytest.skip("torch's constructor copies its layer, and the mode of fake tensors with it")
    for args, kwargs, inputs, named in harness.meetings(cases(name)):
        mode = FakeTensorMode(allow_non_fake_inputs=False)

        def fake(t, mode=mode):
            if not isinstance(t, torch.Tensor):
                return t
            with mode:
                dtype = torch.float32 if t.is_floating_point() else t.dtype
                return torch.empty_strided(t.shape, t.stride(), dtype=dtype, device="cuda")

        args, kwargs, inputs, named = tree_map(fake, (args, kwargs, inputs, named))
        with mode, torch.device("cuda"):
            try:
                build(nn, name, args, kwargs, True, dtype=None)
            except AssertionError:  # torch's own constructor copies layers that are not fake
                continue
            module = build(manual_nn, name, args, kwargs, True, dtype=None)
            assert all(o.device.type == "cuda" for o in harness.flat(call(module, inputs, named)))
            output, pullback = call(module.vjp, inputs, named)
            outputs = harness.flat(output)
            dy = tree_map(lambda o: torch.empty_like(o) if o.is_floating_point() else None, output)
            grads = pullback(dy) if any(o.is_floating_point() for o in outputs) else ()
            assert all(o.device.type == "cuda" for o in outputs)
        assert all(
            g is None or g.device.type == "cuda" for g in (*harness.flat(grads), *(p.grad for p in module.parameters()))
        )
