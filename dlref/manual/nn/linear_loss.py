"""A linear layer and its cross entropy in one, which never holds the logits: those of a large vocabulary are the largest
tensor of a language model."""

from __future__ import annotations

import functools

import torch

from ...builtin import composed
from ...builtin.nn import linear_loss as builtin
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import Op
from ...core.pullback import accumulate, made_of
from .common import wide, widened
from .cross_entropy_loss import (
    check_class_weight,
    check_index_target,
    check_same_dtype,
    cross_entropy,
    of_classes,
    total_weight,
)
from .linear import linear
from .reduction import check_reduction, reduce_loss

# The logits that are held at once, 16 MB in float32. Fewer rows read the weight too often for too few products, more gain
# nothing: 2,048 rows of 32,000 classes and 256 features take 2.6 s by 16 rows, 2.1 s by 128, 2.0 s by 512 (one thread).
CHUNK = 2**22
COMPILED_CHUNKS = 16  # at most: torch.compile unrolls the loop over them
OF_LOGITS = cross_entropy.Each(True, False, False, False, False, False)  # which gradients are wanted


class GradientInForward(Op):
    """An operation whose forward makes gradients on the way: its last argument says which ones somebody may ask for."""

    def apply(self, values):
        recorded, of = torch.is_grad_enabled(), (*values[:2], values[3])
        learn = tuple(may and recorded and v.requires_grad for may, v in zip(values[-1], of, strict=True))
        return super().apply((*values[:-1], learn))


def as_matrices(input, linear_weight, linear_bias):
    """x (N, D), W (C d, D) and b (C d), of C classes at d = d1 d2 ... places, in the dtype that is computed in."""
    x = wide(input if input.dim() == 2 else input.unsqueeze(0))
    return x, wide(linear_weight).flatten(0, -2), None if linear_bias is None else wide(linear_bias).flatten()


def as_input(loss, grads, learn, reduction, total, input, linear_weight, linear_bias):
    """The loss (N, d) reduced, and the gradients of what learns, each of the shape and dtype of what it is of."""
    loss = loss.reshape(input.shape[:-1] + linear_weight.shape[1:-1])
    loss = loss.sum() / total if reduction == "mean" else reduce_loss(loss, reduction)
    grads = zip(grads, (input, linear_weight, linear_bias), learn, strict=True)
    return loss.to(input.dtype), tuple(g.view_as(of).to(of.dtype) for g, of, learns in grads if learns)


def total_of(target, weight, ignore_index, input):
    """The mean's denominator, as in `cross_entropy`."""
    if target.is_floating_point():
        return target.numel() // max(target.shape[1], 1)
    check_same_dtype(input, weight)
    return total_weight(weight, *of_classes(target, 1, ignore_index))


def upstream(dy, reduction, total, rows, places):
    """The upstream gradient of each place's loss (N, d)."""
    s = widened(dy) / total if reduction == "mean" else widened(dy)
    return (s.reshape(rows, places) if s.dim() else s).expand(rows, places)


def _by_chunks(
    dy, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
):
    """The loss, and for this dy the gradients of those of input, linear_weight and linear_bias that learn."""
    x, W, b = as_matrices(input, linear_weight, linear_bias)
    classes, places = linear_weight.shape[0], linear_weight.shape[1:-1].numel()
    t = target.reshape(len(x), *((classes,) if target.is_floating_point() else ()), places)
    total = total_of(t, weight, ignore_index, input)
    s = upstream(dy, reduction, total, len(x), places)
    options = None if weight is None else wide(weight), ignore_index, "none", label_smoothing
    losses, dx, dW, db = [], [], x.new_zeros(()), x.new_zeros(())
    rows = rows if len(x) else 0  # by which alone every torch splits a fake tensor of no rows
    for x_n, t_n, s_n in zip(x.split(rows), t.split(rows), s.split(rows), strict=True):
        z = linear.forward(x_n, W, b).unflatten(1, (classes, places))
        loss, saved = cross_entropy.forward(z, t_n, *options)
        losses.append(loss)
        del z  # before what is as large is made
        if any(learn):
            dz, *_ = cross_entropy.pull(s_n, saved, OF_LOGITS, t_n, *options)
            dz = dz.flatten(1)
            if learn[0]:
                dx.append(dz @ W)
            if learn[1]:
                dW = dW + dz.t() @ x_n
            if learn[2]:
                db = db + dz.sum(0)
            del dz
        del saved
    grads = torch.cat(dx) if dx else None, dW, db
    return as_input(torch.cat(losses), grads, learn, reduction, total, input, linear_weight, linear_bias)


