"""Formulas that are taken for another: each is a hypothesis of what a candidate computes where it is wrong.

A formula is called by the reference's argument names; what it does not use it leaves to `_`. Where it fits to rounding, its
words are the diagnosis.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.pair import OPS

Formula = Callable[..., Any]


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


def normalized(
    x: Tensor, dims: tuple[int, ...], eps: float, correction: int = 0, outside: bool = False, centred: bool = True
) -> Tensor:
    """x less its mean, by its standard deviation: of n or n - 1, eps inside the root or outside."""
    var = x.var(dims, correction=correction, keepdim=True)
    x = x - x.mean(dims, keepdim=True) if centred else x
    return x / (var.sqrt() + eps) if outside else x / (var + eps).sqrt()


def layer(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, **how: Any
) -> Tensor:
    shape = tuple(normalized_shape)
    return affine(normalized(input, tuple(range(-len(shape), 0)), eps, **how), weight, bias, shape)


def group(
    input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, **how: Any
) -> Tensor:
    grouped = input.reshape(len(input), num_groups, -1)
    return affine(normalized(grouped, (-1,), eps, **how).view_as(input), weight, bias, (-1, *(1,) * (input.dim() - 2)))


def batch(input: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
          training: bool = False, momentum: Any = 0.1, eps: float = 1e-5, **how: Any) -> Tensor:  # fmt: skip
    if not training:
        raise ValueError
    F.batch_norm(input.detach(), running_mean, running_var, None, None, True, momentum, eps)  # the running statistics
    dims = tuple(d for d in range(input.dim()) if d != 1)
    return affine(normalized(input, dims, eps, **how), weight, bias, (1, -1, *(1,) * (input.dim() - 2)))


def rms(input: Tensor, normalized_shape: Any, weight: Any = None, eps: Any = None, *, outside: bool = False,
        centred: bool = False, total: bool = False, shift: float = 0.0) -> Tensor:  # fmt: skip
    dims, eps = tuple(range(-len(normalized_shape), 0)), torch.finfo(input.dtype).eps if eps is None else eps
    x = input - input.mean(dims, keepdim=True) if centred else input
    square = x.square().sum(dims, keepdim=True) if total else x.square().mean(dims, keepdim=True)
    y = x / (square.sqrt() + eps) if outside else x * (square + eps).rsqrt()
    return y if weight is None else y * (weight + shift)


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
              is_causal: bool = False, scale: Any = None, enable_gqa: bool = False, *, power: float = -0.5,
              dim: int = -1, late: bool = False, inverted: bool = False) -> Tensor:  # fmt: skip
    """Softmax of the scores by d^power; causal counted from the last key; a mask the other way round."""
    if dropout_p or enable_gqa:
        raise ValueError
    scores = query @ key.mT * (query.shape[-1] ** power if scale is None else scale)
    if is_causal:
        ones = torch.ones(scores.shape[-2:], dtype=torch.bool)
        scores = scores.masked_fill(~ones.tril(scores.shape[-1] - scores.shape[-2] if late else 0), -math.inf)
    if attn_mask is not None:
        scores = (scores.masked_fill(attn_mask if inverted else ~attn_mask, -math.inf) if attn_mask.dtype == torch.bool
                  else scores + attn_mask)  # fmt: skip
    return scores.softmax(dim) @ value


def reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss if reduction == "none" else getattr(loss, reduction)()


def entropy(input: Tensor, target: Tensor, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
            label_smoothing: float = 0.0, *, rows: str = "") -> Tensor:  # fmt: skip
    """Cross entropy whose mean is over other rows: all of them, or those that count, without their classes' weights."""
    if reduction != "mean":
        raise ValueError
    each = F.cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
    )
    return each.mean() if rows == "all" else each.sum() / (target != ignore_index).sum()


def plain(formula: Callable[[Tensor], Tensor]) -> Formula:
    return lambda input, **_: formula(input)


