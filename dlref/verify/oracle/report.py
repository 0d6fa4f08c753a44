"""What a check answers: the findings, what was compared, and the same for a terminal, as JSON and as JUnit."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

from torch import Tensor

UNPROVEN = "unproven"
COUNTS = ("samples", "values", "evidence", "gradients", "powerless", "enlarged")
RIGHT, REFUSED, WRONG, ABSENT = "right", "refused", "silently wrong", "does not apply"
# What is one thing, however many calls show it.
ONCE = {"input changed", "output changed", "upstream gradient changed", "gradient changed", "returned gradient changed",
        "global state", "reference replaced", "no gradient", "return value"}  # fmt: skip
# What a diagnosis begins with that says how far a value is off, and not what it is.
VAGUE = ("other values", "a loss of precision", "close, but", "NaN where", "infinite where", "finite where", "wrong only",
         "first wrong")  # fmt: skip
LARGE = 1000  # units that are explained where they are printed


@dataclass
class Finding:
    """Something that a candidate does and the reference does not.

    kind: in a word or two, as "value", "gradient", "input changed". what: of which output, gradient or step.
    where: the layout of the upstream gradient or the circumstances. sample: the call's name, by which it is replayed.
    ours, theirs, bound: the errors of the candidate and of torch's own function, and what was allowed, in units of
    rounding of the dtype; NaN where no number was judged. diagnosis: what it looks like. replay: the line that runs it again.
    times: how many calls have shown it. share: of the value, what it is off by.
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
    times: int = 1
    share: float = math.nan

    def __str__(self) -> str:
        text = f"{self.kind}: {self.what}" + (f" ({self.where})" if self.where else "")
        if not math.isnan(self.ours):
            text += f": {self.units(self.ours)} from the truth, torch's {self.theirs:.3g}, allowed {self.bound:.3g}"
        if self.diagnosis:
            text += f"; {self.diagnosis}"
        return text

    def units(self, number: float) -> str:
        """A number of units; a large one also as the part of the value that it is."""
        text = f"{number:.3g} units" if number < 1e12 else "over 1e12 units"
        if number < LARGE or not math.isfinite(self.share):
            return text
        part = f"{100 * self.share:.2g} % of" if self.share < 1 else f"{self.share:.3g} times"
        return f"{text} ({part} the value)" if self.share < 1e6 else f"{text} (the true value is nearly nought)"


def brief(diagnosis: str) -> str:
    """A diagnosis without what is added."""
    return re.split(r" \(|[:;] ", diagnosis)[0]


def word(diagnosis: str) -> str:
    """A brief diagnosis without its numbers, so that those of one cause are equal."""
    return re.sub(r"-?\d[\d.,]*(e[-+]?\d+)?", "#", brief(diagnosis))


def telling(findings: list[Finding]) -> list[Finding]:
    """The findings, those first that say what it is, unless they are few by chance; then the most common."""
    number = Counter(word(f.diagnosis) for f in findings)

    def order(f: Finding) -> tuple[bool, int]:
        many = number[word(f.diagnosis)]
        return (not f.diagnosis or f.diagnosis.startswith(VAGUE) or 8 * many < len(findings)), -many

    return sorted(findings, key=order)


@dataclass
class Report:
    """The answer of `dlref.check`; `ok` where there is evidence and nothing was found.

    verdict: right, wrong, or unproven where no number was compared. evidence: how many of the values have numbers;
    gradients: how many of them are gradients. gaps: what a verdict of right lacks.
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
    evidence: int = 0
    gradients: int = 0
    gaps: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return "wrong" if self.findings else "right" if self.evidence else UNPROVEN

    @property
    def ok(self) -> bool:
        return self.verdict == RIGHT

    def add(self, finding: Finding) -> None:
        """Add a finding; one that is told once counts its calls."""
        same = (f for f in self.findings if f.kind in ONCE and (f.kind, f.what) == (finding.kind, finding.what))
        if (known := next(same, None)) is not None:
            known.times += finding.times
        else:
            self.findings.append(finding)

    def judged(self, kind: str, value: Tensor) -> None:
        """Count a value that is compared."""
        self.values += 1
        self.evidence += bool(value.numel())
        self.gradients += kind == "gradient"

    def assert_ok(self) -> None:
        """AssertionError with the report unless it is right."""
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
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, number in other.skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + number
        self.beyond.update(other.beyond)
        for finding in other.findings:
            self.add(finding)
        self.passed += other.passed
        self.gaps += [gap for gap in other.gaps if gap not in self.gaps]
        for text in other.notes:
            self.note(text)

    def since(self, earlier: Report) -> Report:
        """What was found after an earlier state, which `mark` took."""
        later = Report(self.candidate, self.against, self.device, list(self.dtypes))
        for name in COUNTS:
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
        """The findings, those of one kind and value together, the most telling first."""
        key = lambda f: (f.kind, f.what)  # noqa: E731
        order = {k: i for i, k in enumerate(dict.fromkeys(map(key, self.findings)))}
        ordered = sorted(self.findings, key=lambda f: order[key(f)])
        return [telling(list(group)) for _, group in groupby(ordered, key)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an infinite or absent error is a string or null there."""

        def plain(value: Any) -> Any:
            if isinstance(value, float) and not math.isfinite(value):
                return None if math.isnan(value) else str(value)
            return value

        content = asdict(self)
        content.pop("passed")
        content["findings"] = [{k: plain(v) for k, v in f.items()} for f in content["findings"]]
        return {"ok": self.ok, "verdict": self.verdict, **content}

    def json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def junit(self) -> str:
        """A JUnit file's text: a test case for each sample that passed and for each finding, and one that fails for none."""
        unproven = self.verdict == UNPROVEN
        suite = ElementTree.Element("testsuite", name=f"dlref.check {self.candidate} against {self.against}",
                                    tests=str(len(self.passed) + len(self.findings) + unproven),
                                    failures=str(len(self.findings) + unproven),
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
        if unproven:
            case = ElementTree.SubElement(suite, "testcase", classname=self.candidate, name=UNPROVEN)
            ElementTree.SubElement(case, "failure", message=clean(self.headline()), type=UNPROVEN).text = clean(
                str(self)
            )
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

    def headline(self) -> str:
        """Who was held to what, and the verdict."""
        number = len(self.findings)
        text = f"{number} finding{'s' * (number > 1)}" if number else self.verdict
        lack = "".join(f", {gap}" for gap in self.gaps) if not self.findings else ""
        untried = sum(self.skipped.values())
        counted = f"{self.values} values of {self.samples} samples" + (f", {untried} not tried" if untried else "")
        why = ": no number was compared" if self.verdict == UNPROVEN else ""
        return (f"{self.candidate} against {self.against}, {', '.join(self.dtypes) or 'no dtype'} on {self.device}: "
                f"{text} ({counted}){why}{lack}")  # fmt: skip

    def __str__(self) -> str:
        lines = [self.headline()]
        for group in self.groups():
            first = group[0]
            lines.append(f"  {first}" + (f" (in {first.times} calls)" if first.times > 1 else ""))
            also: dict[str, list[str]] = {}
            for f in group:
                also.setdefault(word(f.diagnosis), []).append(brief(f.diagnosis))
            del also[word(first.diagnosis)]
            if also and first.kind != "default":
                most = sorted(also.values(), key=len, reverse=True)[:3]
                lines.append("    also: " + "; ".join(
                    f"{'e.g. ' * (len(set(texts)) > 1)}{texts[0]} ({len(texts)} of {len(group)})" for texts in most
                ))  # fmt: skip
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
