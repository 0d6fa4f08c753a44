"""Hold the activations, layers, losses and optimizers of other packages to the reference, where they have a counterpart.

pip install timm pytorch-optimizer kornia transformers x-transformers entmax torch_optimizer lion-pytorch
pip install triton liger-kernel flash-linear-attention
TRITON_INTERPRET=1 python scripts/check_packages.py --details true
python scripts/check_packages.py --packages '["timm", "kornia"]'

A package that is not installed is left out. Kernels written in Triton run on a CPU under its interpreter.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    call: what makes a candidate, called as the reference is, of it.
    """

    path: str
    against: str
    given: dict[str, Any] = field(default_factory=dict)
    where: str | None = None
    call: Callable[[Any], Any] | None = None


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


ROWS = "input.dim() == 2 and target.dtype == torch.int64"
LAST = "len(normalized_shape) == 1 and weight is not None"
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
            ("AdamWLegacy", "AdamW"), ("NAdamLegacy", "NAdam"), ("RAdamLegacy", "RAdam"))],
    ],
    "pytorch_optimizer": [
        *[Row(f"pytorch_optimizer:{ours}", theirs) for ours, theirs in (
            ("AdaMax", "Adamax"), ("NAdam", "NAdam"), ("AdaDelta", "Adadelta"))],
        Row("pytorch_optimizer:RAdam", "RAdam", {"degenerated_to_sgd": True}),
        Row("pytorch_optimizer:BCELoss", "BCELoss"),
        Row("pytorch_optimizer:FocalLoss", "BCEWithLogitsLoss", {"alpha": 1.0, "gamma": 0.0}),
    ],
    "kornia": [
        Row("kornia.losses:focal_loss", "cross_entropy", {"alpha": None, "gamma": 0.0},
            "input.dim() >= 2 and target.dtype == torch.int64 and reduction != 'mean'", map_of_classes),
        Row("kornia.losses:binary_focal_loss_with_logits", "binary_cross_entropy_with_logits", {"alpha": None, "gamma": 0.0},
            "input.dim() >= 2 and (weight is None or input.dim() == 2 and weight.shape == input.shape[1:])"
            " and (pos_weight is None or input.dim() == 2 and pos_weight.shape == input.shape[1:])"),
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
    ],
    "entmax": [],  # softmax is its limit, and no setting of it
    "torch_optimizer": [
        Row("torch_optimizer:RAdam", "RAdam"),
        Row("torch_optimizer:QHAdam", "Adam", {"nus": (1.0, 1.0), "decouple_weight_decay": False}),
        Row("torch_optimizer:QHAdam", "AdamW", {"nus": (1.0, 1.0), "decouple_weight_decay": True}),
        Row("torch_optimizer:Lamb", "Adam", {"adam": True, "debias": True}, "weight_decay == 0"),
        Row("torch_optimizer:SGDW", "SGD", {}, "weight_decay == 0"),
        Row("torch_optimizer:PID", "SGD", {"integral": 0.0, "derivative": 0.0}, "momentum == 0 and not maximize"),
    ],
    "lion_pytorch": [],  # torch has no optimizer of which it is a setting
    "liger_kernel": [
        *[Row(f"liger_kernel.transformers.functional:liger_{ours}", theirs, {}, where, call) for ours, theirs, where, call in (
            ("softmax", "softmax", "dim in (-1, input.dim() - 1) and dtype is None", last),
            ("cross_entropy", "cross_entropy", ROWS, overwriting),
            ("fused_linear_cross_entropy", "linear_cross_entropy", ROWS, fused),
            ("kl_div", "kl_div", "input.dim() == 2 and input.shape == target.shape", None),
            ("layer_norm", "layer_norm", f"{LAST} and bias is not None", affine),
            ("group_norm", "group_norm", "input.dim() == 3 and weight is not None and bias is not None", grouped))],
        Row("liger_kernel.transformers.functional:liger_rms_norm", "rms_norm", {"in_place": False}, LAST, scaled),
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
            return dlref.check(candidate, row.against, dtypes=["float32"], where=row.where)
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
