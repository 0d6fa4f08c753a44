"""where: a candidate that is made for a part of the reference's domain, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from test_check import PYTEST
from torch import nn

import dlref
from dlref.cli import main

ROWS = "input.dim() == 2 and target.dtype == torch.int64"
QUICK = {"dtypes": ["float32"], "beyond": False}


def rows_only(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    if input.dim() != 2 or target.is_floating_point():
        raise AssertionError("rows of logits and class indices")
    return F.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def test_calls_outside_are_no_findings():
    assert any(f.kind == "raises" for f in dlref.check(rows_only, "cross_entropy", **QUICK).findings)
    report = dlref.check(rows_only, "cross_entropy", where=ROWS, **QUICK)
    assert report.ok and report.samples >= 40, str(report)
    assert any(re.search(r"\d+ of the reference's \d+ samples \(\d+%\) lie inside", n) for n in report.notes), str(
        report
    )


@pytest.mark.parametrize("where", [
    lambda input, target: input.dim() == 2 and not target.is_floating_point(),
    lambda call: call.input.dim() == 2 and not call.target.is_floating_point(),
    lambda *args, **kwargs: args[0].dim() == 2 and not args[1].is_floating_point(),
    lambda input, target, **options: input.dim() == 2 and not target.is_floating_point(),
], ids=["names", "call", "as it is", "options"])  # fmt: skip
def test_a_function_says_where(where):
    report = dlref.check(rows_only, "cross_entropy", where=where, **QUICK)
    assert report.ok and report.samples >= 40, str(report)


def test_where_few_are_left_more_are_made():
    """Options crossed and sizes varied, all inside."""
    seen = []

    def eights(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        seen.append((tuple(input.shape), reduction, label_smoothing, weight is None, ignore_index))
        assert input.shape[1] % 8 == 0
        return rows_only(input, target, weight, ignore_index, reduction, label_smoothing)

    where = f"{ROWS} and input.shape[1] % 8 == 0"
    report = dlref.check(eights, "cross_entropy", where=where, **QUICK)
    assert report.ok and report.samples >= 40, str(report)
    shapes, reductions, smoothings, weights, _ = map(set, zip(*seen, strict=True))
    assert len({s[0] for s in shapes}) > 4 and {s[1] for s in shapes} >= {8, 16, 32, 64}
    assert reductions == {"mean", "sum", "none"} and len(smoothings) > 1 and weights == {True, False}


def test_an_error_inside_is_found():
    def wrong(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        if input.shape[1] == 64:
            return rows_only(input * 1.01, target, weight, ignore_index, reduction, label_smoothing)
        return rows_only(input, target, weight, ignore_index, reduction, label_smoothing)

    report = dlref.check(wrong, "cross_entropy", where=f"{ROWS} and input.shape[1] % 16 == 0", **QUICK)
    assert any(f.kind == "value" for f in report.findings), str(report)
    first = report.findings[0]
    again = dlref.check(
        wrong, "cross_entropy", where=f"{ROWS} and input.shape[1] % 16 == 0", samples=[first.sample], **QUICK
    )
    assert again.findings and again.findings[0].ours == first.ours


def test_fused_linear_cross_entropy_of_rows():
    report = dlref.check(dlref.builtin.functional.linear_cross_entropy, "linear_cross_entropy", where=ROWS, **QUICK)
    assert report.samples >= 40, str(report)


def test_a_refusal_is_no_finding_and_a_crash_is_one():
    def refuses(input, dim=None, dtype=None):
        if input.dim() != 2:
            raise NotImplementedError("only two dimensions")
        return F.softmax(input, dim, dtype=dtype)

    report = dlref.check(refuses, "softmax", **QUICK)
    assert report.ok and any("the candidate refuses: only two dimensions" in reason for reason in report.skipped), str(
        report
    )

    def crashes(input, dim=None, dtype=None):
        _, _ = input.shape  # ValueError of Python's, no word of the candidate's
        return F.softmax(input, dim, dtype=dtype)

    report = dlref.check(crashes, "softmax", **QUICK)
    assert any(f.kind == "raises" and "unpack" in f.diagnosis for f in report.findings), str(report)

    def backward(input, target, reduction="mean", weight=None):
        return Refusing.apply(F.mse_loss(input, target, reduction=reduction, weight=weight))

    class Refusing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, dy):
            raise NotImplementedError("no gradient yet")

    report = dlref.check(backward, "mse_loss", **QUICK)
    assert not report.findings and report.values and any("no gradient yet" in r for r in report.skipped), str(report)


def test_modules_optimizers_and_schedules():
    class Plain(nn.Conv2d):
        def forward(self, input):
            if self.padding_mode != "zeros":
                raise AssertionError("zeros alone")
            return super().forward(input)

    assert dlref.check(Plain, "Conv2d", **QUICK).findings
    report = dlref.check(Plain, "Conv2d", where="padding_mode == 'zeros' and input.dim() == 4", **QUICK)
    assert report.ok and report.samples >= 40, str(report)
    report = dlref.check(torch.optim.Adam, "Adam", dtypes=["float64"], where="not amsgrad and not maximize")
    assert report.ok and any("lie inside" in n for n in report.notes), str(report)
    report = dlref.check(torch.optim.lr_scheduler.OneCycleLR, "OneCycleLR", where=lambda three_phase: not three_phase)
    assert report.ok and any("lie inside" in n for n in report.notes), str(report)
    with pytest.raises(ValueError, match="some configuration"):
        dlref.check(torch.optim.Adam, "Adam", where="lr == 17")


@pytest.mark.parametrize("where, told", [
    ("input.dim(", "where must be an expression over input, dim"), ("inptu.dim() == 2", "name 'inptu' is not defined"),
    ("input.dmi() == 2", "has no attribute 'dmi'"), ("input.dim() == 17", "no call was found"),
    ("import os", "where must be an expression"),
])  # fmt: skip
def test_a_wrong_expression_is_told_in_one_line(where, told, tmp_path, capfd, monkeypatch):
    with pytest.raises(ValueError, match=re.escape(told)):
        dlref.check(F.softmax, "softmax", where=where, **QUICK)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from torch.nn.functional import softmax\n")
    with pytest.raises(SystemExit) as ended:
        main(
            ["check", "mine.py:softmax", "--against", "softmax", "--dtype", "float32", "--in-process", "--where", where]
        )
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and told in errors and errors.count("\n") == 1, errors


def test_a_function_of_other_arguments():
    with pytest.raises(ValueError, match="where must take arguments of the reference, input, dim"):
        dlref.check(F.softmax, "softmax", where=lambda x, y: True, **QUICK)


def test_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch.nn.functional as F\n\ndef rows(input, dim=None, dtype=None):\n    assert input.dim() == 2\n"
        "    return F.softmax(input, dim, dtype=dtype)\n"
    )
    command = [
        sys.executable,
        "-m",
        "dlref",
        "check",
        "mine.py:rows",
        "--against",
        "softmax",
        "--dtype",
        "float32",
        "--no-beyond",
    ]
    done = subprocess.run(
        [*command, "--where", "input.dim() == 2"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "lie inside where input.dim() == 2" in done.stdout, done.stdout + done.stderr


PLUGIN = """
import pytest
import torch.nn.functional as F

@pytest.mark.dlref("softmax", dtypes=["float32"], beyond=False, where="input.dim() == 2")
def test_rows(dlref_check):
    def rows(input, dim=None, dtype=None):
        assert input.dim() == 2
        return F.softmax(input, dim, dtype=dtype)
    dlref_check(rows)
"""


def test_the_pytest_plug_in(tmp_path):
    (tmp_path / "test_mine.py").write_text(PLUGIN)
    done = subprocess.run([*PYTEST, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "failed" not in done.stdout and int(re.search(r"(\d+) passed", done.stdout)[1]) >= 40, done.stdout
