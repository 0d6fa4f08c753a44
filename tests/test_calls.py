"""A wrong call says what it lacks, in the words of torch, by whatever entry; and what is generated has a name."""

from __future__ import annotations

import inspect
import traceback

import numpy as np
import pytest
import torch
from harness import NAMES
from torch import Tensor

from dlref import manual
from dlref.core.call import TUPLES_TOO, tensor_arguments
from dlref.core.pair import OPS
from dlref.samples import samples

# What betrays the inside: a generated name, an error of Python about a thing that the caller never saw.
INSIDE = ("<lambda>", "_()", "object has no attribute", "unsupported operand", "not subscriptable", "is not callable")
OTHERS = {"list": [1.0], "None": None, "str": "abc", "int": 3, "array": np.ones(3, dtype=np.float32)}


def entries(name: str):
    return (OPS[name], OPS[name].vjp)


def refused(function, args, kwargs, *, name: str, match: str = ".") -> None:
    with pytest.raises(TypeError, match=match) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert not any(word in message for word in INSIDE), message
    assert message.startswith(f"{name}()"), message


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments(name):
    """None, too many, one of no such name, and everything but a tensor in the place of each."""
    op = OPS[name]
    sample = samples(name, torch.float32)[0]
    bound = inspect.signature(op).bind(*sample.args, **sample.kwargs).arguments
    given = {n: v.detach() if isinstance(v, Tensor) else v for n, v in bound.items()}
    first = next(iter(given))
    tensors = tensor_arguments(op.builtin, op.__signature__)
    assert tensors[first] is False
    for function in entries(name):
        refused(function, (), {}, name=name, match=first)
        refused(function, (*given.values(), *range(20)), {}, name=name)
        refused(function, (), {**given, "nonsense": 1}, name=name, match="nonsense")
        for argument in set(given) & set(tensors):
            for kind, value in OTHERS.items():
                if not (value is None and tensors[argument]):
                    kinds = {"list": "list", "None": "NoneType", "str": "str", "int": "int", "array": "ndarray"}
                    refused(
                        function, (), {**given, argument: value}, name=name, match=f"'{argument}'.*not {kinds[kind]}"
                    )


@pytest.mark.parametrize("name", NAMES)
def test_tensor_arguments_are_known(name):
    """Every argument that a sample gives as a tensor is said to be one, but for those that may be numbers."""
    op = OPS[name]
    tensors = tensor_arguments(op.builtin, op.__signature__)
    for sample in samples(name, torch.float32):
        bound = inspect.signature(op).bind(*sample.args, **sample.kwargs).arguments
        found = {n for n, v in bound.items() if isinstance(v, Tensor)}
        rest = {n for n in found - set(tensors) if n[0] != "_"}  # of these a function that dispatches says nothing
        said = inspect.signature(op.builtin).parameters if rest else {}
        numbers = {n for n in rest if "float" in str(said[n].annotation)} | {n for n in found if n[0] == "_"}
        assert found <= set(tensors) | numbers | TUPLES_TOO, (found, tensors)


def test_examples():
    F, weight = manual.functional, torch.ones(2, 1)
    with pytest.raises(TypeError, match=r"linear\(\): argument 'input' \(position 1\) must be Tensor, not list"):
        F.linear([1.0], weight)
    with pytest.raises(TypeError, match=r"layer_norm\(\) missing 1 required positional argument: 'normalized_shape'"):
        F.layer_norm(weight)
    with pytest.raises(TypeError, match=r"relu\(\): argument 'input'"):
        manual.nn.ReLU()("text")
    with pytest.raises(RuntimeError, match="classes must not be negative, they lie in"):
        F.one_hot(torch.tensor([-1]))
    with pytest.raises(RuntimeError, match=r"classes must lie in \[0, 2\)"):
        F.one_hot(torch.tensor([2]), 2)
    with pytest.raises(ValueError, match="running_mean and running_var must both be given"):
        F.batch_norm(torch.randn(3, 2), torch.zeros(2), None, training=True)
    assert torch.equal(F.relu(torch.nn.Parameter(weight)), weight)  # subclasses of Tensor are tensors
    assert torch.equal(F.relu(weight.as_subclass(type("Mine", (Tensor,), {}))), weight)


def test_what_is_generated_has_a_name():
    """No `<lambda>`, no `_`, and lines that a traceback shows."""
    for op in OPS.values():
        for function in (
            op.bind,
            op.definition.call_pull,
            op.definition.call_keep,
            op.pull,
            op.prepared,
            op.call_finish,
        ):
            code = getattr(getattr(function, "func", function), "__code__", None)
            if code is not None:
                assert code.co_name not in ("_", "<lambda>"), (op, function)
    try:
        manual.functional.linear([1.0], torch.ones(2, 1))
    except TypeError as error:
        shown = "".join(traceback.format_exception(error))
    assert "_refuse(input=input" in shown
    assert OPS["layer_norm"].pull.__name__ == "layer_norm_gradient"
