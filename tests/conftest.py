"""One thread a worker; and at the end of a run how many samples each kind of test compared."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers run side by side: threads of several would wait for each other

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    counts: Counter = Counter()
    for report in terminalreporter.getreports("passed"):
        if report.when == "call":
            counts.update({f"{report.nodeid.split('::')[1].split('[')[0]}: {k}": v for k, v in report.user_properties})
    if counts:
        terminalreporter.section("compared")
        for what, number in sorted(counts.items()):
            terminalreporter.line(f"{number:7d}  {what.removeprefix('test_')}")
