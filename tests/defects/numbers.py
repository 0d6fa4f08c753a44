"""Wrong numbers: constants, terms, signs, options, ties, sizes, dtypes, layouts of the upstream gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import Kernel, defect


@defect("rms_norm", "value", "eps stands outside of the root")
def eps_outside_the_root(input, normalized_shape, weight=None, eps=None):
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    dims = [-1 - i for i in range(len(normalized_shape))]
    y = input / (input.square().mean(dims, keepdim=True).sqrt() + eps)  # the root of the mean plus eps
    return y if weight is None else y * weight


@defect("softmax", "value|gradient", "as large as 1025")
def one_block_of_columns(input, dim=None, dtype=None):
    x = input if dtype is None else input.to(dtype)
    dim = (0 if x.dim() in (0, 1, 3) else 1) if dim is None else dim
    head, tail = x.narrow(dim, 0, min(1024, x.shape[dim])) if x.dim() else x, None
    if x.dim() and x.shape[dim] > 1024:
        tail = torch.zeros_like(x.narrow(dim, 1024, x.shape[dim] - 1024))  # a block of 1,024 and no loop over blocks
    y = torch.softmax(head, dim)
    return y if tail is None else torch.cat([y, tail], dim)


@defect("relu6", "value|gradient", "from index")
def multiples_of_32(input):
    flat = input.flatten()
    n = flat.numel() // 32 * 32 if flat.numel() > 32 else flat.numel()  # no mask for the last, partial block
    return torch.cat([flat[:n].clamp(0, 6), flat[n:]]).view(input.shape)


@defect("log_softmax", "value", "infinite|NaN")
def unstable(input, dim=None, dtype=None):
    x = input if dtype is None else input.to(dtype)
    dim = (0 if x.dim() in (0, 1, 3) else 1) if dim is None else dim
    return (x.exp() / x.exp().sum(dim, keepdim=True)).log()  # the largest is not taken off


@defect("mse_loss", "gradient", "it is summed")
class gradient_not_averaged(Kernel):
    @staticmethod
    def forward(ctx, input, target, reduction="mean"):
        d = input - target
        Kernel.keep(ctx, d)
        return d.square() if reduction == "none" else getattr(d.square(), reduction)()

    @staticmethod
    def backward(ctx, dy):
        (d,) = ctx.args
        g = 2 * d * dy  # the mean's 1/n is forgotten
        return g, -g, None


@defect("l1_loss", "gradient", "sign")
class sign_of_the_target(Kernel):
    @staticmethod
    def forward(ctx, input, target, reduction="mean"):
        Kernel.keep(ctx, input - target, reduction)
        loss = (input - target).abs()
        return loss if reduction == "none" else getattr(loss, reduction)()

    @staticmethod
    def backward(ctx, dy):
        d, reduction = ctx.args
        g = d.sign() * dy / (d.numel() if reduction == "mean" else 1)
        return g, g, None  # the target's is the other way


@defect("layer_norm", "gradient", "a term is missing")
class mean_of_the_gradient(Kernel):
    @staticmethod
    def forward(ctx, input, normalized_shape, weight=None, bias=None, eps=1e-5):
        dims = tuple(range(-len(normalized_shape), 0))
        var, mean = torch.var_mean(input, dims, correction=0, keepdim=True)
        rstd = (var + eps).rsqrt()
        x = (input - mean) * rstd
        Kernel.keep(ctx, x, rstd, weight, dims, bias is not None)
        y = x if weight is None else x * weight
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx, dy):
        x, rstd, weight, dims, has_bias = ctx.args
        g = dy if weight is None else dy * weight
        dx = rstd * (g - x * (g * x).mean(dims, keepdim=True))  # g's mean is forgotten
        rows = [d for d in range(dy.dim()) if d - dy.dim() not in dims]
        total = lambda t: t.sum(rows) if rows else t  # noqa: E731
        return dx, None, None if weight is None else total(dy * x), total(dy) if has_bias else None, None


@defect("adaptive_max_pool1d", "gradient", "tie|only|wrong")
class ties_to_the_last(Kernel):
    @staticmethod
    def forward(ctx, input, output_size):
        size, out = input.shape[-1], output_size if isinstance(output_size, int) else output_size[0]
        bins = [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
        # Of equal elements torch takes the first.
        at = [b - 1 - input[..., a:b].flip(-1).argmax(-1) for a, b in bins]
        Kernel.keep(ctx, input.shape, torch.stack(at, -1))
        return torch.stack([input[..., a:b].amax(-1) for a, b in bins], -1)

    @staticmethod
    def backward(ctx, dy):
        shape, at = ctx.args
        return dy.new_zeros(shape).scatter_add(-1, at, dy), None


@defect("relu", "gradient", "wrong only where argument input is")
class slope_at_0(Kernel):
    @staticmethod
    def forward(ctx, input):
        Kernel.keep(ctx, input)
        return input.clamp(min=0)

    @staticmethod
    def backward(ctx, dy):
        return dy * (ctx.args[0] >= 0)  # torch's is 0 at 0


@defect("hardtanh", "gradient", "only where argument input is|one of")
class slope_at_the_boundary(Kernel):
    @staticmethod
    def forward(ctx, input, min_val=-1.0, max_val=1.0):
        Kernel.keep(ctx, input, min_val, max_val)
        return input.clamp(min_val, max_val)

    @staticmethod
    def backward(ctx, dy):
        x, low, high = ctx.args
        return dy * ((x >= low) & (x <= high)), None, None  # torch's is 0 at both ends


@defect("cross_entropy", "value", "ignores label_smoothing")
def no_smoothing(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    return F.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction=reduction
    )  # smoothing is not passed


@defect("nll_loss", "gradient", "ignores ignore_index")
class ignored_rows_learn(Kernel):
    @staticmethod
    def forward(ctx, input, target, weight=None, ignore_index=-100, reduction="mean"):
        Kernel.keep(ctx, input, target, weight, reduction)
        return F.nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction)

    @staticmethod
    def backward(ctx, dy):
        input, target, weight, reduction = ctx.args
        with torch.enable_grad():
            x = input.detach().requires_grad_()
            loss = F.nll_loss(x, target, weight, reduction=reduction)  # the ignored class is not told
        return torch.autograd.grad(loss, x, dy)[0], None, None, None, None


@defect("gelu", "value", "ignores approximate")
def always_exact(input, approximate="none"):
    return 0.5 * input * (1 + torch.erf(input * 0.5**0.5))  # the tanh form is not there


@defect("conv2d", "gradient|raises", "wrong only")
class dilation_in_the_gradient(Kernel):
    @staticmethod
    def forward(ctx, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        Kernel.keep(ctx, input, weight, bias, stride, padding, groups)
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, dy):
        input, weight, bias, stride, padding, groups = ctx.args
        with torch.enable_grad():
            x, w = input.detach().requires_grad_(), weight.detach().requires_grad_()
            y = torch.conv2d(x, w, None, stride, padding, 1, groups)  # dilation is 1
            y = y[..., : dy.shape[-2], : dy.shape[-1]]
        dx, dw = torch.autograd.grad(y, (x, w), dy)
        return dx, dw, None if bias is None else dy.sum([d for d in range(dy.dim()) if d != dy.dim() - 3]), *(None,) * 4


@defect("linear", "frozen", "frozen|others")
class frozen_weight(Kernel):
    @staticmethod
    def forward(ctx, input, weight, bias=None):
        Kernel.keep(ctx, input, weight, bias)
        return F.linear(input, weight, bias)

    @staticmethod
    def backward(ctx, dy):
        x, w, b = ctx.args
        if not ctx.needs_input_grad[1]:  # nobody thinks of a frozen weight below a layer that learns
            return torch.zeros_like(x), None, None if b is None else dy.reshape(-1, dy.shape[-1]).sum(0)
        dw = (
            dy.reshape(-1, w.shape[0]).t() @ x.reshape(-1, w.shape[-1])
            if w.dim() > 1
            else (x * dy[..., None]).reshape(-1, w.shape[0]).sum(0)
        )
        return dy @ w if w.dim() > 1 else dy[..., None] * w, dw, None if b is None else dy.reshape(-1, *b.shape).sum(0)


@defect("group_norm", "raises", "NoneType")
def bias_is_required(input, num_groups, weight=None, bias=None, eps=1e-5):
    y = F.group_norm(input, num_groups, weight, None, eps)
    return y + bias.view(-1, *(1,) * (input.dim() - 2))  # and may be absent


@defect("tanh", "gradient", "contiguous")
class strides_ignored(Kernel):
    @staticmethod
    def forward(ctx, input):
        y = input.tanh()
        Kernel.keep(ctx, y)
        return y

    @staticmethod
    def backward(ctx, dy):
        if not dy.is_contiguous():
            size = dy.untyped_storage().nbytes() // dy.element_size() - dy.storage_offset()
            flat = dy.as_strided((size,), (1,))
            dy = (flat[: dy.numel()] if size >= dy.numel() else flat[:1].expand(dy.numel())).reshape(
                dy.shape
            )  # by address
        return dy * (1 - ctx.args[0].square())


@defect("softsign", "gradient", "first row")
class first_row(Kernel):
    @staticmethod
    def forward(ctx, input):
        Kernel.keep(ctx, input)
        return input / (1 + input.abs())

    @staticmethod
    def backward(ctx, dy):
        x = ctx.args[0]
        return (dy[:1].expand(dy.shape) if dy.dim() > 1 else dy) / (1 + x.abs()).square()  # a row stride of 0


@defect("smooth_l1_loss", "gradient", "taken for ones|factor")
class upstream_ignored(Kernel):
    @staticmethod
    def forward(ctx, input, target, reduction="mean", beta=1.0):
        Kernel.keep(ctx, input, target, reduction, beta)
        return F.smooth_l1_loss(input, target, reduction=reduction, beta=beta)

    @staticmethod
    def backward(ctx, dy):
        input, target, reduction, beta = ctx.args
        with torch.enable_grad():
            a, b = input.detach().requires_grad_(), target.detach().requires_grad_()
            loss = F.smooth_l1_loss(a, b, reduction=reduction, beta=beta).sum()
        return *torch.autograd.grad(loss, (a, b)), None, None  # a loss is the last layer, is it not


@defect("logsigmoid", "dtype", "bfloat16", dtypes=["bfloat16"])
def always_float32(input):
    return -F.softplus(-input.float())  # not cast back


@defect("poisson_nll_loss", "shape", "it is \\(1,\\)")
def one_element(input, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    loss = F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=reduction)
    return loss[None] if loss.dim() == 0 else loss  # a number has no dimension


@defect("pixel_shuffle", "type", "a list")
def a_list(input, upscale_factor):
    return [F.pixel_shuffle(input, upscale_factor)]  # as a dispatcher's kernel returns it


@defect("kl_div", "value|gradient", "less exact|precision", dtypes=["float32"])
def half_inside(input, target, reduction="mean", log_target=False):
    return F.kl_div(
        input.bfloat16().float(), target, reduction=reduction, log_target=log_target
    )  # what the kernel loads


@defect("huber_loss", "default", "its default must be 1.0, it is 0.5")
def another_default(input, target, reduction="mean", delta=0.5, weight=None):
    return F.huber_loss(input, target, reduction, delta, weight)


@defect("silu", "no gradient", "detached")
def detached(input):
    return torch.sigmoid(input.detach()) * input.detach()  # computed as for inference


@defect("prelu", "raises|gradient", "shape|size|wrong|factor|row")
class not_summed(Kernel):
    @staticmethod
    def forward(ctx, input, weight):
        Kernel.keep(ctx, input, weight)
        return F.prelu(input, weight)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.args
        shape = [1, -1, *(1,) * (x.dim() - 2)] if x.dim() > 1 else [-1]
        dw = (
            (dy * x.clamp(max=0)).mean([d for d in range(x.dim()) if d != 1]) if x.dim() > 1 else (dy * x.clamp(max=0))
        )  # mean
        dw = dw.sum().reshape(1) if w.numel() == 1 else dw
        return torch.where(x > 0, dy, dy * (w.view(shape) if w.dim() else w)), dw.view(w.shape)


@defect("softplus", "double backward", "graph|second derivative")
class constant_in_the_second_derivative(Kernel):
    @staticmethod
    def forward(ctx, input, beta=1.0, threshold=20.0):
        Kernel.keep(ctx, torch.sigmoid(beta * input), beta * input > threshold)
        return F.softplus(input, beta, threshold)

    @staticmethod
    def backward(ctx, dy):
        slope, far = ctx.args  # made in the forward, so constants to autograd
        return torch.where(far, dy, dy * slope), None, None


@defect("softshrink", "jvp", "forward-mode")
class wrong_jvp(Kernel):
    @staticmethod
    def forward(input, lambd=0.5):
        return F.softshrink(input, lambd)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])
        ctx.lambd = inputs[1]

    @staticmethod
    def backward(ctx, dy):
        return dy * ~(ctx.saved_tensors[0].abs() <= ctx.lambd), None

    @staticmethod
    def jvp(ctx, dx, _):
        return dx + 0 * ctx.saved_tensors[0]  # without the branch


@defect("embedding", "gradient", "ignores padding_idx")
class padding_learns(Kernel):
    @staticmethod
    def forward(ctx, input, weight, padding_idx=None):
        Kernel.keep(ctx, input, weight)
        return F.embedding(input, weight, padding_idx)

    @staticmethod
    def backward(ctx, dy):
        input, weight = ctx.args
        dw = torch.zeros_like(weight).index_add(
            0, input.flatten(), dy.reshape(-1, weight.shape[1])
        )  # padding's row too
        return None, dw, None


@defect("scaled_dot_product_attention", "value", "ignores (is_causal|scale|attn_mask)")
def never_causal(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, False, scale=scale, enable_gqa=enable_gqa
    )


@defect("cosine_similarity", "shape", "ignores dim")
def last_dimension(x1, x2, dim=1, eps=1e-8):
    return F.cosine_similarity(x1, x2, -1, eps)


@defect("interpolate", "value", "ignores align_corners")
def corners_never_aligned(input, size=None, scale_factor=None, mode="nearest", align_corners=None,
                          recompute_scale_factor=None, antialias=False):  # fmt: skip
    return F.interpolate(input, size, scale_factor, mode, None if align_corners is None else False,
                         recompute_scale_factor, antialias)  # fmt: skip
