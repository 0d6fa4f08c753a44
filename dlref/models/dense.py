"""Models of affine layers: linear, logistic and softmax regression, the multilayer perceptron."""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import torch


def linear_regression(ns: Any, in_features: int, out_features: int = 1) -> Any:
    r"""$y = W x + b$, to be trained by mean squared error. x (N, in), y (N, out)."""
    return mlp(ns, in_features, (), out_features)


def logistic_regression(ns: Any, in_features: int) -> Any:
    r"""The logit $z = w \cdot x + b$ of $p = \sigma(z)$, to be trained by BCEWithLogitsLoss. x (N, in), z (N, 1)."""
    return mlp(ns, in_features, (), 1)


def softmax_regression(ns: Any, in_features: int, classes: int) -> Any:
    r"""The logits $z = W x + b$ of $p = \mathrm{softmax}(z)$, to be trained by CrossEntropyLoss. x (N, in), z (N, C)."""
    return mlp(ns, in_features, (), classes)


def mlp(
    ns: Any,
    in_features: int,
    hidden: int | Sequence[int],
    out_features: int,
    activation: str = "relu",
    dropout: float = 0.0,
) -> Any:
    r"""Multilayer perceptron: $h_l = \phi(W_l h_{l-1} + b_l)$ for each hidden layer, then $z = W h + b$.

    ns: dlref.manual or dlref.builtin. hidden: the sizes of the hidden layers, as (128,) for one of 128 units.
    activation: a module of ns.nn by its name, in any case, as "relu" or "LeakyReLU". dropout: after each activation.
    Input (N, in_features), output (N, out_features). ValueError where a size is not positive or a name unknown.
    """
    sizes = (in_features, *(hidden if isinstance(hidden, Sequence) else (hidden,)), out_features)
    for size in sizes:
        if not isinstance(size, int) or size <= 0:
            raise ValueError(f"the sizes of the layers must be positive integers, they are {sizes}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), it is {dropout}")
    make = module_named(ns, activation)
    layers: list[Any] = []
    for before, after in itertools.pairwise(sizes[:-1]):
        layers += [ns.nn.Linear(before, after), make()]
        if dropout:
            layers.append(ns.nn.Dropout(dropout))
    return ns.nn.Sequential(*layers, ns.nn.Linear(*sizes[-2:]))


def activations() -> list[str]:
    """The names that `mlp` takes: the elementwise activations of dlref.manual.nn, and Identity."""
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

    return sorted([name for name in vars(nn) if elementwise(name)] + ["Identity"])


def module_named(ns: Any, name: str) -> Any:
    """The activation of ns.nn of that name, in any case; ValueError with the nearest names where there is none."""
    found = {key.lower(): key for key in activations()}
    key = str(name).lower().replace("_", "")
    if key not in found:
        near = difflib.get_close_matches(key, found, n=3, cutoff=0.4) or sorted(found)
        raise ValueError(f"activation must be the name of an activation of dlref.manual.nn, it is {name!r}; near it: "
                         f"{', '.join(found[n] for n in near)}")  # fmt: skip
    return getattr(ns.nn, found[key])
