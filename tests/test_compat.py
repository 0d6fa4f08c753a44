"""Versions of torch: newer ones warn once, an internal that is gone is named by what rests on it, all stand in one file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlref.core import compat
from dlref.estimators import versions

ROOT = Path(__file__).parent.parent
CHANGES = {name: value for name, value in vars(compat).items() if isinstance(value, compat.Change)}


def output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("text, number", [("2.11.0+cu130", (2, 11)), ("2.16.0a0+git1", (2, 16)), ("3.0", (3, 0))])
def test_versions_are_read(text, number):
    assert compat.version(text) == number


def test_what_changed_is_told():
    for name, change in CHANGES.items():
        assert all((change.what, change.before, change.ours)) and bool(change) == (change.since <= compat.TORCH), name
        assert compat.OLDEST < change.since <= compat.NEWEST, f"{name}: no torch that dlref runs on is older"
    assert compat.OLDEST <= compat.TORCH
    for name, change in vars(versions).items():
        if isinstance(change, versions.Change):
            assert versions.OLDEST < change.since <= versions.NEWEST, name
            assert str(change).startswith("since scikit-learn ") and bool(change) == (change.since <= change.running)
    text = (ROOT / "pyproject.toml").read_text()
    for package, oldest in (("torch", compat.OLDEST), ("scikit-learn", versions.OLDEST)):
        assert set(re.findall(rf'"{package}>=([\d.]+)"', text)) == {".".join(map(str, oldest))}
    with pytest.raises(ValueError, match="must begin with two numbers"):
        compat.version("main")


@pytest.mark.skipif(compat.TORCH < compat.NEWEST, reason="this torch lacks what a newer one is taken to have")
def test_a_newer_torch_is_tried_and_told_of_once():
    told = output("""
import torch
torch.__version__ = "9.1.0"
import dlref, dlref.manual.nn as nn
x = torch.randn(2, 3)
y, pullback = nn.Linear(3, 4).vjp(x)
assert pullback(y)[0].shape == x.shape and dlref.compare("relu").ok
""")
    assert told.count("dlref was tried with torch until 2.15, this is 9.1.0") == 1


def test_an_internal_that_is_gone_is_named_where_it_is_used():
    """All else works: here torch.func.jvp alone asks for the levels of transforms."""
    told = output("""
import torch
del torch._C._functorch.get_interpreter_stack, torch.nn.modules.transformer._get_seq_len
import dlref, dlref.manual.functional as F
x = torch.randn(2, 3)
y, pullback = F.gelu.vjp(x)
assert pullback(y)[0].shape == x.shape
for use in (lambda: F.gelu(x.requires_grad_()), lambda: dlref.core.compat.get_seq_len.anything):
    try: use()
    except RuntimeError as error: print(error)
""")
    assert "rests here on torch._C._functorch.get_interpreter_stack, which torch" in told
    assert "rests here on torch.nn.modules.transformer._get_seq_len, which torch" in told
    assert "use a torch from 2.11 to 2.15, or a newer dlref" in told


def test_internals_stand_in_one_file():
    """torch.utils._pytree and _python_dispatch, which torch tells its users of, and the reductions' names apart."""
    for path in (ROOT / "dlref").rglob("*.py"):
        found = re.findall(r"torch\.(?:\w+\.)*_(?!_|pytree|python_dispatch|contextlib|reduction)\w+", path.read_text())
        assert path.name == "compat.py" or not found, (path, found)
