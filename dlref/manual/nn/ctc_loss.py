"""Connectionist temporal classification: the likelihood of a label, summed over its alignments to the frames."""

from __future__ import annotations

import math
import operator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.module import Manual
from ...core.pair import op
from .common import concrete, wide
from .reduction import check_reduction, reduce_loss, unreduced


@op(builtin=F.ctc_loss, autocast="float32")
def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    r"""$l = -\log \sum_\pi \prod_{t < T} p_t(\pi_t)$, over the paths $\pi$ of which the target is left when what repeats
    is merged and blanks are taken out.

    Of the states $l' = (b, l_0, b, l_1, \dots, b)$, L = 2S + 1 in number, a path begins in one of the first two and ends in
    one of the last two. From each it goes to the same, to the next, or to the one after, unless that is a blank or the same
    label once more. With $r_t(s)$ the logarithm of the probability of all that leads to the state s at the frame t, that
    frame left out,

    $r_0(s) = \log [s < 2],\quad r_{t+1}(s) = \log \sum_{s' \to s} e^{r_t(s') + \log p_t(l'_{s'})},\quad l = -r_T(L)$,

    L standing for a state behind the last. r is counted from its largest at each t: its digits are then of what tells the
    states apart.

    log_probs (T, N, C), or (T, C) without a batch; targets (N, S), or one after the other in one dimension; lengths (N),
    tensors or tuples: what is behind them is not read. Output a number, which is the mean of $l / \max(S, 1)$ by "mean",
    or (N). Infinite where there is no path, as of fewer frames than labels and repeats; with zero_infinity 0.

    RuntimeError where shapes or lengths do not fit, or a label is no class or the blank; TypeError where lengths are no
    integers, ValueError where reduction is wrong, NotImplementedError where log_probs is not floating point. Graves et al.
    2006 (ICML), eq. 5 to 8.
    """
    x = _by_sample(wide(log_probs))
    reached, scales = _reached(*_states(x, targets, input_lengths, target_lengths, blank))
    loss = -(_end(reached, input_lengths, target_lengths) + _until(scales, input_lengths))
    loss = loss.masked_fill(loss == math.inf, 0) if zero_infinity else loss
    loss = loss / target_lengths.clamp(min=1) if reduction == "mean" else loss
    loss = loss if log_probs.dim() == 3 else loss.squeeze(0)
    return reduce_loss(loss, reduction).to(log_probs.dtype), (reached,)


@ctc_loss.gradient
def ctc_loss_gradient(dy, saved, log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity):
    r"""$d \log p_t(c) = -dy \sum_{s:\,l'_s = c} \gamma_t(s),\quad
    \gamma_t(s) = e^{r_t(s) + \log p_t(l'_s) + \bar r_t(s)} / \sum_{s'} e^{r_t(s') + \log p_t(l'_{s'}) + \bar r_t(s')}$.

    Every path has one factor $p_t(c)$ for each t, so that $\partial l / \partial \log p_t(c)$ is minus the share that the paths
    with the label c at t have in the sum. Those in the state s are what leads there, the factor, and what leads on to the end,
    $\bar r_t(s)$: that is r of frames and target read from the end, as the steps are the same. All paths are in some state
    at t, so the denominator is the sum of all, and what r is counted from drops out. Graves et al. 2006, eq. 14 to 16, of
    which the last goes on to what is before a softmax.

    0 behind the frames' length. NaN where there is no path, and with zero_infinity 0.
    """
    (reached,) = saved
    x = _by_sample(wide(log_probs))
    emitted, _ = _states(x, targets, input_lengths, target_lengths, blank)
    turned = _from_the_end(x, input_lengths, 1), _from_the_end(targets, target_lengths, 1)
    leading, _ = _reached(*_states(*turned, input_lengths, target_lengths, blank))
    leading = _from_the_end(_from_the_end(leading[:, :-1], input_lengths, 1), 2 * target_lengths + 1, 2)
    share = _softmax(reached[:, :-1] + emitted + leading)
    share = torch.zeros_like(x).scatter_add(2, _labels(targets, blank).unsqueeze(1).expand_as(share), share)
    lost = (_end(reached, input_lengths, target_lengths) == -math.inf).unsqueeze(1) & _within(x.shape[1], input_lengths)
    share = share.masked_fill(lost.unsqueeze(2), 0 if zero_infinity else math.nan)
    s = unreduced(dy, len(x), reduction).expand(len(x))
    s = s / target_lengths.clamp(min=1) if reduction == "mean" else s
    return _by_sample(-s.view(-1, 1, 1) * share) if log_probs.dim() == 3 else -s * share.squeeze(0)


