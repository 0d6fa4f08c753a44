"""dlref.check: every planted error is found and named, what is right passes, wrong use is told in one line."""

from __future__ import annotations

import re

import pytest
from defects import DEFECTS

import dlref


@pytest.mark.parametrize("planted", DEFECTS, ids=lambda d: d.name)
def test_planted_errors_are_found(planted):
    report = dlref.check(planted.candidate, planted.against, **{"beyond": "jvp double backward".find(planted.kind) >= 0, **planted.options})
    matching = [f for f in report.findings if re.search(planted.kind, f.kind)]
    assert matching, str(report)
    assert any(re.search(planted.told, f"{f.what} {f.where} {f.sample} {f.diagnosis}") for f in matching), str(report)
