"""Small data sets with honest splits: stratified and seeded, standardised by the training part alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

SCALES = ("global", "feature", None)


@dataclass(frozen=True)
class Split:
    """A data set in three parts.

    train, validation, test: TensorDatasets of x (N, features) and y: class indices (N,), or values (N, 1).
    classes: their number, None for regression. mean, std: what x was standardised by, of the training part: single
    numbers ("global"), one a feature ("feature"), or 0 and 1.
    """

    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    features: int
    classes: int | None
    mean: Tensor
    std: Tensor


def digits(images: bool = False, **options) -> Split:
    """scikit-learn's digits: 1,797 images of 8 x 8 pixels (0 to 16), about 180 of each of the ten classes.

    images: x is (N, 1, 8, 8) instead of (N, 64). options: those of `split`.
    """
    from sklearn.datasets import load_digits

    found = split(*load_digits(return_X_y=True), **{"scale": "global", **options})
    if not images:
        return found

    def shaped(part: TensorDataset) -> TensorDataset:
        x, y = part.tensors
        return TensorDataset(x.view(-1, 1, 8, 8), y)

    return replace(found, train=shaped(found.train), validation=shaped(found.validation), test=shaped(found.test))


def _of_sklearn(name: str, description: str) -> Callable[..., Split]:
    def load(**options) -> Split:
        from sklearn import datasets

        return split(*getattr(datasets, f"load_{name}")(return_X_y=True), **options)

    load.__name__, load.__doc__ = name, description
    return load


iris = _of_sklearn("iris", "scikit-learn's iris: 150 flowers, 4 features, 3 classes.")
wine = _of_sklearn("wine", "scikit-learn's wine: 178 wines, 13 features, 3 classes.")
breast_cancer = _of_sklearn("breast_cancer", "scikit-learn's breast cancer: 569 samples, 30 features, 2 classes.")
diabetes = _of_sklearn("diabetes", "scikit-learn's diabetes: 442 patients, 10 features, a value to predict.")


def moons(samples: int = 400, noise: float = 0.2, seed: int = 0, **options) -> Split:
    """Two half-moons in the plane that no line separates: 2 features, 2 classes."""
    from sklearn.datasets import make_moons

    return split(*make_moons(samples, noise=noise, random_state=seed), seed=seed, **options)


def noisy_line(samples: int = 200, noise: float = 0.1, features: int = 1, seed: int = 0, **options) -> Split:
    """y = w.x + b + noise, with w, b and x normal: what linear regression recovers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    w, b = torch.randn(features, 1, generator=generator, dtype=torch.float64), 0.5
    y = x @ w + b + noise * torch.randn(samples, 1, generator=generator, dtype=torch.float64)
    return split(x.numpy(), y.numpy(), seed=seed, **{"scale": None, **options})


def split(
    x,
    y,
    *,
    validation: float = 0.1,
    test: float = 0.2,
    scale: str | None = "feature",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Split:
    """Training, validation and test parts of arrays x (N, features) and y: integers (N,) are classes, else values.

    validation, test: fractions of all samples; classes keep their proportions in every part.
    scale: "global" (one mean and standard deviation of all numbers), "feature" (one a feature; a constant feature is
        only centred), or None; fitted on the training part, so that nothing of the others is known in training.
    """
    from sklearn.model_selection import train_test_split

    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ValueError(f"validation and test must be fractions that leave something to train on, they are {validation} "
                         f"and {test}")  # fmt: skip
    if scale not in SCALES:
        raise ValueError(f"scale must be 'global', 'feature' or None, it is {scale!r}")
    x, y = torch.as_tensor(x).to(torch.float64), torch.as_tensor(y)
    classes = None if y.is_floating_point() else int(y.max()) + 1
    rest, parts = list(range(len(x))), []
    for fraction, left in ((test, 1.0), (validation, 1.0 - test)):
        part: list[int] = []
        if fraction:
            labels = None if classes is None else y[rest]
            rest, part = train_test_split(rest, test_size=fraction / left, random_state=seed, stratify=labels)
        parts.append(part)
    train = x[rest]
    mean, std = torch.zeros((), dtype=x.dtype), torch.ones((), dtype=x.dtype)
    if scale is not None:
        over = None if scale == "global" else 0
        mean, std = train.mean(over), train.std(over, correction=0)
        std = torch.where(std > 0, std, 1.0)
    targets = y.reshape(len(y), -1).to(dtype) if classes is None else y.long()

    def part_of(indices: list[int]) -> TensorDataset:
        return TensorDataset(((x[indices] - mean) / std).to(dtype), targets[indices])

    return Split(
        part_of(rest), part_of(parts[1]), part_of(parts[0]), x.shape[1], classes, mean.to(dtype), std.to(dtype)
    )
