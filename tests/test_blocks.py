"""The blocks of every page: Python runs and prints what stands beside it, commands run, or it is said here why not."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

import dlref
import dlref.samples  # with all operations: what a block adds to their lists is taken out again
from dlref.core import compat
from dlref.core.module import COUNTERPARTS
from dlref.core.pair import OPS

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if "generated" not in path.parts
}  # fmt: skip
FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$", re.M | re.S)

# What stands before a block: (page, number of the block): what its reader has already.
LINEAR = """
import torch
import torch.nn.functional as F
from dlref.core.module import Manual
from dlref.core.pair import op
"""
BEFORE = {
    ("README.md", 1): LINEAR,
    ("README.zh-CN.md", 1): LINEAR,
    ("README.md", 2): """
x, dy, layer = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2), Linear(3, 2)
theirs = torch.nn.functional.linear(x, layer.weight, layer.bias)
expected = torch.autograd.grad(theirs, (x, layer.weight), dy)
torch.testing.assert_close(torch.autograd.grad(layer(x), (x, layer.weight), dy), expected)
""",
    ("README.md", 3): """
network, criterion = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)), nn.CrossEntropyLoss()
optimizer, x, y = optim.SGD(network.parameters(), 0.1), torch.randn(6, 8), torch.randint(3, (6,))
""",
    ("README.md", 4): """
import dlref
import functools
dlref.compile_step = functools.partial(dlref.compile_step, backend="eager")  # there may be no compiler
""",
    ("README.md", 5): "X, y = torch.randn(90, 4).numpy(), torch.randint(3, (90,)).numpy()",
}  # fmt: skip
# Blocks that are run elsewhere, or not at all, and why.
NOT_HERE = {
    ("docs/check.md", 1): "test_check.py writes it to kernels.py",
    ("docs/check.md", 2): "test_check.py writes it to test_kernels.py, and runs it",
    ("docs/scaling.md", 1): "it is one of several processes, which test_parallel.py has",
}
OF_THE_NEWEST = {"docs/torch.md"}  # of what torch has wrong
# Commands, by how they begin, that are not run, and why; their options are looked up in the command's help.
NOT_RUN = {
    "pip install": "asks a network",
    "pytest": "is the tests",
    "python -m pytest": "is the tests",
    "ruff": "is run by .ci/run",
    ".ci/": "asks a network",
    "python scripts/accuracy.py": "takes minutes; test_proof.py holds what it counts",
    "python scripts/update_figures.py": "writes these pages; test_bench.py runs it on copies",
    "python scripts/prove.py": "takes minutes, and a device; test_prove.py runs parts of it",
    "dlref fit --trainer.strategy": "takes several processes; test_parallel.py and test_processes.py train in them",
    "dlref fit --model.backend bridged --trainer.strategy": "takes several processes, as above",
    "dlref bench": "takes an hour; test_bench.py runs parts of it",
    "echo": "needs liger-kernel, of a network; scripts/check_packages.py looks at it",
    "export": "needs liger-kernel, of a network; scripts/check_packages.py looks at it",
    "dlref check liger.py": "needs liger-kernel, of a network; scripts/check_packages.py looks at it",
}


def blocks(page: str, kind: str) -> list[str]:
    return [text for _, info, text in FENCE.findall(PAGES[page]) if info == kind]


def said(block: str) -> list[str]:
    """What the comments behind a block's prints say, a line each."""
    return re.findall(r"^print\(.*\)  # (.*)$", block, re.M)


def commands(page: str) -> list[str]:
    """The lines of the page's blocks of commands, those that `&&` joins apart; a formula or an output is none."""
    lines = "\n".join(blocks(page, "bash")).splitlines()
    for block in re.findall(r"(?:^|\n\n)((?:    .*\n)+)", FENCE.sub("", PAGES[page])):
        lines += [line.strip() for line in re.sub(r"\\\n *", "", block).splitlines()]
    programs = ("dlref", "python", "pip", "pytest", "ruff", "mypy", ".ci/", "echo", "export", "tensorboard")
    found = [
        part.strip() for line in lines if line.startswith(programs) for part in line.partition("  #")[0].split("&&")
    ]
    return [part for part in found if part != "mypy"]