class CTCLoss(Manual, torch.nn.CTCLoss):
    """The module of `ctc_loss`."""

    op = ctc_loss


def _by_sample(x):
    """(T, N, C) as (N, T, C) and back; (T, C) as (1, T, C)."""
    return x.transpose(0, 1) if x.dim() == 3 else x.unsqueeze(0)


def _labels(targets, blank):
    """The states' labels $l'$, (N, 2S + 2): a blank before each label, and two behind the last."""
    blanks = targets.new_full((len(targets), targets.shape[1] + 1), blank)
    return torch.stack([blanks, torch.cat([targets, blanks[:, :1]], 1)], 2).flatten(1)


def _states(x, targets, input_lengths, target_lengths, blank):
    r"""$\log p_t(l'_s)$, (N, T, 2S + 2), $-\infty$ behind the lengths; (N, 2S + 2), whether no step leads over a state to s."""
    labels = _labels(targets, blank)
    states = 2 * target_lengths + 1
    inside = _within(x.shape[1], input_lengths).unsqueeze(2) & _within(labels.shape[1], states).unsqueeze(1)
    emitted = x.gather(2, labels.unsqueeze(1).expand_as(inside))
    barred = torch.cat([torch.ones_like(inside[:, 0, :2]), labels[:, 2:] == labels[:, :-2]], 1)
    barred = barred & (torch.arange(labels.shape[1], device=x.device) != states.unsqueeze(1))
    return emitted.masked_fill(~inside, -math.inf), barred


def _reached(emitted, barred):
    """r, (N, T + 1, 2S + 2), counted from its largest at each frame; and by how much that rose at each, (N, T + 1)."""
    first = torch.arange(emitted.shape[2], device=emitted.device) < 2
    r = torch.zeros_like(emitted[:, 0]).masked_fill(~first, -math.inf)
    reached, scales = [r], [torch.zeros_like(r[:, 0])]
    nowhere = torch.full_like(r[:, :2], -math.inf)
    for frame in emitted.unbind(1):
        a = torch.cat([nowhere, r + frame], 1)
        r = _log_sum(torch.stack([a[:, 2:], a[:, 1:-1], a[:, :-2].masked_fill(barred, -math.inf)]))
        scale = _largest(r, 1)
        r = r - scale
        reached.append(r)
        scales.append(scale.squeeze(1))
    return torch.stack(reached, 1), torch.stack(scales, 1)


def _log_sum(x):
    r"""$\log \sum e^x$ over the first dimension; $-\infty$ where all are, and then without a slope."""
    largest = _largest(x, 0)
    total = (x - largest).exp().sum(0)
    nothing = total == 0
    return (largest.squeeze(0) + total.masked_fill(nothing, 1).log()).masked_fill(nothing, -math.inf)


def _softmax(x):
    """Over the last dimension; 0 where all are minus infinity."""
    e = (x - _largest(x, -1)).exp()
    total = e.sum(-1, keepdim=True)
    return e / total.masked_fill(total == 0, 1)


def _largest(x, dim):
    """A constant to count from: the largest along the dimension, but finite where all are minus infinity."""
    return x.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(x.dtype).min)


def _end(reached, input_lengths, target_lengths):
    """r behind the last frame and the last state, (N)."""
    last = reached.gather(1, input_lengths.view(-1, 1, 1).expand_as(reached[:, :1])).squeeze(1)
    return last.gather(1, 2 * target_lengths.unsqueeze(1) + 1).squeeze(1)


def _until(scales, input_lengths):
    return scales.masked_fill(~_within(scales.shape[1], input_lengths + 1), 0).sum(1)


