"""Hold somebody's own implementation to the reference: a function, module, loss, optimizer or schedule."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import shlex
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .crossing import Options, crossed_samples
from .domain import ENOUGH, Where, inside
from .edges import distinct, edges
from .manual.op import OPS
from .names import one_of
from .oracle import origin
from .oracle.care import usual
from .oracle.report import Finding, Report
from .oracle.subject import Adapted, Mismatch, default_findings
from .oracle.trial import Subject, Trials, only_calls_builtin
from .oracle.variants import variants
from .samples import MUTATING, NAMES, TORCH_ERROR, TORCH_NAN, TORCH_WRONG, Sample, database, samples, supported

__all__ = ["Finding", "Mismatch", "Report", "check"]
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
MOST = 100  # samples of the database, unless all are asked for
DEEP = 10  # samples on which frozen arguments and memory are tried, too


def check(
    candidate: Any,
    against: Any,
    *,
    device: str = "cpu",
    dtypes: Sequence[torch.dtype | str] | None = None,
    backward: bool = True,
    beyond: bool = True,
    rows: bool = False,
    all: bool = False,
    samples: Iterable[str] | None = None,
    isolate: bool = False,
    time_limit: float = 60.0,
    may_change: Iterable[str] = (),
    where: str | Callable[..., Any] | None = None,
) -> Report:
    """Hold a candidate to the reference of that name: outputs, gradients, memory and what is beyond the first derivative.

    candidate: a function, an autograd.Function, a custom operator, a module (class or instance), a loss, an optimizer or a
    schedule. against: the name in torch.nn.functional, torch.nn, torch.optim or its lr_scheduler, or the thing itself.
    dtypes: by default float32, float64 and bfloat16, of which those that the candidate refuses everywhere are noted; one
    that is named must work. backward: whether gradients are asked for. beyond: whether the transformations are. rows: more
    rows than 65,536, too. all: every sample of the database. samples: only the samples of these names. isolate: in a
    process of its own, where a crash or more than time_limit seconds for a sample is a finding. where: the part of the
    reference's domain that the candidate is made for, a predicate on the call: an expression over the reference's argument
    names (of a module, over its constructor's and its inputs'), or a function that takes some of them; other calls are not
    made, where few are left more are made inside, and the report says what share was tried.
    may_change: the arguments,
    by the reference's names, that the candidate writes into by design ("grad_output": the upstream gradient; of an
    optimizer "grad"): no finding then, and each of its calls gets copies of its own.

    `report.ok` where there is evidence and nothing was found; `report.verdict` is "right", "wrong", or "unproven" where no
    number was compared. What was not tried, and what was guessed of the candidate's signature, is in the report.

    A call that the candidate refuses in clear words (it raises ValueError or NotImplementedError itself) is no finding: the
    report counts it among what was not tried. A crash, of another exception or from inside of what it calls, is one.

    ValueError where the name is unknown, the candidate cannot be called as the reference is, or no call lies inside.
    """
    changing = frozenset([may_change] if isinstance(may_change, str) else may_change)
    options = {"device": device, "dtypes": dtypes, "backward": backward, "beyond": beyond, "rows": rows, "all": all,
               "may_change": changing, "where": where}  # fmt: skip
    wanted = None if samples is None else list(samples)
    if isolate:
        from .oracle.isolated import isolated

        return isolated(candidate, against, wanted, time_limit, options)
    return checked(candidate, against, wanted, options)


def checked(candidate: Any, against: Any, wanted: list[str] | None, options: dict[str, Any]) -> Report:
    """The check in this process, with torch's own functions in their places."""
    kind, name = reference_named(against)
    found = origin.replaced()
    before = origin.put_back()
    try:
        with usual() as moved:
            if kind in ("optimizer", "schedule"):
                from .oracle.steps import check_optimizer, check_schedule

                by = check_optimizer if kind == "optimizer" else check_schedule
                report = by(candidate, name, options["dtypes"], wanted, options["where"], options["may_change"])
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


def reference_named(against: Any) -> tuple[str, str]:
    """What kind of thing the name, or the thing itself, is: function, module, optimizer or schedule; and its name."""
    from .manual import nn, optim
    from .manual.optim import lr_scheduler

    modules = [
        n for n, c in vars(nn).items() if isinstance(c, type) and issubclass(c, torch.nn.Module) and n != "Module"
    ]
    optimizers = [n for n, c in vars(optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)
                  and n != "Optimizer"]  # fmt: skip
    schedules = [n for n in lr_scheduler.__all__ if n != "LRScheduler"]
    if not isinstance(against, str):
        against = next((n for n in NAMES if against in (OPS[n], OPS[n].builtin)), None) or getattr(
            against, "__name__", against
        )
    for kind, known in (("function", NAMES), ("module", modules), ("optimizer", optimizers), ("schedule", schedules)):
        if against in known:
            return kind, against
    one_of("against", against, [*NAMES, *modules, *optimizers, *schedules])
    raise AssertionError


