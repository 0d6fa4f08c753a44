"""Samples that are made of other samples: sizes off the powers of two, one, none, many rows; values all equal, nought,
large and small; strided memory; optional arguments absent. torch's own function decides which of them are calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from ..core.pair import OPS
from . import Sample, exactly, lifted, run

SIZES = (0, 1, 33, 1025)
ROWS = 65_539
LARGEST = 60_000  # numbers in a sample
# The indices of max_unpool must not meet, which those of another size would.
FIXED = ("max_unpool",)
# Whose integers say where others begin: torch reads and writes beyond its memory where they are not in order.
IN_ORDER = {"embedding_bag"}


def edges(found: list[Sample], rows: bool = False, sizes: bool = True) -> Iterator[Sample]:
    """The samples made of these; with `rows`, of more rows than a 16-bit index counts, too; `sizes`: of other sizes."""
    if not found or found[0].name.startswith(FIXED):
        return
    seen: set = set()
    for base in distinct(found)[:4]:
        for made in itertools.chain(
            resized(base, rows) if sizes else (), revalued(base), absent(base) if sizes else ()
        ):
            key = (made.where.split("/", 1)[1], [(t.shape, t.dtype) for t in made.tensors()], options(made))
            if repr(key) not in seen and accepted(made):
                seen.add(repr(key))
                yield made
    for base in distinct(found)[:6]:
        for how, change in (("strided", strided), ("permuted", permuted)):
            made = renamed(base.map(change), how)
            if any(t.dim() > (how == "permuted") for t in base.tensors()) and accepted(made):
                yield made


def distinct(found: list[Sample]) -> list[Sample]:
    """Samples of distinct options, those with the most arguments first."""
    chosen: dict[str, Sample] = {}
    for sample in found:
        if sample.learning() and all(t.numel() for t in sample.tensors()):
            chosen.setdefault(repr(options(sample)), sample)
    return sorted(chosen.values(), key=lambda s: (-len(s.learning()), -sum(t.numel() > 1 for t in s.tensors())))


def options(sample: Sample) -> Any:
    """The call without its numbers: what a sample is of."""
    return tree_map(lambda v: v.dim() if isinstance(v, Tensor) else v, (sample.args, sample.kwargs))


def accepted(sample: Sample) -> bool:
    """Whether torch's function takes it, forward and backward, and in float64."""
    try:
        output = run(sample.builtin, sample)
        run(sample.builtin, sample.map(lifted))
        learning = [o for o in tree_flatten(output)[0] if isinstance(o, Tensor) and o.requires_grad]
        if learning:
            torch.autograd.grad(learning, sample.learning(), [torch.ones_like(o) for o in learning], allow_unused=True)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError):
        return False
    return sum(t.numel() for t in tree_flatten(output)[0] if isinstance(t, Tensor)) <= 20 * ROWS


def renamed(sample: Sample, how: str) -> Sample:
    sample.where = f"{sample.where}/{how}"
    return sample


