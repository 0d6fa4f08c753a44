"""Options that meet: calls in which two options of an operation are off their defaults, and nothing else is.

A *setting* is an option at a value that is not its default (of numbers any, of strings, flags and dtypes each), an optional
tensor that is given, or a *feature* that no option says: a row that is ignored, a row that is masked out. It *shows* in a
call where the answer, value or gradient, is another one without it. Two settings meet in a call in which both show; `crossed`
makes, of the calls that are there, one for each two that can meet, with everything else at its default wherever torch
takes that, and a few in which as many settings as possible meet. torch's own function says which are calls.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.pair import OPS
from ..samples import MUTATING, Sample, flat, gradients, layouts, run, samples, supported
from ..samples.edges import accepted, distinct, resize
from .features import ended, ignored, improbable, masked_row, met, no_blank, padded, set_to, zero_row

# What says nothing about the result, is given up by torch, leads to answers of another layout, or (the largest norm of an
# embedding) writes into an argument that learns.
NO_OPTIONS = {"size_average", "reduce", "_stacklevel", "inplace", "out", "sparse", "options", "max_norm", "norm_type"}
# Values of options that no sample has.
VALUES: dict[tuple[str, str], list[Any]] = {
    ("interpolate", "antialias"): [True],
    **{(name, "dtype"): [torch.float32] for name in ("softmax", "softmin", "log_softmax")},
}  # fmt: skip
MOST = 2000  # numbers in a call that others are made of
KINDS = 40  # of options, of which calls are made larger
FEW = 8  # calls that it is tried on where one of the two does not show alone, or a third is with them
TRIED = 3  # values of an option that are tried for it

EDGE = "-at-"  # in the name of a call, before its features

REFUSED = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError, ZeroDivisionError)
TENSORS = ("given", "mask")  # kinds of optional tensors

Setting = tuple[str, str]  # an option and the kind of its value; a feature and ""


class Base(NamedTuple):
    """A call that others are made of, its options off their default, and which of its sizes are the same."""

    sample: Sample
    off: dict[str, Any]
    pattern: str


# What an option needs in the call in order to show.
IMPLIED: dict[str, Callable] = {"blank": no_blank, "ignore_index": ignored, "padding_idx": padded, "scale_grad_by_freq": met,
                                "include_last_offset": ended}  # fmt: skip
# What no option says.
FEATURES: dict[str, dict[str, Callable]] = {
    **{name: {"an ignored row": ignored} for name in ("cross_entropy", "nll_loss", "linear_cross_entropy")},
    **{name: {"an index twice": met} for name in ("embedding", "embedding_bag")},
    "scaled_dot_product_attention": {"a row masked out": masked_row},
    "normalize": {"a row of zeros": zero_row("input")},
    "cosine_similarity": {"a row of zeros": zero_row("x1")},
    "gaussian_nll_loss": {"a variance of zero": set_to("var", 0.0)},
    "kl_div": {"a target of zero": set_to("target", 0.0)},
    "poisson_nll_loss": {"a large target": set_to("target", 3.0)},
    "binary_cross_entropy": {"a probability of zero": improbable},
    "binary_cross_entropy_with_logits": {"a large logit": set_to("input", 50.0)},
    "softplus": {"a large input": set_to("input", 30.0)},
    "smooth_l1_loss": {"a large difference": set_to("input", 9.0)},
    "huber_loss": {"a large difference": set_to("input", 9.0)},
}  # fmt: skip


def kind(value: Any) -> str:
    """What values of an option are one setting."""
    if isinstance(value, Tensor):
        return "mask" if value.dtype == torch.bool else "given"
    if value is None or isinstance(value, (bool, str, torch.dtype)):
        return str(value)
    if isinstance(value, (int, float)):
        return str(float(value)) if value == 0 or math.isinf(value) else "another"
    return "another"


def plainness(value: Any) -> tuple:
    """The order in which values of a kind are tried: uneven lists, then numbers between nought and one, then others."""
    if isinstance(value, (tuple, list)):
        return (len(set(value)) < 2, 0.0)
    known = isinstance(value, (int, float)) and value > 0
    return (not (known and value < 1), abs(math.log(2 * value)) if known else math.inf)


def same(a: Any, b: Any) -> bool:
    """Whether two values of an option are equal; tensors never are."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    return a is b or ((type(a) is type(b) or {type(a), type(b)} <= {int, float}) and a == b)


