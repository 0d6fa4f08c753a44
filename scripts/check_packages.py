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
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from a checkout, whether installed or not
    sys.path.insert(0, str(Path(__file__).parents[1]))

import package_calls as calls
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import dlref
from dlref.cli.common import print_table, script
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


ROWS = "input.dim() == 2 and target.dtype == torch.int64"
LAST = "len(normalized_shape) == 1 and weight is not None"
FILLED = "input.dim() > 0 and input.shape[dim] > 0"
HEADS = "query.dim() == 4 and dropout_p == 0"
ADDED = "(attn_mask is None or attn_mask.is_floating_point())"
SEEN = "(attn_mask is None or attn_mask.isfinite().any(-1).all())"  # a query that sees no key gets NaN there
SLOPES = "alibi_slopes is not None and alibi_slopes.dim() == 1 and query.shape[-2] <= key.shape[-2]"
TURNS = "input.dim() == 3 and cos.dim() == 2 and cos.shape[0] == input.shape[1] < 100"  # more take minutes
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
        Row("timm.optim:Muon", "Muon", {"adjust_lr_fn": "original", "ns_coefficients": "original"}, None, calls.of_matrices),
        Row("timm.optim.muon:zeropower_via_newtonschulz", "newton_schulz", {"dtype": torch.float32}, "matrix.dim() in (2, 3)",
            calls.ORTHOGONAL["timm"], {"backward": False}),
        Row("timm.layers.pos_embed_sincos:apply_rot_embed", "rotary_embedding", {}, None, calls.ROTATIONS["timm"]),
    ],
    "pytorch_optimizer": [
        *[Row(f"pytorch_optimizer:{ours}", theirs) for ours, theirs in (
            ("AdaMax", "Adamax"), ("NAdam", "NAdam"), ("AdaDelta", "Adadelta"))],
        Row("pytorch_optimizer:RAdam", "RAdam", {"degenerated_to_sgd": True}),
        Row("pytorch_optimizer:BCELoss", "BCELoss"),
        Row("pytorch_optimizer:FocalLoss", "BCEWithLogitsLoss", {"alpha": 1.0, "gamma": 0.0}),
        Row("pytorch_optimizer:TverskyLoss", "tversky_loss", {}, "input.dim() > 0 and input.shape[0] == 1",
            calls.tversky_of_logits),
        Row("pytorch_optimizer:Lion", "Lion"),
        Row("pytorch_optimizer:ScheduleFreeAdamW", "ScheduleFreeAdamW"),
        Row("pytorch_optimizer:AdaFactor", "Adafactor", {"betas": (None, 0.999), "relative_step": False},
            "lr <= 0.1", calls.relative_steps),
        Row("pytorch_optimizer:Muon", "Muon", {}, None, calls.of_matrices),
        Row("pytorch_optimizer.optimizer.utils.matrix:zero_power_via_newton_schulz_5", "newton_schulz",
            {"dtype": torch.float32}, None, calls.ORTHOGONAL["pytorch_optimizer"], {"backward": False}),
    ],
    "kornia": [
        Row("kornia.losses:focal_loss", "cross_entropy", {"alpha": None, "gamma": 0.0},
            f"{CLASSES} and reduction != 'mean'", calls.map_of_classes),
        Row("kornia.losses:binary_focal_loss_with_logits", "binary_cross_entropy_with_logits", {"alpha": None, "gamma": 0.0},
            "input.dim() >= 2 and (weight is None or input.dim() == 2 and weight.shape == input.shape[1:])"
            " and (pos_weight is None or input.dim() == 2 and pos_weight.shape == input.shape[1:])"),
        Row("kornia.losses:focal_loss", "focal_loss", {}, f"{CLASSES} and reduction != 'mean'", calls.map_of_focus),
    ],
    "monai": [
        Row("monai.losses:FocalLoss", "focal_loss", {}, f"{CLASSES} and reduction == 'none'",  # its sum is a mean of pixels
            calls.focus_of_one_hot),
        Row("monai.losses:DiceLoss", "dice_loss", {}, "input.dim() > 1", calls.dice),
        Row("monai.losses:TverskyLoss", "tversky_loss", {}, "input.dim() > 1", calls.tversky),
    ],
    "info_nce": [
        Row("info_nce:info_nce", "info_nce", {"temperature": 0.07}),  # its default is 0.1
    ],
    "transformers": [
        *[Row(f"transformers.activations:{ours}", theirs) for ours, theirs in (
            ("GELUActivation", "GELU"), ("SiLUActivation", "SiLU"), ("MishActivation", "Mish"))],
        *[Row(f"transformers.activations:{ours}", "gelu", {}, "approximate == 'tanh'", calls.activation)
          for ours in ("NewGELUActivation", "FastGELUActivation", "PytorchGELUTanh", "GELUTanh")],
        Row("transformers.models.llama.modeling_llama:LlamaRMSNorm", "rms_norm", {}, f"{LAST} and eps is not None",
            calls.normalization),
        Row("transformers.pytorch_utils:Conv1D", "linear", {}, "bias is not None and weight.dim() == 2", calls.transposed),
        Row("transformers.loss.loss_utils:fixed_cross_entropy", "cross_entropy"),
        Row("transformers.models.llama.modeling_llama:apply_rotary_pos_emb", "rotary_embedding", {}, None,
            calls.ROTATIONS["llama"]),
        Row("transformers.models.gptj.modeling_gptj:apply_rotary_pos_emb", "rotary_embedding", {},
            "input.dim() == 3 and interleaved", calls.ROTATIONS["gptj"]),
        Row("transformers.models.gpt_oss.modeling_gpt_oss:eager_attention_forward", "attention", {},
            f"{HEADS} and {ADDED} and sinks is not None and softcap is None", calls.eager),
        Row("transformers.models.gemma2.modeling_gemma2:eager_attention_forward", "attention", {},
            f"{HEADS} and {ADDED} and sinks is None and {SEEN}", calls.eager),
        Row("transformers.models.bloom.modeling_bloom:build_alibi_tensor", "attention", {},
            f"{HEADS} and {ADDED} and {SEEN} and {SLOPES} and is_causal", calls.under(calls.of_places)),
        *[Row(f"transformers.models.qwen3_next.modeling_qwen3_next:torch_{form}_gated_delta_rule", "gated_delta_rule", {},
              "q.dim() == 3 and q.numel() and scale is None", calls.one_gated_head) for form in ("recurrent", "chunk")],
        Row("transformers.models.switch_transformers.modeling_switch_transformers:router_z_loss_func", "z_loss", {}, None,
            calls.squared),
        Row("transformers.models.switch_transformers.modeling_switch_transformers:load_balancing_loss_func", "top_k_routing",
            {}, None, calls.balanced(lambda f, logits, indices: f(logits.softmax(-1)[None], indices[None]))),
        Row("transformers.models.mixtral.modeling_mixtral:load_balancing_loss_func", "top_k_routing", {}, None,
            calls.balanced(lambda f, logits, indices: f((logits,), logits.shape[-1], indices.shape[-1]))),  # it chooses itself
        Row("transformers.optimization:Adafactor", "Adafactor", {"relative_step": False}, "lr <= 0.1", calls.relative_steps),
        *[Row(f"transformers.optimization:{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("get_linear_schedule_with_warmup", "LinearLR", "start_factor == 1 and end_factor == 0", calls.linear_decay),
            ("get_cosine_schedule_with_warmup", "CosineAnnealingLR", "T_max == 30 and eta_min == 0", calls.cosine_decay),
            ("get_polynomial_decay_schedule_with_warmup", "PolynomialLR", None, calls.polynomial_decay))],
    ],
    "x_transformers": [
        Row("x_transformers.x_transformers:Attend", "scaled_dot_product_attention", {},
            "query.dim() == 4 and attn_mask is None and dropout_p == 0 and not enable_gqa"
            " and (not is_causal or query.shape[-2] == key.shape[-2])", calls.attend),
        *[Row(f"x_transformers.x_transformers:{ours}", theirs, {}, f"{LAST} and {where}", calls.normalization)
          for ours, theirs, where in (("LayerNorm", "layer_norm", "bias is None and eps == 1e-5"),
                                      ("RMSNorm", "rms_norm", "eps is None"))],
        Row("x_transformers.attend:Attend", "attention", {},
            f"{HEADS} and (not is_causal or query.shape[-2] == key.shape[-2])", calls.attend_more),
        Row("x_transformers.x_transformers:AlibiPositionalBias", "attention", {},
            f"{HEADS} and {ADDED} and {SEEN} and {SLOPES}", calls.under(calls.of_distances)),
    ],
    "entmax": [
        Row("entmax:sparsemax", "sparsemax", {}, FILLED),
        Row("entmax:sparsemax_bisect", "sparsemax", {}, FILLED),
        Row("entmax:entmax15", "entmax", {}, f"{FILLED} and alpha == 1.5"),
        Row("entmax:entmax_bisect", "entmax", {}, f"{FILLED} and alpha > 1"),
    ],
    "torch_optimizer": [
        Row("torch_optimizer:RAdam", "RAdam"),
        Row("torch_optimizer:QHAdam", "Adam", {"nus": (1.0, 1.0), "decouple_weight_decay": False}),
        Row("torch_optimizer:QHAdam", "AdamW", {"nus": (1.0, 1.0), "decouple_weight_decay": True}),
        Row("torch_optimizer:Lamb", "Adam", {"adam": True, "debias": True}, "weight_decay == 0"),
        Row("torch_optimizer:SGDW", "SGD", {}, "weight_decay == 0"),
        Row("torch_optimizer:PID", "SGD", {"integral": 0.0, "derivative": 0.0}, "momentum == 0 and not maximize"),
        Row("torch_optimizer:Adafactor", "Adafactor", {"relative_step": False}, "lr <= 0.1", calls.relative_steps),
    ],
    "lion_pytorch": [
        Row("lion_pytorch:Lion", "Lion"),
    ],
    "schedulefree": [
        *[Row(f"schedulefree:{ours}", "ScheduleFreeAdamW", {}, None, calls.schedule_free, {"may_change": ["grad"]})
          for ours in ("AdamWScheduleFree", "AdamWScheduleFreeReference")],
    ],
    "liger_kernel": [
        *[Row(f"liger_kernel.transformers.functional:liger_{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("softmax", "softmax", "dim in (-1, input.dim() - 1) and dtype is None", calls.last),
            ("cross_entropy", "cross_entropy", ROWS, calls.overwriting),
            ("fused_linear_cross_entropy", "linear_cross_entropy", ROWS, calls.fused),
            ("kl_div", "kl_div", "input.dim() == 2 and input.shape == target.shape", None),
            ("layer_norm", "layer_norm", f"{LAST} and bias is not None", calls.affine),
            ("group_norm", "group_norm", "input.dim() == 3 and weight is not None and bias is not None", calls.grouped))],
        Row("liger_kernel.transformers.functional:liger_rms_norm", "rms_norm", {"in_place": False}, LAST, calls.scaled),
        *[Row(f"liger_kernel.transformers.functional:liger_{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("sparsemax", "sparsemax", FILLED, None),
            # The gradient of the target is left out.
            ("jsd", "js_div", "input.dim() == 2 and input.numel() and reduction == 'batchmean'", None),
            ("tvd", "tv_distance", "input.dim() == 2 and input.numel()", calls.of_probabilities))],
        # It turns in place where the heads come after the positions in memory, and leaves the gradients of the angles out.
        Row("liger_kernel.transformers.functional:liger_rope", "rotary_embedding", {}, TURNS, calls.ROTATIONS["liger"],
            {"may_change": ["input"]}),
        *[Row(f"liger_kernel.transformers.functional:liger_{ours}", ours, {}, where, call, {"may_change": ["gate", "up"]})
          for ours, where, call in (("swiglu", "gate.dim() > 0", None),
                                    ("geglu", "gate.dim() > 0 and approximate == 'tanh'", calls.gate))],
        Row("liger_kernel.transformers.functional:liger_dyt", "dynamic_tanh", {},  # its backward counts a GPU's processors
            "weight is not None and bias is not None and weight.dim() == 1", calls.dynamic, {"backward": False}),
        Row("liger_kernel.transformers.functional:liger_fused_add_rms_norm", "add_rms_norm", {"in_place": False},
            "weight.dim() == 1 and weight.numel()", calls.added),
        *[Row(f"liger_kernel.chunked_loss.{name}_loss:LigerFusedLinear{cls}Function", f"{name}_loss", {},
              f"{of}.dim() == 1 and {of}.numel() and reduction != 'none'", calls.PREFERENCES[name])
          for name, cls, of in (("dpo", "DPO", "chosen"), ("kto", "KTO", "logps"), ("simpo", "SimPO", "chosen"),
                                ("orpo", "ORPO", "chosen"))],
        Row("liger_kernel.chunked_loss.grpo_loss:LigerFusedLinearGRPOFunction", "grpo_loss", {},
            "logps.numel() and reduction != 'none'", calls.PREFERENCES["grpo"]),
    ],
    "fla": [
        *[Row(f"fla.modules.activations:{ours}", theirs) for ours, theirs in (
            ("swish", "silu"), ("sigmoid", "sigmoid"), ("logsigmoid", "logsigmoid"))],
        Row("fla.modules.layernorm:layer_norm", "layer_norm", {}, f"{LAST} and bias is not None", calls.affine),
        Row("fla.modules.layernorm:rms_norm", "rms_norm", {}, LAST, calls.without_bias),
        Row("fla.modules.fused_cross_entropy:cross_entropy_loss", "cross_entropy", {},
            f"{ROWS} and reduction == 'none' and weight is None", calls.rows_of_losses),
        Row("fla.modules:FusedLinearCrossEntropyLoss", "linear_cross_entropy", {},
            f"{ROWS} and reduction != 'none' and weight is None", calls.fused_layer),
        Row("fla.modules.activations:swiglu", "swiglu", {}, "gate.dim() > 0"),
        # The kernel leaves the gradients of the angles out.
        *[Row(f"fla.modules.rotary.ops:{ours}", "rotary_embedding", {}, where, calls.ROTATIONS["fla"])
          for ours, where in (("rotary_embedding_ref", None), ("rotary_embedding", TURNS))],
        Row("fla.ops.linear_attn.naive:naive_recurrent_linear_attn", "linear_attention", {},
            "q.dim() == 3 and q.numel()", calls.one_head),
        *[Row(f"fla.ops.gated_delta_rule.naive:naive_{form}_gated_delta_rule", "gated_delta_rule", {},
              "q.dim() == 3 and q.numel()", calls.one_gated_head) for form in ("recurrent", "chunk")],
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
    print_table(console, table, "result")
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
