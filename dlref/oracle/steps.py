"""Optimizers and schedules, held to torch's over many steps: options, parameter groups, missing gradients, state_dict."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..crossing import NO_OPTIONS
from ..domain import Where
from ..names import one_of
from ..samples import database
from . import origin
from .care import RANDOM_NUMBERS, Snapshot, refusal, restored, surroundings
from .report import Finding, Report
from .rules import rules
from .subject import Adapted, Mismatch, default_findings

STEPS = 12
SHAPES = ((3, 4), (5,), (), (2, 3, 2), (33,))
SECOND = {"lr": 0.05, "weight_decay": 0.02}  # the options of the second group of parameters
# The flags of speed, and what needs an accelerator.
SPEED = {"foreach", "fused", "capturable", "differentiable"}
# Beside PyTorch's own: what a rule is easily wrong in.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [{"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}, {"lr": 0.1, "maximize": True}],
    **{name: [{"betas": (0.7, 0.9)}, {"eps": 0.1}, {"betas": (0.0, 0.99), "eps": 1e-3}]
       for name in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")},
    "RMSprop": [{"alpha": 0.6}, {"eps": 0.1}, {"momentum": 0.7}, {"centered": True, "eps": 0.05}],
    "Adagrad": [{"eps": 0.1}, {"lr_decay": 0.2}, {"initial_accumulator_value": 0.5}],
    "Adadelta": [{"rho": 0.5}, {"eps": 0.01}],
}  # fmt: skip


def halved(t: int) -> float:
    return 0.5 ** (t // 4)


# name, arguments; milestones and turns fall inside, and on both sides of, the 30 steps
SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [3, 9, 9, 21], "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [0, 1, 40]}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 12}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.7, "end_factor": 0.1, "total_iters": 22}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 50}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 23, "power": 2.5}),
    ("LambdaLR", {"lr_lambda": halved}),
    ("LambdaLR", {"lr_lambda": [halved, math.cos]}),
    ("CosineAnnealingLR", {"T_max": 30}),
    ("CosineAnnealingLR", {"T_max": 6, "eta_min": 0.003}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31}),
    ("OneCycleLR", {"max_lr": [0.5, 2.0], "epochs": 5, "steps_per_epoch": 8, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 40, "three_phase": True, "pct_start": 0.4, "div_factor": 3.0,
                    "final_div_factor": 7.0, "base_momentum": [0.6, 0.7], "max_momentum": 0.99}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 31, "cycle_momentum": False}),
    ("ReduceLROnPlateau", {"patience": 3}),
    ("ReduceLROnPlateau", {"factor": 0.4, "patience": 2, "threshold": 0.02, "threshold_mode": "abs", "cooldown": 3}),
    ("ReduceLROnPlateau", {"mode": "max", "patience": 1, "min_lr": [0.02, 0.1], "eps": 1e-3}),
]  # fmt: skip


def sample_names(kind: str, name: str, where: Any = None) -> list[str]:
    if kind == "optimizer":
        return [f"{course.name}-{i}" for i, _, course in tried(name, within(where, getattr(torch.optim, name)))]
    return [f"{course}-{i}" for i, _, course in turns(name, within(where, getattr(torch.optim.lr_scheduler, name)))]


def within(where: Any, cls: type) -> Callable[[dict[str, Any]], bool]:
    """The predicate on the constructor's arguments, or one that holds for all."""
    if where is None:
        return lambda kwargs: True
    defaults = {n: p.default for n, p in list(inspect.signature(cls).parameters.items())[1:]}
    predicate = Where(where, list(defaults))
    return lambda kwargs: predicate({n: kwargs.get(n, default) for n, default in defaults.items()})


def tried(name: str, inside: Callable[[dict[str, Any]], bool]) -> list[tuple[int, dict[str, Any], Course]]:
    """Number, options and course of each trial: every configuration by every course, two options that meet by one in turn.

    A group's own options lie inside, too.
    """
    ways = courses(name)
    plain = [(i, kwargs, course) for i, kwargs in enumerate(configurations(name)) for course in ways]
    start = len(plain) // len(ways)
    met = [(i, kwargs, ways[i % len(ways)]) for i, kwargs in enumerate(meetings(name), start)]
    return [(i, kwargs, course) for i, kwargs, course in (*plain, *met)
            if inside(kwargs) and (not course.groups or inside(kwargs | SECOND))]  # fmt: skip


