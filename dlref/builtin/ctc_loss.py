"""torch's ctc_loss with its derivative, composed of torch's functions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    r"""$l(x) = l(\log \mathrm{softmax}\,x) - \sum_{t < T} \log \sum_c e^{x_{tc}}$, as every path has one factor for each t.

    The gradient that torch gives of ctc_loss is larger by $e^x$: it is that of what a log_softmax makes, on the way through it.
    Of targets one after the other torch seeks the second sample's where those of stride 1 have them.

    RuntimeError where a label is no class, so that torch would read and write beside the tensors, or the blank, which no path
    gives: torch's gradient is not that of its value there.
    """
    lengths, labels = (torch.as_tensor(v, device=log_probs.device) for v in (input_lengths, target_lengths))
    targets = targets.to(log_probs.device)
    within = torch.arange(targets.shape[-1], device=targets.device) < labels.view(-1, 1)
    given = targets if targets.dim() == 1 else targets[within]
    if ((given < 0) | (given >= log_probs.shape[-1]) | (given == blank)).any():
        raise RuntimeError(f"ctc_loss(): labels must be classes other than the blank, {blank}")
    options = (targets.contiguous(), input_lengths, target_lengths, blank)
    loss = F.ctc_loss(log_probs.log_softmax(-1), *options, "none", zero_infinity)
    x = log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1)
    counts = torch.arange(len(x), device=x.device).unsqueeze(1) < lengths.view(-1)
    if zero_infinity:
        counts = counts & F.ctc_loss(x.detach(), *options, "none").isfinite()
    loss = loss - x.logsumexp(-1).masked_fill(~counts, 0).sum(0).view(loss.shape)
    if reduction == "mean":
        return (loss / labels.view(loss.shape).clamp(min=1)).mean()
    return loss.sum() if reduction == "sum" else loss
