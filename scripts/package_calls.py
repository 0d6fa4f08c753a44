"""What scripts/check_packages.py makes candidates by: functions and classes of other packages, called as the reference is.

A candidate takes its arguments by the reference's names. What it has no default of it is always given; what it does not take is
not tried.
"""

from __future__ import annotations

import inspect
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

# --- activations, layers, cross entropies, schedules --------------------------------------------------------------------


def activation(cls: type) -> Callable:
    """A module without options as a function of the tanh form's arguments."""
    return lambda input, approximate: cls()(input)


def normalization(cls: type) -> Callable:
    """A module of one size, of which the weight is the only parameter."""

    def called(input: Tensor, normalized_shape: Sequence[int], weight: Tensor, *, eps: float) -> Tensor:
        module = (
            cls(normalized_shape[0], eps=eps)
            if "eps" in inspect.signature(cls).parameters
            else cls(normalized_shape[0])
        )
        (name, _), *_ = module.named_parameters()
        return torch.func.functional_call(module, {name: weight}, (input,))

    return called


def last(function: Callable) -> Callable:
    """(x) along its last dimension, which the caller names."""
    return lambda input, dim: function(input)


def affine(function: Callable) -> Callable:
    """(x, weight, bias, eps=) of the last dimension."""

    def layer_norm(
        input: Tensor, normalized_shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float = 1e-5
    ) -> Tensor:
        return function(input, weight, bias, eps=eps)

    return layer_norm


def scaled(function: Callable) -> Callable:
    """(x, weight, eps) of the last dimension."""

    def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor, eps: float | None = None) -> Tensor:
        return function(input, weight, torch.finfo(input.dtype).eps if eps is None else eps)

    return rms_norm


def without_bias(function: Callable) -> Callable:
    return scaled(lambda x, weight, eps: function(x, weight, None, eps=eps))


def grouped(function: Callable) -> Callable:
    def group_norm(input: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
        return function(input, weight, bias, input.shape[1], num_groups, eps)

    return group_norm


def overwriting(function: Callable) -> Callable:
    """Of a copy: by design its gradient is written over its logits."""

    def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
                      reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:  # fmt: skip
        return function(input.clone(), target, weight, ignore_index=ignore_index, reduction=reduction,
                        label_smoothing=label_smoothing)  # fmt: skip

    return cross_entropy


def rows_of_losses(function: Callable) -> Callable:
    """A loss for each row."""

    def cross_entropy(input: Tensor, target: Tensor, ignore_index: int = -100, reduction: str = "none",
                      label_smoothing: float = 0.0) -> Tensor:  # fmt: skip
        return function(input, target, ignore_index=ignore_index, label_smoothing=label_smoothing)[0]

    return without_default(cross_entropy, "reduction")


def map_of_classes(function: Callable) -> Callable:
    """A loss for each class, nought but for the target's; its mean is that over the classes, too."""

    def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
                      reduction: str = "none") -> Tensor:  # fmt: skip
        loss = function(input, target, weight=weight, ignore_index=ignore_index, reduction=reduction)
        return loss.sum(1) if reduction == "none" else loss

    return without_default(cross_entropy, "reduction")


def without_default(function: Callable, name: str) -> Callable:
    """The function, of which this argument must be given: it is not made for the reference's default."""
    signature = inspect.signature(function)
    changed = [
        p.replace(default=p.empty, kind=p.KEYWORD_ONLY) if p.name == name else p for p in signature.parameters.values()
    ]
    order = sorted(changed, key=lambda p: p.kind is p.KEYWORD_ONLY)
    function.__signature__ = signature.replace(parameters=order)  # type: ignore[attr-defined]
    return function


def fused(function: Callable) -> Callable:
    def linear_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
                             weight: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean",
                             label_smoothing: float = 0.0) -> Tensor:  # fmt: skip
        ignored = -100 if ignore_index is None else ignore_index
        return function(input, linear_weight, target, linear_bias, weight, ignored, 0.0, label_smoothing, reduction)

    return linear_cross_entropy


