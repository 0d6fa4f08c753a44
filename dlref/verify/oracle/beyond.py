"""Beyond the first derivative: of each transformation, whether a candidate is right, refuses, or is silently wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...core.compat import fake_tensor_mode
from ...samples import RANDOM, Sample, exactly, flat, layouts, run
from ...samples.edges import FIXED, distinct
from ..crossing import EDGE
from . import origin
from .care import copier, restored, surroundings
from .report import ABSENT, REFUSED, RIGHT, WRONG
from .trials import Subject, Trials

LIMIT = 3000  # numbers in a sample
FEATURES = ("double backward", "jvp", "vmap", "torch.compile", "autocast", "fake tensors", "opcheck")
Answer = tuple[str, str]  # status, and in words what is wrong


class Refused(Exception):
    pass


def beyond(trials: Trials, found: list[Sample], operator: Any = None) -> None:
    """Try every feature on the smallest suitable samples; what is silently wrong is a finding."""
    subject, statuses = trials.subject, trials.report.beyond
    usable = [s for s in found if ("/" not in s.where or "to33" in s.where) and not subject.missing(s)
              and sum(t.numel() for t in s.tensors()) <= LIMIT and smooth(s)
              and (not s.name.startswith(FIXED) or "grad" in s.where)]  # fmt: skip
    usable = sorted(usable, key=lambda s: (-len(s.learning()), -sum(t.numel() for t in s.learning())))
    # Of several options, one with fewer arguments, and one of more numbers, of which some fall on every branch. The hard
    # samples lie on kinks, as may features, where derivatives beyond the first are nobody's: they serve where there are no
    # others.
    usable = [s for s in usable if not s.where.startswith("hard") and EDGE not in s.where] or usable
    usable = [s for s in usable if s.learning()[0].numel() >= 6] or usable  # of one or two, much is nought by structure
    chosen = distinct([s for s in usable if "/" not in s.where])[:2]
    chosen += [s for s in usable if "/" not in s.where and len(s.learning()) < len(usable[0].learning())][:1]
    chosen += distinct([s for s in usable if "/" in s.where])[:2]
    # A first derivative that is wrong is told as that, and not once more as whatever is made of it.
    sound = {id(s) for s in chosen if as_torch(subject, s)}
    features: dict[str, Callable[[Subject, Sample], Answer]] = {
        "double backward": double_backward, "jvp": jvp, "vmap": vmap, "torch.compile": compiled, "autocast": autocast,
        "fake tensors": fake,
    }  # fmt: skip
    for name, test in features.items():
        status = ABSENT
        for sample in chosen if name not in ("torch.compile",) else chosen[:1]:
            if name in ("double backward", "jvp") and not (trials.backward and id(sample) in sound):
                continue
            if subject.name in RANDOM and name in ("vmap", "jvp", "torch.compile"):  # they draw otherwise
                continue
            before = surroundings()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    answer, words = test(subject, sample.map(copier()))
            except Refused:
                answer, words = REFUSED, ""
            finally:
                restored(before)
                origin.put_back()
            if answer == WRONG:
                trials.found(sample, name, "silently wrong", diagnosis=words)
            status = max(status, answer, key=(ABSENT, RIGHT, REFUSED, WRONG).index)
        statuses[name] = status
    if operator is not None and chosen:
        statuses["opcheck"] = opcheck(trials, operator, chosen[0])


def smooth(sample: Sample) -> bool:
    return bool(sample.learning()) and all(bool(t.detach().isfinite().all()) for t in sample.learning())


def ask(action: Callable[[], Any]) -> Any:
    """The answer, or Refused where the candidate raises."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        raise Refused from error


def agree(ours: list, theirs: list, rough: float) -> bool:
    sizes = [0.0 if b is None or not b.numel() else float(b.detach().abs().nan_to_num(0, 0, 0).max()) for b in theirs]
    if len(ours) != len(theirs):
        return False
    for a, b, own in zip(ours, theirs, sizes, strict=True):
        if b is None:
            continue
        a = torch.zeros_like(b) if a is None else a
        if a.shape != b.shape:
            return False
        size = max(own, 1e-2 * max(sizes), 1e-6)  # one of them may be nought as a difference of numbers like the others
        if not torch.allclose(exactly(a.detach()), exactly(b.detach()), rtol=rough, atol=rough * size, equal_nan=True):
            return False
    return True