how = functools.partial
OF_VARIANCE: list[tuple[str, dict[str, Any]]] = [
    ("the variance is of n - 1 (unbiased)", {"correction": 1}),
    ("eps stands outside of the root", {"outside": True}),
    ("the mean is not taken off", {"centred": False}),
]
VARIANTS: dict[str, list[tuple[str, Formula]]] = {
    "gelu": [
        ("it is the tanh approximation of GELU", lambda input, **_: F.gelu(input, approximate="tanh")),
        ("it is the exact GELU, by erf", lambda input, **_: F.gelu(input)),
        ("it is the sigmoid approximation of GELU, x sigmoid(1.702 x)", plain(lambda x: x * torch.sigmoid(1.702 * x))),
        ("it is SiLU, x sigmoid(x)", plain(F.silu)),
        ("it is the tanh approximation of GELU without its cubic term",
         plain(lambda x: 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * x)))),
    ],
    "silu": [("it is the hard variant, hardswish", plain(F.hardswish)), ("it is GELU", plain(F.gelu)),
             ("it is GELU's sigmoid approximation, x sigmoid(1.702 x)", plain(lambda x: x * torch.sigmoid(1.702 * x)))],
    "hardswish": [("it is the smooth variant, SiLU", plain(F.silu))],
    "sigmoid": [("it is the hard variant, hardsigmoid", plain(F.hardsigmoid)),
                ("it is Keras's hard variant, 0.2 x + 0.5 between 0 and 1", plain(lambda x: (0.2 * x + 0.5).clamp(0, 1)))],
    "hardsigmoid": [("it is the smooth variant, sigmoid", plain(torch.sigmoid)),
                    ("it is Keras's hard variant, 0.2 x + 0.5 between 0 and 1", plain(lambda x: (0.2 * x + 0.5).clamp(0, 1)))],
    "tanh": [("it is the hard variant, hardtanh", plain(F.hardtanh))],
    "hardtanh": [("it is the smooth variant, tanh", plain(torch.tanh))],
    "mish": [("it is SiLU", plain(F.silu)), ("the softplus in it is 1 + exp without its logarithm",
                                             plain(lambda x: x * torch.tanh(1 + x.exp())))],
    "softplus": [("it is a rectifier, max(x, 0)", plain(F.relu)),
                 ("it is not divided by beta", lambda input, beta=1.0, **_: F.softplus(beta * input))],
    "elu": [("it is CELU", lambda input, alpha=1.0, **_: F.celu(input, alpha))],
    "celu": [("it is ELU", lambda input, alpha=1.0, **_: F.elu(input, alpha))],
    "leaky_relu": [("it is the slope that is multiplied on both sides",
                    lambda input, negative_slope=0.01, **_: input * negative_slope)],
    "softmax": [("the logarithm is taken as well: it is log_softmax",
                 lambda input, dim=None, dtype=None, **_: F.log_softmax(input, dim, dtype=dtype))],
    "log_softmax": [("the logarithm is missing: it is softmax",
                     lambda input, dim=None, dtype=None, **_: F.softmax(input, dim, dtype=dtype))],
    "layer_norm": [(text, how(layer, **options)) for text, options in OF_VARIANCE],
    "group_norm": [(text, how(group, **options)) for text, options in OF_VARIANCE],
    "batch_norm": [(text, how(batch, **options)) for text, options in OF_VARIANCE],
    "rms_norm": [
        ("eps stands outside of the root", how(rms, outside=True)),
        ("the mean is taken off, as layer norm does", how(rms, centred=True)),
        ("the squares are summed and not averaged", how(rms, total=True)),
        ("the weight is taken as 1 + weight", how(rms, shift=1.0)),
    ],
    "normalize": [("eps is added to the norm, which is to be at least eps",
                   lambda input, p=2.0, dim=1, eps=1e-12, **_: input / (input.norm(p, dim, keepdim=True) + eps))],
    "cosine_similarity": [("it is not divided by the norms, a dot product", lambda x1, x2, dim=1, **_: (x1 * x2).sum(dim))],
    "pairwise_distance": [("eps is not added to the difference", lambda x1, x2, p=2.0, keepdim=False, **_: F.pairwise_distance(
        x1, x2, p, 0.0, keepdim))],
    "scaled_dot_product_attention": [
        ("the scores are not divided by the root of d", how(attention, power=0.0)),
        ("the scores are divided by d and not by its root", how(attention, power=-1.0)),
        ("the softmax is over the queries and not over the keys", how(attention, dim=-2)),
        ("the causal mask ends at the last key, not at the first", how(attention, late=True)),
        ("the boolean mask is taken the other way round", how(attention, inverted=True)),
    ],
    "mse_loss": [
        ("the squared error has a factor 1/2", lambda input, target, reduction="mean", **_: 0.5 * F.mse_loss(
            input, target, reduction=reduction)),
        ("the root is taken: it is RMSE", lambda input, target, reduction="mean", **_: F.mse_loss(
            input, target, reduction=reduction).sqrt()),
        ("it is the absolute error", lambda input, target, reduction="mean", **_: F.l1_loss(
            input, target, reduction=reduction)),
    ],
    "l1_loss": [("it is the squared error", lambda input, target, reduction="mean", **_: F.mse_loss(
        input, target, reduction=reduction))],
    "smooth_l1_loss": [("it is Huber's loss, not divided by beta",
                        lambda input, target, reduction="mean", beta=1.0, **_: F.huber_loss(
                            input, target, reduction=reduction, delta=beta))],
    "huber_loss": [("it is the smooth L1 loss, divided by delta",
                    lambda input, target, reduction="mean", delta=1.0, **_: F.smooth_l1_loss(
                        input, target, reduction=reduction, beta=delta))],
    "cross_entropy": [
        ("the mean is over all rows, ignored ones too", how(entropy, rows="all")),
        ("the mean is over rows, not over the weights of their classes", how(entropy, rows="counted")),
        ("no logarithm of softmax: the input is taken for log-probabilities",
         lambda input, target, weight=None, ignore_index=-100, reduction="mean", **_: F.nll_loss(
             input, target, weight, ignore_index=ignore_index, reduction=reduction)),
    ],
    "binary_cross_entropy_with_logits": [
        ("pos_weight weighs the negative term", lambda input, target, weight=None, reduction="mean", pos_weight=None, **_:
         F.binary_cross_entropy_with_logits(-input, 1 - target, weight, reduction=reduction, pos_weight=pos_weight)),
        ("pos_weight weighs both terms", lambda input, target, weight=None, reduction="mean", pos_weight=None, **_: reduced(
            F.binary_cross_entropy_with_logits(input, target, weight, reduction="none") * pos_weight, reduction)),
    ],
    "binary_cross_entropy": [("the input is taken for logits", lambda input, target, weight=None, reduction="mean", **_:
                              F.binary_cross_entropy_with_logits(input, target, weight, reduction=reduction))],
    "kl_div": [("the target's own entropy is missing, t log t", lambda input, target, reduction="mean", log_target=False, **_:
                reduced(-(target.exp() if log_target else target) * input, reduction))],
    "gaussian_nll_loss": [("var is taken for the standard deviation",
                           lambda input, target, var, full=False, eps=1e-6, reduction="mean", **_: F.gaussian_nll_loss(
                               input, target, var.square(), full=full, eps=eps, reduction=reduction))],
    **{f"conv{n}d": [("the kernel is flipped: a convolution, torch's is a correlation",
                      lambda input, weight, bias=None, n=n, **options: getattr(F, f"conv{n}d")(
                          input, weight.flip(list(range(2, 2 + n))), bias, **options))] for n in (1, 2, 3)},
    **{f"avg_pool{n}d": [("padding is counted the other way (count_include_pad)",
                          lambda input, count_include_pad=True, n=n, **options: getattr(F, f"avg_pool{n}d")(
                              input, count_include_pad=not count_include_pad, **options))] for n in (1, 2, 3)},
}  # fmt: skip
REDUCTIONS = {"mean": "averaged over all elements", "sum": "summed", "none": "not reduced"}


