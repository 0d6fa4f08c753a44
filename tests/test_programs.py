"""Programs as they are written for torch: by hand they are the same program, but for its imports, with the same losses."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from placed import DEVICE

BOUND = 1e-12 if DEVICE.type == "cpu" else 1e-8  # on CUDA torch's weight_norm takes float32's roots
PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))


def imported_from(source: str, side: str) -> str:
    """The program with its imports of torch's namespaces replaced, and no other line."""
    source = re.sub(r"^(import|from) torch\.(nn|optim|amp)\b", rf"\1 dlref.{side}.\2", source, flags=re.MULTILINE)
    return re.sub(r"^from torch import (?=nn|optim)", f"from dlref.{side} import ", source, flags=re.MULTILINE)


def run(path: Path, source: str) -> tuple[list[float], Any]:
    program: Any = types.ModuleType(f"program_{path.stem}")
    with mock.patch.dict(sys.modules, {program.__name__: program}):  # where dataclasses look for it
        exec(compile(source, str(path), "exec"), vars(program))
        return program.main(), program


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_a_program_moves_by_its_imports(path):
    source = path.read_text()
    expected, of_torch = run(path, source)
    assert of_torch.nn is torch.nn and len(set(expected)) > 5
    for side in ("manual", "builtin"):
        moved = imported_from(source, side)
        changed = [new for old, new in zip(source.splitlines(), moved.splitlines(), strict=True) if old != new]
        assert changed and all(line.startswith(("import dlref.", "from dlref.")) for line in changed)
        losses, program = run(path, moved)
        assert program.nn.__name__ == f"dlref.{side}.nn"
        assert losses == pytest.approx(expected, rel=BOUND, abs=BOUND)