class Options:
    """The options of an operation's calls: which are off their default, and the same call with another value."""

    most = 12  # calls that a pair is tried on
    thirds = True  # whether two that do not meet alone are tried with a third

    def __init__(self, name: str):
        self.name = name
        self.parameters = OPS[name].__signature__.parameters
        self.features, self.implied = FEATURES.get(name, {}), IMPLIED
        self.required = {n for n, p in self.parameters.items() if p.default is p.empty}
        self.defaults = {n: p.default for n, p in self.parameters.items() if n not in NO_OPTIONS | self.required}

    def given(self, sample: Sample) -> dict[str, Any]:
        """Every argument by name, defaults too."""
        bound = OPS[self.name].__signature__.bind(*sample.args, **sample.kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def off(self, sample: Sample) -> dict[str, Any]:
        """The options that are not at their default."""
        given = self.given(sample)
        return {n: given[n] for n, d in self.defaults.items() if not same(given[n], d)}

    def changed(self, sample: Sample, changes: dict[str, Any]) -> Sample | None:
        """The call with other values of some arguments."""
        names = list(self.parameters)
        at = dict(zip(names, range(len(sample.args)), strict=False))
        args = tuple(changes.get(names[i], v) for i, v in enumerate(sample.args))
        kwargs = {**sample.kwargs, **{n: v for n, v in changes.items() if n not in at}}
        return Sample(sample.builtin, args, kwargs, sample.where, sample.name)

    def family(self, sample: Sample) -> str:
        """What a call must have in common with those that others are made of."""
        given = self.given(sample)
        return repr([isinstance(given[n], Tensor) and given[n].is_floating_point() for n in sorted(self.required)])

    def reset(self, sample: Sample, keep: set[str]) -> Sample:
        """The call with every option but these at its default; where torch needs some of the others, with those."""
        off = [n for n in self.off(sample) if n not in keep]
        whole = self.without(sample, off)
        if whole is not None and accepted(whole):
            return whole
        for name in off:
            less = self.without(sample, [name])
            if less is not None and accepted(less):
                sample = less
        return sample

    def without(self, sample: Sample, names: list[str]) -> Sample | None:
        """The call with these options left out, or at their default where an argument comes after them."""
        args = tuple(self.defaults[n] if n in names else v for n, v in zip(self.parameters, sample.args, strict=False))
        kwargs = {n: v for n, v in sample.kwargs.items() if n not in names}
        return Sample(sample.builtin, args, kwargs, sample.where, sample.name)

    def resized(self, sample: Sample, old: int, new: int) -> Sample | None:
        """The call with every dimension of that size, and the numbers in lists, another; None where that is too large."""
        made = resize(sample, old, new)
        return made if made is not None and accepted(made) else resize(sample, old, new, lists=True)

    def featured(self, sample: Sample, feature: Callable) -> Sample | None:
        changes = feature(self.given(sample))
        return None if changes is None else self.changed(sample, changes)

    def extra(self, name: str) -> list[Any]:
        """Values of an option that no sample has."""
        default = self.defaults[name]
        found = VALUES.get((self.name, name), [])
        return [not default, *found] if isinstance(default, bool) else found

    def fallback(self, name: str) -> list[Any]:
        """Values of an option of which the samples have none but the default."""
        default = self.defaults[name]
        return [2 * default + 0.3, 0.3] if isinstance(default, float) else []


def settings(options: Options, found: list[Sample]) -> dict[Setting, list[Any]]:
    """Every setting and the values that it has in the samples, the plainest first."""
    known: dict[Setting, dict[str, Any]] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, torch.dtype) and any(value == t.dtype for s in found[:1] for t in s.learning()):
            return  # the dtype that the answer has without it
        key = repr(tuple(value.shape)) if isinstance(value, Tensor) else repr(value)
        known.setdefault((name, kind(value)), {}).setdefault(key, value)

    for sample in found:
        for name, value in options.off(sample).items():
            add(name, value)
    for name, default in options.defaults.items():
        for value in options.extra(name):
            if not same(value, default):
                add(name, value)
        if not any(n == name for n, _ in known):
            for value in options.fallback(name):
                add(name, value)
    values = {s: sorted(v.values(), key=plainness)[:TRIED] for s, v in known.items()}
    return {**values, **{(feature, ""): [] for feature in options.features}}


def usable(found: list[Sample]) -> list[Sample]:
    """Calls of finite, different numbers and moderate size, the larger first."""

    def fit(sample: Sample) -> bool:
        tensors, learning = sample.tensors(), sample.learning()
        return (
            bool(learning) and all(t.numel() and not bool(t.detach().isnan().any()) for t in tensors)
            and sum(t.numel() for t in tensors) <= MOST and bool(learning[0].detach().isfinite().all())
            and len(learning[0].detach().unique()) > 2
        )  # fmt: skip

    fitting = list(filter(fit, found))
    larger = [g for s in distinct(fitting)[:KINDS] if (g := grown(s)) is not None and fit(g)]
    return [*larger, *sorted(fitting, key=lambda s: -sum(t.numel() for t in s.tensors()))]


