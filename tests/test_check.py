"""dlref.check: every planted error is found and named, what is right passes, wrong use is told in one line."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from defects import DEFECTS
from torch import nn

import dlref
from dlref.check import sample_names
from dlref.cli import main
from dlref.manual.op import OPS

RIGHT = "gelu layer_norm cross_entropy max_pool2d dropout batch_norm lp_pool1d multilabel_soft_margin_loss tied_linear".split()


@pytest.mark.parametrize("planted", DEFECTS, ids=lambda d: d.name)
def test_planted_errors_are_found(planted):
    """The finding names the kind, and says what it looks like."""
    options = {"beyond": planted.kind in ("jvp", "double backward"), **planted.options}
    report = dlref.check(planted.candidate, planted.against, **options)
    matching = [f for f in report.findings if re.search(planted.kind, f.kind)]
    assert matching, str(report)
    assert any(re.search(planted.told, f"{f.what} {f.where} {f.sample} {f.diagnosis}") for f in matching), str(report)


def test_there_are_enough_of_them():
    kinds = {f for d in DEFECTS for f in d.kind.split("|")}
    assert len(DEFECTS) >= 30 and len({d.against for d in DEFECTS}) >= 30 and len(kinds) >= 10


@pytest.mark.parametrize("side", ["manual", "builtin"])
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name, side):
    """In float32 and bfloat16; the whole list is compared by `dlref check` on the command line."""
    op = OPS[name]
    report = dlref.check(
        op if side == "manual" else op.builtin, name, dtypes=["float32", "bfloat16"], beyond=name == "gelu"
    )
    assert report.ok and report.values > 100, str(report)
    assert side == "manual" or name in ("dropout", "tied_linear") or any("only calls" in note for note in report.notes)


@pytest.mark.parametrize("module", [
    dlref.manual.nn.LayerNorm, dlref.manual.nn.BatchNorm1d, dlref.manual.nn.Sigmoid, nn.LayerNorm(7),
    nn.Conv2d(4, 6, 3, padding=1), nn.CrossEntropyLoss(label_smoothing=0.1),
], ids=lambda m: repr(m).partition("(")[0][-30:])  # fmt: skip
def test_modules_pass(module):
    name = (module if isinstance(module, type) else type(module)).__name__
    report = dlref.check(module, name, dtypes=["float32"], beyond=False)
    assert report.ok and report.values > 20, str(report)


def test_optimizers_and_schedules_pass():
    for optim in (torch.optim, dlref.manual.optim):
        for name in ("Adam", "SGD", "RMSprop", "LBFGS"):
            report = dlref.check(getattr(optim, name), name, dtypes=["float64" if name == "LBFGS" else "float32"])
            assert report.ok and report.samples > 20, str(report)
        for name in ("StepLR", "OneCycleLR", "ReduceLROnPlateau"):
            assert dlref.check(getattr(optim.lr_scheduler, name), name).ok


@torch.library.custom_op("dlreftest::scaled", mutates_args=())
def scaled(x: torch.Tensor, negative_slope: float = 0.01) -> torch.Tensor:
    return torch.where(x > 0, x, x * negative_slope)


@scaled.register_fake
def _(x, negative_slope=0.01):
    return torch.empty_like(x)


scaled.register_autograd(
    lambda ctx, dy: (torch.where(ctx.x > 0, dy, dy * ctx.slope), None),
    setup_context=lambda ctx, inputs, output: keep(ctx, inputs),
)


def keep(ctx, inputs):
    ctx.x, ctx.slope = inputs


def test_a_custom_operator():
    report = dlref.check(scaled, "leaky_relu", dtypes=["float32"])
    assert report.beyond["opcheck"] == "right" and report.beyond["torch.compile"] == "right", str(report)
    # Forward mode drops the tangent of an operator that registers none: torch gives zeros without a word.
    assert {f.kind for f in report.findings} == {"jvp"}, str(report)


def test_other_names_and_fewer_options():
    """Arguments are found by other names; what is not taken is not tried, and said."""
    report = dlref.check(lambda x, w, b=None: F.linear(x, w, b), F.linear, dtypes=["float32"], beyond=False)
    assert report.ok and report.against == "linear"
    report = dlref.check(
        lambda logits, labels: F.cross_entropy(logits, labels), "cross_entropy", dtypes=["float32"], beyond=False
    )
    assert report.ok and any("does not take weight" in reason for reason in report.skipped), str(report)


def test_a_report_is_json_junit_and_an_assertion():
    report = dlref.check(lambda input: F.relu(input) * 1.5, "relu", dtypes=["float32"], beyond=False)
    content = json.loads(report.json())
    assert not content["ok"] and content["findings"][0]["diagnosis"].startswith("off by a constant factor, 1.5")
    suite = ElementTree.fromstring(report.junit())
    assert int(suite.get("failures", 0)) == len(report.findings) == len(suite.findall("testcase/failure"))
    with pytest.raises(AssertionError, match="constant factor"):
        report.assert_ok()
    replay = next(f for f in report.findings if f.kind == "gradient")
    again = dlref.check(lambda input: F.relu(input) * 1.5, "relu", dtypes=[replay.dtype], samples=[replay.sample])
    assert any(f.what == replay.what and f.ours == replay.ours for f in again.findings)


def test_rows_beyond_sixteen_bits():
    def sixteen(input):
        y = torch.relu(input)
        return torch.where((torch.arange(len(y)) < 65536).view(-1, *(1,) * (y.dim() - 1)), y, 0) if y.dim() else y

    assert dlref.check(sixteen, "relu", dtypes=["float32"], beyond=False).ok
    report = dlref.check(sixteen, "relu", dtypes=["float32"], beyond=False, rows=True)
    assert any("from index 65536 of dimension 0" in f.diagnosis for f in report.findings), str(report)


KERNELS = """
import os, sys
import torch
import torch.nn.functional as F
def right(input, dim=None, dtype=None): return F.softmax(input, dim, dtype=dtype)
def wrong(input, dim=None, dtype=None): return F.softmax(input, dim, dtype=dtype) * 1.01
def signature(a, b, c, d, e, f, g): return a
def raises(input, dim=None): raise RuntimeError("no kernel for this")
def none(input, dim=None): return None
def listed(input, dim=None): return [F.softmax(input, dim)]
def shape(input, dim=None): return F.softmax(input, dim)[None]
def prints(input, dim=None, dtype=None):
    print("hello")
    return F.softmax(input, dim, dtype=dtype)
