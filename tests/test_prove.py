"""The device's proof: a page of what was tried, each failure in a line, a device that is not there in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dlref
from dlref.bench import NETWORKS
from dlref.core.pair import OPS

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def prove(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import prove

    for name, value in {"NAMES": ["linear", "silu"], "MODULES": ["SiLU"], "OPTIMIZERS": ["SGD"], "FASTEST": ("mlp",),
                        "NETWORKS": {"mlp": NETWORKS["mlp"]}, "STEPS": 3}.items():  # fmt: skip
        monkeypatch.setattr(prove, name, value)
    return prove


def page(prove, monkeypatch, capsys, folder: Path, minutes: str = "3") -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["prove.py", "--minutes", minutes, "--out", str(folder)])
    monkeypatch.setattr(prove, "timed", lambda device, until: ["ratios"])
    with pytest.raises(SystemExit) as ended:
        prove.main()
    (path,) = folder.iterdir()
    *_, before, last = capsys.readouterr().out.splitlines()
    assert last == str(path) and before.startswith("Not reached") == (minutes != "3")
    return ended.value.code, path.read_text()


def test_what_is_right(prove, monkeypatch, capsys, tmp_path):
    code, text = page(prove, monkeypatch, capsys, tmp_path / "new")
    assert (
        code == 0
        and "Failures" not in text
        and "Not reached" not in text
        and torch.__version__ in text
        and "ratios" in text
    )
    rows = {cells[1].strip(): cells for line in text.splitlines() if len(cells := line.split("|")) == 8}
    for part in ("operations, float32", "operations, bfloat16", "modules", "optimizers", "3 steps of networks"):
        _, _, tried, planned, numbers, failures, *_ = rows[part]
        assert int(tried) == int(planned) > 0 and int(numbers.replace(",", "")) > 0 and int(failures) == 0, part
    page(prove, monkeypatch, capsys, tmp_path / "new")  # a page of its own is written anew


def test_what_the_time_did_not_suffice_for_is_said(prove, monkeypatch, capsys, tmp_path):
    _, text = page(prove, monkeypatch, capsys, tmp_path / "new", "1e-9")
    assert "Not reached in 1e-09 minutes" in text and "modules (1 of 1)" in text and "Give more --minutes." in text
    assert "| modules | 0 | 1 | 0 | – | 0 |" in text


def test_a_planted_error_is_a_failure(prove, monkeypatch, capsys, tmp_path):
    form = OPS["silu"].fast or OPS["silu"].definition
    right = form.pull
    monkeypatch.setattr(form, "pull", lambda *args, **kwargs: 1.01 * right(*args, **kwargs))
    code, text = page(prove, monkeypatch, capsys, tmp_path / "new")
    assert code == 1
    assert "operations, float32: silu" in text
    assert "modules: SiLU" in text, text


def test_nobody_elses_page_is_overwritten(prove, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["prove.py", "--out", str(tmp_path)])
    monkeypatch.setattr(prove, "environment", lambda device, threads: {"machine": "A Card"})
    (theirs := tmp_path / "a-card.md").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        prove.main()
    assert "a-card.md must be a page of this script's" in capsys.readouterr().err
    assert theirs.read_text() == "mine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize("options, told", [
    (["--device", "cuda"], "device must be one that this machine has, as cpu or auto; it is 'cuda': "),
    (["--device", "nothing"], "device must be one that this machine has, as cpu or auto; it is 'nothing': "),
    (["--minutes", "0"], "--minutes must be greater than 0"),
    (["--minutes", "inf"], "--minutes must be greater than 0, it is inf"),
    (["--jobs", "two"], "--jobs: invalid int value: 'two'"),
])  # fmt: skip
def test_wrong_use_is_one_line(options, told):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "prove.py"), *options], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and told in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


ALONE = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
absent = ("lightning", "jsonargparse", "sklearn", "torchvision", "scipy", "matplotlib")
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in absent else find(name, *rest)
import prove
print(len(prove.MODULES))
"""


def test_it_needs_torch_and_expecttest_alone():
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=SCRIPTS, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and int(done.stdout) > 90, done.stderr


def test_a_modules_truth_is_the_definitions_where_torch_is_wrong():
    """The gradient of -log(1 - p) at p = 0 is 1, and torch's is 0."""
    for candidate in (dlref.manual.nn.BCELoss, torch.nn.BCELoss):
        report = dlref.check(candidate, "BCELoss", dtypes=["float32"], beyond=False, samples=["train-5/nought"])
        assert report.ok and report.values, report
