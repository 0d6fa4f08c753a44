"""Calls that hypothesis draws: any sample with other sizes, memory, dtypes, options, NaN and infinities.

Where torch raises, ours raises; else it equals torch's, NaN for NaN.

200 calls, always the same ones; DLREF_EXAMPLES=2000 draws as many, others each time.
"""

from __future__ import annotations

import copy
import functools
import math
import os
from typing import Any

import pytest
import test_modules
import torch
from harness import MODULES, exactly, flat, gradients, quietly
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlref.builtin import nn as builtin_nn
from dlref.core.pair import OPS
from dlref.manual import nn as manual_nn
from dlref.samples import NAMES, NOT_THE_TRUTH, RANDOM, Sample, lifted, run, samples
from dlref.samples.edges import like, permuted, strided
from dlref.verify.judge import Measure, gradient_slopes, natural, slopes

EXAMPLES = int(os.environ.get("DLREF_EXAMPLES", "200"))
drawn = settings(max_examples=EXAMPLES, derandomize=EXAMPLES == 200, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))  # fmt: skip
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 1e-4, 1e4)  # numbers of every size are the fifty digits'
REFUSED = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    NotImplementedError,
    AssertionError,
    ZeroDivisionError,
    OverflowError,
)


@functools.cache
def bases(name: str) -> list[Sample]:
    found = [s for s in samples(name, torch.float64) if sum(t.numel() for t in s.tensors()) < 2000]
    return found[:: max(1, len(found) // 40)]


@functools.cache
def values_of(name: str, key: Any) -> list[Any]:
    """What the samples give for an option, each once, and of numbers a few more."""
    given = [s.kwargs if isinstance(key, str) else dict(enumerate(s.args)) for s in bases(name)]
    found = [options[key] for options in given if key in options]
    found = list({repr(v): v for v in found if not isinstance(v, (Tensor, list))}.values())
    kinds = {type(v) for v in found}
    return found + [0, 1, 2, -1] * (int in kinds) + [0.0, 0.5, 2.0] * (float in kinds)


# What torch has not on the CPU, or stumbles over in memory that holds nothing: no rule that ours would have to have.
# Whose gradient at NaN is nought or NaN in torch's vectors, and dy where the last elements are taken one by one, as ours is.
LANES = {"relu6", "elu", "celu", "selu", "hardtanh", "hardswish", "hardshrink", "softshrink"}
# Of which torch's kernels read or write beyond their memory where indices, lengths or grids are not what they trust them to be.
TORCH_ENDS = {"ctc_loss", "embedding_bag", "grid_sample", "pdist"}
ONE_DTYPE = {
    "conv_tbc",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "local_linear",
    "lstm_cell",
}
TORCH_HAS_NOT = (
    "not implemented for",
    "cannot reshape tensor of 0 elements",
    "view size is not compatible",
    "select(): index 0 out of range for tensor of size [0]",
)


def resized(draw: Any, sample: Sample) -> Sample:
    """A size that is there becomes another wherever it is, of one tensor or of all."""
    sizes = sorted({n for t in sample.tensors() for n in t.shape})
    if not sizes:
        return sample
    old, new = draw(st.sampled_from(sizes)), draw(st.sampled_from([0, 1, 2, 3, 5]))
    one = draw(st.sampled_from([None, *range(len(sample.tensors()))]))
    chosen = sample.tensors() if one is None else [sample.tensors()[one]]
    generator = torch.Generator().manual_seed(old)

    def change(t: Tensor) -> Tensor:
        return like(t, tuple(new if n == old else n for n in t.shape), generator) if any(t is c for c in chosen) else t

    return sample.map(change)


def moved(draw: Any, sample: Sample) -> Sample:
    """The same numbers elsewhere in memory: with gaps, the dimensions turned round, expanded."""
    how = {"strided": strided, "permuted": permuted, "expanded": expanded}[
        draw(st.sampled_from(["strided", "permuted", "expanded"]))
    ]
    return sample.map(how)


def expanded(t: Tensor) -> Tensor:
    """The first entry of the first dimension in the place of all."""
    return (
        t.detach()[:1].expand(t.shape).requires_grad_(t.requires_grad)
        if t.dim() and len(t) > 1 and t.is_floating_point()
        else t
    )


def special(draw: Any, sample: Sample) -> Sample:
    """One number becomes NaN, an infinity, nought, very small or very large."""
    floating = [t for t in sample.tensors() if t.is_floating_point() and t.numel()]
    if not floating:
        return sample
    chosen, value = floating[draw(st.integers(0, len(floating) - 1))], draw(st.sampled_from(SPECIAL))
    place = draw(st.integers(0, chosen.numel() - 1))
    changed = chosen.detach().clone(memory_format=torch.contiguous_format)
    changed.view(-1)[place] = value
    return sample.map(lambda t: changed.requires_grad_(t.requires_grad) if t is chosen else t)


def other_dtype(draw: Any, sample: Sample) -> Sample:
    """All floating tensors, or one of them, in another dtype."""
    floating = [t for t in sample.tensors() if t.is_floating_point()]
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16]))
    one = draw(st.sampled_from([None, None, None, *range(len(floating))]))
    chosen = floating if one is None else [floating[one]]
    return sample.map(
        lambda t: t.detach().to(dtype).requires_grad_(t.requires_grad) if any(t is c for c in chosen) else t
    )


