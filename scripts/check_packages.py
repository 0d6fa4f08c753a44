"""Hold the activations, layers, losses and optimizers of other packages to the reference, where they have a counterpart.

pip install timm pytorch-optimizer kornia transformers x-transformers entmax torch_optimizer lion-pytorch
pip install schedulefree info-nce-pytorch monai triton liger-kernel flash-linear-attention
TRITON_INTERPRET=1 python scripts/check_packages.py --details true
python scripts/check_packages.py --packages '["timm", "kornia"]'

A package that is not installed is left out. Kernels written in Triton run on a CPU under its interpreter.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import os
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

if __name__ == "__main__":  # from a checkout, whether installed or not
    sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import dlref
from dlref.cli.common import script
from dlref.core.names import one_of


@dataclass(frozen=True)
class Row:
    """What of a package is held to what.

    given: arguments that are given to it beforehand. where: the part of the reference's domain that it is made for.
    call: what makes a candidate, called as the reference is, of it. options: further ones of `dlref.check`.
    """

    path: str
    against: str
    given: dict[str, Any] = field(default_factory=dict)
    where: str | None = None
    call: Callable[[Any], Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


# --- what is called otherwise than torch's ----------------------------------------------------------------------------


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
    """torch's attention under a bias that is made of the slopes and both lengths."""

    def made(candidate: Any) -> Callable:
        def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any, is_causal: bool, scale: Any,
                      enable_gqa: bool, alibi_slopes: Tensor) -> Tensor:  # fmt: skip
            queries, keys = query.shape[-2], key.shape[-2]
            mask = bias(candidate, alibi_slopes, queries, keys)
            mask = mask if attn_mask is None else mask + attn_mask
            if is_causal:
                mask = mask.masked_fill(torch.ones(queries, keys, dtype=torch.bool).triu(1), -math.inf)
            return torch.nn.functional.scaled_dot_product_attention(
                query, key, value, mask, scale=scale, enable_gqa=enable_gqa
            )

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
    "liger": lambda f: lambda input, cos, sin: f(input[:, None], input[:, None], twice(cos), twice(sin))[0][:, 0],
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


def foreground(function: Callable) -> Callable:
    """Of logits of two classes and class indices; the weights leave the second one, and eps stands below alone."""

    def dice_loss(input: Tensor, target: Tensor, smooth: float) -> Tensor:
        logits = torch.stack((-input.logit(), torch.zeros_like(input)), 1).flatten(2)[:, :, None]
        return function(logits, target.long().flatten(1)[:, None], weight=torch.tensor([0.0, 1.0]), eps=smooth)

    return dice_loss


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
            weights, indices = logits.topk(k)
            balance = loss(candidate, logits.flatten(0, -2), indices.flatten(0, -2)) / k
            return weights.softmax(-1), indices, balance

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
    """Adafactor by a step size that does not fall, as torch's does not in the first steps if lr is small."""
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