def like(t: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """New numbers of another shape, in the range of those that are there; labels are drawn of the labels."""
    flat = t.detach().flatten()
    if not t.numel():
        new = flat.new_zeros(shape)
    elif t.is_complex():
        new = torch.randn(shape, generator=generator, dtype=torch.complex128)
    elif t.is_floating_point() and not bool((flat == flat.round()).all()):
        finite = exactly(flat[flat.isfinite()])
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
        low, high = max(low, -4.0) if high > -4 else low, min(high, 4.0) if low < 4 else high
        new = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")
    else:
        new = flat[torch.randint(0, t.numel(), shape, generator=generator).to(t.device)]
    return new.to(t.device, t.dtype).requires_grad_(t.requires_grad)


def fresh(sample: Sample, seed: int = 0) -> Sample:
    """The same call of other numbers."""
    generator = torch.Generator().manual_seed(seed)
    stays = lambda t: sample.name in IN_ORDER and not t.is_floating_point()  # noqa: E731
    return sample.map(lambda t: t if stays(t) else like(t, tuple(t.shape), generator))


def resize(sample: Sample, old: int, new: int, lists: bool = False) -> Sample | None:
    """Every dimension of that size becomes the new one, as do the numbers in lists (normalized_shape) where asked for.

    To nought and to many rows goes only a first dimension, the batch: the others say what is computed.
    """
    if sample.name in IN_ORDER:
        return None
    generator = torch.Generator().manual_seed(new)
    limit = 20 * ROWS if new == ROWS else LARGEST
    shape = lambda t: tuple(new if n == old and (new not in (0, ROWS) or not d) else n for d, n in enumerate(t.shape))  # noqa: E731
    if sum(math.prod(shape(t)) for t in sample.tensors()) > limit:
        return None

    def change(v: Any) -> Any:
        if isinstance(v, Tensor):
            return like(v, shape(v), generator)
        if lists and isinstance(v, (tuple, list)) and v and all(type(n) is int for n in v):
            return tuple(new if n == old else n for n in v)
        return v

    listed = lambda v: isinstance(v, (tuple, list)) and all(type(n) is int for n in v)  # noqa: E731
    args, kwargs = tree_map(change, (sample.args, sample.kwargs), is_leaf=listed)
    return Sample(sample.builtin, args, kwargs, sample.where, sample.name)


def resized(sample: Sample, rows: bool) -> Iterator[Sample]:
    sizes = dict.fromkeys(n for t in sample.learning()[:2] for n in t.shape)
    for old in sizes:
        for new in SIZES:
            if new == old or (not new and old != sample.learning()[0].shape[0]):
                continue
            made = resize(sample, old, new)
            if made is not None:
                yield renamed(made if accepted(made) else resize(sample, old, new, lists=True) or made, f"{old}to{new}")
    first = next((t for t in sample.tensors() if t.dim()), None)
    if rows and first is not None and (made := resize(sample, first.shape[0], ROWS)) is not None:
        yield renamed(made, "rows")


def emptied(sample: Sample) -> Iterator[Sample]:
    """Any dimension of the first tensor, and any two, of size 0: of it alone, and of every tensor that shares the size."""
    tensors = sample.tensors()
    places = range(tensors[0].dim())
    seen: set = set()
    for chosen in itertools.chain(itertools.combinations(places, 1), itertools.combinations(places, 2)):
        sizes = {tensors[0].shape[d] for d in chosen}
        for tied in (False, True):

            def change(t: Tensor, chosen=chosen, sizes=sizes, tied=tied) -> Tensor:
                shape = [0 if (t is tensors[0] and d in chosen) or (tied and n in sizes) else n
                         for d, n in enumerate(t.shape)]  # fmt: skip
                return t if shape == list(t.shape) else t.detach().new_zeros(shape).requires_grad_(t.requires_grad)

            made = sample.map(change)
            if (shapes := tuple(t.shape for t in made.tensors())) not in seen:
                seen.add(shapes)
                yield renamed(made, f"empty{chosen}{'-tied' if tied else ''}")


def revalued(sample: Sample) -> Iterator[Sample]:
    """The first argument's numbers changed: all equal, nought, a hundred times as large and a thousandth."""
    first = sample.learning()[0]
    changes = {
        "equal": lambda t: torch.full_like(t, float(t.detach().flatten()[0].real) or 0.5),
        "nought": torch.zeros_like,
        "large": lambda t: t.detach() * 100,
        "small": lambda t: t.detach() * 1e-3,
    }
    for how, change in changes.items():
        swap = lambda t, change=change: change(t).requires_grad_(t.requires_grad) if t is first else t  # noqa: E731
        yield renamed(sample.map(swap), how)


def absent(sample: Sample) -> Iterator[Sample]:
    """Each optional tensor left out in turn, and all of them."""
    parameters = OPS[sample.name].__signature__.parameters if sample.name in OPS else {}
    optional = [n for n, p in parameters.items() if p.default is None]
    names = list(parameters)
    given = {**dict(zip(names, sample.args, strict=False)), **sample.kwargs}
    present = [n for n in optional if isinstance(given.get(n), Tensor)]
    for left in [[n] for n in present] + ([present] if len(present) > 1 else []):
        args = tuple(None if n in left else v for n, v in zip(names, sample.args, strict=False))
        kwargs = {n: v for n, v in sample.kwargs.items() if n not in left}
        yield renamed(Sample(sample.builtin, args, kwargs, sample.where, sample.name), f"no-{'-'.join(left)}")


def strided(t: Tensor) -> Tensor:
    """The same numbers in memory with gaps, which hold NaN (or what is no index)."""
    if not t.numel() or t.is_sparse:
        return t
    wide = poisoned(t, [2 * n + 1 for n in t.shape])
    view = wide[tuple(slice(1, None, 2) for _ in t.shape)]
    view.copy_(t.detach())
    return view.requires_grad_(t.requires_grad)


def permuted(t: Tensor) -> Tensor:
    """The same numbers with the dimensions in memory the other way round: dense, and not contiguous."""
    order = tuple(reversed(range(t.dim())))
    return t.detach().permute(order).contiguous().permute(order).requires_grad_(t.requires_grad)


def poisoned(t: Tensor, shape: list[int]) -> Tensor:
    """Memory that nobody should read: NaN, or the largest integer."""
    if t.is_floating_point() or t.is_complex():
        return t.new_full(shape, float("nan"), requires_grad=False)
    return t.new_full(shape, True if t.dtype == torch.bool else torch.iinfo(t.dtype).max)