def variants(name: str, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[str, Formula]]:
    """What a call of an operation may be taken for: its own variants, exchanged arguments, another dimension or reduction."""
    op = OPS[name]
    builtin: Any = op.builtin
    bound = op.__signature__.bind(*args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)

    def named(formula: Callable[..., Any]) -> Formula:
        """A formula of the arguments by name, as the operation is called."""

        def called(*args: Any, **kwargs: Any) -> Any:
            return formula(**op.__signature__.bind(*args, **kwargs).arguments)

        return called

    def changed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Formula:
        """torch's own function of other arguments."""
        return named(lambda **values: builtin(**{**values, **change({**given, **values})}))

    for text, formula in VARIANTS.get(name, ()):
        yield text, named(formula)
    tensors = {n: v for n, v in given.items() if isinstance(v, Tensor) and v.is_floating_point()}
    for a, b in itertools.combinations(tensors, 2):
        if given[a].shape == given[b].shape:
            yield f"{a} and {b} are exchanged", changed(lambda v, a=a, b=b: {a: v[b], b: v[a]})
    for n, v in list(tensors.items())[1:]:
        if v.dim() == 2 and v.shape[0] == v.shape[1]:
            yield f"{n} is transposed", changed(lambda v, n=n: {n: v[n].mT})
    first = next(iter(tensors.values()), None)
    if "dim" in given and first is not None and (given["dim"] is None or type(given["dim"]) is int):
        for d in range(first.dim()):
            yield f"it is along dimension {d}, not {given['dim']}", changed(lambda v, d=d: {"dim": d})
    reduction = given.get("reduction")
    if reduction in REDUCTIONS:
        for other, words in REDUCTIONS.items():
            if other != reduction and "none" not in (other, reduction):
                yield (
                    f"it is {words}, as reduction={other!r} would",
                    changed(lambda v, other=other: {"reduction": other}),
                )
        if reduction == "mean" and first is not None and first.dim() > 1:
            yield (f"it is summed and divided by the first dimension ({len(first)}) only",
                   named(lambda **values: builtin(**{**values, "reduction": "sum"}) / len(first)))  # fmt: skip
