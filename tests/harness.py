"""What the tests share beside dlref.samples: the modules under test, the samples that can be differentiated, the bounds."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from placed import DEVICE
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from dlref import samples as library
from dlref.builtin import nn as builtin_nn
from dlref.core import compat
from dlref.core.compat import databases
from dlref.core.pair import OPS, Op
from dlref.manual import nn as manual_nn
from dlref.samples import (
    CONDITION,
    DRAWN_BY_DTYPE,
    MUTATING,
    NAMES,
    RANDOM,
    TORCH_ERROR,
    TORCH_NAN,
    TORCH_REFUSES,
    Sample,
    draws,
    error,
    exact,
    exactly,
    flat,
    floating,
    gradients,
    layouts,
    lifted,
    opinfos,
    run,
    upstream,
)

with databases():
    from torch.testing._internal.common_modules import module_db


def since(change: compat.Change) -> pytest.MarkDecorator:
    """Mark of a test that compares with what torch does since one of its versions."""
    return pytest.mark.skipif(not change, reason=str(change))


def unless_refused(theirs: Callable[[], Any]) -> Any:
    """What torch's side answers; None where it refuses by an error of its own."""
    try:
        return theirs()
    except RuntimeError as e:
        if not any(known in str(e) for known in TORCH_REFUSES):
            raise
        return None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Inside, no warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Operations without an entry in the database whose hard samples lie on kinks, or whose gradient is another function's.
KINKED = {"gumbel_softmax", "perceptron_loss"}
# Operations of which the database has no small sample.
LARGE = {"ctc_loss"}
# Where torch rounds what it makes of integers: the mean of squares; the weights of interpolated bytes, to 16 bits.
TORCH_INTEGERS = {"local_response_norm", "interpolate", "upsample_bilinear"}
# Where torch's dtype under autocast depends on an option: only max_pool3d's kernel without indices is on its list.
TORCH_AUTOCAST = {"max_pool3d"}
# What torch's own function cannot do under torch.func, so that autograd through the plain forward is the measure there.
TORCH_UNTRANSFORMED = {
    "affine_grid",  # of a size with a dimension of one pixel
    "conv_tbc",  # of no frames
}
# A container, and bases that compute nothing, have tests of their own.
MODULES = sorted(
    name for name in {*dir(torch.nn), *dir(builtin_nn)}
    if name not in ("Sequential", "RNNBase", "RNNCellBase") and isinstance(theirs := getattr(builtin_nn, name), type)
    and getattr(manual_nn, name, theirs) is not theirs
)  # fmt: skip


# Where torch rounds on a device what it does not on the CPU: a float64's error, of values, too.
TORCH_ERROR_ON = {"cuda": {"hardswish": 4e-8, "hardsigmoid": 4e-8}}  # they multiply by 1/6 rounded to float32
# Where else torch's answer on a device is not that on the CPU, which is ours everywhere.
TORCH_WRONG_ON = {("cuda", "elu", "hard-6"): "at 0 infinity times 0 is NaN there"}


# On a GPU numbers are added up in any order.
ORDER = 0.0 if DEVICE.type == "cpu" else 1e-12


def value_error(name: str, least: float = 1e-12) -> float:
    """How far torch's own value in float64 is from the true one, at least."""
    return max(least, TORCH_ERROR_ON.get(DEVICE.type, {}).get(name, 0.0))


def torch_error(name: str, least: float = 1e-12) -> float:
    """How far torch's own gradient in float64 is from the true one, at least."""
    return max(value_error(name, least), TORCH_ERROR.get(name, 0.0))


def known(name: str, found: Iterable[Sample]) -> Iterator[Sample]:
    """On a device the calls without those that draw random numbers, where torch's and ours of one seed are not the same, and
    those in which torch is wrong there."""
    if DEVICE.type == "cpu":
        yield from found
        return
    for s in found:
        if (DEVICE.type, name, s.where) not in TORCH_WRONG_ON and (name not in RANDOM or not draws(s)):
            yield s


def database_samples(name: str, dtype: torch.dtype, requires_grad: bool = True) -> Iterator[Sample]:
    return known(name, library.database_samples(name, dtype, requires_grad, str(DEVICE)))


def hard_samples(name: str, dtype: torch.dtype) -> Iterator[Sample]:
    return known(name, library.hard_samples(name, dtype, str(DEVICE)))


def samples(name: str, dtype: torch.dtype, requires_grad: bool = True) -> list[Sample]:
    return [*database_samples(name, dtype, requires_grad), *hard_samples(name, dtype)]


