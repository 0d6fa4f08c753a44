"""What optimizers and schedules are tried on: configurations, options that meet, courses of steps."""

from __future__ import annotations

import copy
import functools
import inspect
import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...builtin import optim as builtin
from ...core.compat import optim_db
from ...samples import database
from ..crossing import NO_OPTIONS
from ..domain import Where
from .care import Snapshot

STEPS = 12
SHAPES = ((3, 4), (5,), (), (2, 3, 2), (33,))
MATRICES = ((3, 4), (5, 2), (2, 2), (1, 6), (33, 3))  # of an optimizer that takes those alone
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
    "ASGD": [{"lr": 0.1, "t0": 3}, {"lr": 0.1, "lambd": 0.2, "alpha": 0.5}],
    "Rprop": [{"etas": (0.3, 1.1)}, {"lr": 0.1, "step_sizes": (0.05, 0.11)}],
    "SparseAdam": [{"betas": (0.7, 0.9)}, {"eps": 0.1}],
    "Adafactor": [{"lr": 0.1, "eps": (0.3, 1e-3)}, {"lr": 0.1, "eps": (None, 1.5)}, {"lr": 1.0}],
    "Muon": [{"lr": 0.1, "nesterov": False}, {"lr": 0.1, "momentum": 0.5}],
    "Lion": [{"lr": 0.1}, {"betas": (0.5, 0.99)}, {"weight_decay": 0.3, "lr": 0.1}, {"maximize": True}],
    "ScheduleFreeAdamW": [{"betas": (0.7, 0.9)}, {"eps": 0.1}, {"lr": 0.1, "weight_decay": 0.2}, {"warmup_steps": 5, "r": 0.5},
                          {"maximize": True}, {"warmup_steps": 8, "weight_lr_power": 1.0}],
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
    ("MultiplicativeLR", {"lr_lambda": halved}),
    ("MultiplicativeLR", {"lr_lambda": [halved, math.cos]}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.003}),
    ("CyclicLR", {"base_lr": 0.02, "max_lr": 0.5, "step_size_up": 5}),
    ("CyclicLR", {"base_lr": [0.02, 0.1], "max_lr": 0.5, "step_size_up": 4, "step_size_down": 7, "mode": "triangular2",
                  "base_momentum": [0.6, 0.7], "max_momentum": 0.99}),
    ("CyclicLR", {"base_lr": 0.02, "max_lr": 0.5, "step_size_up": 6, "mode": "exp_range", "gamma": 0.9,
                  "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.02, "max_lr": 0.5, "step_size_up": 3, "scale_fn": halved, "scale_mode": "iterations"}),
    ("ReduceLROnPlateau", {"patience": 3}),
    ("ReduceLROnPlateau", {"factor": 0.4, "patience": 2, "threshold": 0.02, "threshold_mode": "abs", "cooldown": 3}),
    ("ReduceLROnPlateau", {"mode": "max", "patience": 1, "min_lr": [0.02, 0.1], "eps": 1e-3}),
]  # fmt: skip


def reference_of(name: str) -> Any:
    """The class that a candidate is held to: torch's, or composed where torch has none."""
    return getattr(builtin, name)


def sample_names(kind: str, name: str, where: Any = None) -> list[str]:
    if kind == "optimizer":
        return [f"{course.name}-{i}" for i, _, course in tried(name, within(where, reference_of(name)))]
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
    reference, course = reference_of(name), courses(name)[0]

    def path(kwargs: dict[str, Any]) -> Tensor:
        taken = itertools.islice(steps(reference, kwargs, torch.float64, course), 4)
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


@dataclass(frozen=True)
class Course:
    """How a run goes: two groups of parameters with rates of their own, gradients missing, saved and loaded half-way.

    objective: the gradients are those of an error, which a closure evaluates as often as the step asks for it.
    matrices: parameters of two dimensions alone. sparse: gradients of some rows. device: where the parameters are.
    """

    name: str
    groups: bool = False
    missing: bool = False
    reload: bool = False
    closure: bool = False
    falling: bool = False
    objective: bool = False
    matrices: bool = False
    sparse: bool = False
    device: str = "cpu"

    @property
    def steps(self) -> int:
        """How many; one that evaluates the error as often as it likes goes beyond LBFGS's history of 100 in six."""
        return STEPS // 2 if self.objective else STEPS


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
        return [replace(course, matrices=name == "Muon", sparse=name == "SparseAdam") for course in COURSES]
    return [replace(course, objective=True) for course in COURSES if not (course.groups or course.closure)]


def configurations(name: str) -> list[dict[str, Any]]:
    """The options that PyTorch tests the optimizer with, and ours."""
    found: list[dict[str, Any]] = [{}]
    if database() and hasattr(torch.optim, name):
        info = next(i for i in optim_db() if i.optim_cls.__name__ == name)  # type: ignore[attr-defined]
        found = [
            {k: v.double() if isinstance(v, Tensor) else v for k, v in c.kwargs.items()}  # a rule has no rounding of its rates
            for c in info.optim_inputs_func("cpu") if not SPEED & set(c.kwargs)
        ]  # fmt: skip
    return [*found, *OPTIONS.get(name, [])]


def parameters(dtype: torch.dtype, course: Course) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: tuple[tuple[int, ...], ...] = MATRICES if course.matrices else SHAPES
    shapes = tuple(s or (1,) for s in shapes) if course.sparse else shapes  # a number has no rows
    return [torch.nn.Parameter(drawn(s, generator).to(dtype).to(course.device)) for s in shapes]


def drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def some_rows(g: Tensor, step: int) -> Tensor:
    """The gradient of an embedding, of which a step has looked up some rows."""
    rows = torch.arange(len(g), device=g.device)
    rows = rows[(rows + step) % 3 > 0]
    return torch.sparse_coo_tensor(rows[None], g[rows], g.shape, check_invariants=True)


def objective(params: list[Tensor], sign: int) -> Any:
    r"""A closure for the error $\pm\operatorname{Re} \sum_i (\bar g_i p_i + c_i |p_i|^2 / 2)$; $g$: the gradients there are."""
    slopes = [p.grad for p in params]

    def closure() -> Tensor:
        error = torch.zeros((), dtype=params[0].real.dtype, device=params[0].device)
        for p, g in zip(params, slopes, strict=True):
            if g is not None:
                q, c = p.detach(), torch.linspace(0.5, 3, p.numel(), dtype=error.dtype, device=p.device).view(p.shape)
                error += (g.conj() * q + c * q * q.conj() / 2).real.sum()
                p.grad = sign * (g + c * q)
        return sign * error

    return closure


def steps(make: Any, kwargs: dict[str, Any], dtype: torch.dtype, course: Course) -> Iterator[tuple[list[Tensor], Any]]:
    """The parameters after each step, as they are on the CPU, and what the step returned."""
    params = parameters(dtype, course)
    groups: Any = params
    if course.groups:
        groups = [{"params": params[:2]}, {"params": params[2:], **SECOND}]
    optimizer = make(groups, **copy.deepcopy(kwargs))
    if hasattr(optimizer, "train"):  # that keeps an average, and evaluates there
        optimizer.train()
    for step in range(course.steps):
        generator = torch.Generator().manual_seed(step)
        for i, p in enumerate(params):
            g = drawn(p.shape, generator).to(dtype).to(p.device)
            g = g * (0 if step == 5 and i == 1 else 1)
            p.grad = None if course.missing and (i + step) % 3 == 0 else some_rows(g, step) if course.sparse else g
        if course.reload and step == course.steps // 2:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = make(groups, **copy.deepcopy(kwargs))
            optimizer.load_state_dict(torch.load(file, weights_only=False))
        if course.falling:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * 0.8
        sent = Snapshot([p.grad._values() if course.sparse else p.grad for p in params if p.grad is not None])
        closure: Any = (lambda: torch.tensor(3.0)) if course.closure else None
        if course.objective:
            closure = objective(params, -1 if kwargs.get("maximize") else 1)
        returned = optimizer.step(closure)
        yield [p.detach().cpu().clone() for p in params], (returned, bool(sent.changed()))


def followed(make: Any, kwargs: dict[str, Any], dtype: torch.dtype, course: Course) -> tuple[list, Any]:
    """The steps that a candidate makes, and what it raises then."""
    made = []
    try:
        for step in steps(make, kwargs, dtype, course):
            made.append(step)
    except (Exception, SystemExit) as error:  # the candidate's code may raise anything
        return made, error
    return made, None


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