def _within(size, lengths):
    """$[i < length]$, (N, size)."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def _from_the_end(x, lengths, dim):
    """What is within the lengths along the dimension, backwards; what is behind them is the first."""
    index = (lengths.unsqueeze(1) - 1 - torch.arange(x.shape[dim], device=x.device)).clamp(min=0)
    shape = [len(x)] + [1] * (x.dim() - 1)
    shape[dim] = x.shape[dim]
    return x.gather(dim, index.view(shape).expand_as(x))


@ctc_loss.prepare
def ctc_loss_prepare(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity):
    check_reduction(reduction)
    if log_probs.dim() not in (2, 3) or not log_probs.numel():
        raise RuntimeError("ctc_loss(): log_probs must be (T, N, C) or (T, C) and not empty, it has the shape "
                           f"{tuple(log_probs.shape)}")  # fmt: skip
    number, classes = 1 if log_probs.dim() == 2 else log_probs.shape[1], log_probs.shape[-1]
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss(): blank must be a class in [0, {classes}), it is {blank}")
    if isinstance(input_lengths, Tensor) != isinstance(target_lengths, Tensor):
        raise TypeError("ctc_loss(): the lengths must both be tensors or both tuples of integers, one is a tensor")
    input_lengths = _lengths("input_lengths", input_lengths, number, log_probs.device)
    target_lengths = _lengths("target_lengths", target_lengths, number, log_probs.device)
    if targets.dim() not in (1, 2) or (targets.dim() == 2 and len(targets) != number):
        raise RuntimeError(f"ctc_loss(): targets must be ({number}, S), or all in one dimension; they have the shape "
                           f"{tuple(targets.shape)}")  # fmt: skip
    known = concrete(input_lengths) and concrete(target_lengths)
    if known:
        _check_lengths(len(log_probs), targets, input_lengths, target_lengths)
    targets = targets.to(log_probs.device, torch.long)
    if targets.dim() == 1:
        width = int(target_lengths.max()) if known else len(targets)
        starts = target_lengths.cumsum(0) - target_lengths
        index = starts.unsqueeze(1) + torch.arange(width, device=targets.device)
        targets = targets.gather(0, index.clamp(max=len(targets) - 1).flatten()).view(number, width)
    within = _within(targets.shape[1], target_lengths)
    if known and concrete(targets) and (within & ((targets < 0) | (targets >= classes) | (targets == blank))).any():
        raise RuntimeError(f"ctc_loss(): labels must be classes in [0, {classes}) other than the blank, {blank}; they are "
                           f"{targets[within].unique().tolist()}")  # fmt: skip
    return (
        log_probs,
        targets.masked_fill(~within, blank),
        input_lengths,
        target_lengths,
        blank,
        reduction,
        zero_infinity,
    )


def _lengths(name, lengths, number, device):
    """The lengths as a tensor (N) of int64."""
    if not isinstance(lengths, Tensor):
        if not isinstance(lengths, (tuple, list)):
            raise TypeError(
                f"ctc_loss(): argument '{name}' must be Tensor or a tuple of ints, not {type(lengths).__name__}"
            )
        lengths = torch.tensor([operator.index(v) for v in lengths], dtype=torch.int64, device=device)
    if lengths.dtype == torch.bool or lengths.is_floating_point() or lengths.is_complex():
        raise RuntimeError(f"ctc_loss(): {name} must be integers, they are {lengths.dtype}")
    if lengths.dim() > 1 or lengths.numel() != number:
        raise RuntimeError(f"ctc_loss(): {name} must have the size {number} of the batch, they have the shape "
                           f"{tuple(lengths.shape)}")  # fmt: skip
    return lengths.to(device, torch.int64).reshape(number)


def _check_lengths(frames, targets, input_lengths, target_lengths):
    if (input_lengths < 0).any() or (input_lengths > frames).any():
        raise RuntimeError(f"ctc_loss(): input_lengths must lie in [0, {frames}], they are {input_lengths.tolist()}")
    whole = int(target_lengths.sum())
    fits = len(targets) == whole if targets.dim() == 1 else bool((target_lengths <= targets.shape[1]).all())
    if (target_lengths < 0).any() or not fits:
        raise RuntimeError(f"ctc_loss(): target_lengths must not be negative, and "
                           f"{'add up to' if targets.dim() == 1 else 'be at most'} {targets.shape[-1]}; they are "
                           f"{target_lengths.tolist()}")  # fmt: skip
