"""A call's memory: frozen arguments, guarded and poisoned memory, what is kept from one call to the next."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ...samples import CONDITION, Sample, flat, gradients, layouts
from ...samples.edges import accepted, fresh, renamed
from ..judge import Measure
from .care import Poisoned, Snapshot, Zones, copier, equal_bits, saved


def similar(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two answers of one function are the same but for the order of its sums."""
    if a is None or b is None:
        return a is b
    if not a.is_floating_point() and not a.is_complex():
        return torch.equal(a, b)
    eps = torch.finfo(a.dtype).eps
    size = float(b.detach().abs().nan_to_num(0, 0, 0).max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=64 * eps, atol=64 * eps * max(size, 1e-30), equal_nan=True)


class Memory:
    """The part of a trial that looks at memory."""

    trials: Any
    subject: Any
    sample: Sample
    part: Sample
    found: Any
    attempt: Any
    call: Any
    candidate: Any
    ours: Any
    theirs: Any
    reference: Any
    dense: Any
    alive: bool
    judged: bool
    writes: bool
    length: int

    def __init__(self, trials: Any, sample: Sample):
        raise NotImplementedError

    def run(self, deep: bool) -> None:
        raise NotImplementedError

    @functools.cached_property
    def names(self) -> list[str]:
        """The name of each tensor of the call."""
        return self.subject.names(self.sample)

    @functools.cached_property
    def learning_names(self) -> list[str]:
        return [n for n, t in zip(self.names, self.sample.tensors(), strict=True) if t.requires_grad]

    def memory(self) -> None:
        sample = self.sample
        if not flat(self.theirs) or not sample.tensors():
            return
        learning = [i for i, t in enumerate(sample.tensors()) if t.requires_grad]
        dy = next((d for _, d in layouts(self.reference)), None)
        if self.trials.backward and dy is not None and len(learning) > 1:
            self.frozen(learning, dy)
        with torch.no_grad():
            plain = self.attempt("raises", "under torch.no_grad()",
                                 lambda: flat(self.call(self.candidate, sample.map(copier()))))  # fmt: skip
        if self.alive and not all(map(similar, plain, self.ours)):
            self.found("no_grad", "the output", diagnosis="under torch.no_grad() it is another one")
        if self.alive:
            self.guarded(dy)
        if self.alive:
            outputs = Snapshot([o.detach() for o in self.ours])
            self.again(dy)
            if outputs.changed():
                self.found("output changed", "by a later call", diagnosis="it is kept and overwritten")

    def frozen(self, learning: list[int], dy: list) -> None:
        """Gradients of some of the arguments, the others frozen: the same as with all of them."""
        names = self.names
        if self.writes:
            return
        full: dict[int, Any] = dict(zip(learning, gradients(self.ours, self.part, dy), strict=True))
        subsets = [[i] for i in learning] + (
            [[j for j in learning if j != i] for i in learning] if len(learning) > 2 else []
        )
        for wanted in subsets:
            order = iter(range(len(names)))
            part = self.sample.map(
                lambda t, order=order, wanted=wanted: t.detach().clone().requires_grad_(next(order) in wanted)
            )
            ours = self.attempt("raises", f"with only {', '.join(names[i] for i in wanted)} not frozen",
                                lambda part=part: flat(self.call(self.candidate, part)))  # fmt: skip
            if not self.alive:
                return
            usable = [o.requires_grad for o in ours]
            if not any(usable):
                if any(full[i] is not None and bool(full[i].any()) for i in wanted):
                    self.found(
                        "frozen",
                        ", ".join(names[i] for i in wanted),
                        diagnosis="no gradient when the others are frozen",
                    )
                continue
            given = [d if u else None for d, u in zip(dy, usable, strict=True)]
            grads = self.attempt("raises", f"the backward with only {', '.join(names[i] for i in wanted)} not frozen",
                                 lambda ours=ours, part=part, given=given: gradients(ours, part, given))  # fmt: skip
            if not self.alive:
                return
            for i, a in zip(wanted, grads, strict=True):
                b = full[i]
                alike = b is None or (
                    not bool(b.any()) if a is None else similar(a, b) or self.as_good(learning.index(i), a, b)
                )
                if not alike:
                    self.found("frozen", names[i], diagnosis="its gradient is wrong where other arguments are frozen")

    def as_good(self, i: int, a: Tensor, b: Tensor) -> bool:
        """Whether a gradient is as near to the truth as another: kernels are chosen by what wants a gradient."""
        if self.dense is None:
            return False
        expected, best, kappa = (part[i] for part in self.dense)
        measure = Measure(expected, best, kappa, self.length)
        error, other = measure.error(a), measure.error(b)
        allowed = CONDITION.get(self.subject.name, 0.0) / torch.finfo(a.dtype).eps
        return error.ours <= max(error.bound, 16 * other.ours, allowed)

    def guarded(self, dy: list | None) -> None:
        """In guarded and poisoned memory, twice; saved tensors bit for bit as they were saved."""
        zones = Zones()
        part = self.sample.map(zones.place)
        sent = [] if dy is None else [d if d is None else zones.place(d) for d in dy]
        free = {t.untyped_storage().data_ptr() for n, t in zip(self.names, part.tensors(), strict=True)
                if n in self.subject.may_change}  # fmt: skip
        with saved() as kept, Poisoned(zones):
            grads: tuple = ()
            try:
                ours = flat(self.call(self.candidate, part))
                snapshot = Snapshot([t for t in kept if t.untyped_storage().data_ptr() not in free])
                if self.trials.backward and dy is not None and any(o.requires_grad for o in ours):
                    grads = gradients(ours, part, sent)
            except Exception:  # the call itself has been seen to work: it is the guards that it does not take
                self.trials.report.note("some calls do not run in guarded memory, which is not tried there")
                return
        if snapshot.changed():
            self.found("saved tensor changed", "by the backward", diagnosis="a second backward finds other numbers")
        if zones.broken():
            self.found("out of bounds", "writes", diagnosis="it writes before or after its tensors' memory")
        plain = gradients(self.ours, self.part, dy) if grads and dy is not None and not self.writes else ()
        for what, news, olds in (("the output", ours, self.ours), ("the gradient", grads if plain else (), plain)):
            for a, b in zip(news, olds, strict=True):
                if a is None or b is None or equal_bits(a, b):
                    continue
                if bool((a.isnan() & ~b.isnan()).any()):
                    self.found("out of bounds", what, diagnosis="it depends on memory outside of its tensors, or on memory "
                               "that was never written")  # fmt: skip
                elif not similar(a, b):
                    self.found("run to run", what, diagnosis="the same call gives another answer")
                else:
                    self.trials.report.note("the same call differs in the last bits from run to run")

    def again(self, dy: list | None) -> None:
        """Other numbers: in new tensors, and in the same; an answer that is kept by address or identity is the old one."""
        other = renamed(fresh(self.sample, 7), "fresh")
        if not accepted(other) or not self.subject.inside(other):
            return
        before, trial = self.trials.faults, type(self)(self.trials, other)
        trial.run(deep=False)
        if not trial.alive or not self.judged or self.trials.faults > before:
            return
        part = self.sample.map(lambda t: t.detach().clone().requires_grad_(t.requires_grad))
        news = []
        for numbers in (None, other):
            with torch.no_grad():
                for t, new in zip(part.tensors(), numbers.tensors() if numbers is not None else (), strict=False):
                    t.copy_(new)
            news = self.attempt(
                "cached", "a second call with other numbers in the same tensors", lambda: self.answers(part, dy)
            )
            if not self.alive:
                return
        olds = self.attempt("raises", "a second backward", lambda: self.answers(other.map(copier()), dy))
        if not self.alive:
            return
        names = [*("the output" for _ in trial.ours), *(f"the gradient of {n}" for n in self.learning_names)]
        for what, a, b in zip(names, news, olds, strict=False):
            if not similar(a, b):
                text = "other numbers in the same tensors do not give what they give in new tensors: something is kept"
                self.found("cached", what, diagnosis=text)

    def answers(self, sample: Sample, dy: list | None) -> list:
        """Outputs and gradients."""
        outputs = flat(self.call(self.candidate, sample))
        learns = dy is not None and self.trials.backward and any(o.requires_grad for o in outputs)
        sent = [None if d is None else d.clone() for d in dy or ()]
        return [*outputs, *(gradients(outputs, sample, sent) if learns else ())]
