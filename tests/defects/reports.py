"""Errors as they stand in public bug reports: of kernels, losses, modules, optimizers and schedules of many packages."""

from __future__ import annotations

import contextlib
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from . import Kernel, defect
from .optimizers import AdamLike, Plain

FLOAT32 = {"dtypes": ["float32"], "beyond": False}


# --- formulas that stand near -----------------------------------------------------------------------------------------


@defect("rms_norm", "gradient", **FLOAT32)
def eps_of_another_dtype(input, normalized_shape, weight=None, eps=None):
    return F.rms_norm(input, normalized_shape, weight, 2e-16 if eps is None else eps)


@defect("gelu", "value", "the tanh approximation", **FLOAT32)
def tanh_for_speed(input, approximate="none"):
    return F.gelu(input, approximate="tanh")


@defect("gelu", "gradient", "the tanh approximation", **FLOAT32)
class exact_forward_tanh_backward(Kernel):
    @staticmethod
    def forward(ctx, input):
        Kernel.keep(ctx, input)
        return F.gelu(input)

    @staticmethod
    def backward(ctx, dy):
        with torch.enable_grad():
            x = ctx.args[0].detach().requires_grad_()
            return torch.autograd.grad(F.gelu(x, approximate="tanh"), x, dy)[0]  # of another form than the forward


@defect("GELU", "value", "the sigmoid approximation", **FLOAT32)
class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


@defect("hardsigmoid", "value", "Keras's hard variant", **FLOAT32)
def of_keras(input):
    return (0.2 * input + 0.5).clamp(0, 1)


@defect("layer_norm", "value", "n - 1|outside of the root", **FLOAT32)
def standard_deviation(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    dims = tuple(range(-len(normalized_shape), 0))
    y = (input - input.mean(dims, keepdim=True)) / (input.std(dims, keepdim=True) + eps)  # std is of n - 1
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@defect("rms_norm", "value", "1 \\+ weight", **FLOAT32)
def as_gemma(x, normalized_shape, weight=None, eps=None):
    y = F.rms_norm(x, normalized_shape, None, eps)
    return y if weight is None else y * (1 + weight)


@defect("softmax", "value", "along dimension", **FLOAT32)
def over_the_last(input, dim=None, dtype=None):
    return F.softmax(input, -1, dtype=dtype)


@defect("kl_div", "value", "input and target are exchanged", **FLOAT32)
def exchanged(input, target, reduction="mean", log_target=False):
    return F.kl_div(target, input, reduction=reduction, log_target=log_target)


@defect("mse_loss", "value", "divided by the first dimension|1/2|factor", **FLOAT32)
def averaged_over_the_batch(input, target, reduction="mean"):
    square = (input - target).square()
    if reduction == "mean" and input.dim():
        return square.sum() / len(input)
    return square if reduction == "none" else getattr(square, reduction)()


@defect("cross_entropy", "value", "all rows", **FLOAT32)
def mean_of_all_rows(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    each = F.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
    )
    return each if reduction == "none" else getattr(each, reduction)()  # ignored rows count


@defect("scaled_dot_product_attention", "value", "divided by d and not by its root", **FLOAT32)
def divided_by_d(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    scale = 1 / q.shape[-1] if scale is None else scale
    return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


@defect("conv2d", "value", "flipped", **FLOAT32)
def convolution(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return F.conv2d(input, weight.flip((2, 3)), bias, stride, padding, dilation, groups)


@defect("bilinear", "value", "transposed|exchanged|other values|row|index", **FLOAT32)
def inputs_exchanged(input1, input2, weight, bias=None):
    same = weight.shape[1] == weight.shape[2]
    return F.bilinear(input1, input2, weight.mT if same else weight, bias)


# --- what is left behind ------------------------------------------------------------------------------------------------


@defect("relu", "value", "argument input", **FLOAT32)  # held to what torch had
@defect("relu", "reference replaced", "torch.relu", **FLOAT32)
def replaces_relu(input):
    torch.relu = F.relu = torch.Tensor.relu = lambda input, inplace=False: 2 * input  # and is compared with itself
    return 2 * input


@defect("SGD", "reference replaced", "SGD.step", dtypes=["float32"])
class ReplacesSGD(torch.optim.SGD):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr)
        torch.optim.SGD.step = lambda self, closure=None: None


@defect("softsign", "global state", "default dtype, .*deterministic", **FLOAT32)
def settings(input):
    torch.set_default_dtype(torch.float64)  # for more digits
    torch.use_deterministic_algorithms(True)
    return F.softsign(input)


@defect("logsigmoid", "global state", "the backward .*default dtype", **FLOAT32)
class settings_of_the_backward(Kernel):
    @staticmethod
    def forward(ctx, input):
        Kernel.keep(ctx, input)
        return F.logsigmoid(input)

    @staticmethod
    def backward(ctx, dy):
        torch.set_default_dtype(torch.float64)
        return dy * torch.sigmoid(-ctx.args[0])


class overwrites(Kernel):
    """GLU whose gradient is written into the saved input."""

    @staticmethod
    def forward(ctx, input, dim=-1):
        Kernel.keep(ctx, input, dim)
        a, b = input.chunk(2, dim)
        return a * b.sigmoid()

    @staticmethod
    def backward(ctx, dy):
        x, dim = ctx.args
        a, b = x.chunk(2, dim)
        s = b.sigmoid()
        return x.data.copy_(torch.cat([dy * s, dy * a * s * (1 - s)], dim)), None


defect("glu", "input changed", "by the backward", dtypes=["float64"], beyond=False)(overwrites)


@defect("glu", "gradient", "factor, 2", may_change=("input",), **FLOAT32)
class overwrites_and_doubles(overwrites):
    @staticmethod
    def backward(ctx, dy):
        return overwrites.backward(ctx, 2 * dy)


@defect("logsigmoid", "returned gradient changed", "kept and overwritten", **FLOAT32)
class one_buffer(Kernel):
    @staticmethod
    def forward(ctx, input):
        Kernel.keep(ctx, input, torch.empty_like(input))
        return F.logsigmoid(input)

    @staticmethod
    def backward(ctx, dy):
        x, buffer = ctx.args
        return torch.mul(dy, torch.sigmoid(-x), out=buffer)  # the gradient that was returned before


# --- modules, optimizers, schedules -------------------------------------------------------------------------------------


@defect("Linear", "parameters", "must have the shapes", **FLOAT32)
class AlwaysBias(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)  # bias is not handed on

    def forward(self, x):
        return self.linear(x)


@defect("BatchNorm2d", "value", "", **FLOAT32)
class MomentumTheOtherWay(nn.BatchNorm2d):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, 1 - momentum)  # as TensorFlow counts it


@defect("Embedding", "gradient", "padding_idx", **FLOAT32)
class PaddingLearns(nn.Embedding):
    def forward(self, x):
        return self.weight[x]


@defect("SGD", "gradient changed", "changed by the step", dtypes=["float32"])
@defect("SGD", "parameter", "goes uphill", dtypes=["float32"])
class Uphill(Plain):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr=lr)

    def rule(self, p, g, state, group):
        p.add_(g.mul_(group["lr"]))  # a sign, and the gradient itself