def other_option(draw: Any, sample: Sample) -> Sample:
    """One option as another sample has it, or a number that nobody asked for."""
    keys = [i for i, v in enumerate(sample.args) if not isinstance(v, (Tensor, list))] + [
        k for k, v in sample.kwargs.items() if not isinstance(v, (Tensor, list))]  # fmt: skip
    keys += sorted(
        {k for s in bases(sample.name) for k, v in s.kwargs.items() if not isinstance(v, (Tensor, list))}
        - set(sample.kwargs)
    )
    if not keys:
        return sample
    key = draw(st.sampled_from(keys))
    value = draw(st.sampled_from(values_of(sample.name, key)))
    args, kwargs = list(sample.args), dict(sample.kwargs)
    if isinstance(key, int):
        args[key] = value
    else:
        kwargs[key] = value
    return Sample(sample.builtin, tuple(args), kwargs, sample.where, sample.name)


CHANGES = {c.__name__: c for c in (resized, moved, special, other_dtype, other_option)}
OF_INPUTS = sorted({"resized", "moved", "special"})


@st.composite
def calls(draw: Any) -> Sample:
    name = draw(st.sampled_from([n for n in NAMES if n not in RANDOM | TORCH_ENDS]))
    found = bases(name)
    sample = found[draw(st.integers(0, len(found) - 1))]
    for change in draw(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=4)):
        sample = CHANGES[change](draw, sample)
    assume(sum(t.numel() for t in sample.tensors()) < 10_000)
    return sample


@functools.cache
def module_cases(name: str, training: bool) -> list:
    return [
        case for case in test_modules.cases(name, training) if sum(t.numel() for t in flat((case[2], case[3]))) < 2000
    ]


@st.composite
def module_calls(draw: Any) -> tuple[Any, Sample]:
    """Our module, and a call of torch's of the same parameters; each call of either is its first."""
    names = [name for name in MODULES if name not in ("CTCLoss", "EmbeddingBag")]  # as `TORCH_ENDS`
    name, training = draw(st.sampled_from(names)), draw(st.booleans())
    found = module_cases(name, training)
    assume(found)
    args, kwargs, inputs, named = found[draw(st.integers(0, len(found) - 1))]
    theirs, ours = (
        functools.partial(first_call, test_modules.build(ns, name, args, kwargs, training))
        for ns in (builtin_nn, manual_nn)
    )
    sample = Sample(theirs, tuple(inputs), named, f"{name}{args}{kwargs}, training={training}", name)
    for change in draw(st.lists(st.sampled_from(OF_INPUTS), min_size=1, max_size=3)):
        sample = CHANGES[change](draw, sample)
    assume(sum(t.numel() for t in sample.tensors()) < 10_000)
    return ours, sample