def fused_layer(cls: type) -> Callable:
    def linear_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
                             ignore_index: int | None = None, reduction: str = "mean",
                             label_smoothing: float = 0.0) -> Tensor:  # fmt: skip
        layer = cls(
            ignore_index=-100 if ignore_index is None else ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
        return layer(input, target, linear_weight, linear_bias)

    return linear_cross_entropy


def transposed(cls: type) -> Callable:
    def linear(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with torch.device("meta"):  # where nothing is drawn
            module = cls(weight.shape[0], weight.shape[1])
        return torch.func.functional_call(module, {"weight": weight.t(), "bias": bias}, (input,))

    return linear


def attend(cls: type) -> Callable:
    def attention(
        query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False, *, scale: float | None = None
    ) -> Tensor:
        return cls(causal=is_causal, scale=scale)(query, key, value)[0]

    return attention


def linear_decay(function: Callable) -> Callable:
    def schedule(optimizer: Any, start_factor: float, end_factor: float, total_iters: int) -> Any:
        return function(optimizer, 0, total_iters)

    return schedule


def cosine_decay(function: Callable) -> Callable:
    return lambda optimizer, T_max: function(optimizer, 0, T_max)


def polynomial_decay(function: Callable) -> Callable:
    return lambda optimizer, total_iters=5, power=1.0: function(optimizer, 0, total_iters, lr_end=0.0, power=power)


# --- attention --------------------------------------------------------------------------------------------------------


def attend_more(cls: type) -> Callable:
    """The sinks are a parameter of the module, from which nothing comes where the caller has none."""

    def attention(
        query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: Any, softcap: Any, sinks: Any
    ) -> Tensor:
        clamp = {} if softcap is None else {"softclamp_logits": True, "logit_softclamp_value": softcap}
        own = {} if sinks is None else {"head_attn_sink": sinks}
        module = cls(causal=is_causal, scale=scale, heads=query.shape[1], head_learned_sink=sinks is not None, **clamp)
        return torch.func.functional_call(module, own, (query, key, value))[0]

    return attention


def eager(function: Callable) -> Callable:
    """Of a layer, which has the sinks; the mask is added, and the heads come after the positions."""

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any, scale: Any, enable_gqa: bool, softcap: Any,
                  sinks: Any) -> Tensor:  # fmt: skip
        groups = query.shape[1] // key.shape[1] if enable_gqa else 1
        layer = types.SimpleNamespace(num_key_value_groups=groups, sinks=sinks, training=False)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return function(layer, query, key, value, attn_mask, scaling=scale, softcap=softcap)[0].transpose(1, 2)

    return attention


def under(bias: Callable[[Any, Tensor, int, int], Tensor]) -> Callable:
    """Attention under a bias that a package makes of the slopes and both lengths."""

    def made(candidate: Any) -> Callable:
        def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any, is_causal: bool, scale: Any,
                      enable_gqa: bool, alibi_slopes: Tensor) -> Tensor:  # fmt: skip
            queries, keys = query.shape[-2], key.shape[-2]
            if enable_gqa:
                key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
            scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
            scores = scores + bias(candidate, alibi_slopes, queries, keys)
            scores = scores if attn_mask is None else scores + attn_mask
            if is_causal:
                scores = scores.masked_fill(torch.ones(queries, keys, dtype=torch.bool).triu(1), -math.inf)
            return scores.softmax(-1) @ value

        return attention

    return made


def of_distances(cls: type, slopes: Tensor, queries: int, keys: int) -> Tensor:
    module = cls(len(slopes), slopes=[0.0] * len(slopes))
    return torch.func.functional_call(module, {"slopes": slopes[:, None, None]}, (queries, keys))


def of_places(function: Callable, slopes: Tensor, queries: int, keys: int) -> Tensor:
    """It grows with the key's place, which is as good where keys that come later are masked; the slopes are made inside."""
    with mock.patch.object(sys.modules[function.__module__], "_get_alibi_slopes", lambda *_: slopes):
        return function(torch.ones(1, keys), len(slopes), slopes.dtype)