def turns(name: str, inside: Callable[[dict[str, Any]], bool]) -> list[tuple[int, dict[str, Any], str]]:
    """Number, options and course of each trial of a schedule; a state_dict holds no plain function."""
    cases = [*(kwargs for n, kwargs in SCHEDULES if n == name), *schedule_meetings(name)]
    return [(i, kwargs, course) for i, kwargs in enumerate(cases) for course in ("plain", "rate changed", "state_dict")
            if (course != "state_dict" or "lr_lambda" not in kwargs) and inside(kwargs)]  # fmt: skip


@functools.cache
def meetings(name: str) -> list[dict[str, Any]]:
    """Configurations in which every two options of the rule that can meet do, and as many as can at once."""
    if name == "LBFGS":  # each of its steps is many
        searched = {"line_search_fn": "strong_wolfe"}
        return [{"lr": 0.5, "history_size": 2}, {**searched, "history_size": 2, "max_iter": 5},
                {**searched, "lr": 0.5, "max_eval": 4}, {"max_iter": 5, "tolerance_change": 1e-3}]  # fmt: skip
    reference = getattr(torch.optim, name)

    def path(kwargs: dict[str, Any]) -> Tensor:
        taken = itertools.islice(steps(reference, kwargs, torch.float64, COURSES[0]), 4)
        return torch.cat([p.flatten() for params, _ in taken for p in params])

    return combined(settings(configurations(name), inspect.signature(reference)), {}, path)


@functools.cache
def schedule_meetings(name: str) -> list[dict[str, Any]]:
    """Arguments in which every two options of the schedule that can meet do."""
    reference, plateau = getattr(torch.optim.lr_scheduler, name), name == "ReduceLROnPlateau"
    known = [kwargs for n, kwargs in SCHEDULES if n == name]
    parameters = inspect.signature(reference).parameters
    required = {n: v for n, v in known[0].items() if parameters[n].default is inspect.Parameter.empty}

    def path(kwargs: dict[str, Any]) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.tensor(scheduled(reference, kwargs, "plain", plateau), dtype=torch.float64)

    return combined(settings(known, inspect.signature(reference)), required, path)


def settings(known: list[dict[str, Any]], signature: inspect.Signature) -> dict[str, list[Any]]:
    """The options, and the values off their default that configurations have, the last first."""
    found: dict[str, list[Any]] = {}
    for name, p in list(signature.parameters.items())[1:]:
        values = [k[name] for k in reversed(known) if name in k]
        if isinstance(p.default, bool):
            values.append(not p.default)
        off = [v for i, v in enumerate(values) if isinstance(v, (bool, int, float, str, tuple, list)) and not
               (type(v) is type(p.default) and v == p.default) and v not in values[:i]]  # fmt: skip
        if off and name not in SPEED | NO_OPTIONS:
            found[name] = off[:3]
    return found


def combined(values: dict[str, list[Any]], always: dict[str, Any], path: Callable[[dict[str, Any]], Tensor]) -> list:
    """The options by twos, such that the path is another one without either of them, and all that can at once.

    Where two do not meet alone (dampening needs a momentum), a third is with them.
    """
    known: dict[str, Tensor | None] = {}

    def of(kwargs: dict[str, Any]) -> Tensor | None:
        key = repr(sorted(kwargs.items(), key=str))
        if key not in known:
            try:
                known[key] = path(kwargs)
            except (ValueError, TypeError, RuntimeError, ZeroDivisionError):
                known[key] = None
        return known[key]

    def shows(kwargs: dict[str, Any], names: Iterable[str]) -> bool:
        if (whole := of(kwargs)) is None:
            return False
        rests = (
            of({**{k: v for k, v in kwargs.items() if k != n}, **({n: always[n]} if n in always else {})})
            for n in names
        )
        return all(rest is None or not torch.allclose(whole, rest, rtol=1e-6, atol=1e-12) for rest in rests)

    found = []
    for pair in itertools.combinations(values, 2):
        chosen = [dict(zip(pair, both, strict=True)) for both in itertools.product(*(values[n] for n in pair))]
        thirds = [{}, *({n: v[0]} for n, v in values.items() if n not in pair)]
        meets = ({**always, **third, **both} for third in thirds for both in chosen)
        found += list(itertools.islice((kwargs for kwargs in meets if shows(kwargs, pair)), 1))
    several = dict(always)
    for name, options in values.items():
        several = next(
            (more for v in options if shows(more := {**several, name: v}, {*several, name} - set(always))), several
        )
    return [*found, several] if len(several) > 2 else found


