"""Whatever precision a user allows, check and compare judge in full, and leave torch's settings as they were."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
import torch

import dlref
from dlref.verify.oracle.care import AT_THE_START, FULL, autocast, precision, set_precision

BACKENDS = torch.backends


def older(which):
    torch.set_float32_matmul_precision(which)


def newer(place, which):
    place.fp32_precision = which


SETTINGS = {
    "as torch begins": lambda: None,
    "high": lambda: older("high"),
    "medium": lambda: older("medium"),
    "TF32 on a GPU": lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", True),
    "none in convolutions": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
    "bfloat16 on the CPU": lambda: newer(BACKENDS.mkldnn.matmul, "bf16"),
    "TF32 everywhere": lambda: newer(BACKENDS, "tf32"),
    "convolutions alone": lambda: (newer(BACKENDS.cudnn, "ieee"), newer(BACKENDS.cudnn.conv, "tf32")),
    "both ways": lambda: (older("high"), newer(BACKENDS.mkldnn.matmul, "bf16")),
    "sums in half precision": lambda: setattr(BACKENDS.cuda.matmul, "allow_fp16_reduced_precision_reduction", False),
}


@contextlib.contextmanager
def as_it_was():
    """As torch begins, whatever ran before; afterwards as before."""
    before = precision()
    set_precision(AT_THE_START)
    try:
        yield
    finally:
        set_precision(before)


@pytest.mark.parametrize("setting", SETTINGS)
def test_judged_in_full_precision(setting):
    seen = []

    def linear(input, weight, bias=None):
        seen.append((precision(), autocast(), torch.get_float32_matmul_precision(), BACKENDS.cudnn.allow_tf32))
        return torch.nn.functional.linear(input, weight, bias)

    with as_it_was(), torch.autocast("cpu", torch.bfloat16), torch.autocast("cuda", torch.bfloat16, enabled=False):
        SETTINGS[setting]()
        before = precision(), autocast()
        report = dlref.check(linear, "linear", dtypes=[torch.float32], beyond=setting == "both ways")
        assert (precision(), autocast()) == before
        assert dlref.compare("linear").ok
        assert (precision(), autocast()) == before
    assert report.ok, report
    assert {s[0] for s in seen} == {FULL} and {s[2:] for s in seen} == {("highest", False)}
    notes = [n for n in report.notes if "float32 products" in n]
    assert bool(notes) == (setting != "as torch begins")


def test_a_candidate_that_changes_the_precision_is_told():
    def relu(input, inplace=False):
        BACKENDS.cuda.matmul.allow_tf32 = True
        return torch.nn.functional.relu(input, inplace)

    with as_it_was():
        report = dlref.check(relu, "relu", dtypes=[torch.float32])
        assert BACKENDS.cuda.matmul.allow_tf32 is False
    assert any(f.kind == "global state" and "float32 products" in f.diagnosis for f in report.findings)


def test_flags_can_be_set_after_a_check():
    """PyTorch's database of samples freezes them for the rest of the process."""
    code = "import dlref, torch; assert dlref.compare('relu6').ok; torch.backends.cudnn.benchmark = True"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