def tolerance(dtype: torch.dtype) -> float:
    return {torch.float64: 1e-8, torch.float32: 2e-3}.get(dtype, 0.1)


def eager(function: Callable, sample: Sample) -> tuple[list, list]:
    """The outputs, and the gradients of what learns for random upstream gradients."""
    part = sample.map(copier())
    outputs = flat(run(function, part))
    learning = [o for o in outputs if o.requires_grad]
    if not learning:
        return outputs, []
    dy = [None if d is None else d.clone() for d in next(layouts(learning))[1]]
    return outputs, list(torch.autograd.grad(learning, part.learning(), dy, allow_unused=True))


def as_torch(subject: Subject, sample: Sample) -> bool:
    """Whether the candidate's outputs and gradients, as it is called, are torch's."""
    rough = tolerance(sample.learning()[0].dtype)
    try:
        ours, theirs = eager(subject.candidate(sample), sample), eager(sample.builtin, sample)
        return agree(ours[0], theirs[0], rough) and (not theirs[1] or agree(ours[1], theirs[1], rough))
    except (Exception, SystemExit):
        return False


def as_itself(subject: Subject, sample: Sample, answers: tuple[list, list], rough: tuple[float, float]) -> bool:
    """Whether the answers are the candidate's own in an ordinary call: what is wrong in that is told there."""
    own = ask(lambda: eager(subject.candidate(sample), sample))
    return agree(answers[0], own[0], rough[0]) and (not answers[1] or not own[1] or agree(answers[1], own[1], rough[1]))


def double_backward(subject: Subject, sample: Sample) -> Answer:
    def second(function: Callable) -> list | None:
        part = sample.map(lambda t: t.detach().clone().requires_grad_(t.requires_grad))
        outputs = [o for o in flat(run(function, part)) if o.requires_grad]
        if not outputs:
            return None
        dy = [d.clone().requires_grad_() for d in next(layouts(outputs))[1] if d is not None]
        learning = part.learning()
        grads = torch.autograd.grad(outputs, learning, dy, create_graph=True, allow_unused=True)
        generator = torch.Generator().manual_seed(3)
        total = [(g, torch.randn(g.shape, generator=generator, dtype=torch.float64, device="cpu").to(g.device, g.dtype))
                 for g in grads if g is not None]  # fmt: skip
        kept = [(g, u) for g, u in total if g.requires_grad]
        if not kept:
            return [None] * (len(learning) + len(dy))
        # By backward and not by grad, which would pass over the node that a refusal leaves in the graph.
        torch.autograd.backward([g for g, _ in kept], [u for _, u in kept])
        return [t.grad for t in (*learning, *dy)]

    try:
        theirs = second(subject.true(sample))
    except RuntimeError:
        return ABSENT, ""
    if theirs is None:
        return ABSENT, ""
    ours = ask(lambda: second(subject.candidate(sample)))
    if ours is None or not agree(ours, theirs, tolerance(sample.learning()[0].dtype)):
        lost = ours is None or all(g is None for g in ours)
        words = "the gradient is cut off from the graph" if lost else "the second derivative is another one"
        return WRONG, words + ": write the gradient in differentiable operations, or mark it @once_differentiable"
    return RIGHT, ""


def primal(subject: Subject, sample: Sample, function: Callable) -> tuple[Callable, list[Tensor]]:
    """The function of the tensors that learn alone."""
    learning = sample.learning()

    def of(*values: Tensor) -> list[Tensor]:
        swap = dict(zip(map(id, learning), values, strict=True))
        outputs = flat(run(function, sample.map(lambda t: swap.get(id(t), t.detach()))))
        return [o for o in outputs if o.is_floating_point() or o.is_complex()]

    return of, [t.detach().clone() for t in learning]


def jvp(subject: Subject, sample: Sample) -> Answer:
    def forward(function: Callable) -> list:
        of, values = primal(subject, sample, function)
        generator = torch.Generator().manual_seed(4)
        tangents = [
            torch.randn(v.shape, generator=generator, dtype=torch.float64, device="cpu").to(v.device, v.dtype)
            for v in values
        ]
        return list(torch.func.jvp(lambda *v: tuple(of(*v)), tuple(values), tuple(tangents))[1])

    try:
        theirs = forward(subject.true(sample))
    except (RuntimeError, NotImplementedError):
        return ABSENT, ""
    ours = ask(lambda: forward(subject.candidate(sample)))
    return (
        (RIGHT, "")
        if agree(ours, theirs, tolerance(sample.learning()[0].dtype))
        else (WRONG, "the forward-mode derivative is another one")
    )