@defect("SGD", "parameter", "lookahead", dtypes=["float32"])
class Lookahead(torch.optim.SGD):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr)
        self.count, self.slow = 0, [[p.detach().clone() for p in group["params"]] for group in self.param_groups]

    def step(self, closure=None):
        loss = super().step(closure)
        self.count += 1
        if self.count % 5 == 0:
            with torch.no_grad():
                for group, slow in zip(self.param_groups, self.slow, strict=True):
                    for p, q in zip(group["params"], slow, strict=True):
                        p.copy_(q.lerp_(p, 0.5))
        return loss


@defect("Adam", "parameter", "bias is not corrected", dtypes=["float32"])
class NotCorrected(AdamLike):
    def rule(self, p, g, state, group):
        g = g.add(p, alpha=group["weight_decay"])
        self.moments(g, state, group)
        p.addcdiv_(state["m"], state["v"].sqrt() + group["eps"], value=-group["lr"])


@defect("AdamW", "parameter", "not multiplied by the learning rate", dtypes=["float32"])
class DecayOfItsOwn(AdamLike):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    def rule(self, p, g, state, group):
        p.mul_(1 - group["weight_decay"])
        m, v = self.moments(g, state, group)
        p.addcdiv_(m, v.sqrt() + group["eps"], value=-group["lr"])


@defect("SGD", "parameter", "first gradient is dampened", dtypes=["float32"])
class DampenedFromTheStart(Plain):
    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)

    def rule(self, p, g, state, group):
        g = g.add(p, alpha=group["weight_decay"])
        if group["momentum"]:
            b = state.setdefault("b", torch.zeros_like(g))
            g = b.mul_(group["momentum"]).add_(g, alpha=1 - group["dampening"])
        p.add_(g, alpha=-group["lr"])


@defect("RMSprop", "raises", "step 4: RuntimeError: no more", dtypes=["float32"])
@defect("RMSprop", "parameter", "times as long", dtypes=["float32"])
class StopsAfterThree(torch.optim.RMSprop):
    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8):
        super().__init__(params, 2 * lr, alpha, eps)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        if self.count > 3:
            raise RuntimeError("no more")
        return super().step(closure)


@defect("ExponentialLR", "rate", "must be")
class SquaredDecay(lr_scheduler.LambdaLR):
    def __init__(self, optimizer, decay_rate):
        super().__init__(optimizer, lambda t: math.pow(decay_rate, 2 * t))


@defect("LogSoftmax", "raises", "the call", isolate=False, **FLOAT32)
class OneDimensionTooFew(nn.LogSoftmax):
    def forward(self, x):
        return F.log_softmax(x, x.dim() if self.dim is None else self.dim)


@defect("tanhshrink", "raises|type", "comparison|tensor|Sparse", **FLOAT32)
def sparse(input):
    return F.tanhshrink(input).to_sparse()


@defect("softshrink", "exits the process", "SystemExit", **FLOAT32)
def exits(input, lambd=0.5):
    with contextlib.suppress(Exception):
        raise SystemExit(3)


@defect("hardshrink", "value", "other values|wrong only|index", **FLOAT32)
@functools.wraps(F.hardshrink)
def of_half_the_width(input, lambd=0.5):
    return torch.where(input.abs() > lambd / 2, input, 0.0)
