"""What is held: peaks of forward and gradient, bytes kept for the backward; what goes by blocks is what goes at once."""

from __future__ import annotations

import warnings

import harness
import pytest
import torch
from test_ops import check_value_and_gradients
from torch.profiler import ProfilerActivity, profile

import dlref
import dlref.manual.functional as F
from dlref.manual import nn
from dlref.manual.kernels import dot_product_attention as blocks
from dlref.manual.kernels import linear_attention as chunks
from dlref.manual.nn import dot_product_attention as attention
from dlref.manual.nn import linear_loss, rnn

GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def peak(function) -> int:
    """The most bytes that tensors made by the call take at once, as torch's allocator counts them."""
    function()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            function()
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def kept(function, *inputs: torch.Tensor) -> int:
    """Bytes of the storages that autograd keeps from forward to backward, the inputs' own left out."""
    own, found = {t.untyped_storage().data_ptr() for t in inputs}, {}

    def pack(t):
        if (storage := t.untyped_storage()).data_ptr() not in own:
            found[storage.data_ptr()] = t  # held, so that no other storage takes its place
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = function(*inputs)
    assert output.requires_grad
    return sum(t.untyped_storage().nbytes() for t in found.values())


def trained(function, *inputs: torch.Tensor, dy: torch.Tensor | None = None):
    leaves = [t.detach().requires_grad_() for t in inputs]
    return lambda: torch.autograd.grad(function(*leaves), leaves, dy)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_peak_of_linear_cross_entropy(reduction):
    """The (N, C) logits are never held: torch's two functions take three times as much as they, ours a part of one."""
    x, weight, target = draw(2048, 32), draw(8192, 32), torch.randint(8192, (2048,), generator=GENERATOR)
    dy = draw(2048) if reduction == "none" else None
    logits = 4 * 2048 * 8192

    def theirs(x, weight):
        return torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, weight), target, reduction=reduction)

    def explicit():
        _, pullback = F.linear_cross_entropy.vjp(x, weight, target, reduction=reduction)
        pullback(dy)

    under = trained(lambda x, weight: F.linear_cross_entropy(x, weight, target, reduction=reduction), x, weight, dy=dy)
    assert (bound := peak(trained(theirs, x, weight, dy=dy))) > 2.5 * logits
    for function in (under, explicit):
        assert peak(function) <= 0.15 * bound


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": "bool"}], ids=str)
def test_peak_of_attention(options, monkeypatch):
    q, k, v, dy = (draw(2, 2048, 32) for _ in range(4))
    if "attn_mask" in options:
        options = {"attn_mask": draw(2048, 2048) > 0}

    def explicit():
        _, pullback = F.scaled_dot_product_attention.vjp(q, k, v, **options)
        pullback(dy, needs=(True, True, True, *(False for _ in options)))

    under = trained(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options), q, k, v, dy=dy)
    by_blocks = [peak(function) for function in (under, explicit)]
    monkeypatch.setattr(blocks, "BLOCK", 2**40)
    at_once = [peak(function) for function in (under, explicit)]
    assert min(at_once) > 2 * 4 * 2 * 2048 * 2048
    assert all(few <= 0.3 * whole for few, whole in zip(by_blocks, at_once, strict=True)), (by_blocks, at_once)
    with dlref.definitions():
        assert peak(explicit) <= 0.6 * min(at_once)
        monkeypatch.setattr(attention, "QUERIES", 2**40)
        assert peak(explicit) > 3 * 4 * 2 * 2048 * 2048


