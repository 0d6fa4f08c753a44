"""Embeddings and bags of them beyond what the harness draws: sparse gradients, the largest norm, bags that torch has wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from placed import DEVICE
from torch import nn

from dlref import manual
from dlref.manual import functional as M

X, OFFSETS = torch.tensor([0, 2, 2, 3, 1, 0]), torch.tensor([0, 2, 2])


def table(dtype=torch.float64):
    return torch.arange(12.0, dtype=dtype).sin().view(4, 3).requires_grad_()


CALLS = {
    "embedding": lambda f, w, **options: f.embedding(X, w, sparse=True, **options),
    "a table of words": lambda f, w, **options: f.embedding(X.view(2, 3), w, sparse=True, **options),
    "sum": lambda f, w, **options: f.embedding_bag(X, w, OFFSETS, mode="sum", sparse=True, **options),
    "mean": lambda f, w, **options: f.embedding_bag(X, w, OFFSETS, mode="mean", sparse=True, **options),
    "weighted": lambda f, w, **options: f.embedding_bag(
        X, w, OFFSETS, mode="sum", sparse=True, per_sample_weights=table().detach().flatten()[:6].to(w.dtype), **options
    ),
    "rows": lambda f, w, **options: f.embedding_bag(X.view(2, 3), w, sparse=True, **options),
}


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"padding_idx": -4}], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_sparse_gradients_are_torchs_entry_by_entry(name, options):
    ours, theirs = table(), table()
    y = CALLS[name](M, ours, **options)
    expected = CALLS[name](F, theirs, **options)
    dy = torch.arange(float(y.numel()), dtype=y.dtype).cos().view(y.shape)
    (g,), (e,) = torch.autograd.grad(y, ours, dy), torch.autograd.grad(expected, theirs, dy)
    assert g.is_sparse and g.shape == e.shape and g.dtype == e.dtype and g._nnz() == e._nnz()
    assert torch.equal(g._indices(), e._indices())
    torch.testing.assert_close(g._values(), e._values(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}], ids=str)
@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_a_module_trains_by_sparse_gradients(kind, options):
    """As torch's by SGD, whose steps are added up over two batches; by hand, and under autograd."""
    found = []
    for space, side in ((nn, "autograd"), (manual.nn, "autograd"), (manual.nn, "vjp")):
        torch.manual_seed(0)
        layer = getattr(space, kind)(4, 3, sparse=True, **options).double()
        optimizer = (torch.optim if space is nn else manual.optim).SGD(layer.parameters(), 0.3)
        for batch in (X.view(2, 3), X.flip(0).view(3, 2)):
            if side == "vjp":
                y, pull = layer.vjp(batch)
                pull(y.cos())
            else:
                y = layer(batch)
                y.backward(y.detach().cos())
        assert layer.weight.grad.is_sparse
        optimizer.step()
        found.append(layer.weight.detach())
    for weight in found[1:]:
        torch.testing.assert_close(weight, found[0], rtol=1e-13, atol=1e-13)


