"""Initialisations: torch's numbers, to the bit, at the same seed and with a generator."""

from __future__ import annotations

import warnings

import pytest
import torch

from dlref.manual import init

CALLS = {
    "uniform_": [(), (-2.0, 3.0)],
    "normal_": [(), (1.0, 0.1)],
    "trunc_normal_": [(), (0.0, 1.0, -0.5, 2.0), (0.0, 1.0, 1.5, 3.0), (0.0, 0.02), (5.0, 1.0, 0.0, 1.0)],
    "constant_": [(0.3,)],
    "ones_": [()],
    "zeros_": [()],
    "eye_": [()],
    "dirac_": [(), (2,)],
    "xavier_uniform_": [(), (1.4,)],
    "xavier_normal_": [(), (1.4,)],
    "kaiming_uniform_": [(), (0.2,), (0, "fan_out", "relu"), (0, "FAN_IN", "tanh")],
    "kaiming_normal_": [(), (0.2,), (0, "fan_out", "relu")],
    "orthogonal_": [(), (2.0,)],
    "sparse_": [(0.3,), (0.5, 1.0)],
}
SHAPES = [(4, 3), (3, 7), (6, 2, 5), (4, 4, 3, 3), (2, 4, 2, 3, 1), (5,), (), (0, 3)]


def outcome(function, shape, args, dtype, seed, generator):
    torch.manual_seed(seed)
    tensor = torch.full(shape, 7.0, dtype=dtype)
    kwargs = {"generator": torch.Generator().manual_seed(9)} if generator else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            answer = function(tensor, *args, **kwargs)
        except (ValueError, TypeError, RuntimeError) as error:
            return type(error)
    assert answer is tensor
    return tensor, torch.rand(1)  # and the generator was advanced as far


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers(name, dtype):
    equal = 0
    for shape in SHAPES:
        for args in CALLS[name]:
            for generator in (False, True):
                a, b = (
                    outcome(getattr(space, name), shape, args, dtype, 3, generator) for space in (init, torch.nn.init)
                )
                if isinstance(b, type):
                    assert a is b, (shape, args, a, b)
                else:
                    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]), (shape, args)
                    equal += 1
    assert equal


def test_every_name_of_torch_is_there():
    theirs = {n for n in vars(torch.nn.init) if callable(getattr(torch.nn.init, n)) and not n.startswith("_")}
    theirs = {n for n in theirs if getattr(torch.nn.init, n).__module__ == "torch.nn.init"}
    assert theirs <= set(vars(init)), theirs - set(vars(init))


def test_deprecated_names_warn():
    with pytest.warns(FutureWarning, match="deprecated in favor of"):
        init.uniform(torch.zeros(2))
    with pytest.warns(UserWarning, match="zero-element"):
        init.kaiming_normal_(torch.zeros(0, 2))
    with pytest.warns(UserWarning, match="two deviations"):
        init.trunc_normal_(torch.zeros(2), 5.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "selu", "linear", "conv2d", "leaky_relu", "gelu"])
@pytest.mark.parametrize("param", [None, 0.3, 2, True, "x"])
def test_gain(name, param):
    answers = []
    for space in (init, torch.nn.init):
        try:
            answers.append(space.calculate_gain(name, param))
        except ValueError:
            answers.append(ValueError)
    assert answers[0] == answers[1]
    with pytest.raises(ValueError, match="mode must be"):
        init.kaiming_normal_(torch.zeros(2, 2), mode="fan")


def test_parameters_are_initialised_without_a_graph():
    parameter = torch.nn.Parameter(torch.zeros(4, 4))
    for name in CALLS:
        if name not in ("dirac_", "sparse_", "constant_"):
            assert getattr(init, name)(parameter).grad_fn is None