@pytest.mark.parametrize("kind,most", [("RNN", 3.5), ("LSTM", 18.5), ("GRU", 12.5)])
@pytest.mark.parametrize("reverse", [False, True])
def test_peak_of_recurrence(kind, most, reverse):
    """The states of all steps and their gradients are written once, over what they are made of: in units of the output."""
    steps, rows, size, gates = 32, 16, 64, {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    states = [draw(rows, size) for _ in range(1 + (kind == "LSTM"))]
    weights = [draw(gates * size, 8), draw(gates * size, size), None, None]
    sizes, projection, relu = (rows,) * steps, {"LSTM": (None,)}.get(kind, ()), {"RNN": (False,)}.get(kind, ())
    args = (draw(steps * rows, 8), *states, *weights, *projection, sizes, reverse, *relu)
    layer, dy = getattr(rnn, f"{kind.lower()}_layer"), draw(steps * rows, size)

    def explicit(times=1):
        _, pullback = layer.vjp(*args)
        return [pullback((dy, *(None for _ in states))) for _ in range(times)]

    first, again = explicit(2)
    for a, b in zip(first, again, strict=True):
        assert a is b is None or torch.equal(a, b)
    found = peak(explicit) / dy.nbytes
    assert found <= most, found


@pytest.mark.parametrize("options", [{"softcap": 5.0}, {"window": (100, 0)}, {"sinks": 2, "alibi_slopes": 2}], ids=str)
def test_peak_of_extended_attention(options, monkeypatch):
    """The (L, S) weights are not held here either, nor the places that they are hidden and bent by."""
    q, k, v, dy = (draw(2, 2048, 32) for _ in range(4))
    options = {n: draw(v) if n in ("sinks", "alibi_slopes") else v for n, v in options.items()}

    def explicit():
        _, pullback = F.attention.vjp(q, k, v, **options)
        pullback(dy)

    by_blocks, expected = peak(explicit), F.attention.vjp(q, k, v, **options)[1](dy)
    with dlref.definitions():
        for a, b in zip(expected, F.attention.vjp(q, k, v, **options)[1](dy), strict=True):
            assert a is b is None or torch.allclose(a, b, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(blocks, "BLOCK", 2**40)
    assert by_blocks <= 0.3 * peak(explicit)


def test_kept_of_gates_and_residual_norms():
    """Beside the inputs nothing; the sum and two numbers a row, and neither what was added."""
    a, b, w = draw(64, 256).requires_grad_(), draw(64, 256).requires_grad_(), draw(256).requires_grad_()
    for gate in (F.swiglu, F.geglu):
        assert kept(gate, a, b) == 0
    assert kept(lambda a, b, w: F.add_rms_norm(a, b, w)[0], a, b, w) <= a.nbytes + 2 * 4 * len(a)


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (2, 4, 100, 16), (1, 2, 300, 64)], ids=str)
def test_kept_of_attention(shape):
    """No more than torch's kernel keeps: query, key, value, output and one number a row."""
    q, k, v = (draw(*shape).requires_grad_() for _ in range(3))
    theirs = kept(torch.nn.functional.scaled_dot_product_attention, q, k, v)
    assert kept(F.scaled_dot_product_attention, q, k, v) <= theirs


@pytest.mark.parametrize("need_weights", [False, True])
def test_kept_of_multihead_attention(need_weights):
    ours = nn.MultiheadAttention(64, 4, batch_first=True)
    theirs = torch.nn.MultiheadAttention(64, 4, batch_first=True)
    x = draw(2, 150, 64).requires_grad_()
    sizes = [
        kept(lambda x, *_, m=m: m(x, x, x, need_weights=need_weights)[0], x, *m.parameters()) for m in (ours, theirs)
    ]
    assert sizes[0] <= sizes[1]


@pytest.mark.parametrize("name", ["scaled_dot_product_attention", "attention"])
@pytest.mark.parametrize("block", [1, 7, 40])
def test_attention_by_blocks(block, name, monkeypatch, record_property):
    """Every sample, cut as finely as can be, answers what torch does: masks, their gradients, groups, dropout, no key."""
    monkeypatch.setattr(blocks, "BLOCK", block)
    monkeypatch.setattr(blocks, "FEWEST", 1)
    found = harness.samples(name, torch.float64)
    record_property("samples", len(found))
    for sample in found:
        check_value_and_gradients(getattr(F, name), sample, exactly=True)


@pytest.mark.parametrize("name", ["scaled_dot_product_attention", "attention"])
@pytest.mark.parametrize("queries", [1, 2])
def test_attention_by_blocks_of_queries(queries, name, monkeypatch, record_property):
    monkeypatch.setattr(attention, "QUERIES", queries)
    found = harness.samples(name, torch.float64)
    record_property("samples", len(found))
    with dlref.definitions():
        for sample in found:
            check_value_and_gradients(getattr(F, name), sample, exactly=True)


@pytest.mark.parametrize("name", ["linear_attention", "gated_delta_rule"])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_linear_attention_by_chunks(chunk, name, monkeypatch, record_property):
    monkeypatch.setattr(chunks, "CHUNK", chunk)
    found = harness.samples(name, torch.float64)
    record_property("samples", len(found))
    for sample in found:
        check_value_and_gradients(getattr(F, name), sample, exactly=True)


