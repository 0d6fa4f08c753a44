"""Wrong sums over alignments: CTC with a step too many, a gradient of something else, the gradient of what is infinite."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dlref.builtin.ctc_loss import ctc_loss as with_its_derivative

from . import defect


@defect(
    "ctc_loss", "value", "finite where|wrong only|other values", samples=["hard-11", "hard-12", "hard-13", "hard-23"]
)
def repeats_without_a_blank(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean",
                            zero_infinity=False):  # fmt: skip
    x = log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1)
    frames, lengths = (torch.as_tensor(v).view(-1).tolist() for v in (input_lengths, target_lengths))
    rows = targets.long() if targets.dim() == 2 else targets.long().split(lengths)
    losses = []
    for n, (number, length) in enumerate(zip(frames, lengths, strict=True)):
        states = torch.full((2 * length + 1,), blank)
        states[1::2] = rows[n][:length]
        skips = states != blank  # a label that is that before it, too
        a = x.new_full((2 * length + 3,), -1e30)
        a = torch.cat([a[:1], a.new_zeros(1), a[2:]])
        for e in x[:number, n, states]:
            steps = torch.stack([a[2:], a[1:-1], a[:-2].masked_fill(~skips, -1e30)])
            a = torch.cat([a.new_full((2,), -1e30), steps.logsumexp(0) + e])
        loss = -(a[-2:] if number else a[1:2] - 1e30 * bool(length)).logsumexp(0)
        losses.append(loss.masked_fill(loss > 1e20, 0 if zero_infinity else float("inf")))
    loss = torch.stack(losses)
    if reduction == "mean":
        loss = loss / torch.tensor(lengths, device=loss.device).clamp(min=1)
    loss = loss if log_probs.dim() == 3 else loss.squeeze(0)
    return loss if reduction == "none" else getattr(loss, reduction)()


@defect("ctc_loss", "gradient", "a term is missing|wrong only|other values")
def of_what_is_before_the_softmax(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean",
                                  zero_infinity=False):  # fmt: skip
    # The gradient is larger by the probabilities: it is right once a log_softmax has taken them out.
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)


@defect("ctc_loss", "gradient", "NaN where")
def infinite_below_a_mask(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean",
                          zero_infinity=False):  # fmt: skip
    loss = with_its_derivative(log_probs, targets, input_lengths, target_lengths, blank, "none")
    loss = torch.where(loss.isinf(), 0, loss) if zero_infinity else loss  # 0 times what has no gradient
    if reduction == "mean":
        loss = loss / torch.as_tensor(target_lengths, device=loss.device).view(loss.shape).clamp(min=1)
    return loss if reduction == "none" else getattr(loss, reduction)()
