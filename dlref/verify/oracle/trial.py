"""One call of a candidate, held to the reference: outputs, gradients in every layout, frozen arguments, memory."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...core.modes import definitions
from ...samples import DRAWN_BY_DTYPE, RANDOM, Sample, draws, exactly, flat, gradients, layouts, run, seed, widened
from ...samples.edges import accepted, renamed, resize
from ..judge import Measure, gradient_slopes, natural, slopes, true_upstream
from . import origin
from .care import RANDOM_NUMBERS, Snapshot, Trace, answered, copier, equal_bits, refusal, restored, surroundings
from .diagnosis import diagnose, upstreams
from .memory import Memory, similar
from .report import word
from .subject import Mismatch

# The random ones whose output is the input times a mask: they are held to their own mask.
MASKED = {"dropout", "dropout1d", "dropout2d", "dropout3d"}


class Trial(Memory):
    """One call: forward, then backward, then memory.

    The candidate is only ever given copies of the sample, in the same layout, so that what it writes into them is seen and
    the reference is judged on what the call was. Where it has written, or may, each of its calls gets copies of its own.
    """

    def __init__(self, trials: Any, sample: Sample):
        self.trials, self.sample, self.subject = trials, sample, trials.subject
        self.found = functools.partial(trials.found, sample)
        self.part, self.writes = sample.map(copier()), False
        self.candidate: Any = None
        self.judged = self.subject.name not in RANDOM or (
            # those draw nothing but where they drop, and that on a CPU as ours do
            self.subject.name not in DRAWN_BY_DTYPE
            and (all(t.device.type == "cpu" for t in sample.tensors()) or not draws(sample))
        )
        self.alive = True
        self.powerless: list[str] = []
        # torch's gradients, the true ones and their kappa, for a dense upstream gradient
        self.dense: tuple | None = None

    def call(self, function: Callable, sample: Sample) -> Any:
        return run(function, sample)

    def run(self, deep: bool) -> None:
        before = self.trials.faults
        self.candidate = self.attempt("raises", "the constructor", lambda: self.subject.candidate(self.sample))
        if self.alive:
            self.forward()
        if self.alive and self.trials.backward:
            self.backward()
        self.held("the call")
        if self.alive and deep and self.trials.faults == before:
            self.memory()

    def attempt(self, kind: str, what: str, action: Callable[[], Any]) -> Any:
        """The action's answer; what it raises, or leaves changed around it, is a finding, and the former ends the trial."""
        before = surroundings()
        try:
            return answered(action, self.trials.report.device)
        except Mismatch as error:
            self.found("parameters", what, diagnosis=str(error))
        except SystemExit as error:
            self.found("exits the process", what, diagnosis=f"SystemExit({error.code})")
        except Exception as error:  # the candidate's code may raise anything
            if refusal(error):
                self.trials.refuse(error)
            else:
                self.found(kind, what, diagnosis=in_a_line(error))
        finally:
            if moved := [name for name in restored(before) if name != RANDOM_NUMBERS]:
                self.found("global state", what.partition(" (")[0], diagnosis=f"it changes {', '.join(moved)}")
        self.alive = False
        return None

    def held(self, what: str) -> None:
        """Put torch's own functions back where the candidate has put others."""
        if found := origin.replaced(every=hasattr(self.candidate, "made")):
            names, words = origin.told(found)
            self.found("reference replaced", names, f"by {what}", diagnosis=words)
            origin.put_back()

    def changed(self, kind: str, names: list[str], layout: str, by: str) -> None:
        """Note that the candidate has written into these."""
        self.writes = True
        allowed = [n for n in names if n in self.subject.may_change]
        for name in allowed:
            self.trials.report.note(f"{name} is changed by the {by}, as it may be")
        if rest := [n for n in names if n not in allowed]:
            self.found(kind, ", ".join(rest), layout, diagnosis=f"by the {by}")

    # --- values -----------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        sample, part = self.sample, self.part
        snapshot = Snapshot([t.detach() for t in part.tensors()])
        seed(0)
        before = surroundings()
        ours = self.attempt("raises", "the call", lambda: self.call(self.candidate, part))
        drawn = surroundings()[RANDOM_NUMBERS] != before[RANDOM_NUMBERS]
        self.held("the call")
        if not self.alive:
            return
        self.theirs = self.call(sample.builtin, sample)
        self.reference = flat(self.theirs)
        # torch's own function may draw random numbers
        if drawn and self.subject.name not in RANDOM and surroundings()[RANDOM_NUMBERS] == before[RANDOM_NUMBERS]:
            self.found("global state", "the call", diagnosis=f"it changes {RANDOM_NUMBERS}")
        if changed := snapshot.changed():
            self.changed("input changed", [self.names[i] for i in changed], "", "forward")
        self.truth_sample = widened(sample) if self.judged else sample
        self.truth_of = lambda s: flat(self.call(self.subject.true(s), s))
        self.truth = self.truth_of(self.truth_sample) if self.judged else self.reference
        if not self.shaped(ours):
            self.alive = False
            return
        self.ours = flat(ours)
        if self.random():
            return
        if any(b.shape != t.shape for b, t in zip(self.reference, self.truth, strict=True)):
            self.builtin_wrong("its shape")
            self.alive = False
            return
        kappa = self.slopes_of(lambda s: [t.detach() for t in self.truth_of(s)], self.truth_sample, self.truth)
        self.length = self.terms(self.reference)
        for i, (a, b, t, k) in enumerate(zip(self.ours, self.reference, self.truth, kappa, strict=True)):
            what = "the output" if len(self.reference) == 1 else f"output {i}"
            if a.requires_grad != b.requires_grad and b.requires_grad and self.trials.backward:
                self.found(
                    "no gradient", what, diagnosis="the output does not require grad: it is detached from autograd"
                )
            if not (b.is_floating_point() or b.is_complex()):
                if not torch.equal(a.to(b.dtype), b):
                    self.found(
                        "value", what, diagnosis=f"{int((a.to(b.dtype) != b).sum())} of {b.numel()} integers differ"
                    )
                self.trials.report.judged("value", b)
                continue
            measure = Measure(b, t, k, self.length)
            self.value("value", what, "", (a, b, t), measure, lambda s, i=i: self.truth_of(s)[i], None)

    def slopes_of(self, function: Callable, sample: Sample, values: list) -> list:
        return slopes(function, sample, values) if self.judged else [None] * len(values)

    def terms(self, outputs: list[Tensor]) -> int:
        largest = max((t.numel() for t in self.sample.tensors()), default=1)
        return max(1, largest // max(1, max((o.numel() for o in outputs), default=1)))

    def shaped(self, ours: Any) -> bool:
        """Whether the output has the reference's structure, shapes, dtypes and device."""
        if isinstance(self.theirs, Tensor) != isinstance(ours, Tensor) or not flat(ours):
            wanted = "a tensor" if isinstance(self.theirs, Tensor) else f"a tuple of {len(self.reference)} tensors"
            self.found("type", "the output", diagnosis=f"it must be {wanted}, it is {described(ours)}")
            return False
        outputs = flat(ours)
        if len(outputs) != len(self.reference):
            self.found(
                "type", "the output", diagnosis=f"it must be {len(self.reference)} tensors, it is {described(ours)}"
            )
            return False
        for i, (a, b, t) in enumerate(zip(outputs, self.reference, self.truth, strict=True)):
            what = "the output" if len(outputs) == 1 else f"output {i}"
            if type(a) not in (Tensor, torch.nn.Parameter):
                self.found("subclass", what, diagnosis=f"it must be a plain tensor, it is {type(a).__name__}")
                return False
            for kind, x, y in (("shape", tuple(a.shape), tuple(t.shape)), ("dtype", a.dtype, b.dtype),
                               ("device", a.device, b.device)):  # fmt: skip
                integers = kind == "dtype" and not b.is_floating_point() and not a.is_floating_point()
                if x != y and not integers:
                    ignored = self.ignored(i, tuple(a.shape)) if kind == "shape" else ""
                    self.found(kind, what, diagnosis=f"{ignored}it must be {y}, it is {x}")
                    return False
        return True

    def ignored(self, i: int, shape: tuple[int, ...]) -> str:
        """The option without which the output has that shape."""
        for option, value in self.subject.options(self.sample).items():
            with contextlib.suppress(Exception):
                reset = self.subject.reset(self.sample, option)
                if reset is not None and tuple(flat(self.call(reset.builtin, reset))[i].shape) == shape:
                    return f"ignores {option} ({value!r}): "
        return ""

    def value(self, kind: str, what: str, where: str, values: tuple, measure: Measure,
              truth_of: Callable[[Sample], Tensor | None], dy: tuple | None) -> bool:  # fmt: skip
        """Judge one output or gradient, and note whether another value would have passed too."""
        a, b, t = values
        report = self.trials.report
        report.judged(kind, b)
        error = measure.error(a)
        name = f"{kind} of {what}"
        if self.subject.by_hand is not None and (error.departs or error.special or error.theirs > 1000):
            other = self.second(what, dy)
            second = math.inf if other is None else measure.error(other).ours
            if (error.theirs > 1000 and second < error.theirs / 16) or (error.special and second < math.inf):
                self.builtin_wrong(f"{name}, " + ("NaN or infinity" if error.special else f"{error.theirs:.3g} units"))
            # Rounding costs a second implementation as much; one of the same bits is none, and excuses half the digits at most.
            same = other is not None and equal_bits(a.detach(), other.detach())
            most = torch.finfo(a.dtype).eps ** -0.5 if same else math.inf
            if error.departs and error.ours <= min(2 * second, most) < math.inf:
                error = replace(error, bound=error.ours)
        if error.departs:
            self.found(kind, what, where, error, functools.partial(self.explain, a, t, truth_of, dy))
            return False
        if where in ("", "dense"):
            self.trials.seen.add(name)
            fakes = self.fakes(name, b)
            if any(not measure.error(f).departs for f in fakes):
                self.powerless.append(name)
            else:
                self.trials.proven.add(name)
            self.trials.previous[name] = b.detach()
        return True

    def builtin_wrong(self, what: str) -> None:
        start = f"torch's own {self.subject.name} is wrong"
        if not any(text.startswith(start) for text in self.trials.report.notes):
            short = str(self.trials.dtype).removeprefix("torch.")
            self.trials.report.note(f"{start}, in {self.sample.where} {short} among others: {what}")

    def second(self, what: str, dy: tuple | None) -> Tensor | None:
        """What the manual operation's definition gives, a second implementation; None where it has none."""
        try:
            with definitions():
                outputs = flat(self.call(self.subject.by_hand(self.sample), self.sample))  # type: ignore[misc]
                if dy is None:
                    return outputs[0 if what == "the output" else int(what.split()[-1])]
                return gradients(outputs, self.sample, dy[1])[dy[0]]
        except (RuntimeError, TypeError, NotImplementedError):
            return None

    def fakes(self, name: str, b: Tensor) -> list[Tensor]:
        """What a candidate that computes nothing might answer."""
        b = b.detach()
        found = [torch.zeros_like(b)]
        if name.startswith("value"):
            found.append(torch.ones_like(b))
            if b.numel() > 1:
                found.append(b.mean().expand(b.shape))
            found += [t.detach() for t in self.sample.tensors()[:1] if t.shape == b.shape and t.dtype == b.dtype]
            last = self.trials.previous.get(name)
            found += [last] if last is not None and last.shape == b.shape and last.dtype == b.dtype else []
        return found

    def explain(self, a: Tensor, t: Tensor, truth_of: Callable[[Sample], Tensor | None], dy: tuple | None,
                only: set[str] | None) -> str:  # fmt: skip
        """What the value looks like; of the hypotheses, those of these words alone."""
        sample, near = self.truth_sample, {}
        for n, v in zip(self.subject.names(sample), sample.tensors(), strict=False):
            near[f"argument {n}"] = v
        near["the output"] = self.truth[0]
        if dy is not None and dy[1][0] is not None:
            near["the upstream gradient"] = dy[1][0]

        def hypotheses() -> Iterator[tuple[str, Callable[[], Tensor | None]]]:
            if dy is not None and len(dy[1]) == 1 and dy[1][0] is not None:
                for text, other in upstreams(dy[1][0]):
                    yield text, lambda other=other: self.gradient_of(self.truth_sample, true_upstream([other]), dy[0])
            for option in self.subject.options(self.sample):
                reset = self.subject.reset(self.sample, option)
                if reset is not None:
                    wide = widened(reset)
                    value = self.subject.options(self.sample)[option]
                    shown_value = "" if isinstance(value, Tensor) else f" ({value!r})"
                    yield f"ignores {option}{shown_value}", lambda wide=wide: truth_of(wide)
            index = self.outputs_of(t) if dy is None else None
            for text, variant in self.subject.variants(sample):
                yield text, lambda variant=variant: (
                    flat(run(variant.builtin, variant))[index] if index is not None else
                    self.gradient_under(variant, true_upstream(dy[1]), dy[0])  # type: ignore[arg-type, index]
                )  # fmt: skip
            if dy is not None:
                for i, name in enumerate(self.learning_names):
                    if i != dy[0]:
                        yield (
                            f"it is the gradient of {name}",
                            lambda i=i: self.gradient_of(self.truth_sample, true_upstream(dy[1]), i),
                        )

        if dy is not None and any(
            n > 1 and s == 0 for d in dy[1] if d is not None for n, s in zip(d.shape, d.stride(), strict=True)
        ):
            near = {}  # of equal upstream gradients, much is constant by chance
        tried = ((text, value) for text, value in hypotheses() if only is None or word(text) in only)
        return diagnose(a, t, torch.finfo(a.dtype).eps, tried, near)

    def outputs_of(self, t: Tensor) -> int:
        return next(i for i, output in enumerate(self.truth) if output is t)

    def gradient_under(self, variant: Sample, dy: list, index: int) -> Tensor | None:
        return gradients(flat(run(variant.builtin, variant)), variant, dy)[index]

    def gradient_of(self, wide: Sample, dy: list, index: int) -> Tensor | None:
        return gradients(self.truth_of(wide), wide, dy)[index]

    # --- random numbers ---------------------------------------------------------------------------------------------

    def random(self) -> bool:
        """Whether the candidate draws other random numbers than torch: then a mask is held to itself, the rest is left."""
        if self.judged or all(map(equal_bits, self.ours, self.reference)):
            return False
        with torch.random.fork_rng(devices=[]):
            seed(1)
            other = flat(self.sample.builtin(*self.sample.args, **self.sample.kwargs))
        if all(map(equal_bits, other, self.reference)):
            return False  # nothing is drawn here: the values are compared
        self.alive = False
        x, y, b = self.part.tensors()[0], self.ours[0], self.reference[0]
        if self.subject.name not in MASKED:
            self.trials.report.skip("the candidate draws other random numbers than torch")
            return True
        known, usable = exactly((b / x).detach().flatten()), x.detach() != 0
        m, levels = exactly((y / x).detach()[usable]), known[known.isfinite()].unique()
        tolerance = 16 * torch.finfo(x.dtype).eps
        off = (m.flatten()[:, None] - levels).abs().amin(1) > tolerance * levels.abs().max().clamp(min=1)
        self.trials.report.judged("value", b)
        if bool(off.any()):
            self.found("value", "the output", diagnosis=f"each element must be the input times one of "
                       f"{[round(float(v), 4) for v in levels]}, as torch's are: {described_values(m[off])}")  # fmt: skip
        elif y.requires_grad:
            dy: Any = next(d for _, d in layouts(self.ours))[0]
            (grad,) = gradients(self.ours, self.part, [dy])[:1]
            wanted = torch.where(usable, dy * (y / x).detach(), 0.0)
            if grad is None or not torch.allclose(torch.where(usable, grad, 0), wanted, rtol=tolerance, atol=tolerance):
                self.found(
                    "gradient", "input", diagnosis="it must be the upstream gradient times the mask of the output"
                )
            rate = float((m == 0).float().mean())
            expected = float((known[known.isfinite()] == 0).float().mean())
            if (
                m.numel() > 400
                and abs(rate - expected) > 6 * (max(expected * (1 - expected), 0.01) / m.numel()) ** 0.5 * 2**0.5
            ):
                self.found(
                    "value", "the output", diagnosis=f"{rate:.3f} of the elements are dropped, {expected:.3f} by torch"
                )
        return True

    # --- gradients --------------------------------------------------------------------------------------------------

    def backward(self) -> None:
        sample = self.sample
        if not any(o.requires_grad for o in self.reference) or not any(o.requires_grad for o in self.ours):
            return
        learning = sample.learning()
        first, kappa, kept = None, None, Snapshot([])
        for layout, dy in layouts(self.reference):
            try:
                expected = gradients(self.theirs, sample, dy)
            except RuntimeError:  # torch's pooling in three dimensions, of an image without a batch, channels-last
                continue
            what = f"the backward (upstream gradient {layout})"
            if self.writes:
                self.part = sample.map(copier())
                self.ours = self.attempt("raises", "another call", lambda: flat(self.call(self.candidate, self.part)))
                if not self.alive:
                    return
            copied = copier()
            sent = [d if d is None else copied(d) for d in dy]
            watched = {
                "input changed": ([t.detach() for t in self.part.tensors()], self.names),
                "output changed": ([o.detach() for o in self.ours], [f"output {i}" for i in range(len(self.ours))]),
                "upstream gradient changed": ([d for d in sent if d is not None], ["grad_output"] * len(sent)),
            }
            snapshots = {kind: Snapshot(tensors) for kind, (tensors, _) in watched.items()}
            grads = self.attempt("raises", what, lambda sent=sent: gradients(self.ours, self.part, sent))
            if not self.alive:
                return
            wide = true_upstream(dy) if self.judged else dy
            best = gradients(self.truth, self.truth_sample, wide)
            if kappa is None:
                kappa = self.gradient_slopes(wide, best)
            for kind, snapshot in snapshots.items():
                if changed := snapshot.changed():
                    self.changed(kind, list(dict.fromkeys(watched[kind][1][i] for i in changed)), layout, "backward")
            if kept.changed():
                self.found(
                    "returned gradient changed", "by a later backward", layout, diagnosis="it is kept and overwritten"
                )
            measured = functools.lru_cache(lambda wide=wide, best=best: self.gradient_slopes(wide, best))
            for i, (a, b, t, k) in enumerate(zip(grads, expected, best, kappa, strict=True)):
                own: Any = None if first is None else lambda i=i, measured=measured: measured()[i]
                self.gradient(i, layout, dy, (a, b, t, k), learning[i], own)
            if first is None:
                first = (dy, [None if g is None else g.detach().clone() for g in grads])
                kept = Snapshot([g.detach() for g in grads if g is not None and g.numel()])
            self.dense = self.dense or (expected, best, kappa)
        if first is not None and not self.writes:
            again = self.attempt(
                "second backward", "on a kept graph", lambda: gradients(self.ours, self.part, first[0])
            )
            if self.alive:
                for n, a, b in zip(self.learning_names, again, first[1], strict=True):
                    if a is not None and b is not None and not equal_bits(a, b):
                        if similar(a, b):
                            self.trials.report.note("two backwards of one graph differ in the last bits")
                        else:
                            text = "a second backward on a kept graph gives another gradient"
                            self.found("second backward", n, diagnosis=text)

    def gradient(self, i: int, layout: str, dy: list, values: tuple, argument: Tensor,
                 measured: Callable[[], Any] | None) -> None:  # fmt: skip
        """Judge a gradient by the slopes of the first upstream gradient; what departs, by those of its own (`measured`)."""
        a, b, t, k = values
        name = self.learning_names[i]
        if b is None or t is None:
            return
        if a is None:
            if bool(b.any()):
                self.found("gradient", name, layout, diagnosis="there is none (None)")
            return
        if a.shape != b.shape or a.dtype != b.dtype:
            self.found(
                "gradient",
                name,
                layout,
                diagnosis=f"it must be {b.dtype} {tuple(b.shape)}, it is {a.dtype} {tuple(a.shape)}",
            )
            return
        # At a NaN a gradient is what the kernel's branches make of it: torch's hardswish gives dy there, its hardsigmoid 0.
        a = torch.where(argument.isnan(), b, a)
        size = natural(argument, dy, self.reference)
        length = max(self.length, max(o.numel() for o in self.reference) // max(1, b.numel()))
        measure = Measure(b, t, k, length, size, self.reference)
        if measured is not None and measure.error(a).departs:
            measure = Measure(b, t, measured(), length, size, self.reference)
        self.value("gradient", name, layout, (a, b, t), measure,
                   lambda s: self.gradient_of(s, true_upstream(dy), i), (i, dy))  # fmt: skip

    def gradient_slopes(self, dy: list, values: tuple) -> list:
        if not self.judged:
            return [None] * len(values)
        return gradient_slopes(self.truth_of, self.truth_sample, dy, list(values))


def enlarged(sample: Sample) -> Sample | None:
    """The call with every dimension larger and other numbers; None where torch does not take it."""
    larger = sample
    for old in dict.fromkeys(n for t in sample.learning()[:1] for n in t.shape):
        for lists in (False, True):
            made = resize(larger, old, old + 12, lists)
            if made is not None and accepted(made):
                larger = made
                break
    return renamed(larger, "enlarged") if larger is not sample else None


def in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def only_calls_builtin(candidate: Callable, sample: Sample) -> list[str]:
    """The kernels that run, where they are those of torch's own function, in its order; else nothing."""
    traces = []
    for function in (candidate, sample.builtin):
        before = surroundings()
        with contextlib.suppress(Exception, SystemExit), Trace() as trace:
            run(function, sample.map(lambda t: t.detach().clone()))
        restored(before)
        origin.put_back()
        traces.append(trace.kernels())
    return traces[0] if traces[0] == traces[1] and traces[0] else []


def shown(sample: Sample) -> str:
    """The call in a line: dtypes, shapes, strides and options."""
    text = repr(sample).partition(": ")[2]
    return text if len(text) < 300 else text[:297] + "..."


def described(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__module__}.{type(value).__name__}"


def described_values(values: Tensor) -> str:
    return "it has " + ", ".join(f"{float(v):.4g}" for v in values.flatten()[:3])
