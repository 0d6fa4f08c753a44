"""Models of affine layers and radial basis functions: regressions, perceptron, multilayer perceptron, RBF network."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..core.modes import in_float64
from ..core.names import find
from ..core.sizes import within_memory


def linear_regression(ns: Any, in_features: int, out_features: int = 1) -> Any:
    r"""$y = W x + b$, to be trained by mean squared error. x (N, in), y (N, out). Errors as `mlp`."""
    return mlp(ns, in_features, (), out_features)


def logistic_regression(ns: Any, in_features: int) -> Any:
    r"""The logit $z = w \cdot x + b$ of $p = \sigma(z)$, to be trained by BCEWithLogitsLoss.

    x (N, in), z (N, 1). Errors as `mlp`. Bishop 2006, eq. 4.87.
    """
    return mlp(ns, in_features, (), 1)


def softmax_regression(ns: Any, in_features: int, classes: int) -> Any:
    r"""The logits $z = W x + b$ of $p = \mathrm{softmax}(z)$, to be trained by CrossEntropyLoss.

    x (N, in), z (N, C). Errors as `mlp`. Bishop 2006, eq. 4.104.
    """
    return mlp(ns, in_features, (), classes)


@within_memory
def mlp(
    ns: Any,
    in_features: int,
    hidden: int | Sequence[int],
    out_features: int,
    activation: str | Callable[[], Any] = "relu",
    dropout: float = 0.0,
) -> Any:
    r"""Multilayer perceptron: $h_l = \phi(W_l h_{l-1} + b_l)$ for each hidden layer, then $z = W h + b$.

    ns: dlref.manual or dlref.builtin. hidden: the sizes of the hidden layers, as (128,) for one of 128 units.
    activation: a module of ns.nn by its name, in any case, as "relu" or "LeakyReLU",
    or what makes one when it is called. dropout: after each activation.
    Input (N, in_features), output (N, out_features). ValueError where a size is not positive or a name unknown.
    """
    sizes = (in_features, *(hidden if isinstance(hidden, Sequence) else (hidden,)), out_features)
    for size in sizes:
        if not isinstance(size, int) or size <= 0:
            raise ValueError(f"the sizes of the layers must be positive integers, they are {sizes}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), it is {dropout}")
    make = module_named(ns, activation) if isinstance(activation, str) else activation
    layers: list[Any] = []
    for before, after in itertools.pairwise(sizes[:-1]):
        layers += [ns.nn.Linear(before, after), make()]
        if dropout:
            layers.append(ns.nn.Dropout(dropout))
    return ns.nn.Sequential(*layers, ns.nn.Linear(*sizes[-2:]))


@within_memory
def perceptron(ns: Any, in_features: int = 64, classes: int = 10, variant: str = "last") -> Any:
    r"""Rosenblatt's perceptron, $z = W x + b$, to be trained by its own rule (`fit`) or by PerceptronLoss. x (N, in)."""
    return ns.nn.Perceptron(in_features, classes, variant)


@within_memory
def rbf_network(
    ns: Any,
    in_features: int = 64,
    units: int = 100,
    out_features: int = 10,
    kernel: str = "gaussian",
    width: float = 1.0,
) -> Any:
    r"""Radial basis functions, then one affine layer: $z = W \phi(x) + b$. Broomhead & Lowe 1988 (Complex Systems 2).

    units, kernel, width: those of RBF, whose `fit_centers` takes centres from data; the affine layer's weights may be had
    from `least_squares`, or all by gradients. Input (N, in_features), output (N, out_features).
    """
    return ns.nn.Sequential(ns.nn.RBF(in_features, units, kernel, width), ns.nn.Linear(units, out_features))


@torch.no_grad()
def least_squares(
    network: Any, x: torch.Tensor, y: torch.Tensor, ridge: float = 0.0, weight: torch.Tensor | None = None
) -> Any:
    r"""Set the last affine layer of a Sequential to $\min_{W, b} \sum_n w_n \|W h_n + b - y_n\|^2 + \lambda S \|W\|^2$, h what
    the layers before it make of x, $S = \sum_n w_n$.

    x (N, *), y (N, out_features) values or (N,) class indices, which stand for one-hot rows; ridge: $\lambda$; the bias is
    not shrunk. weight: w (N,), at least 0; without it each is 1. Solved in float64. Returns the network. ValueError where the
    last layer is not affine or y or the weights do not fit.
    """
    *before, last = network
    if not isinstance(last, torch.nn.Linear) or last.bias is None:
        raise ValueError(f"the network must end in a Linear layer with a bias, it ends in {last}")
    if not ridge >= 0:
        raise ValueError(f"ridge must be at least 0, it is {ridge}")
    h = x
    for layer in before:
        h = layer(h)
    if y.dim() == 1 and not y.is_floating_point():
        y = y.unsqueeze(1) == torch.arange(last.out_features, device=y.device)
    h, y = in_float64(h), in_float64(y)
    if h.dim() != 2 or y.shape != (len(h), last.out_features):
        raise ValueError(
            f"y must be ({len(h)}, {last.out_features}) or class indices ({len(h)},), it is {tuple(y.shape)}"
        )
    w = h.new_ones(len(h)) if weight is None else weight.to(h)
    if w.shape != (len(h),) or not ((w >= 0).all() and w.sum() > 0):
        raise ValueError(f"weight must be {len(h)} numbers of at least 0 that are not all 0, it is {weight}")
    total = w.sum()
    mean_h, mean_y = w @ h / total, w @ y / total  # the bias takes up the means
    root = w.sqrt().unsqueeze(1)
    rows, targets = root * (h - mean_h), root * (y - mean_y)
    if ridge:  # as rows of their own, lest the condition number be squared
        penalty = (ridge * total).sqrt() * torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        rows, targets = torch.cat([rows, penalty]), torch.cat([targets, targets.new_zeros(h.shape[1], y.shape[1])])
    # Of several solutions the smallest. The solvers of a GPU want full rank, so it is solved on the CPU.
    solution = torch.linalg.lstsq(rows.cpu(), targets.cpu(), driver="gelsd").solution.to(h.device)
    last.weight.copy_(solution.t())
    last.bias.copy_(mean_y - mean_h @ solution)
    return network


def activations() -> list[str]:
    """The names that `mlp` takes: the elementwise activations of dlref.manual.nn, and Identity."""
    return list(_activations())


@functools.cache
def _activations() -> tuple[str, ...]:
    from ..manual import nn

    def elementwise(name: str) -> bool:
        theirs: Any = getattr(torch.nn, name, None)
        if (
            getattr(theirs, "__module__", "") != "torch.nn.modules.activation"
            or "max" in name.lower()
            or name in ("GLU", "Softmin")
        ):
            return False
        needed = [
            p for p in inspect.signature(theirs).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        return all(p.default is not p.empty for p in needed)

    return tuple(sorted([name for name in vars(nn) if elementwise(name)] + ["Identity"]))


def module_named(ns: Any, name: str) -> Any:
    """The activation of ns.nn of that name, in any case; ValueError with the nearest names where there is none."""
    return getattr(ns.nn, find("activation", str(name).replace("_", ""), _activations()))
