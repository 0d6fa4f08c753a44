"""What the composed losses share: their reduction, and the errors of both sides."""

from __future__ import annotations

from torch import Tensor

REDUCTIONS = ("none", "mean", "sum")


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The losses, their mean, their sum, or the sum over the first dimension's size."""
    if reduction == "batchmean":
        return loss.sum() / loss.shape[0] if loss.dim() else loss.sum()
    return loss if reduction == "none" else getattr(loss, reduction)()


def check_reduction(reduction: str, known: tuple[str, ...] = REDUCTIONS) -> None:
    """ValueError where the reduction is none of those."""
    if reduction not in known:
        names = ", ".join(map(repr, known[:-1]))
        raise ValueError(f"reduction must be {names} or {known[-1]!r}, it is {reduction!r}")


def check_one_shape(**tensors: Tensor) -> None:
    """ValueError where the tensors have not one shape."""
    shapes = [tuple(t.shape) for t in tensors.values()]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"{_listed(list(tensors))} must have one shape, they have {_listed(list(map(str, shapes)))}")


def check_at_least(name: str, value: float, least: float) -> None:
    """ValueError where an option is not a number of at least that."""
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}, it is {value}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """ValueError where an option is not a number between the two."""
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], it is {value}")


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