def exits(input, dim=None): sys.exit(0)
def ends(input, dim=None): os._exit(0)
number = 3
"""


@pytest.mark.parametrize(("name", "status", "told"), [
    ("right", 0, "right ("), ("wrong", 1, "off by a constant factor, 1.01"), ("raises", 1, "RuntimeError: no kernel for this"),
    ("none", 1, "it must be a tensor, it is None"), ("listed", 1, "a list of 1"), ("shape", 1, "shape: the output; it must be"),
    ("prints", 0, "the candidate prints: 'hello'"), ("exits", 1, "exits the process: the call; SystemExit(0)"),
    ("ends", 1, "exits the process: the process; status 0"),
])  # fmt: skip
def test_the_command(name, status, told, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kernels.py").write_text(KERNELS)
    arguments = ["check", f"kernels.py:{name}", "--against", "softmax", "--dtype", "float32", "--no-beyond"]
    if status:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json", "found.json"])
        assert ended.value.code == status and json.loads(Path("found.json").read_text())["findings"]
    else:
        main([*arguments, "--junit", "found.xml"])
        assert int(ElementTree.parse("found.xml").getroot().get("tests", 0)) > 10
    output = capfd.readouterr().out
    assert told in output and ("Traceback" not in output), output


@pytest.mark.parametrize(("arguments", "told"), [
    (("kernels.py:signature", "--against", "softmax"), "the candidate must take what softmax(input, dim=None"),
    (("kernels.py:right", "--against", "softmaxx"), "near it: softmax"),
    (("kernels.py:rigth", "--against", "softmax"), "near it: right"),
    (("nowhere:right", "--against", "softmax"), "No module named 'nowhere'"),
    (("broken.py:right", "--against", "softmax"), "SyntaxError"),
    (("nowhere.py:right", "--against", "softmax"), "must exist"),
    (("kernels.py", "--against", "softmax"), "MODULE:NAME"),
    (("kernels.py:number", "--against", "softmax"), "must be callable, it is int"),
    (("kernels.py:right", "--against", "softmax", "--dtype", "float31"), "float32"),
    (("kernels.py:right", "--against", "softmax", "--sample", "database-99"), "the sample must be"),
    (("kernels.py:right", "--against", "softmax", "--device", "cuda:7"), "device must be"),
    (("kernels.py:right", "--against", "softmax", "--json", "kernels.py"), "nothing is overwritten"),
    (("kernels.py:right",), "against"),
], ids=str)  # fmt: skip
def test_wrong_use(arguments, told, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kernels.py").write_text(KERNELS)
    Path("broken.py").write_text("def right(:")
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and told in errors and errors.count("\n") == 1, errors


INSTALLED = any(e.name == "dlref" for e in importlib.metadata.entry_points(group="pytest11"))
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    *([] if INSTALLED else ["-p", "dlref.pytest_plugin"]),
]
PLUGIN = """
import pytest
import torch
import torch.nn.functional as F