def first_call(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Of a copy: running statistics, a lazy module's parameters."""
    return copy.deepcopy(module)(*args, **kwargs)


def answer(function: Any, sample: Sample) -> Any:
    """The outputs and a pullback of theirs, or the exception."""
    try:
        with quietly():
            return flat(run(function, sample))
    except REFUSED as error:
        return error


def worse(ours: Tensor, theirs: Tensor, truth: Tensor, kappa: Any, size: float = 0.0, through: Any = ()) -> str | None:
    """What departs: the dtype, the shape, or a number. kappa, size, through: as `Measure` has them."""
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype} {tuple(ours.shape)} for {theirs.dtype} {tuple(theirs.shape)}"
    if not (ours.is_floating_point() or ours.is_complex()):
        return None if torch.equal(ours, theirs) else "other integers"
    if torch.equal(ours.isnan(), theirs.isnan()) and torch.equal(ours.nan_to_num(), theirs.nan_to_num()):
        return None
    if ours.dtype == torch.float64 and torch.equal(ours.isfinite(), theirs.isfinite()) and off(ours, theirs) < 1e-11:
        return None  # what cancels
    found = Measure(theirs, truth, size=size, through=through).error(ours)
    if found.departs:
        found = Measure(theirs, truth, kappa(), 100, size, through).error(ours)
    return f"{found}: {ours}, {theirs}" if found.departs else None


def off(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().abs().nan_to_num(0.0).max()) if ours.numel() else 0.0


def at_infinity(sample: Sample, ours: Tensor, theirs: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Torch's value and the truth, with ours where torch's is by chance: of an infinite argument ours may have the limit where
    torch's multiplies infinity by nought; of NaN a gradient depends on the lane of the vector that it lies in."""
    if ours.shape != theirs.shape or not ours.is_floating_point():
        return theirs, truth
    limit = torch.zeros_like(ours, dtype=torch.bool)
    if any(t.isinf().any() for t in sample.tensors() if t.is_floating_point()):
        limit |= theirs.isnan() & ~ours.isnan()
    if operation(sample) in LANES:
        limit |= sample.tensors()[0].isnan()
    if operation(sample) == "pairwise_distance" and any(t.isnan().any() for t in sample.tensors()):
        limit |= ours.isnan() & (theirs == 0)  # of a distance of NaN
    return torch.where(limit, ours.to(theirs.dtype), theirs), torch.where(limit, exactly(ours), truth)


def outputs_of(sample: Sample) -> list[Tensor]:
    return flat(run(sample.builtin, sample))


def upstream_of(outputs: list[Tensor]) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    draw = lambda o: torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype)  # noqa: E731
    return [draw(o) if o.requires_grad else None for o in outputs]


def gradient_of(outputs: list[Tensor], sample: Sample) -> list[Tensor | None]:
    """From an upstream gradient that is drawn; of complex or no outputs none."""
    dy = upstream_of(outputs)
    if not sample.learning() or not any(d is not None for d in dy) or any(o.is_complex() for o in outputs):
        return []
    return list(gradients(outputs, sample, dy))


@pytest.fixture(scope="module", autouse=True)
def all_samples() -> None:
    """They are made before anything is drawn: PyTorch's databases draw for themselves."""
    for name in NAMES:
        bases(name)
    for name in MODULES:
        module_cases(name, True), module_cases(name, False)


def stricter(sample: Sample, theirs: list[Tensor], ours: Exception) -> bool:
    """Whether ours refuses, in words, what torch's kernel of the CPU lets pass and another kernel of torch's does not."""
    one_dtype = "must have one dtype" in str(ours) and operation(sample) in ONE_DTYPE
    return one_dtype or not any(t.numel() for t in theirs) or "label_smoothing must" in str(ours)