ROWS = "input.dim() == 2 and target.dtype == torch.int64"
LAST = "len(normalized_shape) == 1 and weight is not None"
HEADS = "query.dim() == 4 and dropout_p == 0"
ADDED = "(attn_mask is None or attn_mask.is_floating_point())"
SEEN = "(attn_mask is None or attn_mask.isfinite().any(-1).all())"  # a query that sees no key gets NaN there
SLOPES = "alibi_slopes is not None and alibi_slopes.dim() == 1 and query.shape[-2] <= key.shape[-2]"
CLASSES = "input.dim() >= 2 and target.dtype == torch.int64"
PACKAGES: dict[str, list[Row]] = {
    "timm": [
        *[Row(f"timm.layers.activations:{ours}", theirs) for ours, theirs in (
            ("swish", "silu"), ("mish", "mish"), ("sigmoid", "sigmoid"), ("tanh", "tanh"), ("hard_swish", "hardswish"),
            ("hard_sigmoid", "hardsigmoid"), ("gelu", "gelu"), ("Swish", "SiLU"), ("Mish", "Mish"), ("Sigmoid", "Sigmoid"),
            ("Tanh", "Tanh"), ("HardSwish", "Hardswish"), ("HardSigmoid", "Hardsigmoid"), ("PReLU", "PReLU"))],
        *[Row(f"timm.layers.activations_me:{ours}", theirs) for ours, theirs in (
            ("swish_me", "silu"), ("mish_me", "mish"), ("hard_sigmoid_me", "hardsigmoid"), ("hard_swish_me", "hardswish"),
            ("SwishMe", "SiLU"), ("MishMe", "Mish"), ("HardSigmoidMe", "Hardsigmoid"), ("HardSwishMe", "Hardswish"))],
        Row("timm.layers.fast_norm:fast_layer_norm", "layer_norm"),
        Row("timm.layers.fast_norm:fast_group_norm", "group_norm"),
        Row("timm.layers.fast_norm:fast_rms_norm", "rms_norm"),
        Row("timm.layers.fast_norm:rms_norm", "rms_norm", {}, "eps is not None"),
        Row("timm.layers:Linear", "Linear"),
        Row("timm.loss:LabelSmoothingCrossEntropy", "CrossEntropyLoss", {}, f"{ROWS} and (target >= 0).all()"),
        Row("timm.loss:BinaryCrossEntropy", "BCEWithLogitsLoss", {"smoothing": 0.0}),
        *[Row(f"timm.optim:{ours}", theirs) for ours, theirs in (
            ("AdamWLegacy", "AdamW"), ("NAdamLegacy", "NAdam"), ("RAdamLegacy", "RAdam"), ("Lion", "Lion"))],
        Row("timm.optim:Adafactor", "Adafactor", {"min_dim_size_to_factor": 1}, "lr <= 0.1",
            relative_steps),  # of more than two dimensions it factors the first two, which are a convolution's channels
        Row("timm.optim:Muon", "Muon", {"adjust_lr_fn": "original", "ns_coefficients": "original"}, None, of_matrices),
        Row("timm.optim.muon:zeropower_via_newtonschulz", "newton_schulz", {"dtype": torch.float32}, "matrix.dim() in (2, 3)",
            ORTHOGONAL["timm"], {"backward": False}),
        Row("timm.layers.pos_embed_sincos:apply_rot_embed", "rotary_embedding", {}, None, ROTATIONS["timm"]),
    ],
    "pytorch_optimizer": [
        *[Row(f"pytorch_optimizer:{ours}", theirs) for ours, theirs in (
            ("AdaMax", "Adamax"), ("NAdam", "NAdam"), ("AdaDelta", "Adadelta"))],
        Row("pytorch_optimizer:RAdam", "RAdam", {"degenerated_to_sgd": True}),
        Row("pytorch_optimizer:BCELoss", "BCELoss"),
        Row("pytorch_optimizer:FocalLoss", "BCEWithLogitsLoss", {"alpha": 1.0, "gamma": 0.0}),
        Row("pytorch_optimizer:TverskyLoss", "tversky_loss", {}, "input.dim() > 0 and input.shape[0] == 1", tversky_of_logits),
        Row("pytorch_optimizer:Lion", "Lion"),
        Row("pytorch_optimizer:ScheduleFreeAdamW", "ScheduleFreeAdamW"),
        Row("pytorch_optimizer:AdaFactor", "Adafactor", {"betas": (None, 0.999), "relative_step": False},
            "lr <= 0.1", relative_steps),
        Row("pytorch_optimizer:Muon", "Muon", {}, None, of_matrices),
        Row("pytorch_optimizer.optimizer.utils.matrix:zero_power_via_newton_schulz_5", "newton_schulz",
            {"dtype": torch.float32}, None, ORTHOGONAL["pytorch_optimizer"], {"backward": False}),
    ],
    "kornia": [
        Row("kornia.losses:focal_loss", "cross_entropy", {"alpha": None, "gamma": 0.0},
            "input.dim() >= 2 and target.dtype == torch.int64 and reduction != 'mean'", map_of_classes),
        Row("kornia.losses:binary_focal_loss_with_logits", "binary_cross_entropy_with_logits", {"alpha": None, "gamma": 0.0},
            "input.dim() >= 2 and (weight is None or input.dim() == 2 and weight.shape == input.shape[1:])"
            " and (pos_weight is None or input.dim() == 2 and pos_weight.shape == input.shape[1:])"),
        Row("kornia.losses:focal_loss", "focal_loss", {}, f"{CLASSES} and reduction != 'mean'", map_of_focus),
        Row("kornia.losses:dice_loss", "dice_loss", {},
            "smooth == 0 and input.dim() > 1 and ((target == 0) | (target == 1)).all() and not target.requires_grad",
            foreground),
    ],
    "monai": [
        Row("monai.losses:FocalLoss", "focal_loss", {}, f"{CLASSES} and reduction == 'none'",  # its sum is a mean of pixels
            focus_of_one_hot),
        Row("monai.losses:DiceLoss", "dice_loss", {}, "input.dim() > 1", dice),
        Row("monai.losses:TverskyLoss", "tversky_loss", {}, "input.dim() > 1", tversky),
    ],
    "info_nce": [
        Row("info_nce:info_nce", "info_nce", {"temperature": 0.07}),  # its default is 0.1
    ],
    "transformers": [
        *[Row(f"transformers.activations:{ours}", theirs) for ours, theirs in (
            ("GELUActivation", "GELU"), ("SiLUActivation", "SiLU"), ("MishActivation", "Mish"))],
        *[Row(f"transformers.activations:{ours}", "gelu", {}, "approximate == 'tanh'", activation)
          for ours in ("NewGELUActivation", "FastGELUActivation", "PytorchGELUTanh", "GELUTanh")],
        Row("transformers.models.llama.modeling_llama:LlamaRMSNorm", "rms_norm", {}, f"{LAST} and eps is not None",
            normalization),
        Row("transformers.pytorch_utils:Conv1D", "linear", {}, "bias is not None and weight.dim() == 2", transposed),
        Row("transformers.loss.loss_utils:fixed_cross_entropy", "cross_entropy"),
        Row("transformers.models.llama.modeling_llama:apply_rotary_pos_emb", "rotary_embedding", {}, None, ROTATIONS["llama"]),
        Row("transformers.models.gptj.modeling_gptj:apply_rotary_pos_emb", "rotary_embedding", {},
            "input.dim() == 3 and interleaved", ROTATIONS["gptj"]),
        Row("transformers.models.gpt_oss.modeling_gpt_oss:eager_attention_forward", "attention", {},
            f"{HEADS} and {ADDED} and sinks is not None and softcap is None", eager),
        Row("transformers.models.gemma2.modeling_gemma2:eager_attention_forward", "attention", {},
            f"{HEADS} and {ADDED} and sinks is None and {SEEN}", eager),
        Row("transformers.models.bloom.modeling_bloom:build_alibi_tensor", "attention", {},
            f"{HEADS} and {ADDED} and {SLOPES} and is_causal", under(of_places)),
        *[Row(f"transformers.models.qwen3_next.modeling_qwen3_next:torch_{form}_gated_delta_rule", "gated_delta_rule", {},
              "q.dim() == 3 and scale is None", one_gated_head) for form in ("recurrent", "chunk")],
        Row("transformers.models.switch_transformers.modeling_switch_transformers:router_z_loss_func", "z_loss", {}, None,
            squared),
        Row("transformers.models.switch_transformers.modeling_switch_transformers:load_balancing_loss_func", "top_k_routing",
            {}, None, balanced(lambda f, logits, indices: f(logits.softmax(-1)[None], indices[None]))),
        Row("transformers.models.mixtral.modeling_mixtral:load_balancing_loss_func", "top_k_routing", {}, None,
            balanced(lambda f, logits, indices: f((logits,), logits.shape[-1], indices.shape[-1]))),
        Row("transformers.optimization:Adafactor", "Adafactor", {"relative_step": False}, "lr <= 0.1", relative_steps),
        *[Row(f"transformers.optimization:{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("get_linear_schedule_with_warmup", "LinearLR", "start_factor == 1 and end_factor == 0", linear_decay),
            ("get_cosine_schedule_with_warmup", "CosineAnnealingLR", "T_max == 30 and eta_min == 0", cosine_decay),
            ("get_polynomial_decay_schedule_with_warmup", "PolynomialLR", None, polynomial_decay))],
    ],
    "x_transformers": [
        Row("x_transformers.x_transformers:Attend", "scaled_dot_product_attention", {},
            "query.dim() == 4 and attn_mask is None and dropout_p == 0 and not enable_gqa"
            " and (not is_causal or query.shape[-2] == key.shape[-2])", attend),
        *[Row(f"x_transformers.x_transformers:{ours}", theirs, {}, f"{LAST} and {where}", normalization)
          for ours, theirs, where in (("LayerNorm", "layer_norm", "bias is None and eps == 1e-5"),
                                      ("RMSNorm", "rms_norm", "eps is None"))],
        Row("x_transformers.attend:Attend", "attention", {},
            f"{HEADS} and (not is_causal or query.shape[-2] == key.shape[-2])", attend_more),
        Row("x_transformers.x_transformers:AlibiPositionalBias", "attention", {},
            f"{HEADS} and {ADDED} and {SLOPES}", under(of_distances)),
    ],
    "entmax": [
        Row("entmax:sparsemax", "sparsemax", {}, "input.dim() > 0"),
        Row("entmax:sparsemax_bisect", "sparsemax", {}, "input.dim() > 0"),
        Row("entmax:entmax15", "entmax", {}, "input.dim() > 0 and alpha == 1.5"),
        Row("entmax:entmax_bisect", "entmax", {}, "input.dim() > 0 and alpha > 1"),
    ],
    "torch_optimizer": [
        Row("torch_optimizer:RAdam", "RAdam"),
        Row("torch_optimizer:QHAdam", "Adam", {"nus": (1.0, 1.0), "decouple_weight_decay": False}),
        Row("torch_optimizer:QHAdam", "AdamW", {"nus": (1.0, 1.0), "decouple_weight_decay": True}),
        Row("torch_optimizer:Lamb", "Adam", {"adam": True, "debias": True}, "weight_decay == 0"),
        Row("torch_optimizer:SGDW", "SGD", {}, "weight_decay == 0"),
        Row("torch_optimizer:PID", "SGD", {"integral": 0.0, "derivative": 0.0}, "momentum == 0 and not maximize"),
        Row("torch_optimizer:Adafactor", "Adafactor", {"relative_step": False}, "lr <= 0.1", relative_steps),
    ],
    "lion_pytorch": [
        Row("lion_pytorch:Lion", "Lion"),
    ],
    "schedulefree": [
        *[Row(f"schedulefree:{ours}", "ScheduleFreeAdamW", {}, None, schedule_free, {"may_change": ["grad"]})
          for ours in ("AdamWScheduleFree", "AdamWScheduleFreeReference")],
    ],
    "liger_kernel": [
        *[Row(f"liger_kernel.transformers.functional:liger_{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("softmax", "softmax", "dim in (-1, input.dim() - 1) and dtype is None", last),
            ("cross_entropy", "cross_entropy", ROWS, overwriting),
            ("fused_linear_cross_entropy", "linear_cross_entropy", ROWS, fused),
            ("kl_div", "kl_div", "input.dim() == 2 and input.shape == target.shape", None),
            ("layer_norm", "layer_norm", f"{LAST} and bias is not None", affine),
            ("group_norm", "group_norm", "input.dim() == 3 and weight is not None and bias is not None", grouped))],
        Row("liger_kernel.transformers.functional:liger_rms_norm", "rms_norm", {"in_place": False}, LAST, scaled),
        *[Row(f"liger_kernel.transformers.functional:liger_{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("sparsemax", "sparsemax", "input.dim() > 0", None),
            ("swiglu", "swiglu", "gate.dim() > 0", None),
            ("geglu", "geglu", "gate.dim() > 0 and approximate == 'tanh'", gate),
            ("rope", "rotary_embedding", "input.dim() == 3", ROTATIONS["liger"]),
            ("dyt", "dynamic_tanh", "weight is not None and bias is not None and weight.dim() == 1", dynamic),
            ("jsd", "js_div", "input.dim() == 2 and reduction == 'batchmean'", None),
            ("tvd", "tv_distance", "input.dim() == 2", of_probabilities))],
        Row("liger_kernel.transformers.functional:liger_fused_add_rms_norm", "add_rms_norm", {"in_place": False},
            "weight.dim() == 1", added),
        *[Row(f"liger_kernel.chunked_loss.{name}_loss:LigerFusedLinear{cls}Function", f"{name}_loss", {}, "reduction != 'none'",
              PREFERENCES[name])
          for name, cls in (("dpo", "DPO"), ("kto", "KTO"), ("simpo", "SimPO"), ("orpo", "ORPO"), ("grpo", "GRPO"))],
    ],
    "fla": [
        *[Row(f"fla.modules.activations:{ours}", theirs) for ours, theirs in (
            ("swish", "silu"), ("sigmoid", "sigmoid"), ("logsigmoid", "logsigmoid"))],
        Row("fla.modules.layernorm:layer_norm", "layer_norm", {}, f"{LAST} and bias is not None", affine),
        Row("fla.modules.layernorm:rms_norm", "rms_norm", {}, LAST, without_bias),
        Row("fla.modules.fused_cross_entropy:cross_entropy_loss", "cross_entropy", {},
            f"{ROWS} and reduction == 'none' and weight is None", rows_of_losses),
        Row("fla.modules:FusedLinearCrossEntropyLoss", "linear_cross_entropy", {},
            f"{ROWS} and reduction != 'none' and weight is None", fused_layer),
        Row("fla.modules.activations:swiglu", "swiglu"),
        *[Row(f"fla.modules.rotary.ops:{ours}", "rotary_embedding", {}, where, ROTATIONS["fla"])
          for ours, where in (("rotary_embedding_ref", None), ("rotary_embedding", "input.dim() == 3 and cos.dim() == 2"))],
        Row("fla.ops.linear_attn.naive:naive_recurrent_linear_attn", "linear_attention", {}, "q.dim() == 3", one_head),
        *[Row(f"fla.ops.gated_delta_rule.naive:naive_{form}_gated_delta_rule", "gated_delta_rule", {}, "q.dim() == 3",
              one_gated_head) for form in ("recurrent", "chunk")],
    ],
}  # fmt: skip