def inline(page: str) -> list[str]:
    return re.findall(r"`((?:dlref|python scripts/)[^`]* [^`]+)`", FENCE.sub("", PAGES[page]))


def of_a_card(command: str) -> bool:
    return "--device cuda" in command and not torch.cuda.is_available()


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # torch 2.11's own, when it exports
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python(page, tmp_path, monkeypatch):
    """Each block in its order, in one namespace; a quotation of the source is in the source."""
    if page in OF_THE_NEWEST and compat.TORCH != compat.NEWEST:
        pytest.skip("the page is of the newest torch")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    space = {"__name__": "page"}
    with mock.patch.dict(OPS), mock.patch.dict(COUNTERPARTS), mock.patch.dict(vars(dlref)):
        for number, block in enumerate(blocks(page, "python"), 1):
            if (page, number) in NOT_HERE:
                continue
            if block.startswith("# dlref/"):
                assert not absent(block), f"{page}, block {number}"
                continue
            exec(BEFORE.get((page, number), ""), space)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block, f"{page}, block {number}", "exec"), space)
            assert printed.getvalue().splitlines() == said(block), f"{page}, block {number}"
            assert len(said(block)) == len(re.findall(r"^print\(", block, re.M)), (
                f"{page}, block {number}: a print alone"
            )


def absent(block: str) -> list[str]:
    """The parts of a quotation that do not stand in the file that the comment above them names."""
    text, missing = "", []
    for part in re.split(r"\n\n+|(?<=\.py)\n", block.strip()):
        if part.startswith("# dlref/"):
            text = (ROOT / part[2:]).read_text()
        elif part.strip("\n") not in text:
            missing.append(part)
    return missing


def test_a_quotation_that_is_none_is_found():
    assert absent("# dlref/manual/training.py\nnothing of it") == ["nothing of it"]


RUN = sorted({(command, page) for page in PAGES for command in commands(page)
              if not command.startswith(tuple(NOT_RUN)) and not of_a_card(command)})  # fmt: skip


@pytest.mark.parametrize("command", sorted({command for command, _ in RUN}))
def test_commands(command, tmp_path):
    """As pasted, in a folder in which scripts/ and configs/ lie, and the kernels of docs/check.md."""
    if "kernels.py:rms_norm" in command and not compat.INTERMEDIATE_RESULTS:
        pytest.skip(f"compiled, its gradient is wrong: {compat.INTERMEDIATE_RESULTS}")
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "kernels.py").write_text(blocks("docs/check.md", "python")[0])
    line = re.sub(
        r"^(python|dlref)\b", lambda m: {"python": sys.executable}.get(m[1], f"{sys.executable} -m dlref"), command
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr


@functools.cache
def help_of(program: str) -> str:
    parts = program.split()
    call = [sys.executable, "-m", *parts] if parts[0] == "dlref" else [sys.executable, *parts[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*call, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


TOLD = sorted({
    command for page in PAGES if page != "CHANGELOG.md" for command in (*commands(page), *inline(page))
    if command.startswith(("dlref ", "python scripts/")) and command not in {command for command, _ in RUN}
})  # fmt: skip


@pytest.mark.parametrize("command", TOLD)
def test_commands_that_are_not_run_have_their_options(command):
    words = shlex.split(command)
    program = " ".join(words[:2])
    if program.startswith("dlref --") or "COMMAND" in program:
        pytest.skip("is of every command")
    text = help_of(program) + (
        "--data-dir --download" if program == "dlref fit" else ""
    )  # which stand for --data.data_dir, ...
    for option in (word.partition("=")[0] for word in words[2:] if word.startswith("--")):
        known = option.replace("_", "-") in text.replace("_", "-") or f"--{option[2:].partition('.')[0]}." in text
        assert known, f"{program} has no {option}"


def test_reasons_are_needed():
    """Each block and command that is excused is there."""
    assert all(len(blocks(page, "python")) >= number for page, number in (*NOT_HERE, *BEFORE))
    every = [command for page in PAGES for command in commands(page)]
    assert not [start for start in NOT_RUN if not any(command.startswith(start) for command in every)]
