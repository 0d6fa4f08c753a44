"""Cross entropy of a linear layer's output, as torch has it, for a torch that has it not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _WeightedLoss

from ...core.compat import LINEAR_CROSS_ENTROPY
from ..composed import linear_cross_entropy

__all__ = ["LinearCrossEntropyLoss", "LinearCrossEntropyOptions"]


if LINEAR_CROSS_ENTROPY:
    LinearCrossEntropyLoss: Any = nn.LinearCrossEntropyLoss
    LinearCrossEntropyOptions: Any = nn.LinearCrossEntropyOptions
else:

    @dataclass(frozen=True)
    class LinearCrossEntropyOptions:  # type: ignore[no-redef]
        """How many rows the manual side takes at a time; what is composed here holds all logits at once."""

        allow_retain_graph: bool = False
        batch_chunk_size: int | None = None
        chunking_method: str | None = "auto"
        acc_policy: str = "auto"
        acc_dtype: torch.dtype | None = None

        def __post_init__(self) -> None:
            if self.acc_policy not in ("accurate", "compact", "auto"):
                raise ValueError(f"acc_policy must be accurate, compact or auto, it is {self.acc_policy!r}")
            method, _, factor = (self.chunking_method or "auto").partition(":")
            if method not in ("auto", "aspect_ratio") or not (factor or "1").isdigit() or factor == "0":
                raise ValueError(f"chunking_method must be None, auto, aspect_ratio or aspect_ratio:N, it is "
                                 f"{self.chunking_method!r}")  # fmt: skip
            if self.batch_chunk_size is not None and not self.batch_chunk_size > 0:
                raise ValueError(f"batch_chunk_size must be greater than 0, it is {self.batch_chunk_size}")

    class LinearCrossEntropyLoss(_WeightedLoss):  # type: ignore[no-redef]
        r"""Cross entropy of the logits $z = x W^\top + b$, of indices or probabilities.

        Input (D) or (N, D), target as cross_entropy's for logits (N, num_classes, *out_features). The logits are held at once.
        """

        def __init__(
            self, in_features: int, num_classes: int, *, out_features: tuple[int, ...] = (), bias: bool = False,
            device=None, dtype=None, reduction: str = "mean", weight: Tensor | None = None,
            ignore_index: int | None = None, label_smoothing: float = 0.0,
            options: LinearCrossEntropyOptions | None = None,
        ):  # fmt: skip
            if weight is not None and weight.shape != (num_classes,):
                raise RuntimeError(f"weight must have shape {(num_classes,)}, it has {tuple(weight.shape)}")
            if not 0 <= label_smoothing <= 1:
                raise RuntimeError(f"label_smoothing must lie in [0, 1], it is {label_smoothing}")
            super().__init__(weight=weight, reduction=reduction)
            self.num_classes, self.out_features = num_classes, out_features
            self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
            rows = math.prod(out_features, start=num_classes)
            self.linear = nn.Linear(in_features, rows, bias=bias, device=device, dtype=dtype)

        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            shape = (self.num_classes, *self.out_features)
            bias = None if self.linear.bias is None else self.linear.bias.unflatten(0, shape)
            return linear_cross_entropy(
                input, self.linear.weight.unflatten(0, shape), target, linear_bias=bias, weight=self.weight,
                reduction=self.reduction, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
                options=self.options,
            )  # fmt: skip

        def extra_repr(self) -> str:
            shown = {
                "in_features": self.linear.in_features, "num_classes": self.num_classes,
                "out_features": self.out_features, "bias": self.linear.bias is not None, "reduction": self.reduction,
                "ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing, "options": self.options,
            }  # fmt: skip
            return ", ".join(f"{name}={value}" for name, value in shown.items())