def supported(name: str, *, backward: bool) -> set[torch.dtype]:
    return library.supported(name, backward=backward, device=str(DEVICE))


def smooth_samples(name: str) -> Iterator[Sample]:
    """The samples in float64 of which derivatives can be taken by differences: the database's; the hard ones where it has none,
    or no small ones."""
    if not opinfos(name) or name in LARGE:
        for sample in hard_samples(name, torch.float64) if name not in KINKED else ():
            if all(bool(y.isfinite().all()) for y in flat(run(sample.builtin, sample))):
                yield sample
    for sample in database_samples(name, torch.float64):
        # Beside its entries for gradients, max_unpool's write two values to one place, of which either may stand.
        if not name.startswith("max_unpool") or "grad" in sample.where:
            yield sample


def meetings(
    calls: Iterable[Any], arguments: Callable[[Any], Any] = lambda call: call, sizes: bool = False
) -> list[Any]:
    """Of the calls those in which two arguments meet that did not before: of a tensor all but its values tells it from
    another, its sizes only where asked for. For tests of what values, and more than two arguments together, do not decide.
    """

    def kind(v: Any) -> Any:
        if isinstance(v, Tensor):
            return v.dtype, tuple(v.shape) if sizes else (v.dim(), v.numel() > 0), v.is_contiguous(), v.requires_grad
        return repr(v)

    met: set[tuple] = set()
    chosen = []
    for call in calls:
        found = [(keystr(path), kind(v)) for path, v in tree_flatten_with_path(arguments(call))[0]]
        pairs = set(itertools.combinations_with_replacement(found, 2))
        if not pairs <= met:
            chosen.append(call)
            met |= pairs
    return chosen


def in_pairs(found: Iterable[Sample], sizes: bool = True) -> list[Sample]:
    """Every two options of the samples in one of these; test_value_and_gradients in float64 has them all."""
    return meetings(found, lambda s: (s.args, s.kwargs), sizes)


def pair_samples(name: str, dtype: torch.dtype) -> list[Sample]:
    """The database's samples in pairs of options, and every hard one."""
    return [*in_pairs(database_samples(name, dtype)), *hard_samples(name, dtype)]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether the two are one to the last bit, so that what holds of the one holds of the other."""
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def assert_equal(
    actual: Any, builtin: Any, reference: Any, what: Any, bound64: float = 1e-12, extra: float = 0.0
) -> None:
    """float64: equal to the built-in within rounding. Less: no further from float64 than twice it, and a few units."""
    if not isinstance(builtin, Tensor):
        ours, theirs = flat(actual), flat(builtin)
        best = [None] * len(theirs) if reference is None else flat(reference)
        for a, b, r in zip(ours, theirs, best, strict=True):
            assert_equal(a, b, r, what, bound64, extra)
        return
    assert actual.dtype == builtin.dtype, (what, actual.dtype, builtin.dtype)
    assert actual.shape == builtin.shape, (what, actual.shape, builtin.shape)
    assert actual.device == builtin.device, (what, actual.device, builtin.device)
    if not (actual.is_floating_point() or actual.is_complex()):
        assert torch.equal(actual, builtin), what
    elif actual.dtype in (torch.float64, torch.complex128):
        assert error(actual, builtin) <= bound64, (what, error(actual, builtin), actual, builtin)
    else:
        reference = builtin if reference is None else exactly(reference).to(exact(actual.dtype))
        if (ours := error(actual, reference)) > (
            bound := 2 * error(builtin, reference) + 8 * torch.finfo(actual.dtype).eps + extra
        ):
            # Where float64 does not overflow and this dtype does, the built-in at this dtype is the measure.
            same = error(actual, builtin)
            assert same <= 8 * torch.finfo(actual.dtype).eps, (what, ours, bound, same, actual, builtin)


def plain(op: Op) -> Any:
    """The operation's forward under autograd, without the explicit gradient."""

    def function(*args, **kwargs):
        values, _ = op.bind(*args, **kwargs)
        if op.prepared is not None and (values := op.prepared(*(first := values))) is None:
            return first[0]
        return op.result(op.definition.evaluate(values), op.bind(*args, **kwargs)[0])

    return function


class Alone(str):
    """The name of an operation that has a kernel, whose definition is to be tried without it."""


# Every operation, and once more, with its definition alone, each that has a kernel.
FORMS = [*NAMES, *(pytest.param(Alone(n), id=f"{n}-definition") for n in NAMES if OPS[n].fast is not None)]


def operation(name: str) -> Op:
    return OPS[name]


def module_infos(name: str) -> list:
    return [info for info in module_db if info.module_cls is getattr(builtin_nn, name)]