def main(packages: Sequence[str] = tuple(PACKAGES), details: bool = False) -> None:
    """Check each of the packages that is installed.

    Args:
        packages: Their names.
        details: Whether the whole reports are printed.
    """
    if not packages:
        raise ValueError(f"packages must name some of {', '.join(PACKAGES)}, it is empty")
    for name in packages:
        one_of("packages", name, PACKAGES)
    if os.environ.get("TRITON_INTERPRET") == "1":
        interpret_triton()
    console = Console()
    table = Table("candidate", "against", "values", "result", title="Other people's code, float32")
    reports = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            console.print(f"{package} is left out: {error}")
            continue
        for row in track(PACKAGES[package], package, console=console):
            report = checked(row)
            values = str(report.values) if isinstance(report, dlref.Report) else "-"
            table.add_row(row.path, row.against, values, result(report))
            reports.append(report)
    console.print(table)
    for report in reports if details else ():
        console.print(str(report), markup=False, highlight=False)


def checked(row: Row) -> dlref.Report | str:
    """The report; or why it could not be held to it."""
    module, _, name = row.path.partition(":")
    try:
        candidate = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        return str(error)
    if candidate is None:
        return "it is not in this version"
    if row.given:
        partial = (
            functools.partial(candidate, **row.given)
            if not isinstance(candidate, type)
            else fixed(candidate, row.given)
        )
        candidate = partial
    if row.call is not None:
        candidate = row.call(candidate)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dlref.check(candidate, row.against, dtypes=["float32"], where=row.where, **row.options)
    except ValueError as error:
        return str(error)