def vmap(subject: Subject, sample: Sample) -> Answer:
    def batched(function: Callable) -> list:
        of, values = primal(subject, sample, function)
        stacked = [torch.stack([v, v * 0.5, v * 1.25]) for v in values]
        return list(torch.vmap(lambda *v: tuple(of(*v)))(*stacked))

    def looped(function: Callable) -> list:
        of, values = primal(subject, sample, function)
        rows = [of(*(v * s for v in values)) for s in (1.0, 0.5, 1.25)]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    try:
        theirs = looped(subject.true(sample))
    except RuntimeError:
        return ABSENT, ""
    ours, rough = ask(lambda: batched(subject.candidate(sample))), tolerance(sample.learning()[0].dtype)
    if agree(ours, theirs, rough) or agree(ours, ask(lambda: looped(subject.candidate(sample))), rough):
        return RIGHT, ""
    return WRONG, "a batch by torch.vmap is another result"


def compiled(subject: Subject, sample: Sample) -> Answer:
    candidate = subject.candidate(sample)
    torch.compiler.reset()

    answers = ask(lambda: eager(torch.compile(candidate, backend="aot_eager"), sample))
    torch.compiler.reset()
    expected, rough = eager(sample.builtin, sample), tolerance(sample.learning()[0].dtype)
    if agree(answers[0], expected[0], rough) and (
        not answers[1] or not expected[1] or agree(answers[1], expected[1], rough)
    ):
        return RIGHT, ""
    if as_itself(subject, sample, answers, (rough, rough)):
        return RIGHT, ""
    return WRONG, "compiled, it gives another output or gradient"


def autocast(subject: Subject, sample: Sample) -> Answer:
    device = sample.tensors()[0].device.type
    if sample.learning()[0].dtype != torch.float32:
        return ABSENT, ""

    def under(function: Callable) -> tuple[list, list]:
        def cast(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(device, torch.bfloat16):
                return function(*args, **kwargs)

        return eager(cast, sample)

    try:
        theirs = under(sample.builtin)
    except RuntimeError:
        return ABSENT, ""
    ours = ask(lambda: under(subject.candidate(sample)))
    if agree(ours[0], theirs[0], 0.1) and (not ours[1] or not theirs[1] or agree(ours[1], theirs[1], 0.2)):
        return RIGHT, ""
    if as_itself(subject, sample, ours, (0.1, 0.2)):
        return RIGHT, ""
    return WRONG, "under autocast to bfloat16 it gives another output or gradient"


def fake(subject: Subject, sample: Sample) -> Answer:
    FakeTensorMode = fake_tensor_mode()

    theirs = flat(run(sample.builtin, sample))

    def shapes() -> list:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            part = sample.map(lambda t: mode.from_tensor(t.detach()))
            return [
                (tuple(o.shape), o.dtype, o.device.type)
                for o in flat(subject.candidate(sample)(*part.args, **part.kwargs))
            ]

    ours = ask(shapes)
    own = lambda outputs: [(tuple(o.shape), o.dtype, o.device.type) for o in outputs]  # noqa: E731
    if ours == own(theirs) or ours == own(ask(lambda: flat(run(subject.candidate(sample), sample)))):
        return RIGHT, ""
    return WRONG, f"of fake tensors it makes {ours[:2]}"


def opcheck(trials: Trials, operator: Any, sample: Sample) -> str:
    """torch.library.opcheck of a custom operator; the tests that it fails are findings."""
    candidate = trials.subject.candidate(sample)
    captured: list[tuple[tuple, dict]] = []

    class Capture:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            captured.append((args, kwargs))
            return operator(*args, **kwargs)

    adapted = candidate
    original, adapted.function = adapted.function, Capture()  # type: ignore[attr-defined]
    try:
        run(adapted, sample)
    finally:
        adapted.function = original  # type: ignore[attr-defined]
    args, kwargs = captured[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = torch.library.opcheck(operator, args, kwargs, raise_exception=False)
    failed = {k: v for k, v in results.items() if v != "SUCCESS"}
    for name, why in failed.items():
        trials.found(sample, "opcheck", name, diagnosis=" ".join(str(why).split())[:300])
    return WRONG if failed else RIGHT
