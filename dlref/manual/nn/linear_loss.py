"""A linear layer and its cross entropy in one, which never holds the logits: those of a large vocabulary are the largest
tensor of a language model."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..module import Manual, accumulate, made_of
from ..op import Op, call
from .common import plain, wide
from .linear import linear
from .loss import check_class_weight, check_index_target, check_reduction, check_same_dtype, cross_entropy, pick

# The logits that are held at once, 16 MB in float32. Fewer rows read the weight too often for too few products, more gain
# nothing: 2,048 rows of 32,000 classes and 256 features take 2.6 s by 16 rows, 2.1 s by 128, 2.0 s by 512 (one thread).
CHUNK = 2**22
COMPILED_CHUNKS = 16  # at most: torch.compile unrolls the loop over them


class GradientInForward(Op):
    """An operation whose forward makes gradients on the way: its last argument says which ones somebody may ask for."""

    def apply(self, values):
        recorded = torch.is_grad_enabled()
        learn = tuple(recorded and isinstance(v, Tensor) and v.requires_grad for v in (*values[:2], values[3]))
        return super().apply((*values[:-1], learn))


@functools.partial(
    GradientInForward, builtin=F.linear_cross_entropy, autocast="float32", view=False, outputs=("output",)
)
def linear_cross_entropy(
    input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
):
    r"""Cross entropy of the logits $z = x W^\top + b$: $E_n = -\sum_c w_c\,q_{nc} \log p_{nc}$, $p = \mathrm{softmax}(z)$.

    It is cross_entropy(linear(x)) in chunks of rows, and holds the logits of one chunk. input (N, D) or (D), linear_weight
    (C, D) or (C, d1, ..., D), linear_bias as linear_weight without D; target class indices (N) or (N, d1, ...), or
    probabilities (N, C, d1, ...); weight (C,). RuntimeError where they do not fit. A mean or sum has one upstream gradient, so
    the gradients for dE = 1 are made along with the loss, by three products, where making the logits again would take a fourth.
    options: batch_chunk_size or chunking_method set the rows of a chunk; sums are always in at least float32, a second
    backward is always allowed. Wijmans et al. 2024, arXiv:2411.09009.
    """
    if linear_weight.dtype != input.dtype:
        raise RuntimeError(
            f"input and linear_weight must have one dtype, they have {input.dtype} and {linear_weight.dtype}"
        )
    learn = learn if reduction != "none" else (False,) * 3  # else each row will have an upstream gradient of its own
    dy = input.new_ones(())
    loss, *grads = _by_chunks(
        dy, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
    )
    return loss, tuple(g for g in grads if g is not None)


@linear_cross_entropy.gradient
def _(dy, saved, needs, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows,
      learn):  # fmt: skip
    r"""$dx = dz\,W,\ dW = dz^\top x,\ db = \sum_n dz_n$, where $dz_{nc} = s_n\,(p_{nc} \sum_k a_{nk} - a_{nc})$ with
    $a = w \odot q$ is the gradient of cross_entropy, s being dy, for the mean dy over its denominator. Each is a sum over
    chunks of rows.

    With one dy for all rows they are dy times those for dy = 1, which the forward saved.
    """
    made = iter(saved)
    grads = [next(made) * dy if saved and learns else None for learns in learn]
    wanted = (needs.input, needs.linear_weight, needs.linear_bias)
    missing = tuple(want and grad is None for want, grad in zip(wanted, grads, strict=True))
    if any(missing):
        _, *found = _by_chunks(
            dy, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, missing
        )  # fmt: skip
        grads = [f if miss else grad for f, miss, grad in zip(found, missing, grads, strict=True)]
    dtarget = dweight = None
    if target.is_floating_point() and (needs.target or needs.weight):  # dtarget is as large as the logits
        bias = None if linear_bias is None else wide(linear_bias).flatten()
        z = linear.forward(wide(input), wide(linear_weight).flatten(0, -2), bias).unflatten(
            -1, linear_weight.shape[:-1]
        )
        _, kept = cross_entropy.forward(z, wide(target), weight, ignore_index, reduction, label_smoothing)
        only = cross_entropy.Each(False, needs.target, needs.weight, False, False, False)
        _, dtarget, dweight = cross_entropy.pull(dy, kept, only, wide(target), weight, reduction, label_smoothing)
    return grads[0], grads[1], dtarget, grads[2], dweight


def _by_chunks(
    dy, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
):
    """The loss, and for this dy the gradients of input, linear_weight and linear_bias, None for those that do not learn."""
    x = wide(input if input.dim() == 2 else input.unsqueeze(0))  # (N, D)
    w = wide(linear_weight).flatten(0, -2)  # (C d1 ..., D)
    b = None if linear_bias is None else wide(linear_bias).flatten()
    n, classes, inner = len(x), linear_weight.shape[0], linear_weight.shape[1:-1].numel()
    c = x.new_ones(classes) if weight is None else wide(weight)
    even = label_smoothing / classes * c.unsqueeze(1) if label_smoothing else None  # (C, 1) each class's part of a
    if indexed := not target.is_floating_point():
        if weight is not None:
            check_same_dtype(input, weight)
        index = target.long().reshape(n, 1, inner)
        counted = index != ignore_index
        index = torch.where(counted, index, 0)  # valid throughout, as gather reads it
        share = c[index] * counted  # (N, 1, d) of the target's class
        total, share = share.sum(), (1 - label_smoothing) * share
    else:
        q, total = target.reshape(n, classes, inner), n * inner
    if any(learn):
        scale = dy.reshape(n, 1, inner) if reduction == "none" else dy / total if reduction == "mean" else dy
        scale = scale.to(x.dtype).expand(n, 1, inner)
        scale = torch.where(counted, scale, 0) if indexed else scale  # after the division: 0/0 where none is counted
    # Where nobody can ask for derivatives of these very steps, a chunk is overwritten.
    own = plain()
    losses, dxs, dw, db = [], [], None, None
    for start in range(0, max(n, 1), rows):
        part = slice(start, start + rows)
        z = linear.forward(x[part], w, b).view(-1, classes, inner)
        s = scale[part] if any(learn) else None
        if indexed:
            loss, dz = _chunk_of_classes(z, index[part], counted[part], share[part], even, s, own)
        else:
            a = wide(q[part]) * ((1 - label_smoothing) * c).unsqueeze(1)
            loss, dz = _chunk_of_probabilities(z, a if even is None else a + even, s, own)
        losses.append(loss)
        del z
        if dz is None:
            continue
        dz = dz.view(-1, len(w))
        if learn[0]:
            dxs.append(dz @ w)
        if learn[1]:
            dw = dz.t() @ x[part] if dw is None else torch.addmm(dw, dz.t(), x[part], out=dw if own else None)
        if learn[2]:
            db = dz.sum(0) if db is None else db + dz.sum(0)
        del dz  # before the next chunk is made
    loss = torch.cat(losses)
    loss = (loss.reshape(input.shape[:-1] + linear_weight.shape[1:-1]) if reduction == "none" else
            loss.sum() / total if reduction == "mean" else loss.sum())  # fmt: skip
    grads = ((torch.cat(dxs) if dxs else None, input), (dw, linear_weight), (db, linear_bias))
    return loss.to(input.dtype), *(None if g is None else g.view_as(of).to(of.dtype) for g, of in grads)


def _chunk_of_classes(z, index, counted, share, even, scale, own):
    """The losses (n, 1, d) of logits z (n, C, d) with a = share at index, and even for every class, where counted; dz."""
    into = z if own else None
    z = torch.sub(z, _top(z), out=into)
    az, of_all = share * pick(z, 1, index), share  # sum_c a_c z_c, sum_c a_c
    if even is not None:
        az, of_all = az + (z * even).sum(1, keepdim=True), share + even.sum()
    e = torch.exp(z, out=into)
    norm = e.sum(1, keepdim=True)
    loss = torch.where(counted, of_all * norm.log() - az, 0)
    if scale is None:
        return loss, None
    dz = torch.mul(e, scale * of_all / norm, out=into)
    dz = torch.scatter_add(dz, 1, index, -scale * share, out=into)
    return loss, dz if even is None else torch.sub(dz, scale * even, out=into)


def _chunk_of_probabilities(z, a, scale, own):
    """The losses (n, 1, d) of logits z (n, C, d) and weighted probabilities a; dz."""
    into = z if own else None
    z = torch.sub(z, _top(z), out=into)
    az, of_all = (a * z).sum(1, keepdim=True), a.sum(1, keepdim=True)
    e = torch.exp(z, out=into)
    norm = e.sum(1, keepdim=True)
    loss = of_all * norm.log() - az
    return loss, None if scale is None else torch.sub(
        torch.mul(e, scale * of_all / norm, out=into), scale * a, out=into
    )


def _top(z):
    """The largest logit of each row: p does not change when all move alike, and without it exp cannot overflow."""
    return z.detach().amax(1, keepdim=True) if z.shape[1] else z.new_zeros(())


@linear_cross_entropy.prepare
def _(
    input, linear_weight, target, linear_bias=None, weight=None, reduction="mean", ignore_index=None, label_smoothing=0.0,
    options=None,
):  # fmt: skip
    if input.dim() not in (1, 2) or linear_weight.dim() < 2:
        raise RuntimeError("linear_cross_entropy(): input must have 1 or 2 dimensions and linear_weight at least 2, they "
                           f"have {input.dim()} and {linear_weight.dim()}")  # fmt: skip
    classes, *inner, features = linear_weight.shape
    if input.shape[-1] != features:
        raise RuntimeError(f"input (N, D) and linear_weight (C, D) must share D, they have {tuple(input.shape)} and "
                           f"{tuple(linear_weight.shape)}")  # fmt: skip
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        raise RuntimeError(f"linear_bias must have shape {tuple(linear_weight.shape[:-1])}, it has "
                           f"{tuple(linear_bias.shape)}")  # fmt: skip
    if inner and input.dim() == 1:
        raise RuntimeError(f"a linear_weight of shape {tuple(linear_weight.shape)} needs an input (N, {features}), it has "
                           f"shape {tuple(input.shape)}: give it a batch")  # fmt: skip
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must lie in [0, 1], it is {label_smoothing}")
    logits = input.new_empty(()).expand(*input.shape[:-1], classes, *inner)
    check_class_weight(logits, weight)
    if target.shape == logits.shape:
        if not target.is_floating_point():
            raise RuntimeError("a target of the logits' shape holds class probabilities and must be floating point, it is "
                               f"{target.dtype}: class indices have no dimension of classes")  # fmt: skip
        if ignore_index is not None:
            raise RuntimeError(f"ignore_index must be None where the target is probabilities, it is {ignore_index}")
    else:
        check_index_target(logits, target)
    n = input.shape[0] if input.dim() == 2 else 1
    rows = _rows(options, n, features, classes) or max(1, CHUNK // max(1, linear_weight.shape[:-1].numel()))
    if torch.compiler.is_compiling():
        rows = max(rows, -(-n // COMPILED_CHUNKS))
    ignore_index = -100 if ignore_index is None else ignore_index
    learn = (True, True, linear_bias is not None)
    return (
        input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
    )  # fmt: skip


def _rows(options, n, features, classes):
    """The rows of a chunk that torch.nn.LinearCrossEntropyOptions ask for; None where the choice is left to us."""
    if options is None or options.batch_chunk_size is not None:
        return None if options is None else options.batch_chunk_size
    method, _, factor = (options.chunking_method or "auto").partition(":")
    if method == "auto":
        return None
    # aspect_ratio: the chunk's logits take what the input takes, rounded up to a power of 2
    rows = -(-n // -(-classes // features))
    return max(1, (1 << (rows - 1).bit_length()) // int(factor or 1))


@linear_cross_entropy.hard_samples
def _(tensor):
    from torch.nn import LinearCrossEntropyOptions

    x, w, b = (
        tensor([[1.0, 2.0], [0.0, 0.0], [-1e2, 3.0]]),
        tensor([[1.0, -1.0], [0.5, 30.0], [1.0, -1.0]]),
        tensor([0.0, 9, 0]),
    )
    y, c = torch.tensor([1, 0, 2], device=x.device), tensor([1.0, 0.0, 2.0])
    q = tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, w, y, reduction=reduction, linear_bias=b)  # ties, extremes
        yield call(x, w, y, weight=c, ignore_index=1, reduction=reduction, label_smoothing=0.1)
        yield call(x, w, q, weight=c, reduction=reduction, linear_bias=b, label_smoothing=0.2)
    yield call(
        x, w, y, options=LinearCrossEntropyOptions(batch_chunk_size=2, allow_retain_graph=True)
    )  # a short last chunk
    yield call(x, w, y, options=LinearCrossEntropyOptions(chunking_method="aspect_ratio:2", allow_retain_graph=True))
    yield call(x, w, torch.ones_like(y), ignore_index=1)  # all ignored: 0/0
    yield call(x, w, torch.ones_like(y), ignore_index=1, reduction="sum")
    yield call(x[0], w, y[0], label_smoothing=1.0)  # no batch
    yield call(x[0], w, q[0])
    yield call(x[:0], w, y[:0], reduction="none")  # an empty batch
    yield call(x[:, :0], w[:, :0], y, linear_bias=b)  # no features
    wide_weight = w.view(3, 1, 2).expand(3, 2, 2)
    yield call(
        x, wide_weight, y.view(3, 1).expand(3, 2), weight=c, label_smoothing=0.1
    )  # a dimension after the classes
    yield call(x, wide_weight, q.view(3, 3, 1).expand(3, 3, 2), linear_bias=wide_weight[..., 0], reduction="none")


@linear_cross_entropy.error_samples
def _(tensor):
    x, w, y = tensor([[1.0, 2.0], [0.0, 1.0]]), tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]]), tensor([0, 1])
    yield ValueError, call(x, w, y, reduction="total")
    yield RuntimeError, call(x, w, y, label_smoothing=1.5)
    yield RuntimeError, call(x, w.double(), y)
    yield RuntimeError, call(x, w, y.int())
    yield ValueError, call(x, w, tensor([0]))  # batch
    yield RuntimeError, call(x, w, y, weight=tensor([1.0]))
    yield RuntimeError, call(x, w, tensor([[0, 1, 0], [1, 0, 0]]))  # integers where there must be probabilities
    yield IndexError, call(x, w, tensor([0, 3]))  # no such class


class LinearCrossEntropyLoss(Manual, torch.nn.LinearCrossEntropyLoss):
    op = linear_cross_entropy
    attributes = {name: name for name in ("weight", "reduction", "ignore_index", "label_smoothing", "options")}

    def arguments(self):
        linear, shape = self.linear, (self.num_classes, *self.out_features)
        bias = None if linear.bias is None else linear.bias.view(shape)
        return {**super().arguments(), "linear_weight": linear.weight.view(*shape, -1), "linear_bias": bias}

    def forward(self, input, target):
        return self.op(input, target=target, **self.arguments())

    def explicit(self, input, target):
        arguments = self.arguments()
        parameters: tuple[torch.nn.Parameter | None, ...] = (self.linear.weight, self.linear.bias)  # type: ignore[assignment]
        output, pull = self.op.vjp(
            input, arguments.pop("linear_weight"), target, linear_bias=arguments.pop("linear_bias"), **arguments
        )
        trained = tuple(p is not None and p.requires_grad for p in parameters)

        def pullback(dy=None, needs=None):
            first, second = (True, True) if needs is None else needs
            dx, dweight, dtarget, dbias, *_ = pull(
                dy, (first, trained[0], second, trained[1], *(False for _ in arguments))
            )
            for parameter, grad in zip(parameters, (dweight, dbias), strict=True):
                if parameter is not None and grad is not None:
                    accumulate(parameter, grad.view_as(parameter))
            return dx, dtarget

        return output, made_of(pullback, pull, trains=any(trained))
