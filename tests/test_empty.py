"""Tensors of size 0 in any dimension: where torch has an answer, forward and backward, it is ours."""

from __future__ import annotations

import harness
import pytest
import test_modules
import torch
from harness import FORMS, MODULES

from dlref.builtin import nn
from dlref.core.compat import ATTENTION_OF_NO_HEADS, GROUP_NORM_OF_NOTHING
from dlref.manual import nn as manual_nn
from dlref.samples import Sample
from dlref.samples.edges import distinct, emptied, options

ERRORS = (RuntimeError, ValueError, IndexError, AssertionError, NotImplementedError)


def argument(sample: Sample, name: str):
    """The call's argument of this name, None where it is not given."""
    names = list(harness.operation(sample.name).__signature__.parameters)
    return {**dict(zip(names, sample.args, strict=False)), **sample.kwargs}.get(name)


def of_another_size(sample: Sample) -> bool:
    given = [argument(sample, n) for n in ("running_mean", "running_var", "weight", "bias")]
    return any(t is not None and len(t) != argument(sample, "input").shape[1] for t in given)


def of_other_keys(sample: Sample) -> bool:
    q, k, v = sample.args[:3]
    if (mask := argument(sample, "attn_mask")) is not None and any(
        n not in (1, m) for n, m in zip(mask.shape[-2:], (q.shape[-2], k.shape[-2]), strict=True)
    ):
        return True
    return k.shape[:-1] != v.shape[:-1] or q.shape[:-2] != k.shape[:-2] or q.shape[-1] != k.shape[-1]


def no_heads(sample: Sample) -> bool:
    return any(t.dim() > 2 and not t.shape[-3] for t in sample.args[:3])


def no_channels(sample: Sample) -> bool:
    return not argument(sample, "weight").shape[1]


# Calls that torch takes without a look at what does not fit, as nothing is computed of it: ours are refused.
REFUSED = {
    "batch_norm": of_another_size,
    "instance_norm": of_another_size,
    "scaled_dot_product_attention": of_other_keys,
    **{f"conv{n}d": lambda s: not argument(s, "weight").numel() for n in (1, 2, 3)},  # kernels of size 0
    "group_norm": lambda s: not GROUP_NORM_OF_NOTHING and 0 in argument(s, "input").shape[1:],
}
# What torch answers wrongly: (when, why).
WRONG = {
    **{f"conv{n}d": no_channels for n in (1, 2, 3)},  # an output without channels, where it is the bias
    "cross_entropy": lambda s: not s.args[0].shape[1],  # the mean of zeros over no classes is NaN
    "multi_margin_loss": lambda s: True,  # memory that was never written
    "multilabel_margin_loss": lambda s: True,
    "pixel_unshuffle": lambda s: True,  # the input's shape is kept
}
# What torch fails at within, and ours answers: a reshape to (-1, 0), weight[0] of no channels, a norm without identity.
ANSWERED = {"batch_norm", "bilinear", "instance_norm", "normalize", "pairwise_distance",
            *(f"conv{t}{n}d" for n in (1, 2, 3) for t in ("", "_transpose"))}  # fmt: skip


