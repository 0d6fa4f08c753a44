"""Embedding: rows of a table by their numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import again
from .common import widened


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
    if scale_grad_by_freq:
        counts = d.new_zeros(len(weight)).index_add(0, rows, d.new_ones(()).expand(len(rows)))
        d = d / counts.index_select(0, rows).unsqueeze(1)
    if padding_idx is not None:
        d = d * (rows != padding_idx).unsqueeze(1)
    if sparse:
        return None, torch.sparse_coo_tensor(rows.unsqueeze(0), d.to(dy.dtype), weight.shape, check_invariants=False)
    return None, d.new_zeros(()).expand(weight.shape).index_add(0, rows, d)


class Embedding(Manual, torch.nn.Embedding):
    """The module of `embedding`."""

    op = embedding


@embedding.prepare
def embedding_prepare(
    input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
):
    if weight.dim() != 2:
        raise RuntimeError(f"embedding(): weight must be (symbols, width), it has shape {tuple(weight.shape)}")
    if input.dtype not in (torch.int64, torch.int32):
        raise RuntimeError(f"embedding(): the input must be int64 or int32, it is {input.dtype}: convert it")
    if padding_idx is not None:
        if not -len(weight) <= padding_idx < len(weight):
            raise AssertionError(
                f"embedding(): padding_idx must lie within the {len(weight)} rows, it is {padding_idx}"
            )
        padding_idx %= len(weight)
    if max_norm is not None and not again():
        with torch.no_grad():
            used = weight.new_zeros(len(weight)).index_fill(0, input.flatten().long(), 1)
            norm = torch.linalg.vector_norm(weight, norm_type, 1)
            scale = torch.where((used > 0) & (norm > max_norm), max_norm / (norm + 1e-7), 1)
            weight.mul_(scale.unsqueeze(1))
    return input, weight, padding_idx, scale_grad_by_freq, sparse