def sample_names(against: Any, dtype: torch.dtype | str, device: str = "cpu", **options: Any) -> list[str]:
    """The names of the samples that `check` tries, for its argument `samples`."""
    kind, name = reference_named(against)
    if kind in ("optimizer", "schedule"):
        from .oracle.steps import sample_names as of_steps

        return of_steps(kind, name, options.get("where"))
    from .manual import nn

    candidate = getattr(nn, name) if kind == "module" else OPS[name]
    defaults = {"device": device, "dtypes": [dtype], "backward": True, "beyond": False, "rows": False, "all": False,
                "may_change": frozenset(), "where": None}  # fmt: skip
    return [s.where for s in Check(candidate, kind, name, {**defaults, **options}).drawn(dtype_named(dtype))]


class Check:
    """The check of a function or a module."""

    def __init__(self, candidate: Any, kind: str, name: str, options: dict[str, Any]):
        self.device, self.options = str(options["device"]), options
        self.candidate, self.name, self.kind = candidate, name, kind
        maker = candidate.func if isinstance(candidate, functools.partial) else candidate
        self.where: Where | None = None
        is_module = isinstance(candidate, torch.nn.Module) or (
            isinstance(maker, type) and issubclass(maker, torch.nn.Module)
        )
        self.report = Report(named(candidate), name, self.device)
        if is_module or kind == "module":
            from .oracle.modules import ModuleSamples, function_of, module_of

            if is_module:
                name = module_of(name, kind)
                self.source: Any = ModuleSamples(candidate, name, self.report)
            else:
                name = function_of(name)
                self.source = FunctionSamples(candidate, name, self.report)
            self.report.against = name
        else:
            self.source = FunctionSamples(candidate, name, self.report)
        self.differentiable = False
        self.subject: Subject = self.source.subject
        self.subject.replay, self.subject.may_change = self.replay, options["may_change"]
        if options["where"] is not None:
            self.where = where = Where(options["where"], self.source.argument_names())
            crossing = self.source.crossing_options()
            self.subject.inside = lambda sample: where(crossing.given(sample))

    def replay(self, sample: str, dtype: str) -> str:
        path = f"{getattr(self.candidate, '__module__', '?')}:{named(self.candidate)}"
        extra = "" if self.device == "cpu" else f" --device {self.device}"
        where = self.options["where"]
        if "<" in path or "?" in path or not (where is None or isinstance(where, str)):
            given = "" if where is None else f", where={where!r}"
            return f"dlref.check(candidate, {self.report.against!r}, samples=[{sample!r}], dtypes=[{dtype!r}]{given})"
        extra += "" if where is None else f" --where {shlex.quote(where)}"
        return f"dlref check {path} --against {self.report.against} --dtype {dtype} --sample {sample}{extra}"

    def dtypes(self) -> list[torch.dtype]:
        given = self.options["dtypes"]
        if given is not None:
            return [dtype_named(d) for d in ([given] if isinstance(given, (str, torch.dtype)) else given)]
        return [d for d in DTYPES if self.device != "cpu" or d in self.source.supported()]

    def drawn(self, dtype: torch.dtype) -> list[Sample]:
        """The samples in a dtype: the database's and the hard ones, and what is made of them."""
        found = self.source.samples(dtype, self.device)
        if not self.options["backward"]:
            found = [s.map(lambda t: t.detach()) for s in found]
        if len(found) > MOST and not self.options["all"]:
            step = len(found) / MOST
            kept = {int(i * step) for i in range(MOST)}
            self.report.skip(f"{len(found) - len(kept)} of the {len(found)} samples: all=True tries them")
            found = [s for i, s in enumerate(found) if i in kept or s.where.startswith("hard")]
        if self.options["backward"]:
            found = [*found, *self.source.crossed(dtype, self.device), *self.source.edges(found, self.options["rows"])]
        return found if self.where is None else self.inside(found, self.where)

    def inside(self, found: list[Sample], where: Where) -> list[Sample]:
        """The samples that lie in the candidate's domain; where they are few, with more that do."""
        options = self.source.crossing_options()
        kept = [s for s in found if self.subject.inside(s)]
        made = inside(options, found, where, ENOUGH - len(kept)) if len(kept) < ENOUGH else []
        where.told()
        if not kept and not made:
            raise ValueError(f"where must hold for calls that torch's {self.report.against} takes; no call was found "
                             f"where {where.text}")  # fmt: skip
        self.report.note(f"{len(kept)} of the reference's {len(found)} samples ({len(kept) / len(found):.0%}) lie inside "
                         f"where {where.text}" + (f"; {len(made)} more were made there" if made else ""))  # fmt: skip
        return [*kept, *made]

    def run(self, wanted: list[str] | None = None) -> Report:
        with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on calls of the samples
            for dtype in self.dtypes():
                self.run_dtype(dtype, wanted)
        if self.differentiable and self.report.evidence and not self.report.gradients and not self.report.findings:
            self.report.gaps.append("of values alone: no gradient was compared")
        if text := printed.getvalue().strip():
            self.report.note(f"the candidate prints: {text.splitlines()[0][:80]!r}")
        return self.report

    def only_beyond(self) -> Report:
        """What is beyond the first derivative, in the first dtype, and nothing else."""
        from .oracle.beyond import beyond

        dtype = self.dtypes()[0]
        report = Report("", "", self.device)
        found = self.drawn(dtype)
        with contextlib.redirect_stdout(io.StringIO()):
            beyond(Trials(self.subject, report, dtype, self.options["backward"]), found, self.source.operator)
        return report

    def run_dtype(self, dtype: torch.dtype, wanted: list[str] | None) -> None:
        report = Report(self.report.candidate, self.report.against, self.device)
        trials = Trials(self.subject, report, dtype, self.options["backward"])
        found = self.drawn(dtype)
        self.differentiable |= self.options["backward"] and any(s.learning() for s in found)
        for name in self.subject.may_change:
            one_of("may_change", name, [*dict.fromkeys(n for s in found for n in self.subject.names(s)), "grad_output"])
        if wanted is not None:
            names = [s.where.removesuffix("/enlarged") for s in found]
            for name in wanted:
                if name.removesuffix("/enlarged") not in names:
                    one_of("the sample", name, names or ["none"])
            found = [s for s in found if s.where in wanted or f"{s.where}/enlarged" in wanted]
        deep = {id(s) for s in (found if wanted is not None else spread(found, DEEP))}
        for sample in found:
            trials.run(sample, deep=id(sample) in deep)
        if (told := report.findings) and not report.passed and {f.kind for f in told} == {"parameters"}:
            raise Mismatch(told[0].diagnosis)
        short = str(dtype).removeprefix("torch.")
        if refuses(report) and self.options["dtypes"] is None and (self.report.dtypes or dtype != self.dtypes()[-1]):
            self.report.note(f"{short} is refused: {report.findings[0].diagnosis[:120]}")
            return
        trials.conclude()
        report.dtypes.append(short)
        if self.options["beyond"] and wanted is None and not self.report.beyond:
            from .oracle.beyond import beyond

            passed = {name for name, _ in report.passed}
            sound = [s for s in found if s.where in passed]
            beyond(trials, sound or (found if report.evidence else []), self.source.operator)
        for name in sorted(trials.seen - trials.proven):
            report.note(f"no {short} sample could tell the {name} from nothing at all")
        if found and dtype == self.dtypes()[0]:
            first = next((s for s in found if s.where in {name for name, _ in report.passed}), None)
            kernels = only_calls_builtin(self.subject.candidate(first), first) if first is not None else []
            if kernels:
                report.note(
                    f"it only calls the built-in: the dispatcher sees {', '.join(dict.fromkeys(kernels))}, as of torch's own"
                )
        self.report.merge(report)


