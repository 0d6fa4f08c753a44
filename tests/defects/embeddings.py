"""Embeddings and their bags with one error each."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import Kernel, defect


def starts(input, offsets, include_last_offset):
    """Where each bag begins, and where the last one ends."""
    if offsets is None:
        return torch.arange(0, input.numel() + 1, input.shape[1])
    return offsets if include_last_offset else torch.cat([offsets, offsets.new_tensor([len(input)])])


@defect("embedding_bag", "value", "padding_idx")
def padding_counts_in_the_length(input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
                                 mode="mean", sparse=False, per_sample_weights=None, include_last_offset=False,
                                 padding_idx=None):  # fmt: skip
    mean = mode == "mean"
    y = F.embedding_bag(input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, "sum" if mean else mode, sparse,
                        per_sample_weights, include_last_offset, padding_idx)  # fmt: skip
    length = starts(input, offsets, include_last_offset).diff()
    return y / length.clamp(min=1).unsqueeze(1) if mean else y  # of all, the padding too


class Bag(Kernel):
    """The bags of a table, their sum with weights or their largest, of one kind and with no option."""

    @staticmethod
    def forward(ctx, input, weight, offsets, mode, per_sample_weights=None):
        y = F.embedding_bag(input, weight, offsets, mode=mode, per_sample_weights=per_sample_weights)
        x, ends = input.flatten(), starts(input, offsets, False)
        bags = torch.repeat_interleave(torch.arange(len(ends) - 1), ends.diff())
        Kernel.keep(ctx, x, weight, bags, per_sample_weights, y)
        return y


@defect("embedding_bag", "gradient", "")
class all_that_tie_learn(Bag):
    @staticmethod
    def forward(ctx, input, weight, offsets=None, mode="max"):
        return Bag.forward(ctx, input, weight, offsets, mode)

    @staticmethod
    def backward(ctx, dy):
        x, weight, bags, _, y = ctx.args
        d = dy[bags] * (weight[x] == y[bags])  # each of the largest, and not the first
        return None, torch.zeros_like(weight).index_add(0, x, d), None, None


@defect("embedding_bag", "gradient", "per_sample_weights")
class weights_learn_of_the_place(Bag):
    @staticmethod
    def forward(ctx, input, weight, offsets=None, mode="sum", per_sample_weights=None):
        return Bag.forward(ctx, input, weight, offsets, mode, per_sample_weights)

    @staticmethod
    def backward(ctx, dy):
        x, weight, bags, s, _ = ctx.args
        d, place = dy[bags], torch.arange(len(x)) % len(weight)
        dw = torch.zeros_like(weight).index_add(0, x, d if s is None else d * s.reshape(-1, 1))
        return None, dw, None, None, None if s is None else (d * weight[place]).sum(1).view_as(s)  # not the row of x


@defect("EmbeddingBag", "value", "padding_idx")
class BagWithItsPadding(torch.nn.EmbeddingBag):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
        )  # and no padding_idx


@defect("AdaptiveLogSoftmaxWithLoss", "value", "")
class TailWithoutItsHead(torch.nn.AdaptiveLogSoftmaxWithLoss):
    def forward(self, input_, target_):
        x, t = (input_, target_) if target_.dim() else (input_[None], target_[None])
        head, y = F.log_softmax(self.head(x), 1), torch.zeros(len(x), dtype=x.dtype)
        y = torch.where(t < self.shortlist_size, head.gather(1, t.clamp(max=self.head_size - 1)[:, None])[:, 0], y)
        for first, last, cluster in zip(self.cutoffs[:-1], self.cutoffs[1:], self.tail, strict=True):
            log_p = F.log_softmax(cluster(x), 1).gather(1, (t - first).clamp(0, last - first - 1)[:, None])[:, 0]
            y = torch.where((t >= first) & (t < last), log_p, y)  # without the cluster's own
        return torch.nn.modules.adaptive._ASMoutput(y.view(target_.shape), -y.mean())