def fixed(cls: type, given: dict[str, Any]) -> type:
    """The class with these arguments of its constructor given."""
    made = type(cls.__name__, (cls,), {"__init__": functools.partialmethod(cls.__init__, **given)})  # type: ignore[misc]
    made.__module__ = cls.__module__
    return made


def interpret_triton() -> None:
    """Let triton's interpreter run what it stumbles over, as its compiler does.

    A number that a kernel takes is a scalar of float32; of the configurations of a tuned kernel the first is taken, as there
    is nothing to measure; libdevice's functions, which have no body there, are numpy's.
    """
    import numpy
    import triton.language as tl
    from triton.language.extra import libdevice
    from triton.language.extra.cuda import libdevice as cuda
    from triton.runtime import autotuner, interpreter

    convert, begin = interpreter._implicit_cvt, autotuner.Autotuner.__init__

    def converted(argument: Any) -> Any:
        if type(argument) is not float:
            return convert(argument)
        return tl.tensor(interpreter.TensorHandle(numpy.array([argument], dtype=numpy.float32), tl.float32), tl.float32)

    def untuned(self: Any, function: Any, names: Any, configurations: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, function, names, configurations[:1], *args, **kwargs)

    def elementwise(function: Callable) -> Callable:
        return lambda x: tl.tensor(interpreter.TensorHandle(function(x.handle.data), x.handle.dtype), x.type)

    interpreter._implicit_cvt, autotuner.Autotuner.__init__ = converted, untuned  # type: ignore[assignment]
    for module in (libdevice, cuda):
        module.tanh = elementwise(numpy.tanh)
        module.rsqrt = elementwise(lambda x: (1 / numpy.sqrt(x)).astype(x.dtype))


def result(report: dlref.Report | str) -> str:
    if isinstance(report, str):
        return f"cannot be called alike: {report[:160]}"
    if report.ok:
        return "right" if report.values else "nothing fits"
    return "\n".join(f"{f.kind}: {f.what}: {f.diagnosis or 'departs'}"[:200] + f" ({len(group)})"
                     for group in report.groups()[:4] for f in group[:1])  # fmt: skip


if __name__ == "__main__":
    script(main)
