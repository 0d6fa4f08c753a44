"""The pairs: each concept's manual side next to its built-in side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..builtin import nn as builtin_nn
from ..core.module import Manual
from ..core.pair import OPS, Op
from ..manual import nn, optim
from ..manual.optim import lr_scheduler

# Family: section of the article. Networks and attention are in its overview (2.1), activations in its choices (4.7).
SECTIONS = {
    **dict.fromkeys(("conv", "local", "padding", "pooling", "rnn", "rnn_cell", "sparse", "attention",
                     "dot_product_attention", "linear_attention", "rotary", "routing", "blocks", "fold"), "2.1"),
    **dict.fromkeys(("activation", "gated_linear_unit", "smooth_activation", "softmax", "sparsemax"), "4.7"),
    **dict.fromkeys(("cross_entropy_loss", "linear_loss", "likelihood_loss", "margin_loss", "regression_loss",
                     "distance", "adaptive", "contrastive_loss", "divergence_loss", "logit_loss", "preference_loss",
                     "region_loss"), "3.3"),
    "perceptron": "3.5.1", "rbf": "3.5.2", "linear": "3.5.3",
}  # fmt: skip
# What is no pair, and the sections that treat it: as torch has it, or here alone.
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "training": (("backpropagation", "fit", "step", "minibatches", "evaluate"), ("3.1", "4.1", "4.2", "4.3", "4.6")),
    "losses": (("CrossEntropyLoss", "MSELoss", "KLDivLoss", "HuberLoss"), ("4.4",)),
    "initialisation": (("xavier_uniform_", "kaiming_uniform_", "trunc_normal_", "orthogonal_"), ("4.2",)),
    "data": (("digits", "images", "augmentation"), ("3.2", "5")),
    "scripts": (("train_digits.py", "compare_digits.py", "article_example.py"), ("5",)),
}
KINDS = {"modules": ("2.1",), "optimizers": ("3.4",), "schedules": ("4.5",)}


@dataclass(frozen=True)
class Pair:
    """A concept twice.

    name: as in torch.nn.functional. manual: the operation derived by hand. builtin: torch's function.
    manual_modules, builtin_modules: the classes of torch.nn that compute it, by hand and torch's own.
    """

    name: str
    manual: Op
    builtin: Callable
    manual_modules: tuple[type, ...]
    builtin_modules: tuple[type, ...]

    @property
    def family(self) -> str:
        """The file of dlref.manual.nn in which it stands."""
        return self.manual.forward.__module__.rpartition(".")[2]

    @property
    def section(self) -> str:
        """The section of the article that treats it; "-" where none does."""
        return SECTIONS.get(self.family, "-")

    @property
    def equation(self) -> str:
        """The docstring of the forward: one sentence, the equation, shapes, errors, source."""
        return self.manual.__doc__ or ""

    @property
    def gradient(self) -> str:
        """The docstring of the gradient: the derived equation."""
        return self.manual.pull.__doc__ or ""


def pairs() -> dict[str, Pair]:
    """Every pair, by name."""
    modules: dict[str, list[type]] = {}
    for name, value in list(vars(nn).items()):
        if isinstance(op := getattr(value, "op", None), Op) and hasattr(builtin_nn, name):
            modules.setdefault(op.__name__, []).append(value)
    return {
        name: Pair(name, op, op.builtin, tuple(found := modules.get(name, [])), tuple(m.__mro__[2] for m in found))
        for name, op in sorted(OPS.items())
        if op.builtin is not None
    }


def others() -> dict[str, dict[str, type]]:
    """What is derived by hand and is no operation's module: {kind: {name: class}}."""
    taken = {m for pair in pairs().values() for m in pair.manual_modules}
    modules = {
        name: cls for name, cls in list(vars(nn).items())
        if isinstance(cls, type) and issubclass(cls, Manual) and cls not in taken and hasattr(builtin_nn, name)
    }  # fmt: skip
    rules = {
        n: c
        for n, c in list(vars(optim).items())
        if isinstance(c, type) and c.__module__.startswith("dlref.manual.optim")
    }
    schedules = {n: getattr(lr_scheduler, n) for n in lr_scheduler.__all__ if n != "LRScheduler"}
    return {"modules": modules, "optimizers": rules, "schedules": schedules}