def test_attention_by_blocks_is_cut(monkeypatch):
    """A causal block leaves out the keys that none of its queries sees."""
    monkeypatch.setattr(blocks, "BLOCK", 8)
    monkeypatch.setattr(blocks, "FEWEST", 1)
    q, k = draw(2, 5, 3), draw(2, 4, 3)
    with torch.no_grad():
        parts = blocks._parts(q, k, k, None, blocks.NONE)
        assert [len(dim) for dim in parts] == [2, 3]
        seen = [(rows[-1], keys[-1]) for rows, keys, _ in blocks._blocks(parts, k, True, blocks.NONE)][:3]
    assert seen == [(slice(0, 2), slice(0, 2)), (slice(2, 4), slice(0, 4)), (slice(4, 5), slice(0, 4))]


def test_attention_of_a_window_is_cut(monkeypatch):
    """A block of queries meets the keys of their windows alone."""
    monkeypatch.setattr(blocks, "BLOCK", 8)
    monkeypatch.setattr(blocks, "FEWEST", 1)
    q, k = draw(1, 5, 3), draw(1, 7, 3)
    extras = blocks.Extras(window=(1, 0), shift=2)
    parts = blocks._parts(q, k, k, None, extras)
    seen = [(rows[-1], keys[-1], place) for rows, keys, place in blocks._blocks(parts, k, False, extras)]
    assert seen == [(slice(i, i + 1), slice(i + 1, i + 3), -1) for i in range(5)]


@pytest.mark.parametrize("chunk", [1, 8])
def test_linear_cross_entropy_by_chunks(chunk, monkeypatch, record_property):
    monkeypatch.setattr(linear_loss, "CHUNK", chunk)
    found = harness.samples("linear_cross_entropy", torch.float64)
    record_property("samples", len(found))
    for sample in found:
        check_value_and_gradients(F.linear_cross_entropy, sample, exactly=True)


def test_many_upstream_gradients_at_once(monkeypatch):
    """The pullback under vmap, where the upstream gradient is batched and the arguments are not."""
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(attention, "QUERIES", 2)
    monkeypatch.setattr(linear_loss, "CHUNK", 4)
    q, k, target = draw(2, 3, 2), draw(4, 2), torch.tensor([0, 3, 1])
    for output, pullback in (
        F.scaled_dot_product_attention.vjp(q, k, k),
        F.linear_cross_entropy.vjp(q[0], k, target, reduction="none"),
        F.linear_cross_entropy.vjp(q[0], k, target),
    ):
        dy = draw(3, *output.shape)
        together = torch.func.vmap(lambda d, pull=pullback: pull(d)[:2])(dy)
        for i in range(3):
            for a, b in zip(together, pullback(dy[i]), strict=False):
                torch.testing.assert_close(a[i], b)


def test_batched_gradients(monkeypatch):
    """torch.autograd.grad(is_grads_batched=True) runs the backward under a vmap of its own."""
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(attention, "QUERIES", 2)
    monkeypatch.setattr(linear_loss, "CHUNK", 8)
    q, k, target = draw(2, 3, 2).requires_grad_(), draw(4, 2).requires_grad_(), torch.tensor([0, 3, 1])
    for output in (F.scaled_dot_product_attention(q, k, k), F.linear_cross_entropy(q[0], k, target)):
        dy = draw(3, *output.shape)
        together = torch.autograd.grad(output, (q, k), dy, retain_graph=True, is_grads_batched=True)
        for i in range(3):
            alone = torch.autograd.grad(output, (q, k), dy[i], retain_graph=True)
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[i], b)


def test_second_derivatives_by_parts(monkeypatch):
    """Where the first derivative goes by parts, the second is right all the same."""
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(attention, "QUERIES", 2)
    monkeypatch.setattr(linear_loss, "CHUNK", 4)
    q, k, v, mask = (draw(*shape).double().requires_grad_() for shape in ((2, 3, 2), (2, 4, 2), (2, 4, 3), (3, 4)))
    torch.autograd.gradgradcheck(F.scaled_dot_product_attention, (q, k, v, mask))
    x, weight, bias = (draw(*shape).double().requires_grad_() for shape in ((3, 2), (4, 2), (4,)))
    target = torch.tensor([0, 3, 1])
    for reduction in ("mean", "none"):
        torch.autograd.gradgradcheck(
            lambda x, w, b, r=reduction: F.linear_cross_entropy(x, w, target, linear_bias=b, reduction=r),
            (x, weight, bias),
        )
