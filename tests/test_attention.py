"""multi_head_attention_forward against torch's: it is composed of operations, each of which is held to its own database."""

from __future__ import annotations

import contextlib

import harness
import pytest
import torch
from torch.utils._pytree import tree_map

import dlref
import dlref.manual.functional as F

THEIRS = torch.nn.functional.multi_head_attention_forward


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def own_samples():
    """Options that the database lacks, two heads of two features, three queries and four keys, a batch of two."""
    q, k, v = draw(3, 2, 4), draw(4, 2, 4), draw(4, 2, 4) * 2
    weights, biases, out = draw(12, 4), draw(12), draw(4, 4)
    base = (q, k, v, 4, 2, weights, biases, None, None, False, 0.0, out, draw(4))
    yield base, {}
    yield base, {"need_weights": False}
    yield base, {"average_attn_weights": False}
    yield base, {"key_padding_mask": torch.tensor([[True, False, False, False], [False, False, True, True]])}
    yield base, {"key_padding_mask": draw(2, 4), "attn_mask": draw(3, 4)}
    yield base, {"attn_mask": draw(4, 3, 4), "need_weights": False}
    yield base, {"attn_mask": torch.ones(3, 4, dtype=torch.bool).triu(1), "is_causal": True, "need_weights": False}
    yield (*base[:6], None, None, None, True, 0.0, out, None), {"attn_mask": draw(3, 4)}
    yield (*base[:7], draw(1, 1, 4), draw(1, 1, 4), True, 0.0, *base[11:]), {"attn_mask": draw(4, 3, 4)}
    yield base, {"static_k": draw(4, 4, 2), "static_v": draw(4, 4, 2)}
    yield base, {"static_v": draw(4, 4, 2), "need_weights": False}
    separate = {"use_separate_proj_weight": True, "q_proj_weight": draw(4, 4), "k_proj_weight": draw(4, 5),
                "v_proj_weight": draw(4, 6)}  # fmt: skip
    yield (q, draw(4, 2, 5), draw(4, 2, 6), 4, 2, None, biases, None, None, False, 0.0, *base[11:]), separate
    yield (q[:, 0], k[:, 0], v[:, 0], *base[3:]), {"attn_mask": draw(3, 4)}
    yield (*base[:10], 0.4, *base[11:]), {"need_weights": False}
    yield (*base[:10], 0.4, *base[11:]), {"training": False}


def samples():
    (info,) = harness.opinfos("multi_head_attention_forward")
    for requires_grad in (True, False):
        for s in info.sample_inputs("cpu", torch.float64, requires_grad=requires_grad):
            yield (s.input, *s.args), s.kwargs
    yield from own_samples()


def learning(args: tuple, kwargs: dict) -> tuple[tuple, dict, list]:
    """The call with every floating tensor a leaf that wants a gradient."""
    leaves: list = []

    def leaf(t):
        if isinstance(t, torch.Tensor) and t.is_floating_point():
            leaves.append(t := t.detach().clone().requires_grad_())
        return t

    return *tree_map(leaf, (args, kwargs)), leaves


def run(function, args, kwargs):
    torch.manual_seed(0)
    return function(*args, **kwargs)


@pytest.mark.parametrize("forms", ["kernels", "definitions"])
def test_values_and_gradients(forms, record_property):
    found = list(samples())
    record_property("samples", len(found))
    with dlref.definitions() if forms == "definitions" else contextlib.nullcontext():
        compare(found)


def compare(found: list) -> None:
    for args, kwargs in found:
        what = (args[4:5], kwargs)
        args, kwargs, leaves = learning(args, kwargs)
        theirs, ours = run(THEIRS, args, kwargs), run(F.multi_head_attention_forward, args, kwargs)
        explicit, pullback = run(F.multi_head_attention_forward.vjp, args, kwargs)
        harness.assert_equal(ours, theirs, None, what)
        harness.assert_equal(explicit, theirs, None, what)
        assert (ours[1] is None) == (theirs[1] is None) == (explicit[1] is None), what
        for _, dy in harness.layouts(harness.flat(theirs)):

            def gradients(output, dy=dy, leaves=leaves):
                pairs = [(o, d) for o, d in zip(harness.flat(output), dy, strict=True) if d is not None]
                outputs, dys = map(list, zip(*pairs, strict=True))
                return torch.autograd.grad(outputs, leaves, dys, retain_graph=True, allow_unused=True)

            expected = gradients(theirs)
            grads = pullback(tuple(dy) if len(dy) > 1 else dy[0])
            passed = [*args, *kwargs.values()]
            by_hand = [
                g for g, t in zip(grads, passed, strict=True) if isinstance(t, torch.Tensor) and t.is_floating_point()
            ]
            for a, b, c in zip(gradients(ours), expected, by_hand, strict=True):
                if b is not None:
                    harness.assert_equal(a, b, None, what, 1e-11)
                    if c is not None or b.abs().max() > 0:
                        harness.assert_equal(c, b, None, ("vjp", what), 1e-11)


def test_second_derivatives():
    for args, kwargs in own_samples():
        args, kwargs, leaves = learning(args, kwargs)

        def function(*values, args=args, kwargs=kwargs, leaves=leaves):
            swap = dict(zip(map(id, leaves), values, strict=True))
            swapped = tree_map(lambda t: swap.get(id(t), t), (args, kwargs))
            return harness.floating(run(F.multi_head_attention_forward, *swapped))

        torch.autograd.gradcheck(function, leaves, fast_mode=True, check_forward_ad=True)
        torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("wrong", [
    {"attn_mask": draw(3, 3)}, {"attn_mask": draw(3)}, {"is_causal": True}, {"key_padding_mask": draw(2, 3)},
    {"use_separate_proj_weight": True}, {"in_proj_weight": None}, {"bias_k": draw(1, 1, 4)}, {"num_heads": 3},
    {"embed_dim_to_check": 5}, {"static_k": draw(3, 4, 2)}, {"static_v": draw(4, 4, 3)}, {"value": draw(3, 2, 4)},
    {"query": draw(4)},
], ids=str)  # fmt: skip
def test_errors(wrong):
    args, _ = next(own_samples())
    call = {**F.multi_head_attention_forward.__signature__.bind(*args).arguments, **wrong}
    raised = []
    for function in (THEIRS, F.multi_head_attention_forward, F.multi_head_attention_forward.vjp):
        with pytest.raises((AssertionError, RuntimeError, ValueError)) as error:
            function(**call)
        raised.append(error.type)
    assert len(set(raised)) == 1, raised