def grown(sample: Sample) -> Sample | None:
    """The call with every small dimension larger, so that a mean over what remains is not one of them; None if it has none."""
    larger = sample
    for old in sorted({n for t in sample.learning() for n in t.shape if 1 < n < 4}, reverse=True):
        for lists in (False, True):
            made = resize(larger, old, old + 3, lists)
            if made is not None and accepted(made):
                larger = made
                break
    return larger if larger is not sample else None


def answer(sample: Sample) -> tuple[list, list] | None:
    """Outputs and gradients; None where torch does not take the call, or it lies outside the domain: an output is NaN."""
    if sample.name in MUTATING:
        sample = sample.map(lambda t: t.detach().clone().requires_grad_(t.requires_grad))
    try:
        mutates = sample.name in MUTATING
        output = sample.builtin(*sample.args, **sample.kwargs) if mutates else run(sample.builtin, sample)
        outputs = flat(output)
        if any(bool(o.isnan().any()) for o in outputs):
            return None
        dy = next((d for _, d in layouts(outputs)), None)
        grads = gradients(output, sample, dy) if dy and any(o.requires_grad for o in outputs) else ()
    except REFUSED:
        return None
    states = [t for t in sample.tensors() if not t.requires_grad] if mutates else []
    return [*(o.detach() for o in outputs), *states], list(grads)


def differ(a: tuple[list, list] | None, b: tuple[list, list] | None) -> bool:
    """Whether the values are others; of calls of as many tensors, whether the gradients are."""
    if a is None or b is None:
        return True
    parts = zip(a, b, strict=True)
    return any((len(x) == len(y) or not i) and unlike(x, y) for i, (x, y) in enumerate(parts))


def unlike(a: list, b: list) -> bool:
    wide = lambda t: t.to(torch.complex128)  # noqa: E731
    return len(a) != len(b) or any(
        (x is None) != (y is None)
        or (x is not None and (x.shape != y.shape or x.dtype != y.dtype
                               or not torch.allclose(wide(x), wide(y), rtol=1e-6, atol=1e-9, equal_nan=True)))
        for x, y in zip(a, b, strict=True)
    )  # fmt: skip


def put(options: Options, sample: Sample, chosen: dict[Setting, Any]) -> Sample | None:
    """The call with these settings; the features last, which depend on the options."""
    changes = {name: value for (name, what), value in chosen.items() if what}
    made = options.changed(sample, changes) if changes else sample
    for name, what in chosen:
        feature = options.implied.get(name) if what else options.features[name]
        if made is not None and feature is not None:
            made = options.featured(made, feature)
    return made


def together(options: Options, base: Sample, chosen: dict[Setting, Any]) -> Sample | None:
    """The call of the base with these settings and nothing else off its default; None unless each of them shows."""
    plain = options.reset(base, {n for n, _ in chosen})
    made = put(options, plain, chosen)
    if made is None or (told := answer(made)) is None:
        return None
    for setting, value in chosen.items():
        if setting[1] and (isinstance(value, Tensor) or setting[0] not in options.implied):
            other = options.without(made, [setting[0]])
        else:
            other = put(options, options.reset(base, {n for n, _ in chosen} - {setting[0]}),
                        {s: v for s, v in chosen.items() if s != setting})  # fmt: skip
        if other is not None and not differ(told, answer(other)):
            return None
    return made if accepted(made) else None


def bases(options: Options, found: list[Base], wanted: tuple[Setting, ...]) -> list[Base]:
    """The calls to make one of these settings of: those with its tensors and few other options first, no two alike."""
    names = {n for n, _ in wanted}
    tensors = [(n, what) for n, what in wanted if what in TENSORS]

    def far(base: Base) -> tuple[int, int]:
        return sum(n not in base.off or kind(base.off[n]) != what for n, what in tensors), len(base.off.keys() - names)

    chosen: dict[tuple, Base] = {}
    for base in sorted(found, key=far):
        chosen.setdefault((base.pattern, frozenset(base.off.keys() - names)), base)
    near = [b for b in chosen.values() if names <= b.off.keys()]
    other = [b for b in chosen.values() if not names <= b.off.keys()]
    return [b for both in itertools.zip_longest(other, near) for b in both if b is not None]


def meeting(
    options: Options, found: list[Base], wanted: tuple[Setting, ...], values: dict, most: int | None = None
) -> Sample | None:
    """A call in which the settings meet, made of those that are there."""
    for base in bases(options, found, wanted)[: most or options.most]:
        off = base.off
        own = [[off[n]] if what in TENSORS and n in off and kind(off[n]) == what else None for n, what in wanted]
        for chosen in itertools.product(*(v or values[s] or [None] for v, s in zip(own, wanted, strict=True))):
            made = together(options, base.sample, dict(zip(wanted, chosen, strict=True)))
            if made is not None:
                return made
    return None