def test_a_frequency_divides_a_sparse_gradient_too():
    """torch refuses it; it is the dense one."""
    for call in (M.embedding, M.embedding_bag):
        grads = []
        for sparse in (False, True):
            w = table()
            y = call(X.view(2, 3), w, scale_grad_by_freq=True, sparse=sparse)
            grads.append(torch.autograd.grad(y, w, y.detach().cos())[0])
        torch.testing.assert_close(grads[1].to_dense(), grads[0], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, float("inf"), 0.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_largest_norm_is_torchs(norm_type, dtype):
    """Of the rows that are used alone, padding too, and by vjp as in a call."""
    bound = 4 * torch.finfo(dtype).eps
    where = (
        DEVICE if norm_type in (1, 2) else "cpu"
    )  # on CUDA torch takes powers of the numbers, and not of their sizes
    calls = {"embedding": ((2, 0.7, norm_type), {}), "embedding_bag": ((OFFSETS, 0.7, norm_type), {"padding_idx": 2})}
    for name, (args, kwargs) in calls.items():
        theirs, ours, by_hand = ((3 * table(dtype)).detach() for _ in range(3))
        theirs = theirs.to(where)
        there = [v.to(where) if isinstance(v, torch.Tensor) else v for v in args]
        expected = getattr(F, name)(X[:4].to(where), theirs, *there, **kwargs)
        y = getattr(M, name)(X[:4], ours, *args, **kwargs)
        explicit, _ = getattr(M, name).vjp(X[:4], by_hand, *args, **kwargs)
        for a in (ours, by_hand):
            torch.testing.assert_close(a, theirs, rtol=bound, atol=bound, check_device=False)
        for a in (y, explicit):
            torch.testing.assert_close(a, expected, rtol=2 * bound, atol=2 * bound, check_device=False)


def bags_one_by_one(w, offsets, mode):
    parts = [w[X[a:b]] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    joined = {"sum": lambda p: p.sum(0), "mean": lambda p: p.mean(0), "max": lambda p: p.amax(0)}[mode]
    return (
        torch.stack([joined(p) if len(p) else w.new_zeros(w.shape[1]) for p in parts]) if parts else w.new_zeros(0, 3)
    )


@pytest.mark.parametrize("offsets", [[0, 2, 4], [0, 0, 1], [0]], ids=str)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_what_comes_after_the_last_bag_is_in_none(mode, offsets):
    """Where torch divides the last mean by all that follows, has a gradient of memory that was never written, or ends the
    process: no bags at all."""
    offsets = torch.tensor(offsets)
    ours, plain = table(), table()
    y, expected = (
        M.embedding_bag(X, ours, offsets, mode=mode, include_last_offset=True),
        bags_one_by_one(plain, offsets, mode),
    )
    torch.testing.assert_close(y, expected, rtol=1e-14, atol=1e-14)
    if len(expected):
        dy = expected.detach().cos()
        (g,), (e,) = torch.autograd.grad(y, ours, dy), torch.autograd.grad(expected, plain, dy)
        torch.testing.assert_close(g, e, rtol=1e-13, atol=1e-13)
    assert M.embedding_bag(X, table(), offsets[:0], mode=mode).shape == (0, 3)


def test_not_a_number_is_the_largest_wherever_it_stands():
    """torch finds it in the first place alone."""
    w = torch.tensor([[1.0], [float("nan")], [2.0]], dtype=torch.float64, requires_grad=True)
    for order in ([0, 1, 2], [1, 0, 2], [2, 0, 1]):
        y = M.embedding_bag(torch.tensor([order]), w, mode="max")
        assert y.isnan().all()
        assert torch.autograd.grad(y, w, torch.ones_like(y))[0].flatten().tolist() == [0, 1, 0]
    y = M.embedding_bag(torch.tensor([[0, 1, 2]]), w, mode="max", padding_idx=1)
    assert y.item() == 2


def test_ties_and_infinities_go_to_the_first():
    w = torch.tensor([[-float("inf")], [-float("inf")], [3.0], [3.0]], dtype=torch.float64, requires_grad=True)
    y = M.embedding_bag(torch.tensor([1, 0, 3, 2, 2]), w, torch.tensor([0, 2]), mode="max")
    expected = F.embedding_bag(torch.tensor([1, 0, 3, 2, 2]), w, torch.tensor([0, 2]), mode="max")
    dy = torch.tensor([[5.0], [7.0]], dtype=torch.float64)
    assert torch.equal(y, expected)
    assert torch.equal(torch.autograd.grad(y, w, dy)[0], torch.autograd.grad(expected, w, dy)[0])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_vmap_over_bags(mode):
    w, batch = table().detach(), torch.stack([X, X.flip(0)])
    offsets = torch.stack([OFFSETS, torch.tensor([0, 3, 4])])
    ours = torch.func.vmap(lambda x, o: M.embedding_bag(x, w, o, mode=mode))(batch, offsets)
    for y, x, o in zip(ours, batch, offsets, strict=True):
        torch.testing.assert_close(y, F.embedding_bag(x, w, o, mode=mode))


@pytest.mark.parametrize("space", [nn, manual.nn], ids=["torch", "manual"])
def test_made_of_a_table(space):
    w = table().detach()
    bag = space.EmbeddingBag.from_pretrained(w, mode="sum", padding_idx=1, include_last_offset=True)
    assert type(bag) is space.EmbeddingBag and bag.weight.data_ptr() == w.data_ptr() and not bag.weight.requires_grad
    assert (bag.mode, bag.padding_idx, bag.include_last_offset) == ("sum", 1, True)
    assert space.EmbeddingBag.from_pretrained(w, freeze=False).weight.requires_grad
    for wrong in (lambda: space.EmbeddingBag.from_pretrained(w[0]), lambda: space.EmbeddingBag(3, 2, padding_idx=3),
                  lambda: space.EmbeddingBag(3, 2, padding_idx=-4), lambda: space.EmbeddingBag(3, 2, _weight=w)):  # fmt: skip
        with pytest.raises(AssertionError):
            wrong()


def test_refused_with_what_to_do():
    nested = torch.nested.nested_tensor([X[:2], X[2:]], layout=torch.jagged)
    with pytest.raises(ValueError, match="values"):
        M.embedding_bag(nested, table())
    with pytest.raises(RuntimeError, match="in order"):  # where torch writes beyond its memory
        M.embedding_bag(X, table(), torch.tensor([0, 4, 2]))
    with pytest.raises(RuntimeError, match="in order"):
        M.embedding_bag(X, table(), torch.tensor([0, -1]))
    with pytest.raises(RuntimeError, match="int64 or int32"):  # the order of old: the table first
        M.embedding_bag(table(), X.view(2, 3))
