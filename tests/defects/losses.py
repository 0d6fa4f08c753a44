"""Losses and projections with errors that their kernels are known for."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dlref.builtin import functional as reference

from . import Kernel, defect

FLOAT32 = {"dtypes": ["float32"], "beyond": False}


@defect("dpo_loss", "value", **FLOAT32)
def beta_outside_of_the_sigmoid(
    chosen, rejected, reference_chosen, reference_rejected, beta=0.1, label_smoothing=0.0, reduction="mean"
):
    return beta * reference.dpo_loss(
        chosen, rejected, reference_chosen, reference_rejected, 1.0, label_smoothing, reduction
    )


@defect("grpo_loss", "value", "reduction|mask", **FLOAT32)
def mean_of_all_tokens(
    logps, old_logps, reference_logps, advantages, mask=None, beta=0.04, epsilon=0.2, reduction="mean"
):
    each = (logps, old_logps, reference_logps, advantages, mask, beta, epsilon)
    if mask is None or reduction != "mean":
        return reference.grpo_loss(*each, reduction)
    tokens = (mask != 0).sum(1)
    return (reference.grpo_loss(*each, "none") * tokens).sum() / tokens.sum().clamp(min=1)  # long answers weigh more


@defect("focal_loss", "gradient", **FLOAT32)
class the_power_is_a_constant(Kernel):
    @staticmethod
    def forward(ctx, input, target, gamma=2.0, alpha=None, reduction="mean"):
        Kernel.keep(ctx, input, target, gamma, alpha, reduction)
        return reference.focal_loss(input, target, gamma, alpha, reduction)

    @staticmethod
    def backward(ctx, dy):
        input, target, gamma, alpha, reduction = ctx.args
        dim = min(input.dim() - 1, 1)
        learn = [t.detach().requires_grad_() for t in (input, alpha) if t is not None]
        with torch.enable_grad():
            log_p = F.log_softmax(learn[0], dim).gather(dim, target.long().unsqueeze(dim))
            loss = -((1 - log_p.detach().exp()) ** gamma) * log_p  # detached
            loss = loss if alpha is None else loss * learn[1][target.long()].unsqueeze(dim)
            loss = loss.squeeze(dim)
            loss = loss if reduction == "none" else getattr(loss, reduction)()
            dinput, *dalpha = torch.autograd.grad(loss, learn, dy)
        return dinput, None, None, dalpha[0] if dalpha else None, None


@defect("entmax", "gradient", **FLOAT32)
class not_normalised_over_the_support(Kernel):
    @staticmethod
    def forward(ctx, input, alpha=1.5, dim=-1):
        y = reference.entmax(input, alpha, dim)
        Kernel.keep(ctx, y, alpha, dim)
        return y

    @staticmethod
    def backward(ctx, dy):
        y, alpha, dim = ctx.args
        s = torch.where(y > 0, y.clamp(min=1e-30) ** (2 - alpha), 0)
        return s * (dy - (s * dy).sum(dim, keepdim=True)), None, None  # not divided by the sum of s


@defect("js_div", "value", **FLOAT32)
def weights_exchanged(input, target, beta=0.5, reduction="batchmean"):
    return reference.js_div(input, target, 1 - beta, reduction)
