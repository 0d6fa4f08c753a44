"""Every name of torch.nn and torch.optim under ours: by hand, handed on, or left out and told where torch has it."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import subprocess
import sys
import warnings

import pytest
import torch

from dlref.core import compat, namespace
from dlref.core.module import COUNTERPARTS

# What manual has not, and why.
LEFT_OUT = {
    # products of numbers in 8 bits and fewer with a scale to each block: kernels for one hardware, no equation of their own
    "torch.nn.functional": {
        "ScalingType",
        "SwizzleType",
        "assert_int_or_pair",  # a check of its own file's
        "scaled_addmm",
        "scaled_addmm_",
        "scaled_grouped_mm",
        "scaled_mm",
    },
    # the optimizers' steps as functions of lists, which torch itself calls internal
    "torch.optim": {"functional"},
}
# Modules of torch's that hold no names for a program: files that its own code is made of.
NO_NAMES = {"torch.nn.backends", "torch.nn.cpp"}


def modules(name: str) -> list[str]:
    """A public module of torch's and those below it."""
    path = getattr(importlib.import_module(name), "__path__", [])
    below = [m for i in pkgutil.iter_modules(path) if not i.name.startswith("_") for m in modules(f"{name}.{i.name}")]
    return [name, *below]


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that torch.nn.quantized has moved
    MODULES = [
        m for tree in ("torch.nn", "torch.optim") for m in modules(tree) if m not in namespace.LEFT_OUT | NO_NAMES
    ]
    MODULES = [m for m in MODULES if not m.startswith("torch.nn.attention.experimental")]


def names(path: str) -> list[str]:
    """The names that a program may use of a module of torch's: what it says itself, or what of its names is of networks."""
    module = importlib.import_module(path)
    given = getattr(module, "__all__", None)
    if given is not None:
        return list(given)
    return [n for n in namespace.public(module) if namespace.belongs(getattr(module, n))]


@pytest.mark.parametrize("path", MODULES)
def test_every_name_of_torch(path):
    """In manual it is there, or stands in a list; in builtin it is torch's own."""
    manual = importlib.import_module(namespace.ours("manual", path))
    builtin = importlib.import_module(namespace.ours("builtin", path))
    without = LEFT_OUT.get(path, set())
    for name in names(path):
        value = getattr(importlib.import_module(path), name)
        if name not in without and f"{path}.{name}" not in namespace.LEFT_OUT:
            assert hasattr(manual, name), (
                f"torch {torch.__version__} has {path}.{name}: derive it, or write it down here"
            )
        if not namespace.of_torch(value):
            assert getattr(builtin, name) is value, (path, name)


@pytest.mark.skipif(compat.TORCH != compat.NEWEST, reason="older torches lack names")
def test_what_is_left_out_is_told():
    """Each name of the lists is torch's, and manual's error says where torch has it."""
    for path, left in LEFT_OUT.items():
        for name in left:
            assert hasattr(importlib.import_module(path), name)
            with pytest.raises(AttributeError, match=rf"by hand: torch's own is {path}\.{name}$"):
                getattr(importlib.import_module(namespace.ours("manual", path)), name)
    for path in namespace.LEFT_OUT:
        space, _, name = namespace.ours("manual", path).rpartition(".")
        with pytest.raises(AttributeError, match=rf"by hand: torch's own is {path}$"):
            getattr(importlib.import_module(space), name)


def test_what_has_a_manual_class_is_it_everywhere():
    """torch's class is nowhere in manual's namespaces where there is one by hand."""
    for path in MODULES:
        manual = importlib.import_module(namespace.ours("manual", path))
        for name in names(path):
            value = getattr(manual, name, None)
            assert not isinstance(value, type) or value not in COUNTERPARTS, (path, name)


