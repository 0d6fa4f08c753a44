"""Rows of a table by their numbers: embeddings, and bags of them joined to one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...core.compat import sparse_tensor
from ...core.modes import concrete
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import again
from .common import wide, widened


def table_gradient(d, rows, weight, padding_idx, scale_grad_by_freq, sparse, dtype):
    r"""$dW_k = \sum_{i : x_i = k} d_i$, divided by the number of these i with scale_grad_by_freq; 0 for padding_idx.

    d (n, width), rows (n,). A sparse one has an entry for each i whose row is not the padding, as they come.
    """
    if scale_grad_by_freq:
        counts = d.new_zeros(len(weight)).index_add(0, rows, d.new_ones(()).expand(len(rows)))
        d = d / counts.index_select(0, rows).unsqueeze(1)
    if sparse and padding_idx is not None and concrete(rows):
        (kept,) = (rows != padding_idx).nonzero(as_tuple=True)
        rows, d = rows.index_select(0, kept), d.index_select(0, kept)
    elif padding_idx is not None:
        d = d * (rows != padding_idx).unsqueeze(1)
    if sparse:
        return sparse_tensor(rows.unsqueeze(0), d.to(dtype), weight.shape)
    return d.new_zeros(()).expand(weight.shape).index_add(0, rows, d)


def renormalise(weight, rows, max_norm, norm_type):
    """Scale the rows that are used, and whose norm is larger than max_norm, down to it: in place, without a derivative."""
    if max_norm is None or again():
        return
    with torch.no_grad():
        used = torch.zeros(len(weight), device=weight.device).index_fill(0, rows.long(), 1)
        w = wide(weight)
        norm = torch.linalg.vector_norm(w, norm_type, 1)
        scale = torch.where((used > 0) & (norm > max_norm), max_norm / (norm + 1e-7), 1)
        weight.copy_(w * scale.unsqueeze(1))


def check_table(name, input, weight):
    if input.dtype not in (torch.int64, torch.int32):
        raise RuntimeError(f"{name}(): the input must be int64 or int32, it is {input.dtype}: convert it")
    if not weight.is_floating_point():
        raise RuntimeError(f"{name}(): weight must be floating point, it is {weight.dtype}: convert it")


@op(builtin=F.embedding)
def embedding(input, weight, padding_idx, scale_grad_by_freq, sparse):
    r"""Rows of a table: $y_i = W_{x_i}$.

    input (*) integers, weight (symbols, width); output (*, width). padding_idx: the row that gets no gradient. max_norm:
    rows that are used and whose norm_type-norm is larger are scaled down to it, in place. scale_grad_by_freq: gradients
    are divided by how often their row is used. sparse: the gradient of weight is a sparse tensor. IndexError where a number
    is out of range, RuntimeError or AssertionError where arguments do not fit. Bengio et al. 2003 (JMLR 3), section 2.
    """
    return weight.index_select(0, input.flatten()).view(*input.shape, weight.shape[1])


@embedding.gradient
def embedding_gradient(dy, input, weight, padding_idx, scale_grad_by_freq, sparse):
    r"""$dW_k = \sum_{i : x_i = k} dy_i$, divided by the number of these i with scale_grad_by_freq; 0 for padding_idx."""
    rows, d = input.flatten(), widened(dy).reshape(input.numel(), weight.shape[1])
    return None, table_gradient(d, rows, weight, padding_idx, scale_grad_by_freq, sparse, dy.dtype)


class Embedding(Manual, torch.nn.Embedding):
    """The module of `embedding`."""

    op = embedding


@embedding.prepare
def embedding_prepare(
    input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
):
    if weight.dim() != 2:
        raise RuntimeError(f"embedding(): weight must be (symbols, width), it has shape {tuple(weight.shape)}")
    check_table("embedding", input, weight)
    if padding_idx is not None:
        if not -len(weight) <= padding_idx < len(weight):
            raise AssertionError(
                f"embedding(): padding_idx must lie within the {len(weight)} rows, it is {padding_idx}"
            )
        padding_idx %= len(weight)
    renormalise(weight, input.flatten(), max_norm, norm_type)
    return input, weight, padding_idx, scale_grad_by_freq, sparse


# --- bags -------------------------------------------------------------------------------------------------------


def lengths(bags, number, like):
    """(number,): how many are in each bag."""
    ones = like.new_ones(()).expand(len(bags))
    return like.new_zeros(number + 1).index_add(0, bags, ones)[:number]


def first_of_largest(v, bags, number):
    """(number, width): for each bag and column where the largest of v (n, width) stands, NaN above all, and the first of
    several; n where the bag is empty."""
    n, bags = len(v), bags.unsqueeze(1).expand(v.shape)
    largest = v.new_full((number + 1, v.shape[1]), -math.inf).scatter_reduce(0, bags, v, "amax")
    place = torch.arange(n, device=v.device).unsqueeze(1)
    place = torch.where((v == largest.gather(0, bags)) | v.isnan(), place, n)
    return place.new_full(largest.shape, n).scatter_reduce(0, bags, place, "amin")[:number]


def with_row_of_zeros(t):
    return torch.cat([t, t.new_zeros(1, *t.shape[1:])])


@op(builtin=F.embedding_bag)
def embedding_bag(
    input, weight, bags, number, scale_grad_by_freq, mode, sparse, per_sample_weights, padding_idx
):  # fmt: skip
    r"""Bags of rows of a table, joined to one row each: $y_b = \sum_{i \in b} s_i W_{x_i}$, their mean, or column by column the
    largest.

    input (n) integers with offsets (B), where each bag begins, in order, from 0; with include_last_offset (B + 1), the last of
    which is n. Or input (B, n), a bag a row. weight (symbols, width), output (B, width), 0 of a bag that is empty.
    per_sample_weights: s, of input's shape, in the sum alone. padding_idx: a row that is in no bag. max_norm, norm_type,
    scale_grad_by_freq, sparse: as for `embedding`; the last two not of the largest. NaN is larger than any number.
    ValueError, NotImplementedError or RuntimeError where they do not fit, or an index is out of range.
    Mikolov et al. 2013, arXiv:1301.3781, section 3.1 (the sum and the mean of a context's words).
    """
    v = wide(weight).index_select(0, input)  # (n, width)
    if mode == "max":
        largest = first_of_largest(v, bags, number)  # (B, width)
        return with_row_of_zeros(v).gather(0, largest).to(weight.dtype), (largest,)
    if per_sample_weights is not None:
        v = v * wide(per_sample_weights).reshape(-1, 1)
    y = v.new_zeros(number + 1, v.shape[1]).index_add(0, bags, v)[:number]  # the last is of those in no bag
    if mode == "mean":
        y = y / lengths(bags, number, y).clamp(min=1).unsqueeze(1)
    return y.to(weight.dtype), ()


@embedding_bag.gradient
def embedding_bag_gradient(
    dy, saved, needs, input, weight, bags, number, scale_grad_by_freq, mode, sparse, per_sample_weights, padding_idx
):  # fmt: skip
    r"""$dW_k = \sum_{i : x_i = k} s_i\,dy_{b(i)}$, for the mean divided by the length of b(i), with scale_grad_by_freq by the
    number of these i; $ds_i = dy_{b(i)} \cdot W_{x_i}$. Of the largest all goes to the first of those that are."""
    dy_wide = wide(dy)
    if mode == "max":
        (largest,) = saved
        d, symbols = dy_wide.masked_fill(largest == len(input), 0), with_row_of_zeros(input.long())
        symbols = symbols.index_select(0, largest.flatten()).view(largest.shape)
        return None, d.new_zeros(()).expand(weight.shape).scatter_add(0, symbols, d)
    if mode == "mean":
        dy_wide = dy_wide / lengths(bags, number, dy_wide).clamp(min=1).unsqueeze(1)
    d, s, dweight, ds = with_row_of_zeros(dy_wide).index_select(0, bags), per_sample_weights, None, None  # (n, width)
    if s is not None and needs.per_sample_weights:
        ds = (d * wide(weight).index_select(0, input)).sum(1).view(s.shape)
    if needs.weight:
        d = d if s is None else d * wide(s).reshape(-1, 1)
        dweight = table_gradient(d, input, weight, padding_idx, scale_grad_by_freq, sparse, dy.dtype)
    return None, dweight, None, None, None, None, None, ds


class EmbeddingBag(Manual, torch.nn.EmbeddingBag):
    """The module of `embedding_bag`."""

    op = embedding_bag
    attributes = {name: name for name in ("weight", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse",
                                          "include_last_offset", "padding_idx")}  # fmt: skip

    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(input, offsets=offsets, per_sample_weights=per_sample_weights)

    def explicit(self, input, *others, **named):
        # The operation has the table second, the module the offsets.
        return super().explicit(input, **dict(zip(("offsets", "per_sample_weights"), others)), **named)  # noqa: B905


def check_bags(input, weight, offsets, mode, per_sample_weights, include_last_offset, scale_grad_by_freq, sparse):
    """What must hold of the arguments' kinds and shapes."""
    s, name = per_sample_weights, "embedding_bag()"
    if input.is_nested:
        raise ValueError(
            f"{name}: the input must not be nested: give its values() and its offsets(), and include_last_offset"
        )
    if s is not None and s.shape != input.shape:
        raise ValueError(f"{name}: per_sample_weights must have the input's shape {tuple(input.shape)}, it has "
                         f"{tuple(s.shape)}")  # fmt: skip
    if weight.dim() != 2:
        raise ValueError(f"{name}: weight must be (symbols, width), it has shape {tuple(weight.shape)}")
    if input.dim() not in (1, 2):
        raise ValueError(f"{name}: the input must have 1 or 2 dimensions, it has {input.dim()}")
    if input.dim() == 2 and offsets is not None:
        raise ValueError(f"{name}: there must be no offsets where the input has two dimensions, each row being a bag")
    if input.dim() == 1 and (offsets is None or offsets.dim() != 1):
        raise ValueError(f"{name}: offsets must be (bags,) where the input has one dimension, they are "
                         f"{None if offsets is None else tuple(offsets.shape)}")  # fmt: skip
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"{name}: mode must be sum, mean or max, it is {mode!r}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError(f"{name}: the mode max must go without scale_grad_by_freq and sparse")
    if s is not None and mode != "sum":
        raise NotImplementedError(f"{name}: per_sample_weights must go with the mode sum, the mode is {mode}")
    check_table("embedding_bag", input, weight)
    if s is not None and s.dtype != weight.dtype:
        raise RuntimeError(
            f"{name}: per_sample_weights must have weight's dtype {weight.dtype}, it has {s.dtype}: convert it"
        )
    if offsets is not None and offsets.dtype not in (torch.int64, torch.int32):
        raise RuntimeError(f"{name}: offsets must be int64 or int32, they are {offsets.dtype}: convert them")
    if input.dim() == 2 and not input.shape[1]:
        raise RuntimeError(f"{name}: a row of the input must not be empty, it has shape {tuple(input.shape)}")
    if include_last_offset and offsets is not None and not len(offsets):
        raise RuntimeError(f"{name}: with include_last_offset there must be one offset at least, there is none")


def check_numbers(input, weight, offsets):
    """RuntimeError where an index or an offset is out of range, where they can be looked at."""
    if concrete(input) and input.numel():
        low, high = input.min(), input.max()
        if low < 0 or high >= len(weight):
            raise RuntimeError(f"embedding_bag(): indices must lie in [0, {len(weight)}), they lie in [{low}, {high}]")
    if offsets is None or not concrete(offsets) or not len(offsets):
        return
    if offsets[0] != 0 or offsets[-1] > len(input) or (offsets[1:] < offsets[:-1]).any():
        raise RuntimeError(f"embedding_bag(): offsets must begin at 0, be in order and not go beyond the {len(input)} "
                           f"indices, they are {offsets.tolist()[:8]}")  # fmt: skip


@embedding_bag.prepare
def embedding_bag_prepare(
    input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean", sparse=False,
    per_sample_weights=None, include_last_offset=False, padding_idx=None,
):  # fmt: skip
    check_bags(input, weight, offsets, mode, per_sample_weights, include_last_offset, scale_grad_by_freq, sparse)
    check_numbers(input, weight, offsets)
    x, n = input.flatten(), input.numel()
    if offsets is None:
        number = len(input)
        bags = torch.arange(number, device=x.device).unsqueeze(1).expand(input.shape).flatten()
    else:
        number = len(offsets) - 1 if include_last_offset else len(offsets)
        # How many bags have begun at each place, less one; before the first, and after the last, it is in none.
        begun = torch.zeros(n + 1, dtype=torch.int64, device=x.device).index_add(
            0, offsets.long(), torch.ones_like(offsets, dtype=torch.int64)
        )
        bags = begun[:n].cumsum(0) - 1
        bags = torch.where(bags < 0, number, bags)
    if padding_idx is not None:
        if not -len(weight) <= padding_idx < len(weight):
            raise RuntimeError(
                f"embedding_bag(): padding_idx must lie within the {len(weight)} rows, it is {padding_idx}"
            )
        padding_idx %= len(weight)
        bags = torch.where(x == padding_idx, number, bags)
    renormalise(weight, x, max_norm, norm_type)
    return x, weight, bags, number, scale_grad_by_freq, mode, sparse, per_sample_weights, padding_idx