def signature_of(cls: type) -> inspect.Signature:
    """The constructor's, without its first argument, the parameters or the optimizer."""
    signature = inspect.signature(cls)
    return signature.replace(
        parameters=[p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in list(signature.parameters.values())]
    )


# --- optimizers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """How a run goes: two groups of parameters with rates of their own, gradients missing, saved and loaded half-way.

    objective: the gradients are those of an error, which a closure evaluates as often as the step asks for it.
    """

    name: str
    groups: bool = False
    missing: bool = False
    reload: bool = False
    closure: bool = False
    falling: bool = False
    objective: bool = False


COURSES = (
    Course("plain"),
    Course("groups", groups=True),
    Course("missing gradients", missing=True),
    Course("state_dict", reload=True),
    Course("closure", closure=True),
    Course("rate changed", falling=True),
)


def courses(name: str) -> list[Course]:
    """The courses that an optimizer can go: LBFGS has one group, and always a closure."""
    if name != "LBFGS":
        return list(COURSES)
    return [replace(course, objective=True) for course in COURSES if not (course.groups or course.closure)]


def configurations(name: str) -> list[dict[str, Any]]:
    """The options that PyTorch tests the optimizer with, and ours."""
    found: list[dict[str, Any]] = [{}]
    if database():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.testing._internal.common_optimizers import optim_db
        info = next(i for i in optim_db if i.optim_cls.__name__ == name)  # type: ignore[attr-defined]
        found = [c.kwargs for c in info.optim_inputs_func("cpu") if not SPEED & set(c.kwargs)]
    return [*found, *OPTIONS.get(name, [])]


def parameters(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in SHAPES]


def objective(params: list[Tensor], sign: int) -> Any:
    r"""A closure for the error $\pm\operatorname{Re} \sum_i (\bar g_i p_i + c_i |p_i|^2 / 2)$; $g$: the gradients there are."""
    slopes = [p.grad for p in params]

    def closure() -> Tensor:
        error = torch.zeros((), dtype=params[0].real.dtype)
        for p, g in zip(params, slopes, strict=True):
            if g is not None:
                q, c = p.detach(), torch.linspace(0.5, 3, p.numel(), dtype=error.dtype).view(p.shape)
                error += (g.conj() * q + c * q * q.conj() / 2).real.sum()
                p.grad = sign * (g + c * q)
        return sign * error

    return closure


def steps(make: Any, kwargs: dict[str, Any], dtype: torch.dtype, course: Course) -> Iterator[tuple[list[Tensor], Any]]:
    """The parameters after each step, and what the step returned."""
    params = parameters(dtype)
    groups: Any = params
    if course.groups:
        groups = [{"params": params[:2]}, {"params": params[2:], **SECOND}]
    optimizer = make(groups, **copy.deepcopy(kwargs))
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        for i, p in enumerate(params):
            g = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype)
            p.grad = None if course.missing and (i + step) % 3 == 0 else g * (0 if step == 5 and i == 1 else 1)
        if course.reload and step == STEPS // 2:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = make(groups, **copy.deepcopy(kwargs))
            optimizer.load_state_dict(torch.load(file, weights_only=False))
        if course.falling:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * 0.8
        sent = Snapshot([p.grad for p in params if p.grad is not None])
        closure: Any = (lambda: torch.tensor(3.0)) if course.closure else None
        if course.objective:
            closure = objective(params, -1 if kwargs.get("maximize") else 1)
        returned = optimizer.step(closure)
        yield [p.detach().clone() for p in params], (returned, bool(sent.changed()))


def followed(make: Any, kwargs: dict[str, Any], dtype: torch.dtype, course: Course) -> tuple[list, Any]:
    """The steps that a candidate makes, and what it raises then."""
    made = []
    try:
        for step in steps(make, kwargs, dtype, course):
            made.append(step)
    except (Exception, SystemExit) as error:  # the candidate's code may raise anything
        return made, error
    return made, None


def check_optimizer(candidate: Any, name: str, dtypes: Sequence[Any] | None, wanted: list[str] | None,
                    where: Any = None, may_change: frozenset[str] = frozenset()) -> Report:  # fmt: skip
    """Every configuration by every course: the parameters after each step, against torch's in float64."""
    from ..check import dtype_named, named

    report = Report(named(candidate), name)
    reference = getattr(torch.optim, name)
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
        usual = (torch.float64,) if name == "LBFGS" else (torch.float32, torch.float64)
        for dtype in [dtype_named(d) for d in (dtypes or usual)]:
            report.dtypes.append(str(dtype).removeprefix("torch."))
            for i, kwargs, course in cases:
                sample = f"{course.name}-{i}"
                if wanted is not None and sample not in wanted:
                    continue
                if missing := adapted.missing((), {"params": [], **kwargs}):
                    report.skip(f"the candidate does not take {', '.join(missing)}")
                    continue
                Run(report, adapted, reference, kwargs, dtype, course, sample, candidate, may_change).judge()
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
        self.truth = [t for t, _ in steps(self.reference, kwargs, torch.float64, self.course)]
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
        eps = torch.finfo(self.dtype).eps
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
                if not own <= bound:
                    last = self.ours[step - 1][0][i] if step else parameters(self.dtype)[i].detach()
                    text = self.explained(step, i) or (
                        "" if bool((a[i] != last).any()) else "the parameter does not move"
                    )
                    others = f", group {0 if i < 2 else 1}" if self.course.groups else ""
                    first = f"first wrong after step {step + 1}{others}"
                    self.found("parameter", f"of shape {tuple(x.shape)}", "; ".join(filter(None, (text, first))), own, other,
                               bound, own * eps)  # fmt: skip
                    return

    def explained(self, step: int, i: int) -> str:
        """Which option is ignored, or which neighbouring rule it is: one that fits in every step, to rounding."""
        guesses = [(*guess, self.course) for guess in rules(self.reference, self.kwargs)]
        plain = replace(self.course, groups=False, falling=False)
        if self.course.groups:
            guesses.append(("ignores the options of the parameter groups", self.reference, self.kwargs, plain))
        if self.course.falling:
            guesses.append(("ignores changes of the learning rate", self.reference, self.kwargs, plain))
        if self.course.reload:
            forgets = type(self.reference.__name__, (self.reference,), {"load_state_dict": lambda self, state: None})
            guesses.append(("its state is not saved and loaded: it starts anew", forgets, self.kwargs, self.course))
        if (factor := self.length(step)) and "lr" in inspect.signature(self.reference).parameters:
            default = inspect.signature(self.reference).parameters["lr"].default
            longer = {**self.kwargs, "lr": self.kwargs.get("lr", default) * factor}
            guesses.append((f"each step is {factor:.4g} times as long", self.reference, longer, self.course))
        for words, rule, options, course in guesses:
            try:
                guess, _ = followed(rule, options, torch.float64, course)
            except (TypeError, ValueError):
                continue
            if len(guess) >= len(self.ours) and self.fits([g for g, _ in guess]):
                return words
        start = parameters(torch.float64)
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
        start = torch.cat([p.detach().flatten() for p in parameters(torch.float64)])
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