@pytest.mark.parametrize("space, name, told", [
    ("nn", "Linaer", "dlref.manual.nn has no Linaer, nor has torch.nn: the nearest name is Linear (torch's own: "
                     "torch.nn.Linear)"),
    ("nn", "crossentropyloss", "the nearest name is CrossEntropyLoss (torch's own: torch.nn.CrossEntropyLoss)"),
    ("nn", "RBFs", "the nearest name is RBF"),
    ("nn", "relu", "dlref.manual.nn has no relu: it is dlref.manual.functional.relu"),
    ("functional", "softmx", "the nearest name is softmax (torch's own: torch.nn.functional.softmax)"),
    ("functional", "qqqqqqqq", "its names are in dir(dlref.manual.functional)"),
    ("init", "xavier_unform_", "the nearest name is xavier_uniform_ (torch's own: torch.nn.init.xavier_uniform_)"),
    ("optim", "SGDD", "the nearest name is SGD (torch's own: torch.optim.SGD)"),
    ("optim.lr_scheduler", "StepLr", "the nearest name is StepLR (torch's own: torch.optim.lr_scheduler.StepLR)"),
    ("nn.utils", "clip_grad_norms_", "the nearest name is clip_grad_norm_"),
    ("nn.utils.rnn", "pad_sequences", "the nearest name is pad_sequence (torch's own: torch.nn.utils.rnn.pad_sequence)"),
    ("nn.modules.loss", "MSEloss", "the nearest name is MSELoss"),
])  # fmt: skip
def test_a_name_that_is_not_there(space, name, told):
    for side in ("manual", "builtin"):
        module = importlib.import_module(f"dlref.{side}.{space}")
        with pytest.raises(AttributeError) as error:
            getattr(module, name)
        assert told.replace("manual", side) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ImportError) as error:
        exec(f"from dlref.manual.{space} import {name}")
    assert told in str(error.value)


PROGRAM = """
import dlref.{side}.nn as nn
import dlref.{side}.nn.utils.rnn
import dlref.{side}.nn.functional as F
import dlref.{side}.nn.parallel.replicate, dlref.{side}.nn.utils.weight_norm
import dlref.{side}.optim.lr_scheduler as schedules
from dlref.{side} import functional, init, optim
from dlref.{side}.nn import functional as again, init as first, Parameter, Buffer
from dlref.{side}.nn.modules.loss import CrossEntropyLoss
from dlref.{side}.nn.modules.batchnorm import _BatchNorm
from dlref.{side}.nn.parameter import UninitializedParameter
from dlref.{side}.nn.utils import parametrize, prune, skip_init, stateless
from dlref.{side}.nn.utils.rnn import pack_sequence
from dlref.{side}.nn.attention import SDPBackend, sdpa_kernel
from dlref.{side}.optim.adamw import AdamW
from dlref.{side}.nn.modules import *
assert F is again is functional is nn.functional and first is init is nn.init and schedules is optim.lr_scheduler
assert CrossEntropyLoss is nn.CrossEntropyLoss is nn.modules.CrossEntropyLoss and AdamW is optim.AdamW
assert Linear is nn.Linear and nn.utils.rnn.pack_sequence is pack_sequence
assert callable(nn.parallel.replicate) and callable(nn.utils.weight_norm)
assert isinstance(nn.BatchNorm1d(2), _BatchNorm) and nn.modules.loss.F is F
assert "pad_sequence" in dir(nn.utils.rnn) and "Linear" in dir(nn) and "Buffer" in dir(nn)
"""


@pytest.mark.parametrize("side", ["manual", "builtin"])
def test_imports(side):
    """As programs write them, in a new interpreter, where nothing has been imported before."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(side=side)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_torch_stays_as_it_is():
    import dlref.builtin.nn.utils.weight_norm
    import dlref.manual.nn.parallel.replicate

    assert dlref.builtin.nn.utils.weight_norm is torch.nn.utils.weight_norm
    assert not isinstance(torch.nn.utils.weight_norm, type(torch))
    with pytest.raises(ModuleNotFoundError, match=r"torch's own is torch\.nn\.attention\.flex_attention"):
        import dlref.manual.nn.attention.flex_attention
    assert pickle.loads(pickle.dumps(dlref.manual.nn.modules.loss.MSELoss)) is dlref.manual.nn.MSELoss
