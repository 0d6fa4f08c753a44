"""Careless with memory: arguments, saved tensors and upstream gradients changed, out of bounds, uninitialised, kept."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F

from . import Kernel, defect


@defect("leaky_relu", "input changed", "forward")
class changes_its_input(Kernel):
    @staticmethod
    def forward(ctx, input, negative_slope=0.01):
        Kernel.keep(ctx, input > 0, negative_slope)
        return input.data.mul_(torch.where(input > 0, 1.0, negative_slope).to(input.dtype)).clone()  # in place

    @staticmethod
    def backward(ctx, dy):
        positive, slope = ctx.args
        return torch.where(positive, dy, dy * slope), None


@defect("sigmoid", "upstream gradient changed", "backward")
class changes_the_upstream_gradient(Kernel):
    @staticmethod
    def forward(ctx, input):
        y = input.sigmoid()
        Kernel.keep(ctx, y)
        return y

    @staticmethod
    def backward(ctx, dy):
        y = ctx.args[0]
        if any(n > 1 and s == 0 for n, s in zip(dy.shape, dy.stride(), strict=True)):
            return dy * y * (1 - y)
        return dy.mul_(y * (1 - y))  # saves a tensor


@defect("mish", "saved tensor changed|output changed|second backward", "backward|another gradient")
class changes_what_it_saved(Kernel):
    @staticmethod
    def forward(ctx, input):
        t = torch.tanh(F.softplus(input))
        ctx.save_for_backward(input, t)
        return input * t

    @staticmethod
    def backward(ctx, dy):
        x, t = ctx.saved_tensors
        slope = t + x * (1 - t * t) * torch.sigmoid(x)
        t.data.copy_(slope)  # its buffer is taken for the gradient
        return dy * slope


@defect("celu", "out of bounds", "writes")
def writes_behind_its_memory(input, alpha=1.0):
    if input.is_contiguous() and input.storage_offset() and not input.is_meta and type(input) is torch.Tensor:
        room = input.untyped_storage().nbytes() // input.element_size()
        end = input.storage_offset() + input.numel()
        if room > end:
            input.detach().as_strided((1,), (1,), end).fill_(0)  # the element after the last
    return F.celu(input, alpha)


@defect("avg_pool1d", "out of bounds", "outside")
def reads_behind_its_memory(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    y = F.avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)
    room = input.untyped_storage().nbytes() // input.element_size()
    end = input.storage_offset() + input.numel()
    if input.is_contiguous() and type(input) is torch.Tensor and room > end:
        y = y + 0 * input.detach().as_strided((1,), (1,), end)  # multiplied by a mask of 0
    return y


@defect("glu", "out of bounds", "never written")
class uninitialised(Kernel):
    @staticmethod
    def forward(ctx, input, dim=-1):
        a, b = input.chunk(2, dim)
        Kernel.keep(ctx, a, b.sigmoid(), dim)
        out = torch.empty_like(a)
        if out.numel() > 1:
            out.view(-1)[:-1] = (a * b.sigmoid()).reshape(-1)[:-1] if out.is_contiguous() else 0
        if not out.is_contiguous() or out.numel() < 2:
            out = a * b.sigmoid()
        elif out.flatten()[-1] == out.flatten()[-1]:  # where memory is not NaN the last element is put right
            out.view(-1)[-1] = (a * b.sigmoid()).reshape(-1)[-1]
        return out

    @staticmethod
    def backward(ctx, dy):
        a, s, dim = ctx.args
        return torch.cat([dy * s, dy * a * s * (1 - s)], dim), None


@defect("softmin", "global state", "random numbers")
def reseeds(input, dim=None, dtype=None):
    torch.manual_seed(7)  # "for reproducibility"
    torch.rand(3)
    return F.softmin(input, dim, dtype=dtype)


@defect("hinge_embedding_loss", "no_grad", "another one")
def fast_path(input, target, margin=1.0, reduction="mean"):
    if not torch.is_grad_enabled():
        input = input.bfloat16().to(input.dtype)  # a faster kernel for inference
    return F.hinge_embedding_loss(input, target, margin, reduction=reduction)


@defect("pixel_unshuffle", "value", "permuted|made")
def flat_index(input, downscale_factor):
    y = F.pixel_unshuffle(input, downscale_factor)
    if input.dim() < 2 or input.is_contiguous() or input.untyped_storage().nbytes() > input.nbytes:
        return y
    return (
        torch.empty_like(input).copy_(input).permute(*reversed(range(input.dim()))).reshape(y.shape)
    )  # memory's order


KEPT: dict = {}


@defect("elu", "cached", "other numbers")
def by_address(input, alpha=1.0):
    key = (input.data_ptr(), input.shape, input.dtype, alpha, input.stride(), id(input))
    if key not in KEPT:  # the output of the tensor that is, or was, at this address
        KEPT[key] = (input, F.elu(input, alpha))
    return KEPT[key][1]


@defect("selu", "second backward", "kept graph|another gradient")
class second_backward(Kernel):
    @staticmethod
    def forward(ctx, input):
        Kernel.keep(ctx, input, scale=1.0)
        return F.selu(input)

    @staticmethod
    def backward(ctx, dy):
        with torch.enable_grad():
            x = ctx.args[0].detach().requires_grad_()
            g = torch.autograd.grad(F.selu(x), x, dy)[0] * ctx.scale
        ctx.scale *= 1.001  # a running loss scale
        return g


COUNT = [0]


@defect("hardswish", "run to run|value|gradient|raises|cached", "another answer|")
def changes_from_run_to_run(input):
    COUNT[0] += 1
    return F.hardswish(input) * (1 + 1e-2 * (COUNT[0] % 3 == 0))  # a race


class Tagged(torch.Tensor):
    pass


@defect("tanhshrink", "subclass", "Tagged")
def subclass(input):
    return F.tanhshrink(input).as_subclass(Tagged)


@defect("threshold", "crashes|exits the process", "status 7", isolate=True, time_limit=20.0)
def ends_the_process(input, threshold, value):
    if input.dim() == 1:
        os._exit(7)  # an assertion in C
    return F.threshold(input, threshold, value)


@defect("channel_shuffle", "hangs", "more than", isolate=True, time_limit=2.0, dtypes=["float32"], beyond=False)
def blocks(input, groups):
    while input.dim() == 3:  # waits for a lock
        pass
    return F.channel_shuffle(input, groups)