# --- schedules ------------------------------------------------------------------------------------------------------


def scheduled(make: Any, kwargs: dict[str, Any], course: str, plateau: bool = False) -> list[list[float]]:
    """The rates of two groups over 30 steps; with `plateau`, of a metric that falls, stays and rises once."""
    ps = [torch.nn.Parameter(torch.zeros(2)) for _ in "ab"]
    groups: Any = [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.3}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    schedule = make(optimizer, **copy.deepcopy(kwargs))
    rates = []
    for step in range(30):
        rates.append(
            [float(g["lr"]) for g in optimizer.param_groups] + [float(g["momentum"]) for g in optimizer.param_groups]
        )
        optimizer.step()
        if course == "rate changed" and step in (2, 13):
            for group in optimizer.param_groups:
                group["lr"] *= 0.7
        if course == "state_dict" and step == 11:
            state, inner = copy.deepcopy(schedule.state_dict()), copy.deepcopy(optimizer.state_dict())
            schedule = make(optimizer, **copy.deepcopy(kwargs))
            optimizer.load_state_dict(inner)
            schedule.load_state_dict(state)
        schedule.step(*([1 / (1 + min(step, 9)) + (step == 20)] if plateau else []))
    return rates


def check_schedule(candidate: Any, name: str, dtypes: Sequence[Any] | None, wanted: list[str] | None,
                   where: Any = None, may_change: frozenset[str] = frozenset()) -> Report:  # fmt: skip
    """The rates of two groups over 30 steps, plain, changed by hand in between, and saved and loaded half-way."""
    from ..check import named

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
