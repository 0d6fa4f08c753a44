"""What all trials of one candidate share: what is known of it, and what they have found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...samples import Sample
from ..judge import Error
from .diagnosis import pattern, ties
from .report import ONCE, Finding, Report, telling, word
from .trial import Trial, enlarged, in_a_line, shown

DIAGNOSED = 6  # findings of a kind for which every hypothesis is tried; then those alone that explained one of them


@dataclass
class Subject:
    """What is checked: the candidate, called as `sample.builtin` is, and what is known of the reference.

    name: the operation's, for the tables of random and mutating ones. by_hand: the manual operation. truth: of a sample,
    what is run in float64 instead of the built-in where torch itself is wrong there. options: the call's options that are
    not the default. reset: the call with one of them at its default. missing: the options that the candidate does not take.
    variants: the same call of formulas that are taken for this one. inside: whether a call lies in the domain that the
    candidate is made for. may_change: the arguments that the candidate may write into.
    """

    name: str
    candidate: Callable[[Sample], Callable]
    names: Callable[[Sample], list[str]]
    options: Callable[[Sample], dict[str, Any]]
    reset: Callable[[Sample, str], Sample | None]
    missing: Callable[[Sample], list[str]]
    by_hand: Callable[[Sample], Callable] | None = None
    truth: Callable | None = None
    variants: Callable[[Sample], Iterable[tuple[str, Sample]]] = lambda sample: ()
    replay: Callable[[str, str], str] = lambda sample, dtype: ""
    inside: Callable[[Sample], bool] = lambda sample: True
    may_change: frozenset[str] = frozenset()

    def true(self, sample: Sample) -> Callable:
        """What answers the call truly in float64."""
        return self.truth(sample) if self.truth else sample.builtin


@dataclass
class Trials:
    """The trials of one candidate in one dtype: what they share, and what they have found."""

    subject: Subject
    report: Report
    dtype: torch.dtype
    backward: bool = True
    passing: list[dict[str, Any]] = field(default_factory=list)
    failing: dict[tuple[str, str], list[tuple[dict[str, Any], Finding]]] = field(default_factory=dict)
    previous: dict[str, Tensor] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    faults: int = 0  # findings, those that are told once counted each time
    refused: bool = False  # whether the candidate refuses the call that is tried

    def found(self, sample: Sample, kind: str, what: str, where: str = "", error: Error | None = None,
              diagnosis: str | Callable[[set[str] | None], str] = "") -> None:  # fmt: skip
        self.faults += 1
        known = self.failing.setdefault((kind, what), [])
        if kind in ONCE and known:
            known[0][1].times += 1
            return
        if callable(diagnosis):
            diagnosis = diagnosis(None if len(known) < DIAGNOSED else {word(f.diagnosis) for _, f in known})
        short = str(self.dtype).removeprefix("torch.")
        finding = Finding(kind, what, where, sample.where, short, diagnosis=diagnosis,
                          replay=self.subject.replay(sample.where, short), call=shown(sample))  # fmt: skip
        if error is not None:
            finding.ours, finding.theirs, finding.bound, finding.share = (
                error.ours,
                error.theirs,
                error.bound,
                error.share,
            )
        known.append(({**self.facts(sample), "layout": where}, finding))
        self.report.findings.append(finding)

    def facts(self, sample: Sample) -> dict[str, Any]:
        made = sample.where.partition("/")[2]
        kind = "of other sizes" if "to" in made else made or "as in the database"
        given = self.subject.options(sample)
        options = {k: v for k, v in given.items() if not isinstance(v, Tensor)}
        present = {f"{k} is given": isinstance(v, Tensor) for k, v in given.items()}
        largest = max((n for t in sample.tensors() for n in t.shape), default=0)
        more = {"ties": ties(sample), "made": kind, "largest": largest}
        return {**options, **{k: v for k, v in present.items() if v}, **more}

    def conclude(self) -> None:
        """Add what the findings of one kind have in common."""
        for known in self.failing.values():
            first = telling([f for _, f in known])[0]
            if (
                first.kind not in ONCE
                and "ignores" not in first.diagnosis
                and (text := pattern([f for f, _ in known], self.passing))
            ):
                first.diagnosis = "; ".join(filter(None, (first.diagnosis, text)))

    def refuse(self, error: Exception) -> None:
        """Note a call that the candidate refuses: it is not tried."""
        self.refused = True
        self.report.skip(f"the candidate refuses: {' '.join(str(error).split())[:160]}")

    # --- one sample -------------------------------------------------------------------------------------------------

    def run(self, sample: Sample, deep: bool = False, enlarge: bool = True) -> None:
        """Try one call; with `deep`, what costs more: frozen arguments, guarded memory, the same memory again."""
        if missing := self.subject.missing(sample):
            self.report.skip(f"the candidate does not take {', '.join(missing)}")
            return
        before, values = self.faults, self.report.values
        self.refused = False
        self.report.samples += 1
        trial = Trial(self, sample)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                trial.run(deep)
            except Exception as error:  # an answer of a kind that nothing can be compared with
                self.found(sample, "raises", "the comparison", diagnosis=in_a_line(error))
                trial.alive = False
        if self.refused and self.report.values == values:
            self.report.samples -= 1
        if self.faults == before and trial.alive:
            self.passing.append(self.facts(sample))
            self.report.passed.append((sample.where, str(self.dtype).removeprefix("torch.")))
        if trial.powerless:
            self.report.powerless += len(trial.powerless)
            larger = enlarged(sample) if enlarge and "/" not in sample.where else None
            if larger is not None and self.subject.inside(larger):
                self.report.enlarged += 1
                self.run(larger, enlarge=False)