def among_others(options: Options, found: list[Base], pair: tuple[Setting, ...]) -> Sample | None:
    """A call that is there in which both settings show, whatever else is off its default."""
    names = [n for n, what in pair if what]
    for sample, off, _ in found:
        if len(names) == len(pair) and all(n in off and kind(off[n]) == what for n, what in pair):
            told = answer(sample)
            others = (options.without(sample, [n]) for n in names)
            if told is not None and all(o is None or differ(told, answer(o)) for o in others):
                return sample.map(lambda t: t)
    return None


def compatible(wanted: tuple[Setting, ...]) -> bool:
    """Whether no option has two values."""
    return len({n for n, _ in wanted}) == len(wanted)


def made_of(options: Options, found: list[Sample]) -> Iterator[tuple[tuple[Setting, ...], Sample | None]]:
    """Each setting, each two, and as many as can be with each, with a call in which they meet; None where there is none."""
    values = settings(options, found)
    first = {s: v[:1] for s, v in values.items()}
    for family in families(options, usable(found)):
        shown = {}
        for setting in values:
            shown[setting] = meeting(options, family, (setting,), values)
            yield (setting,), shown[setting]
        known, pairs = list(values), set()
        for pair in itertools.combinations(known, 2):
            if not compatible(pair):
                continue
            alone = all(shown[s] is not None for s in pair)
            sample = meeting(options, family, pair, values, None if alone else FEW)
            if sample is not None:
                pairs.add(frozenset(pair))
            elif options.thirds:  # one may show with a third alone, as a dampening where there is a momentum
                thirds = ((*pair, s) for s in known if s not in pair and compatible((*pair, s)))
                sample = next(filter(None, (meeting(options, family, three, first, FEW) for three in thirds)), None)
                sample = sample or among_others(options, family, pair)
            yield pair, sample
        done: set = set()
        for i, start in enumerate(known):
            group: tuple[Setting, ...] = (start,)
            best = None
            for other in (*known[i + 1 :], *known[:i]):
                if all(frozenset((other, s)) in pairs for s in group):
                    sample = meeting(options, family, (*group, other), values)
                    if sample is not None:
                        group, best = (*group, other), sample
            if len(group) > 2 and frozenset(group) not in done:
                done.add(frozenset(group))
                yield group, best


def families(options: Options, found: list[Sample]) -> list[list[Base]]:
    """The calls by the kinds of what is required: class indices and probabilities are two kinds of target."""
    groups: dict[str, list[Base]] = {}
    for sample in found:
        groups.setdefault(options.family(sample), []).append(Base(sample, options.off(sample), pattern(sample)))
    return list(groups.values())


def pattern(sample: Sample) -> str:
    """The dtypes and the sizes, each numbered as it comes: which of them are the same."""
    sizes: dict[int, int] = {}
    return repr([([sizes.setdefault(n, len(sizes)) for n in t.shape], t.dtype) for t in sample.tensors()])


def crossed(options: Options, found: list[Sample]) -> list[Sample]:
    """The calls made of these in which the options meet."""
    return named(made_of(options, found))


def named(met: Iterable[tuple[tuple[Setting, ...], Sample | None]]) -> list[Sample]:
    """The calls, each named by what meets in it: options, and after EDGE features, whose numbers may lie on a kink."""
    made = []
    for i, (wanted, sample) in enumerate(met):
        if sample is not None:
            options, features = ("-".join(n for n, what in wanted if bool(what) == known) for known in (True, False))
            sample.where = "-".join(filter(None, (f"crossed-{i}", options)))
            sample.where += EDGE + features.replace(" ", "_") if features else ""
            made.append(sample)
    return made


@functools.cache
def crossings(name: str) -> list[tuple[tuple[Setting, ...], Sample | None]]:
    """What meets among an operation's options, and the calls in float64."""
    return list(made_of(Options(name), samples(name, torch.float64)))


def crossed_samples(name: str, dtype: torch.dtype, device: str = "cpu") -> list[Sample]:
    """Those in another dtype, where torch takes them."""

    def cast(t: Tensor) -> Tensor:
        t_dtype = dtype if t.is_floating_point() else t.dtype
        return t.detach().to(device, t_dtype, copy=True).requires_grad_(t.requires_grad)

    if dtype.is_complex:
        return []
    if torch.float64 not in supported(name, backward=True):
        return []
    made = [s.map(cast) for s in named(crossings(name))]
    return [s for s in made if dtype == torch.float64 or accepted(s)]
