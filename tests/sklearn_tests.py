"""scikit-learn's own tests of an estimator, run on the one of this library in its place."""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sklearn


def with_defaults(cls: type, module: str, **defaults: Any) -> type:
    """The estimator with other defaults; it says that it is of the module, so that pickle finds it there."""
    signature = inspect.signature(cls.__init__)
    changed = [p.replace(default=defaults.get(p.name, p.default)) for p in signature.parameters.values()]

    def __init__(self, *args, **kwargs):
        cls.__init__(self, *args, **{**defaults, **kwargs})

    __init__.__signature__ = signature.replace(parameters=changed)
    return type(cls.__name__, (cls,), {"__init__": __init__, "__module__": module, "__doc__": cls.__doc__})


def sklearn_tests(path: str, classes: dict[str, type], **defaults: Any) -> dict[str, Callable]:
    """The tests and fixtures of one of scikit-learn's test modules, under their names and the defaults' values.

        globals().update(sklearn_tests("linear_model/tests/test_perceptron.py", {"Perceptron": Perceptron}, backend="manual"))

    path: below sklearn; classes: what takes the place of what the module imports under these names; defaults: of their
    parameters. ValueError where the module does not import a name, as it would test scikit-learn itself.
    """
    file = Path(sklearn.__file__).parent / path
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    found = set()
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            found |= {alias.name for alias in statement.names} & set(classes)
            statement.names = [alias for alias in statement.names if alias.name not in classes]
    if missing := set(classes) - found:
        raise ValueError(f"{path} must import {sorted(missing)} by 'from ... import', for another to take its place")
    tree.body = [s for s in tree.body if not (isinstance(s, ast.ImportFrom) and not s.names)]
    suffix = "_".join(str(value) for value in defaults.values())
    module = types.ModuleType(f"sklearn_{file.stem}_{suffix}", tree and ast.get_docstring(tree))
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    vars(module).update({name: with_defaults(cls, module.__name__, **defaults) for name, cls in classes.items()})
    exec(compile(tree, str(file), "exec"), vars(module))
    named = {}
    for name, value in list(vars(module).items()):
        if name.startswith("test_") and callable(value):
            named[f"{name}_{suffix}"] = pytest.mark.filterwarnings("default")(value)  # warnings are no errors there
        elif isinstance(value, type(pytest.fixture(lambda: None))):
            named[name] = value
    return named
