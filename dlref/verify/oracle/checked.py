"""A whole check in this process."""

from __future__ import annotations

from typing import Any

from ...samples import database
from . import origin
from .calls import Check
from .care import usual
from .reference import reference_named
from .report import Finding, Report


def checked(candidate: Any, against: Any, wanted: list[str] | None, options: dict[str, Any]) -> Report:
    """The check in this process, with torch's own functions in their places."""
    kind, name = reference_named(against)
    found = origin.replaced()
    before = origin.put_back()
    try:
        with usual() as moved:
            if kind in ("optimizer", "schedule"):
                from .steps import check_optimizer, check_schedule

                given = (candidate, name, options["dtypes"], wanted, options["where"], options["may_change"])
                report = (
                    check_optimizer(*given, device=options["device"]) if kind == "optimizer" else check_schedule(*given)
                )
            else:
                report = Check(candidate, kind, name, options).run(wanted)
    finally:
        origin.put(before)
    for text in moved:
        report.note(f"{text}: it was not the usual one when the check began, and was inside")
    if found:
        names, words = origin.told(found)
        report.findings.insert(0, Finding("reference replaced", names, "before the check", "", "any", diagnosis=words))
    if not database():
        report.gaps.append("without PyTorch's database of samples (pip install expecttest)")
    return report