def same(actual, expected, what) -> None:
    for a, b in zip(harness.flat(actual), harness.flat(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (what, a.shape, b.shape, a.dtype, b.dtype)
        torch.testing.assert_close(
            a.detach(), b.detach(), rtol=1e-9, atol=1e-9, equal_nan=True, msg=lambda m: f"{what}: {m}"
        )


def outcome(function, *args):
    """What it returns, or its error."""
    try:
        return function(*args)
    except ERRORS as error:
        return error


def check(name: str, sample: Sample) -> bool:
    """Whether torch had an answer to compare with."""
    op = harness.operation(name)
    if name == "scaled_dot_product_attention" and not ATTENTION_OF_NO_HEADS and no_heads(sample):
        return False
    theirs, ours = outcome(harness.run, sample.builtin, sample), outcome(harness.run, op, sample)
    explicit = outcome(harness.run, op.vjp, sample)
    if isinstance(theirs, Exception):
        assert name in ANSWERED or (isinstance(ours, Exception) and isinstance(explicit, Exception)), (sample, theirs)
        return False
    if isinstance(ours, Exception) and isinstance(explicit, Exception):
        assert REFUSED.get(name, lambda s: False)(sample), (sample, ours)
        return False
    assert not isinstance(explicit, Exception), (sample, explicit)
    output, pullback = explicit
    same(output, ours, sample)
    if WRONG.get(name, lambda s: False)(sample):
        return False
    same(ours, theirs, sample)
    outputs = harness.flat(theirs)
    if not any(o.requires_grad for o in outputs):
        return True
    _, dy = next(harness.layouts(outputs))
    expected = outcome(harness.gradients, theirs, sample, dy)
    grads = harness.gradients(ours, sample, dy)
    passed = [*sample.args, *sample.kwargs.values()]
    by_hand = pullback(tuple(dy) if len(dy) > 1 else dy[0])
    by_hand = [g for g, a in zip(by_hand, passed, strict=True) if isinstance(a, torch.Tensor) and a.requires_grad]
    if isinstance(expected, Exception):  # some of torch's gradients refuse the empty output of their own forward
        expected = grads
    for a, b, c in zip(grads, expected, by_hand, strict=True):
        if b is not None:
            same((a, c), (b, b), sample)
    return True


@pytest.mark.parametrize("name", FORMS)
def test_operation(name, record_property):
    found = harness.samples(name, torch.float64)
    of = {repr(options(s)): s for s in distinct(found)[:8]}
    record_property("samples", sum(check(name, made) for sample in of.values() for made in emptied(sample)))


@pytest.mark.parametrize("name", [n for n in MODULES if not n.startswith("Lazy")])
def test_module(name, record_property):
    count = 0
    for args, kwargs, inputs, named in test_modules.cases(name)[:6]:
        if not inputs or named or not all(isinstance(t, torch.Tensor) for t in inputs):
            continue
        for made in emptied(Sample(None, inputs, {}, "", name)):
            theirs, ours = (test_modules.build(space, name, args, kwargs, True) for space in (nn, manual_nn))
            expected = outcome(test_modules.call, theirs, made.args, {})
            if isinstance(expected, Exception) or not all(t.requires_grad for t in harness.flat(expected)):
                continue
            ours.load_state_dict(theirs.state_dict())
            dy = [torch.randn_like(o) for o in harness.flat(expected)]
            leaves = [*made.learning(), *theirs.parameters()]
            wanted = outcome(torch.autograd.grad, harness.flat(expected), leaves, dy, False, False, True)
            if isinstance(wanted, Exception) or UNLIKE.get(name, lambda x: False)(made.args[0]):
                continue
            output, pullback = test_modules.call(ours.vjp, made.args, {})
            same(output, expected, (name, args, kwargs, made))
            grads = pullback(tuple(dy) if len(dy) > 1 else dy[0])
            grads = [g for g, t in zip(grads, made.args, strict=True) if t.requires_grad]
            for a, b in zip([*grads, *(p.grad for p in ours.parameters())], wanted, strict=True):
                if b is not None:
                    same(a, b, (name, args, kwargs, made))
            same(test_modules.call(ours, made.args, {}), expected, (name, args, kwargs, made))
            count += 1
    record_property("inputs", count)


# As their operations above.
UNLIKE = {
    **dict.fromkeys(("PixelUnshuffle", "MultiMarginLoss", "MultiLabelMarginLoss"), lambda x: True),
    **{f"BatchNorm{n}d": lambda x: not x.shape[1] for n in (1, 2, 3)},
    "CrossEntropyLoss": lambda x: not x.shape[1],
    "GroupNorm": lambda x: not GROUP_NORM_OF_NOTHING and 0 in x.shape[1:],
}