def one_head(function: Callable) -> Callable:
    """(batch, positions, heads, features), of one head; the state comes with the output."""
    return lambda q, k, v, scale: function(*(x.unsqueeze(2) for x in (q, k, v)), scale=scale)[0].squeeze(2)


def one_gated_head(function: Callable) -> Callable:
    """The same; it and no kernel that would be taken in its place."""

    def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor, scale: Any) -> Tensor:
        q, k, v, beta, g = (x.unsqueeze(2) for x in (q, k, v, beta, g))
        return inspect.unwrap(function)(q, k, v, beta=beta, g=g, scale=scale)[0].squeeze(2)

    return gated_delta_rule


def twice(angle: Tensor, interleaved: bool = False) -> Tensor:
    """One for each feature, not for each pair."""
    return angle.repeat_interleave(2, -1) if interleaved else torch.cat((angle, angle), -1)


ROTATIONS: dict[str, Callable] = {  # which pairs it is made for, where it is not told, is for `where`
    "llama": lambda f: lambda input, cos, sin: f(input, input, twice(cos), twice(sin), 0)[0].squeeze(0),
    "gptj": lambda f: lambda input, cos, sin, interleaved: f(
        input[:, :, None], *(a.expand(len(input), -1, -1) for a in (sin, cos)))[:, :, 0],
    "timm": lambda f: lambda input, cos, sin, interleaved: f(
        input, twice(sin, interleaved), twice(cos, interleaved), half=not interleaved),
    "fla": lambda f: lambda input, cos, sin, interleaved: f(input[..., None, :], cos, sin, interleaved)[..., 0, :],
    "liger": lambda f: lambda input, cos, sin: f(input[:, None], input[:, None].clone(), twice(cos), twice(sin))[0][:, 0],
}  # fmt: skip


# --- losses, gates and routes -----------------------------------------------------------------------------------------


def map_of_focus(function: Callable) -> Callable:
    """A loss for each class, nought but for the target's; its mean is that over the classes, too."""

    def focal_loss(input: Tensor, target: Tensor, gamma: float, alpha: Any, reduction: str) -> Tensor:
        loss = function(input, target, None, gamma, weight=alpha, reduction=reduction)
        return loss.sum(1) if reduction == "none" else loss

    return focal_loss


def focus_of_one_hot(cls: type) -> Callable:
    """The same, of targets that are one-hot."""

    def focal_loss(input: Tensor, target: Tensor, gamma: float, alpha: Any, reduction: str) -> Tensor:
        hot = torch.nn.functional.one_hot(target, input.shape[1]).movedim(-1, 1).to(input.dtype)
        return cls(gamma=gamma, weight=alpha, reduction=reduction, use_softmax=True)(input, hot).sum(1)

    return focal_loss


def in_one_channel(cls: type, input: Tensor, target: Tensor, smooth: float, **options: float) -> Tensor:
    loss = cls(smooth_nr=smooth, smooth_dr=smooth, **options)
    return loss(input.flatten(1)[:, None], target.flatten(1)[:, None])


def dice(cls: type) -> Callable:
    return lambda input, target, smooth: in_one_channel(cls, input, target, smooth)


def tversky(cls: type) -> Callable:
    return lambda input, target, alpha, beta, smooth: in_one_channel(cls, input, target, smooth, alpha=alpha, beta=beta)


def tversky_of_logits(cls: type) -> Callable:
    """Of all samples as one."""
    return lambda input, target, alpha, beta, smooth: cls(alpha, beta, smooth)(input.logit(), target)


def squared(function: Callable) -> Callable:
    """The mean over groups of tokens, here one."""
    return lambda input, coefficient: coefficient * function(input.reshape(1, -1, input.shape[-1]))