@pytest.mark.dlref("softplus", dtypes=["float32"], xfail=["database-0 *"])
def test_kernel(dlref_check):
    dlref_check(lambda input, beta=1.0, threshold=20.0: F.softplus(input, beta, threshold) * FACTOR)

def test_whole(dlref_check):
    dlref_check(torch.relu, "relu", dtypes=["float32"], beyond=False)
"""


def test_the_pytest_plug_in(tmp_path):
    """One test a sample; a sample that is expected to fail must fail."""
    names = sample_names("softplus", "float32")
    outcomes = []
    for factor in ("1.1", "1.0"):
        (tmp_path / "test_mine.py").write_text(PLUGIN.replace("FACTOR", factor))
        done = subprocess.run([*PYTEST, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        outcomes.append(done.stdout)
    wrong, right = outcomes
    assert "1 xfailed" in wrong and "off by a constant factor, 1.1" in wrong and "samples=['hard-0']" in wrong, wrong
    assert f"1 failed, {len(names)} passed" in right and right.count("XPASS(strict)") == 2, right


def readme(tmp_path):
    """The README's kernels.py and test_kernels.py."""
    section = (Path(__file__).parents[1] / "README.md").read_text().split("## Check your own kernel")[1]
    blocks = re.findall(r"```python\n(.+?)```", section, flags=re.DOTALL)
    (tmp_path / "kernels.py").write_text(blocks[0])
    (tmp_path / "test_kernels.py").write_text(blocks[1])
    return blocks


def test_the_readme_as_pasted(tmp_path, capfd, monkeypatch):
    blocks = readme(tmp_path)
    done = subprocess.run([*PYTEST, "test_kernels.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "failed" not in done.stdout and int(re.search(r"(\d+) passed", done.stdout)[1]) > 100, done.stdout
    assert torch.cuda.is_available() or "skipped" in done.stdout
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text(
        blocks[0].replace("rho * (g - x_hat * (g * x_hat).mean(ctx.dims, keepdim=True))", "rho * g")
    )
    with pytest.raises(SystemExit) as ended:
        main("check wrong.py:rms_norm --against rms_norm --dtype float32 --no-beyond".split())
    output = capfd.readouterr().out
    assert ended.value.code == 1 and "a term is missing or added that is proportional to argument input" in output, (
        output
    )


def test_the_report(tmp_path, capfd):
    main(["report", "linear", "softmax", "--dtype", "float32", "--epochs", "2", "--out", str(tmp_path)])
    page = (tmp_path / "index.html").read_text()
    assert page.count("<tbody") == 2 and "<math" in page and page.count("<svg") == 3 and "0</b>depart" in page
    assert not re.search(r"(src|href)=\"https?:", page), "the page must need no network"
    with pytest.raises(SystemExit) as ended:
        main(["report", "linear", "--out", str(tmp_path)])
    assert ended.value.code == 2 and "nothing is overwritten" in capfd.readouterr().err
