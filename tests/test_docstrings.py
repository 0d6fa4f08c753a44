"""Every public name says what it does: a sentence, the equation, shapes or units, what it raises, whose it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from typing import Any

import pytest
import torch

from dlref.core.names import one_of
from dlref.core.pair import Op
from dlref.samples import opinfos
from dlref.samples.hard import ERRORS

# Namespace: what is demanded of its names, beside a sentence and what they raise.
SPACES = {
    "dlref": "",
    "dlref.manual.functional": "equation shapes source",
    "dlref.manual.nn": "equation shapes source",
    "dlref.manual.nn.utils": "equation shapes source",
    "dlref.manual.optim": "equation shapes source",
    "dlref.manual.optim.lr_scheduler": "equation shapes source",
    "dlref.manual.optim.swa_utils": "equation shapes source",
    "dlref.manual.init": "equation shapes source",
    "dlref.manual.training": "shapes",
    "dlref.manual.amp": "equation source",
    "dlref.models": "shapes",
    "dlref.data": "shapes",
    "dlref.lightning": "shapes",
    "dlref.estimators": "shapes source",
    "dlref.samples": "",
    "dlref.bench": "",
    "dlref.pictures": "",
    "dlref.experiments": "",
}
# Where the namespace's own docstring gives the shapes or units of all its names.
TOGETHER = {"dlref.manual.optim", "dlref.manual.optim.lr_scheduler", "dlref.manual.optim.swa_utils",
            "dlref.manual.init"}  # fmt: skip
# What computes nothing, takes no tensor, or is nobody's: too plain to have been written first by someone.
NO_EQUATION = {"Manual", "SequentialLR", "parameters_to_vector", "vector_to_parameters"}
NO_SHAPE = {"Manual", "by_one_gradient", "module_named", "optional", "activations"}
NO_SOURCE = {"Identity", "Manual", "MeanOver", "clip_grad_value_", "constant_", "eye_", "flatten", "get_total_norm",
             "normal_", "normalize", "one_hot", "ones_", "pad", "parameters_to_vector", "tanhshrink", "threshold", "unflatten",
             "uniform_", "vector_to_parameters", "zeros_"}  # fmt: skip
SHAPE = (
    r"\(\*?(?:N|n|C|D|L|S|T|in|out|samples|batch|n_samples|x)?[,)]|[Aa]ny (?:shape|number of dim)|one shape|utput as"
    r"|(?<!where )a number\b"
)
YEAR = r"\b(?:17|18|19|20)\d\d\b"


def public(space: str) -> dict[str, Any]:
    """The callables of a namespace that are defined in this library."""
    module = importlib.import_module(space)
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    found = {name: getattr(module, name) for name in names if callable(getattr(module, name, None))}
    return {n: v for n, v in found.items() if str(getattr(v, "__module__", "")).startswith("dlref.")}


OF_TORCH = {"LinearCrossEntropyOptions"}  # which an older torch has not
NAMES = [(space, name) for space in SPACES for name in sorted(public(space)) if name not in OF_TORCH]


def said(space: str, name: str) -> dict[str, str]:
    """The docstrings of the name and of those that it refers to in backquotes, and so on."""
    here = {**public("dlref.manual.functional"), **public(space)}
    told: dict[str, str] = {}
    open_ = [name]
    while open_:
        if (one := open_.pop()) in here and one not in told:
            told[one] = inspect.cleandoc(here[one].__doc__ or "")
            open_ += re.findall(r"`(?:dlref\.)?(\w+)`", told[one])
    return told


def raised(value: Any) -> set[str]:
    """The exceptions that its source raises, or that of the functions of the same file that it calls."""
    parts = [value.definition.forward, value.prepare] if isinstance(value, Op) else [value]
    found, seen = set(), set()
    while parts:
        part = inspect.unwrap(parts.pop()) if parts[-1] is not None else parts.pop()
        if part is None or part in seen:
            continue
        seen.add(part)
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        except (OSError, TypeError):  # made by a call, or a builtin
            continue
        space = vars(inspect.getmodule(part))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                found.add(node.exc.func.id)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = space.get(node.func.id)
                if called is one_of:
                    found.add("ValueError")
                elif inspect.isfunction(called) and called.__module__ == part.__module__:
                    parts.append(called)
    return found


def refused(name: str) -> set[str]:
    """The exceptions that the operation answers the wrong calls of PyTorch's database and of ours with."""
    wrong = ERRORS.get(name, lambda tensor: ())(torch.tensor)
    found = {
        error.__name__ for error, _ in wrong if isinstance(error, type)
    }  # of an older torch it may be one of several
    for info in opinfos(name):
        if info.error_inputs_func is not None:
            found |= {case.error_type.__name__ for case in info.error_inputs("cpu")}
    return found


def lacking(space: str, name: str) -> list[str]:
    """What is demanded of the name's docstring and not there."""
    value, told, demanded = public(space)[name], said(space, name), SPACES[space].split()
    text, first = "\n".join(told.values()), told[name].split("\n\n")[0]
    methods = vars(value).values() if isinstance(value, type) else ()
    errors = raised(value) | (refused(name) if isinstance(value, Op) else set())
    known = "\n".join([text, *(method.__doc__ or "" for method in methods if inspect.isfunction(method))])
    found = [f"that it raises {error}" for error in sorted(errors) if error not in known]
    if not re.search(r"\w.*[.:](\s|$)", first):
        found.append("a sentence")
    if "equation" in demanded and name not in NO_EQUATION and "$" not in text:
        found.append("an equation")
    whole = text + (importlib.import_module(space).__doc__ or "") * (space in TOGETHER)
    if "shapes" in demanded and name not in NO_SHAPE and not re.search(SHAPE, whole):
        found.append("a shape")
    if "source" in demanded and not NO_SOURCE & told.keys() and not re.search(YEAR, text):
        found.append("a source")
    return found


@pytest.mark.parametrize("space, name", NAMES)
def test_a_name_says_what_it_is(space, name):
    assert not lacking(space, name)


def test_what_is_excused_lacks_it():
    """A name in a list of those that need no equation, shape or source is there, and has none."""
    every = {name: said(space, name)[name] for space, name in NAMES}
    assert not [name for name in NO_EQUATION if "$" in every[name]]
    assert not [name for name in NO_SHAPE if re.search(SHAPE, every[name])]
    assert not [name for name in NO_SOURCE if re.search(YEAR, every[name])]


def test_a_lack_is_found(monkeypatch):
    relu = public("dlref.manual.functional")["hardtanh"]
    monkeypatch.setattr(relu, "__doc__", "bounded")
    assert lacking("dlref.manual.functional", "hardtanh") == [
        "that it raises NotImplementedError", "that it raises ValueError", "a sentence", "an equation", "a shape", "a source",
    ]  # fmt: skip