def balanced(loss: Callable[[Any, Tensor, Tensor], Tensor]) -> Callable:
    """The weights are torch's; the loss is the package's, whose fractions are of tokens: k times as large."""

    def made(candidate: Any) -> Callable:
        def top_k_routing(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
            indices = logits.topk(k).indices
            weights = logits.softmax(-1).gather(-1, indices)
            balance = loss(candidate, logits.flatten(0, -2), indices.flatten(0, -2)) / k
            return weights / weights.sum(-1, keepdim=True), indices, balance

        return top_k_routing

    return made


def gate(function: Callable) -> Callable:
    """The tanh form, which the caller names."""
    return lambda gate, up, approximate: function(gate, up)


def dynamic(function: Callable) -> Callable:
    return lambda input, alpha, weight, bias: function(input, alpha, weight, bias)


def added(function: Callable) -> Callable:
    return lambda input, residual, weight, eps: function(input, residual, weight, eps)


def of_probabilities(function: Callable) -> Callable:
    """Of distributions, not of their logarithms."""
    return lambda input, target, reduction: function(input.exp(), target.exp(), reduction=reduction)


def answers(of: Tensor, reduction: str, each: int = 1) -> Tensor:
    """Targets of as many answers as the sum is divided by."""
    return torch.empty(each * (of.shape[0] if reduction == "mean" else 1))


# The loss within a fused linear layer, in torch: (candidate's class) -> (loss of log-probabilities).
PREFERENCES: dict[str, Callable] = {
    "dpo": lambda cls: lambda chosen, rejected, reference_chosen, reference_rejected, beta, reduction: cls.preference_loss_fn(
        chosen, rejected, answers(chosen, reduction, 2), reference_chosen, reference_rejected, beta)[0],
    "simpo": lambda cls: lambda chosen, rejected, beta, gamma, reduction: cls.preference_loss_fn(
        chosen, rejected, answers(chosen, reduction, 2), beta, gamma)[0],
    "orpo": lambda cls: lambda chosen, rejected, weight, reduction: cls.preference_loss_fn(
        chosen, rejected, answers(chosen, reduction, 2), weight)[0],
    "kto": lambda cls: lambda logps, reference_logps, desirable, kl, beta, reduction: cls.preference_loss_fn(
        logps, desirable, answers(logps, reduction), reference_logps, beta, kl)[0],
    "grpo": lambda cls: lambda logps, old_logps, reference_logps, advantages, mask, beta, epsilon, reduction: cls.ppo_loss_fn(
        logps, torch.ones_like(logps) if mask is None else mask.to(logps.dtype), advantages, answers(logps, reduction),
        reference_logps, old_logps, epsilon, epsilon, beta, "grpo")[0],
}  # fmt: skip


# --- optimizers -------------------------------------------------------------------------------------------------------


def relative_steps(cls: type) -> Callable:
    """Adafactor by a step size that does not fall, as torch's does not in the first steps if lr is small.

    Weight decay is by the step, which the size of the parameter scales, and not by lr as torch's.
    """
    return lambda params, lr, beta2_decay, d: cls(params, lr=lr, decay_rate=beta2_decay, clip_threshold=d)


def schedule_free(cls: type) -> Callable:
    """By lists of tensors or one by one, as is its default."""
    return lambda params, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power: cls(
        params, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power
    )


def of_matrices(cls: type) -> Callable:
    """Muon, told by group that it is for these parameters."""

    def muon(params: Any, lr: float, weight_decay: float, momentum: float, nesterov: bool, ns_steps: int) -> Any:
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        groups = [{"lr": lr, "weight_decay": weight_decay, **g, "use_muon": True} for g in groups]
        return cls(groups, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps)

    return muon


ORTHOGONAL: dict[str, Callable] = {
    "timm": lambda f: lambda matrix, steps, coefficients, eps: f(matrix, steps, [coefficients], eps),
    "pytorch_optimizer": lambda f: (
        lambda matrix, steps, coefficients, eps: f(matrix, steps, eps, weights=[coefficients])
    ),
}