def spread(found: list[Sample], number: int) -> list[Sample]:
    """Samples of distinct options, and of those made of others."""
    chosen = distinct([s for s in found if "/" not in s.where])[:number]
    made = [s for s in found if "/" in s.where and all_nonempty(s)]
    return chosen + made[:: max(1, len(made) // (number // 2))]


def all_nonempty(sample: Sample) -> bool:
    return all(t.numel() for t in sample.tensors())


def refuses(report: Report) -> bool:
    """Whether every call was refused."""
    return bool(report.findings) and not report.passed and {f.kind for f in report.findings} == {"raises"}


def named(candidate: Any) -> str:
    name = (
        getattr(candidate, "__qualname__", None)
        or getattr(candidate, "_qualname", None)
        or type(candidate).__qualname__
    )
    return name.removesuffix(".apply").removeprefix("_VariableFunctionsClass.")


def dtype_named(dtype: torch.dtype | str) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    known = ("float32", "float64", "bfloat16", "float16", "complex64", "complex128")
    one_of("dtype", str(dtype).removeprefix("torch."), known)
    return getattr(torch, str(dtype).removeprefix("torch."))


class FunctionSamples:
    """Calls of an operation, and the candidate as such a function."""

    def __init__(self, candidate: Any, name: str, report: Report):
        op = OPS[name]
        self.name, self.operator = name, None
        function = (
            candidate.apply
            if isinstance(candidate, type) and issubclass(candidate, torch.autograd.Function)
            else candidate
        )
        if type(candidate).__name__ in ("CustomOpDef", "OpOverload", "OpOverloadPacket"):
            self.operator = getattr(candidate, "_opoverload", None) or getattr(candidate, "default", candidate)
            function = candidate
        if not callable(function):
            raise ValueError(f"the candidate must be callable, it is {type(candidate).__name__}")
        signature = op.__signature__
        self.adapted = Adapted(function, signature, name)
        report.findings += default_findings(self.adapted)
        for text in self.adapted.notes():
            report.note(text)
        called = self.stateful(self.adapted)
        self.subject = Subject(
            name, lambda sample: called, self.names, lambda s: self.adapted.arguments(s.args, s.kwargs) or {},
            self.reset, lambda s: self.adapted.missing(s.args, s.kwargs), lambda sample: self.stateful(op),
            self.stateful(op) if name in {*TORCH_NAN, *TORCH_ERROR, *TORCH_WRONG} else None, self.variants,
        )  # fmt: skip
        # Options alone make no call: what is required is no option.
        required = {n for n, p in signature.parameters.items() if p.default is inspect.Parameter.empty}
        everything = self.subject.options
        self.subject.options = lambda s: {n: v for n, v in everything(s).items() if n not in required}

    def stateful(self, function: Callable) -> Callable:
        """The function; where it changes arguments in place, with those among what it returns."""
        if self.name not in MUTATING:
            return function

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            output = function(*args, **kwargs)
            bound = OPS[self.name].__signature__.bind(*args, **kwargs).arguments
            states = [bound[n] for n in ("running_mean", "running_var") if bound.get(n) is not None]
            return (output, *(t.detach().clone() for t in states))

        called.function = function  # type: ignore[attr-defined]
        return called

    def variants(self, sample: Sample) -> Iterable[tuple[str, Sample]]:
        for text, formula in variants(self.name, sample.args, sample.kwargs):
            yield text, Sample(self.stateful(formula), sample.args, sample.kwargs, sample.where, sample.name)

    def supported(self) -> set[torch.dtype]:
        return supported(self.name, backward=True)

    def samples(self, dtype: torch.dtype, device: str) -> list[Sample]:
        if device == "cpu" and dtype not in self.supported():
            raise ValueError(f"dtype must be one that torch's {self.name} has a gradient in, it is {dtype}")
        return [self.wrapped(s) for s in samples(self.name, dtype, device=device)]

    def wrapped(self, sample: Sample) -> Sample:
        if self.name in MUTATING:
            sample.builtin = self.stateful(sample.builtin)
        return sample

    def crossed(self, dtype: torch.dtype, device: str) -> list[Sample]:
        return [self.wrapped(s) for s in crossed_samples(self.name, dtype, device)]

    def crossing_options(self) -> Options:
        return Options(self.name)

    def argument_names(self) -> list[str]:
        return list(OPS[self.name].__signature__.parameters)

    def edges(self, found: list[Sample], rows: bool) -> Iterable[Sample]:
        return edges(found, rows)

    def names(self, sample: Sample) -> list[str]:
        """The name of each tensor of the call."""
        bound = OPS[self.name].__signature__.bind(*sample.args, **sample.kwargs).arguments
        order = [*list(bound)[: len(sample.args)], *sample.kwargs]
        values = [*sample.args, *sample.kwargs.values()]
        found = []
        for n, v in zip(order, values, strict=True):
            found += [n] * len(Sample(None, (v,), {}, "").tensors())
        return found

    def reset(self, sample: Sample, option: str) -> Sample | None:
        names = list(OPS[self.name].__signature__.parameters)
        default = OPS[self.name].__signature__.parameters[option].default
        if default is inspect.Parameter.empty:
            return None
        args = tuple(default if n == option else v for n, v in zip(names, sample.args, strict=False))
        kwargs = {n: v for n, v in sample.kwargs.items() if n != option}
        value = self.subject.options(sample).get(option)
        if isinstance(value, Tensor) and value.requires_grad:
            return None  # without it, the gradients are others
        return Sample(sample.builtin, args, kwargs, sample.where, sample.name)
