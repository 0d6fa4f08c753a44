"""Optimizers and schedules, held to torch's over many steps: options, parameter groups, missing gradients, state_dict."""

from __future__ import annotations

import inspect
import io
import math
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core.modes import has_float64
from ...core.names import device_named, one_of
from . import origin
from .care import RANDOM_NUMBERS, refusal, restored, surroundings
from .courses import (
    SCHEDULES,
    Course,
    followed,
    parameters,
    reference_of,
    scheduled,
    signature_of,
    steps,
    tried,
    turns,
    within,
)
from .report import Finding, Report
from .rules import rules
from .subject import Adapted, Mismatch, default_findings


def check_optimizer(candidate: Any, name: str, dtypes: Sequence[Any] | None, wanted: list[str] | None, where: Any = None,
                    may_change: frozenset[str] = frozenset(), device: str = "cpu") -> Report:  # fmt: skip
    """Every configuration by every course: the parameters after each step, against torch's in float64."""
    from .reference import dtype_named, named

    report = Report(named(candidate), name)
    reference, place = reference_of(name), device_named(device)
    if not (isinstance(candidate, type) or callable(candidate)) or isinstance(candidate, torch.optim.Optimizer):
        raise Mismatch(f"the candidate must be the optimizer's class, it is {candidate!r}")
    for changed in may_change:
        one_of("may_change", changed, ["grad"])
    adapted = Adapted(candidate, signature_of(reference), name)
    report.findings += default_findings(adapted)
    for text in adapted.notes():
        report.note(text)
    cases = tried(name, within(where, reference))
    share(report, where, len(cases), len(tried(name, lambda kwargs: True)))
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # LBFGS's rounding grows from iteration to iteration: in float32 two right ones go different ways.
        usual = [torch.float32] * (name != "LBFGS" or not has_float64(place)) + [torch.float64] * has_float64(place)
        for dtype in [dtype_named(d) for d in (dtypes or usual)]:
            report.dtypes.append(str(dtype).removeprefix("torch."))
            for i, kwargs, course in cases:
                sample = f"{course.name}-{i}"
                if wanted is not None and sample not in wanted:
                    continue
                if missing := adapted.missing((), {"params": [], **kwargs}):
                    report.skip(f"the candidate does not take {', '.join(missing)}")
                    continue
                there = replace(course, device=str(place))
                Run(report, adapted, reference, kwargs, dtype, there, sample, candidate, may_change).judge()
    if not report.samples and not report.skipped and wanted:
        raise ValueError(f"the sample must be one of COURSE-NUMBER, as plain-0; it is {wanted[0]!r}")
    return report


def share(report: Report, where: Any, inside: int, total: int) -> None:
    """Say what part of the reference's configurations lies inside the candidate's domain; ValueError where none does."""
    if where is None:
        return
    text = where if isinstance(where, str) else getattr(where, "__name__", "a function")
    if not inside:
        raise ValueError(f"where must hold for some configuration of {report.against}; none of {total} is where {text}")
    report.note(f"{inside} of the reference's {total} samples ({inside / total:.0%}) lie inside where {text}")


# The part of its way that a step may be off: Muon's direction is rounded to bfloat16 in each of fifteen products.
ROUGH = {"Muon": 0.05}


