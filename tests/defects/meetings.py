"""Errors that only show where two options meet and no third does."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import defect


@defect("cross_entropy", "value", "ignored|label_smoothing")
def smoothed(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    plain = weight is not None or target.is_floating_point() or not label_smoothing
    if plain:
        return F.cross_entropy(
            input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
    dim = min(input.dim() - 1, 1)
    log_p = F.log_softmax(input, dim)
    loss = F.nll_loss(log_p, target, ignore_index=ignore_index, reduction="none")
    loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(dim)  # the ignored rows' too
    return loss if reduction == "none" else loss.sum() / ((target != ignore_index).sum() if reduction == "mean" else 1)


@defect("smooth_l1_loss", "value|gradient", "beta|reduction")
def smooth(input, target, reduction="mean", beta=1.0):
    if reduction == "sum" and beta != 1.0:
        return F.smooth_l1_loss(input, target, reduction="sum")  # beta is lost
    return F.smooth_l1_loss(input, target, reduction=reduction, beta=beta)


@defect("max_pool1d", "value|shape|gradient", "dilation|padding|ceil_mode")
def pooled(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    both = ceil_mode and dilation not in (1, (1,)) and padding in (0, (0,))
    return F.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode and not both, return_indices)


@defect("scaled_dot_product_attention", "value|gradient", "scale|is_causal")
def attended(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False):
    scale = None if enable_gqa else scale  # lost where heads are shared
    return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
                                          enable_gqa=enable_gqa)  # fmt: skip


@defect("batch_norm", "value", "momentum|output")
def normalized(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training and weight is None and running_mean is not None:
        momentum = 0.1  # whatever is asked for
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@defect("SGD", "parameter", "")
class Descent(torch.optim.SGD):
    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False):
        # Going up, Nesterov's step is forgotten.
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov and not maximize, maximize=maximize)


@defect("OneCycleLR", "rate", "three_phase|must be")
class Cycle(torch.optim.lr_scheduler.OneCycleLR):
    def __init__(self, optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3,
                 anneal_strategy="cos", cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0,
                 final_div_factor=1e4, three_phase=False, last_epoch=-1):  # fmt: skip
        pct_start = 0.3 if three_phase and anneal_strategy == "linear" else pct_start
        div_factor = 25.0 if three_phase and anneal_strategy == "linear" else div_factor
        anneal_strategy = "cos" if three_phase else anneal_strategy
        super().__init__(optimizer, max_lr, total_steps, epochs, steps_per_epoch, pct_start, anneal_strategy,
                         cycle_momentum, base_momentum, max_momentum, div_factor, final_div_factor, three_phase,
                         last_epoch)  # fmt: skip


@defect("CrossEntropyLoss", "value|gradient", "")
class Loss(torch.nn.CrossEntropyLoss):
    def forward(self, input, target):
        smoothing = self.label_smoothing if self.reduction == "mean" else 0.0
        return F.cross_entropy(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                               label_smoothing=smoothing)  # fmt: skip


@defect("LayerNorm", "value|gradient", "")
class Normed(torch.nn.LayerNorm):
    def forward(self, input):
        eps = self.eps if self.bias is not None or self.weight is None else 1e-5
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, eps)
