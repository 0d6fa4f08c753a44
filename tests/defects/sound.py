"""Right implementations in other people's style: what `dlref.check` must not accuse, and what it must say it guessed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from .reports import overwrites

# name: (candidate, against, a note that must be there, options)
SOUND: dict[str, tuple[Any, str, str, dict[str, Any]]] = {}


def sound(against: str, note: str = "", **options: Any) -> Callable[[Any], Any]:
    def register(candidate: Any) -> Any:
        name = getattr(candidate, "__name__", type(candidate).__name__)
        SOUND[f"{against}-{name}"] = (candidate, against, note, {"dtypes": ["float32"], "beyond": False, **options})
        return candidate

    return register


@sound("cross_entropy", "left at the candidate's default: gamma=0.0")
def focal(input, target, gamma=0.0, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    return F.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


@sound("mse_loss", "took `y_true` for target, `y_pred` for input")
def other_order(y_true, y_pred, reduction="mean"):
    return F.mse_loss(y_pred, y_true, reduction=reduction)


@sound("silu")
def row_by_row(input):
    """autograd makes memory of its own for the gradients of what is written into a slice."""
    output = torch.zeros_like(input)
    for i in range(len(input) if input.dim() else 0):
        output[i] = input[i] * torch.sigmoid(input[i])
    return output if input.dim() and len(input) else input * torch.sigmoid(input)


@sound("linear", "took `a` for input, `b` for weight")
def one_letter(a, b):
    return F.linear(a, b)


@sound("softmax")
def only_keywords(*, input, dim=None, dtype=None):
    return F.softmax(input, dim, dtype=dtype)


@sound("log_softmax")
def any_keywords(**given):
    return F.log_softmax(**given)


@sound("scaled_dot_product_attention", where="query.dim() == 4 and attn_mask is None and dropout_p == 0 and not is_causal"
       " and not enable_gqa")  # fmt: skip
def attention(
    query, key, value, is_causal=False, *, scale=None
):  # whose upstream gradients have conditions of their own
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), value)


@sound("hardswish")
def relu6_of_three_more(x):  # its gradient at NaN is NaN; torch's is dy
    return x * (F.relu6(x + 3) / 6)


@sound("hardsigmoid")
def relu6_of_three_more_by_six(x):  # its gradient at NaN is dy / 6; torch's is 0
    return F.relu6(x + 3) / 6


class Attention:
    """A callable object."""

    def __call__(self, q, k, v, mask=None, causal=False, sm_scale=None):
        return F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=sm_scale)


sound("scaled_dot_product_attention", "`causal` for is_causal")(Attention())
sound("gelu")(functools.partial(F.gelu, approximate="none"))
sound("glu", "input is changed by the backward, as it may be", may_change=("input",))(overwrites)


@sound("cross_entropy", "input is changed by the forward, as it may be", may_change="input")
def into_its_logits(input, target, ignore_index=-100, reduction="mean"):
    """As Liger's: the gradient stands in the logits' memory before the backward asks for it."""
    if input.dim() != 2 or target.is_floating_point() or reduction == "none":
        return F.cross_entropy(input, target, ignore_index=ignore_index, reduction=reduction)
    return InPlace.apply(input, target, ignore_index, reduction)


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, target, ignore_index, reduction):
        kept = target != ignore_index
        at = target.where(kept, 0)[:, None]
        log_p = input.log_softmax(1)
        number = kept.sum() if reduction == "mean" else torch.tensor(1)
        loss = -(log_p.gather(1, at)[:, 0] * kept).sum() / number
        gradient = log_p.exp().scatter_add(1, at, -torch.ones_like(at, dtype=input.dtype))
        ctx.save_for_backward(input.data.copy_(gradient * kept[:, None] / number.clamp(min=1)))
        return loss

    @staticmethod
    def backward(ctx, dy):
        return ctx.saved_tensors[0].data.mul_(dy), None, None, None


@sound("Linear", "forward: took `x` for input")
class OtherForward(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


@sound("LayerNorm", "parameters: took `scale` for weight, `offset` for bias")
class Haiku(nn.Module):
    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True):
        super().__init__()
        self.dims = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.names, self.state = eps, ["a"], {"b": 1}
        self.offset = nn.Parameter(torch.zeros(self.dims)) if elementwise_affine and bias else None
        self.scale = nn.Parameter(torch.ones(self.dims)) if elementwise_affine else None

    def forward(self, hidden_states):
        return F.layer_norm(hidden_states, self.dims, self.scale, self.offset, self.eps)


sound("Linear")(functools.partial(nn.Linear, bias=True))
sound("Linear")(torch.compile(nn.Linear(4, 6), backend="eager"))


@sound("SGD", "`learning_rate` for lr")
class Plain(torch.optim.SGD):
    def __init__(self, parameters, learning_rate=1e-3, momentum=0, wd=0):
        super().__init__(parameters, learning_rate, momentum, weight_decay=wd)


@sound("SGD", "as they may be", may_change=("grad",))
class DecaysTheGradient(torch.optim.SGD):
    def __init__(self, params, lr=1e-3, weight_decay=0):
        super().__init__(params, lr, weight_decay=weight_decay)

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                decay, group["weight_decay"] = group.setdefault("decay", group["weight_decay"]), 0
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.add_(p, alpha=decay)
        return super().step(closure)


@sound("StepLR", "`period` for step_size")
def of_a_period(opt, period, decay_rate=0.1):
    return lr_scheduler.StepLR(opt, period, decay_rate)


@sound("SGD", where="weight_decay == 0")
class DecaysOtherwise(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - group["weight_decay"])
        return super().step(closure)