@functools.partial(
    GradientInForward,
    builtin=composed.linear_cross_entropy,
    autocast="float32",
    view=False,
    outputs=("output",),
    dtypes=Dtypes(
        one=("input", "linear_weight", "linear_bias"),
        promote=("input", "linear_weight", "target", "linear_bias", "weight"),
    ),
)
def linear_cross_entropy(
    input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
):
    r"""Cross entropy of the logits $z = x W^\top + b$: $E_n = -\sum_c w_c\,q_{nc} \log p_{nc}$, $p = \mathrm{softmax}(z)$.

    It is cross_entropy(linear(x)) in chunks of rows, and holds the logits of one chunk. input (N, D) or (D), linear_weight
    (C, D) or (C, d1, ..., D), linear_bias as linear_weight without D; target class indices (N) or (N, d1, ...), or
    probabilities (N, C, d1, ...); weight (C,). RuntimeError where they do not fit, and the errors of `cross_entropy`. A mean or
    sum has one upstream gradient, so the gradients for dE = 1 are made along with the loss, by three products, where making the
    logits again would take a fourth.
    options: batch_chunk_size or chunking_method set the rows of a chunk; sums are always in at least float32, a second
    backward is always allowed. Wijmans et al. 2024, arXiv:2411.09009.
    """
    one = input.new_ones(())
    return _by_chunks(
        one, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, learn
    )


@linear_cross_entropy.gradient
def linear_cross_entropy_gradient(
    dy, saved, needs, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows,
    learn,
):  # fmt: skip
    r"""$dx = dz\,W,\ dW = dz^\top x,\ db = \sum_n dz_n$, where $dz_{nc} = s_n\,(p_{nc} \sum_k a_{nk} - a_{nc})$ with
    $a = w \odot q$ is the gradient of cross_entropy, s being dy, for the mean dy over its denominator. Each is a sum over
    chunks of rows.

    With one dy for all rows they are dy times those for dy = 1, which the forward saved.
    """
    wanted, grads = (needs.input, needs.linear_weight, needs.linear_bias), [dy * g for g in saved]
    if any(want and not learns for want, learns in zip(wanted, learn, strict=True)):
        _, grads = _by_chunks(
            dy, input, linear_weight, target, linear_bias, weight, reduction, ignore_index, label_smoothing, rows, wanted
        )  # fmt: skip
        learn = wanted
    made = iter(grads)
    dx, dW, db = (next(made) if learns else None for learns in learn)
    if not (target.is_floating_point() and (needs.target or needs.weight)):
        return dx, dW, None, db, None
    x, W, b = as_matrices(input, linear_weight, linear_bias)
    z = linear.forward(x, W, b).reshape(target.shape)  # at once: dtarget is as large
    _, kept = cross_entropy.forward(z, wide(target), weight, ignore_index, reduction, label_smoothing)
    only = cross_entropy.Each(False, needs.target, needs.weight, False, False, False)
    _, dtarget, dw = cross_entropy.pull(dy, kept, only, wide(target), weight, ignore_index, reduction, label_smoothing)
    return dx, dW, dtarget, db, dw


class LinearCrossEntropyLoss(Manual, builtin.LinearCrossEntropyLoss):
    """The module of `linear_cross_entropy`."""

    op = linear_cross_entropy
    attributes = {name: name for name in ("weight", "reduction", "ignore_index", "label_smoothing", "options")}
    _reads_layers = True

    def arguments(self):
        linear, shape = self.linear, (self.num_classes, *self.out_features)
        bias = None if linear.bias is None else linear.bias.view(shape)
        return {**super().arguments(), "linear_weight": linear.weight.view(*shape, -1), "linear_bias": bias}

    def forward(self, input, target):
        return self.__op__(input, target=target, **self.arguments())

    def explicit(self, input, target):
        arguments = self.arguments()
        parameters: tuple[torch.nn.Parameter | None, ...] = (self.linear.weight, self.linear.bias)  # type: ignore[assignment]
        output, pull = self.__op__.vjp(
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


@linear_cross_entropy.prepare
def linear_cross_entropy_prepare(
    input, linear_weight, target, linear_bias=None, weight=None, reduction="mean", ignore_index=None, label_smoothing=0.0,
    options=None,
):  # fmt: skip
    classes, *inner, features = composed.check_linear_cross_entropy(
        input, linear_weight, target, linear_bias, ignore_index
    )
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must lie in [0, 1], it is {label_smoothing}")
    logits = input.new_empty(()).expand(*input.shape[:-1], classes, *inner)
    check_class_weight(logits, weight)
    if target.shape == logits.shape:
        if not target.is_floating_point():
            raise RuntimeError("a target of the logits' shape holds class probabilities and must be floating point, it is "
                               f"{target.dtype}: class indices have no dimension of classes")  # fmt: skip
    else:
        check_index_target(logits, target)
    n = input.shape[0] if input.dim() == 2 else 1
    rows = _rows(options, n, features, classes) or max(1, CHUNK // max(1, linear_weight.shape[:-1].numel()))
    if torch.compiler.is_compiling():
        rows = max(rows, -(-n // COMPILED_CHUNKS))
    ignore_index = -100 if ignore_index is None else ignore_index
    # With "none" each row will have an upstream gradient of its own.
    learn = (True, True, linear_bias is not None) if reduction != "none" else (False,) * 3
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