@dataclass
class Run:
    """One configuration by one course."""

    report: Report
    adapted: Adapted
    reference: Any
    kwargs: dict[str, Any]
    dtype: torch.dtype
    course: Course
    where: str
    candidate: Any
    may_change: frozenset[str]

    def found(self, kind: str, what: str, text: str, error: float = math.nan, theirs: float = math.nan,
              bound: float = math.nan, share: float = math.nan) -> None:  # fmt: skip
        short = str(self.dtype).removeprefix("torch.")
        path = f"{getattr(self.candidate, '__module__', '?')}:{getattr(self.candidate, '__qualname__', '?')}"
        replay = f"dlref check {path} --against {self.report.against} --dtype {short} --sample {self.where!r}"
        self.report.add(Finding(kind, what, self.course.name, self.where, short, error, theirs, bound, text, replay,
                                f"{self.report.against}({self.kwargs})", share=share))  # fmt: skip

    @property
    def on_cpu(self) -> Course:
        """The course of what is computed in float64, which a device may not have."""
        return replace(self.course, device="cpu")

    def judge(self) -> None:
        before, number, kwargs = surroundings(), len(self.report.findings), self.kwargs
        self.report.samples += 1
        self.ours, raised = followed(self.adapted, kwargs, self.dtype, self.course)
        if raised is not None and not self.ours and refusal(raised):
            restored(before)
            self.report.samples -= 1
            self.report.skip(f"the candidate refuses: {' '.join(str(raised).split())[:160]}")
            return
        if moved := [n for n in restored(before) if n != RANDOM_NUMBERS]:
            self.found("global state", "the steps", f"it changes {', '.join(moved)}")
        if replaced := origin.replaced():
            names, words = origin.told(replaced)
            self.found("reference replaced", names, words)
            origin.put_back()
        plain = {**kwargs, "foreach": False} if "foreach" in inspect.signature(self.reference).parameters else kwargs
        theirs = list(steps(self.reference, plain, self.dtype, self.course))
        exact = theirs if self.dtype is torch.float64 else steps(self.reference, kwargs, torch.float64, self.on_cpu)
        self.truth = [t for t, _ in exact]
        said, must = [s for _, s in self.ours], [s for _, s in theirs]
        if any(s[1] and not m[1] for s, m in zip(said, must, strict=False)):
            if "grad" in self.may_change:
                self.report.note("the gradients are changed by the step, as they may be")
            else:
                self.found("gradient changed", "the gradients", "the gradients are changed by the step")
        if wrong := [(s[0], m[0]) for s, m in zip(said, must, strict=False) if (s[0] is None) != (m[0] is None)]:
            self.found("return value", "the step", f"step(closure) must return {wrong[0][1]}, it returns {wrong[0][0]}")
        self.parameters([b for b, _ in theirs])
        if raised is not None:
            text = " ".join(f"{type(raised).__name__}: {raised}".split())[:300]
            self.found("raises", self.course.name, f"step {len(self.ours) + 1}: {text}" if self.ours else text)
        if len(self.report.findings) == number:
            self.report.passed.append((self.where, str(self.dtype).removeprefix("torch.")))

    def parameters(self, theirs: list[list[Tensor]]) -> None:
        """The first parameter that is wrong after a step."""
        eps, rough = torch.finfo(self.dtype).eps, ROUGH.get(self.reference.__name__, 0.0)
        before = parameters(torch.float64, self.on_cpu)
        gone = [0.0] * len(before)  # the way of each parameter so far
        for step, ((a, _), b, t) in enumerate(zip(self.ours, theirs, self.truth, strict=False)):
            for i, (x, y, z) in enumerate(zip(a, b, t, strict=True)):
                self.report.judged("value", z)
                if x.shape != z.shape:
                    self.found(
                        "parameter", f"of shape {tuple(z.shape)}", f"after step {step + 1} it has {tuple(x.shape)}"
                    )
                    return
                x, y, z = x.double(), y.double(), z.double()
                size = float(z.abs().max().clamp(min=1e-3))
                own, other = float((x - z).abs().max()) / size / eps, float((y - z).abs().max()) / size / eps
                # Each step rounds the parameter, the state and what lies between them.
                bound = 1e-11 / eps if eps < 1e-10 else 2 * other + 8 * (step + 1)
                gone[i] += float((z - before[i]).abs().max())
                bound += rough * gone[i] / size / eps
                if not own <= bound:
                    last = self.ours[step - 1][0][i] if step else parameters(self.dtype, self.on_cpu)[i].detach()
                    text = self.explained(step, i) or (
                        "" if bool((a[i] != last).any()) else "the parameter does not move"
                    )
                    others = f", group {0 if i < 2 else 1}" if self.course.groups else ""
                    first = f"first wrong after step {step + 1}{others}"
                    self.found("parameter", f"of shape {tuple(x.shape)}", "; ".join(filter(None, (text, first))), own, other,
                               bound, own * eps)  # fmt: skip
                    return
            before = [z.double() for z in t]

    def explained(self, step: int, i: int) -> str:
        """Which option is ignored, or which neighbouring rule it is: one that fits in every step, to rounding."""
        guesses = [(*guess, self.on_cpu) for guess in rules(self.reference, self.kwargs)]
        plain = replace(self.on_cpu, groups=False, falling=False)
        if self.course.groups:
            guesses.append(("ignores the options of the parameter groups", self.reference, self.kwargs, plain))
        if self.course.falling:
            guesses.append(("ignores changes of the learning rate", self.reference, self.kwargs, plain))
        if self.course.reload:
            forgets = type(self.reference.__name__, (self.reference,), {"load_state_dict": lambda self, state: None})
            guesses.append(("its state is not saved and loaded: it starts anew", forgets, self.kwargs, self.on_cpu))
        if (factor := self.length(step)) and "lr" in inspect.signature(self.reference).parameters:
            default = inspect.signature(self.reference).parameters["lr"].default
            longer = {**self.kwargs, "lr": self.kwargs.get("lr", default) * factor}
            guesses.append((f"each step is {factor:.4g} times as long", self.reference, longer, self.on_cpu))
        for words, rule, options, course in guesses:
            try:
                guess, _ = followed(rule, options, torch.float64, course)
            except (TypeError, ValueError):
                continue
            if len(guess) >= len(self.ours) and self.fits([g for g, _ in guess]):
                return words
        start = parameters(torch.float64, self.on_cpu)
        back = [float((a.double() - p).norm() / (t - p).norm()) for a, t, p in zip(self.ours[step][0], self.truth[step], start,
                strict=True) if (t - p).norm() > 0]  # fmt: skip
        if step and max(back) - min(back) < 1e-3 and 0 < max(back) < 0.999:
            return (
                f"after step {step + 1} it goes back to {max(back):.3g} of the way from the start, as a lookahead does"
            )
        return ""

    def length(self, step: int) -> float:
        """How many times as long as the reference's the first step is, if that is wrong; 0 where its direction is another."""
        if step or self.course.groups or self.course.falling:
            return 0.0
        start = torch.cat([p.detach().flatten() for p in parameters(torch.float64, self.on_cpu)])
        a, t = (torch.cat([p.double().flatten() for p in ps]) - start for ps in (self.ours[0][0], self.truth[0]))
        factor = round(float(a @ t / (t @ t)), 3) if bool(t.any()) else 0.0
        rough = 1e-6 if self.dtype == torch.float64 else 1e-3
        return factor if factor > 0 and float((a - factor * t).norm()) < rough * float(a.norm()) else 0.0

    def fits(self, guess: list[list[Tensor]]) -> bool:
        eps = torch.finfo(self.dtype).eps
        for step, ((a, _), g, t) in enumerate(zip(self.ours, guess, self.truth, strict=False)):
            for x, y, z in zip(a, g, t, strict=True):
                x, y = x.double(), y.double()
                rounding = 16 * (step + 1) * eps * float(y.abs().max().clamp(min=1e-3))
                off = float((x - y).abs().max())
                if not off <= max(rounding, 1e-10 if eps < 1e-10 else 0) or (
                    off > 0.2 * float((x - z).abs().max()) > rounding
                ):
                    return False
        return True