def told_otherwise(sample: Sample, what: str) -> bool:
    """What torch answers in its own way, and ours as its other functions do."""
    tensors = [t for t in sample.tensors() if t.is_floating_point()]
    empty, infinite = any(not t.numel() for t in tensors), any(not t.isfinite().all() for t in tensors)
    return {
        "cluster_log_prob": infinite,  # of a weight, rows that are of no class of the cluster
        "focal_loss": infinite,  # of one sample, the weights of other classes
        "js_div": infinite or bool(max((t.max() for t in tensors if t.numel()), default=0) > 0),  # no log-probability
        "weight_norm": empty or "nan" in what,  # of a norm of 0
        "multi_margin_loss": "nan" in what,  # its loop takes a margin of NaN for none
        "huber_loss": "torch." in what,  # whose mean has the input's dtype
        "pixel_unshuffle": empty,  # keeps the input's shape
        "conv1d": empty, "conv2d": empty, "conv3d": empty,  # no channels in, none out
        "binary_cross_entropy_with_logits": infinite,  # of what is no probability infinity less infinity
        "instance_norm": infinite or "expected scalar" in what,  # of an infinite weight; of two dtypes of the running ones
        "local_response_norm": infinite,  # at beta 0
        "lp_pool1d": infinite, "lp_pool2d": infinite, "lp_pool3d": infinite,  # of a power 1 the gradient 0 at NaN
    }.get(operation(sample), False)  # fmt: skip


def operation(sample: Sample) -> str:
    """Its name, of a module that of its operation."""
    return (
        sample.name
        if sample.name in OPS
        else getattr(getattr(getattr(manual_nn, sample.name), "op", None), "__name__", "")
    )


def departs(op: Any, sample: Sample) -> str | None:
    theirs, ours = answer(sample.builtin, sample), answer(op, sample)
    if isinstance(theirs, Exception):
        if isinstance(ours, Exception) or any(known in str(theirs) for known in TORCH_HAS_NOT):
            return None
        return f"torch: {theirs!r}; ours: {ours}"
    if isinstance(ours, Exception):
        if stricter(sample, theirs, ours):
            return None
        return f"ours: {ours!r}; torch: {theirs}"
    wide = sample.map(lifted)
    truth = answer(op if operation(sample) in NOT_THE_TRUTH else sample.builtin, wide)
    if isinstance(truth, Exception):
        truth = theirs
    for i, (a, b, t) in enumerate(zip(ours, theirs, truth, strict=True)):
        b, t = at_infinity(sample, a, b, t)
        if what := worse(a, b, t, lambda i=i: slopes(outputs_of, wide, truth)[i]):
            return f"output {i}: {what}"
    try:
        dy, expected, best = upstream_of(truth), gradient_of(theirs, sample), gradient_of(truth, wide)
    except RuntimeError:
        return None
    for i, (a, b, t) in enumerate(zip(gradient_of(ours, sample), expected, best, strict=True)):
        if b is None or t is None:
            continue
        size = natural(wide.learning()[i], dy, truth)
        a = torch.zeros_like(b) if a is None else a
        b, t = at_infinity(sample, a, b, t)
        if what := worse(a, b, t, lambda i=i: gradient_slopes(outputs_of, wide, dy, best)[i], size, theirs):
            return f"gradient {i}: {what}"
    return None


@given(calls())
@drawn
def test_calls_that_are_drawn(sample):
    what = departs(OPS[sample.name], sample)
    assert what is None or told_otherwise(sample, what), f"{sample}\n{what}"


@given(module_calls())
@drawn
def test_calls_of_modules_that_are_drawn(call):
    ours, sample = call
    what = departs(ours, sample)
    assert what is None or told_otherwise(sample, what), f"{sample}\n{what}"
