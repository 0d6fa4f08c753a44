"""What a check answers: the findings, what was compared, and the same for a terminal, as JSON and as JUnit."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

RIGHT, REFUSED, WRONG, ABSENT = "right", "refused", "silently wrong", "does not apply"


@dataclass
class Finding:
    """Something that a candidate does and the reference does not.

    kind: in a word or two, as "value", "gradient", "input changed". what: of which output, gradient or step.
    where: the layout of the upstream gradient or the circumstances. sample: the call's name, by which it is replayed.
    ours, theirs, bound: the errors of the candidate and of torch's own function, and what was allowed, in units of
    rounding of the dtype; NaN where no number was judged. diagnosis: what it looks like. replay: the line that runs it again.
    """

    kind: str
    what: str
    where: str
    sample: str
    dtype: str
    ours: float = math.nan
    theirs: float = math.nan
    bound: float = math.nan
    diagnosis: str = ""
    replay: str = ""
    call: str = ""

    def __str__(self) -> str:
        text = f"{self.kind}: {self.what}" + (f" ({self.where})" if self.where else "")
        if not math.isnan(self.ours):
            far = f"{self.ours:.3g}" if self.ours < 1e12 else "over 1e12"
            text += f": {far} units from the truth, torch's {self.theirs:.3g}, allowed {self.bound:.3g}"
        if self.diagnosis:
            text += f"; {self.diagnosis}"
        return text


@dataclass
class Report:
    """The answer of `dlref.check`; `ok` where nothing was found.

    samples, values: how many calls were made and how many outputs and gradients compared. powerless: how many of the
    values zeros, ones, the input, their mean or the previous output would have passed for too; enlarged: for how many
    calls a larger one was added because of it. skipped: calls that were not made, by reason. beyond: of each derivative
    and mode beyond the first derivative, whether it is right, refused or silently wrong. notes: what is no fault.
    """

    candidate: str
    against: str
    device: str = "cpu"
    dtypes: list[str] = field(default_factory=list)
    samples: int = 0
    values: int = 0
    powerless: int = 0
    enlarged: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    beyond: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def assert_ok(self) -> None:
        """AssertionError with the report where there are findings."""
        if not self.ok:
            raise AssertionError(str(self))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def merge(self, other: Report) -> None:
        """Add what another check of the same candidate has found."""
        self.dtypes = list(dict.fromkeys([*self.dtypes, *other.dtypes]))
        for name in ("samples", "values", "powerless", "enlarged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, number in other.skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + number
        self.beyond.update(other.beyond)
        self.findings += other.findings
        self.passed += other.passed
        for text in other.notes:
            self.note(text)

    def since(self, earlier: Report) -> Report:
        """What was found after an earlier state, which `mark` took."""
        later = Report(self.candidate, self.against, self.device, list(self.dtypes))
        for name in ("samples", "values", "powerless", "enlarged"):
            setattr(later, name, getattr(self, name) - getattr(earlier, name))
        later.findings, later.passed = self.findings[len(earlier.findings) :], self.passed[len(earlier.passed) :]
        later.skipped = {
            k: n - earlier.skipped.get(k, 0) for k, n in self.skipped.items() if n != earlier.skipped.get(k, 0)
        }
        later.notes = self.notes[len(earlier.notes) :]
        return later

    def mark(self) -> Report:
        return replace(
            self,
            findings=list(self.findings),
            passed=list(self.passed),
            skipped=dict(self.skipped),
            notes=list(self.notes),
        )

    def groups(self) -> list[list[Finding]]:
        """The findings, those of one kind and value together, the one with a diagnosis first."""
        key = lambda f: (f.kind, f.what)  # noqa: E731
        order = {k: i for i, k in enumerate(dict.fromkeys(map(key, self.findings)))}
        ordered = sorted(self.findings, key=lambda f: order[key(f)])
        return [
            sorted(group, key=lambda f: (not f.diagnosis, "ignores" not in f.diagnosis))
            for _, group in groupby(ordered, key)
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an infinite or absent error is a string or null there."""

        def plain(value: Any) -> Any:
            if isinstance(value, float) and not math.isfinite(value):
                return None if math.isnan(value) else str(value)
            return value

        content = asdict(self)
        content.pop("passed")
        content["findings"] = [{k: plain(v) for k, v in f.items()} for f in content["findings"]]
        return {"ok": self.ok, **content}

    def json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def junit(self) -> str:
        """A JUnit file's text: a test case for each sample that passed and for each finding."""
        suite = ElementTree.Element("testsuite", name=f"dlref.check {self.candidate} against {self.against}",
                                    tests=str(len(self.passed) + len(self.findings)), failures=str(len(self.findings)),
                                    skipped=str(sum(self.skipped.values())))  # fmt: skip
        for sample, dtype in self.passed:
            ElementTree.SubElement(suite, "testcase", classname=self.candidate, name=f"{sample} {dtype}")
        for f in self.findings:
            case = ElementTree.SubElement(
                suite, "testcase", classname=self.candidate, name=f"{f.sample} {f.dtype} {f.what}"
            )
            ElementTree.SubElement(case, "failure", message=clean(str(f)), type=f.kind).text = clean(
                f"{f.call}\n{f.replay}"
            )
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

    def __str__(self) -> str:
        head = f"{self.candidate} against {self.against}, {', '.join(self.dtypes) or 'no dtype'} on {self.device}: "
        counted = f"{self.values} values of {self.samples} samples"
        lines = [head + (f"right ({counted})" if self.ok else f"{len(self.findings)} findings ({counted})")]
        for group in self.groups():
            first = group[0]
            lines.append(f"  {first}")
            others = list(dict.fromkeys(f"{f.sample} {f.dtype}" + (f" {f.where}" if f.where else "") for f in group))
            if len(others) > 1:
                lines.append(f"    in {len(group)} cases: {', '.join(others[:4])}{', ...' if len(others) > 4 else ''}")
            if first.call:
                lines.append(f"    call:   {first.call}")
            if first.replay:
                lines.append(f"    replay: {first.replay}")
        if self.beyond:
            lines.append("  beyond the first derivative: " + ", ".join(f"{k} {v}" for k, v in self.beyond.items()))
        if self.powerless:
            lines.append(f"  {self.powerless} of the values prove nothing (zeros, ones, the input, the mean or the last "
                         f"output would pass there too); {self.enlarged} larger samples were added for them")  # fmt: skip
        lines += [f"  not tried: {reason} ({number} samples)" for reason, number in self.skipped.items()]
        return "\n".join([*lines, *(f"  note: {text}" for text in self.notes)])


def clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or ord(c) >= 32)