def check_schedule(candidate: Any, name: str, dtypes: Sequence[Any] | None, wanted: list[str] | None,
                   where: Any = None, may_change: frozenset[str] = frozenset()) -> Report:  # fmt: skip
    """The rates of two groups over 30 steps, plain, changed by hand in between, and saved and loaded half-way."""
    from .reference import named

    report = Report(named(candidate), name, dtypes=["float64"])
    reference = getattr(torch.optim.lr_scheduler, name)
    adapted, plateau = Adapted(candidate, signature_of(reference), name), name == "ReduceLROnPlateau"
    report.findings += default_findings(adapted)
    for text in adapted.notes():
        report.note(text)
    if not any(n == name for n, _ in SCHEDULES):
        raise Mismatch(f"{name} is made of other schedules: check those")
    cases = turns(name, within(where, reference))
    share(report, where, len(cases), len(turns(name, lambda kwargs: True)))
    path = f"{getattr(candidate, '__module__', '?')}:{getattr(candidate, '__qualname__', '?')}"
    for i, kwargs, course in cases:
        where = f"{course}-{i}"
        if wanted is not None and where not in wanted:
            continue
        if missing := adapted.missing((None,), kwargs):
            report.skip(f"the candidate does not take {', '.join(missing)}")
            continue
        finding = Finding("rate", course, "", where, "float64", call=f"{name}({kwargs})",
                          replay=f"dlref check {path} --against {name} --sample {where!r}")  # fmt: skip
        report.samples += 1
        before = surroundings()
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            theirs = scheduled(reference, kwargs, course, plateau)
            try:
                ours = scheduled(adapted, kwargs, course, plateau)
            except (Exception, SystemExit) as error:  # the candidate's code may raise anything
                if refusal(error):
                    report.samples -= 1
                    report.skip(f"the candidate refuses: {' '.join(str(error).split())[:160]}")
                    continue
                finding.kind, finding.diagnosis = (
                    "raises",
                    " ".join(f"{type(error).__name__}: {error}".split())[:300],
                )
                report.findings.append(finding)
                continue
            finally:
                if moved := [n for n in restored(before) if n != RANDOM_NUMBERS]:
                    report.add(Finding("global state", "the schedule", "", where, "float64",
                                       diagnosis=f"it changes {', '.join(moved)}"))  # fmt: skip
        report.values += len(ours)
        report.evidence += len(ours)
        step = next(
            (
                t
                for t, (a, b) in enumerate(zip(ours, theirs, strict=True))
                if any(not math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-15) for x, y in zip(a, b, strict=True))
            ),
            None,
        )
        if step is None:
            report.passed.append((where, "float64"))
            continue
        finding.diagnosis = f"after {step} steps the rates must be {theirs[step][:2]}, they are {ours[step][:2]}"
        for option in kwargs:
            rest = {k: v for k, v in kwargs.items() if k != option}
            try:
                if scheduled(reference, rest, course, plateau) == ours:
                    finding.diagnosis = f"ignores {option} ({kwargs[option]!r}); " + finding.diagnosis
            except (TypeError, ValueError):
                continue
        report.findings.append(finding)
    return report
