"""The check of a function or a module: which calls are tried, in which dtypes, how deeply."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import shlex
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ...core.names import one_of
from ...core.pair import OPS
from ...samples import MUTATING, NOT_THE_TRUTH, Sample, samples, supported
from ...samples.edges import distinct, edges
from ..crossing import Options, crossed_samples
from ..domain import ENOUGH, Where, inside
from .reference import dtype_named, named
from .report import Report
from .subject import Adapted, Mismatch, default_findings
from .trial import only_calls_builtin
from .trials import Subject, Trials
from .variants import variants

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
MOST = 100  # samples of the database, unless all are asked for
DEEP = 10  # samples on which frozen arguments and memory are tried, too


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
            from .modules import ModuleSamples, function_of, module_of

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
        return [d for d in DTYPES if d in self.source.supported(self.device)]

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
        from .beyond import beyond

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
            from .beyond import beyond

            beyond(trials, found, self.source.operator)
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
            (lambda sample: self.stateful(op)) if name in NOT_THE_TRUTH else None, self.variants,
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

    def supported(self, device: str) -> set[torch.dtype]:
        return supported(self.name, backward=True, device=device)

    def samples(self, dtype: torch.dtype, device: str) -> list[Sample]:
        if dtype not in self.supported(device):
            raise ValueError(f"dtype must be one that torch's {self.name} has a gradient in on {device}, it is {dtype}")
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
