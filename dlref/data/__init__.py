"""Small data sets with honest splits: stratified and seeded, standardised by the training part alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ..core import ranges
from ..core.extras import optional

SCALES = ("global", "feature", None)


def _on_cpu(load: Callable[..., Any]) -> Callable[..., Any]:
    """Data are made on the CPU, whatever torch's default device is: a training moves what it needs."""

    @functools.wraps(load)
    def loaded(*arguments: Any, **options: Any) -> Any:
        with torch.device("cpu"):
            return load(*arguments, **options)

    return loaded


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

    @property
    def background(self) -> float:
        """What a pixel of 0 has become."""
        return float(-self.mean / self.std) if self.mean.dim() == 0 else 0.0

    def shaped(self, *shape: int) -> Split:
        """The same data with x of (N, *shape)."""
        train, validation, test = (
            TensorDataset(part.tensors[0].reshape(-1, *shape), part.tensors[1])
            for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)


@optional()
def digits(images: bool = False, **options) -> Split:
    """scikit-learn's digits: 1,797 images of 8 x 8 pixels (0 to 16), about 180 of each of the ten classes.

    images: x is (N, 1, 8, 8) instead of (N, 64). options and errors: those of `split`. Alpaydin & Kaynak 1998 (UCI).
    """
    from sklearn.datasets import load_digits

    found = split(*load_digits(return_X_y=True), **{"scale": "global", **options})
    if not images:
        return found

    return found.shaped(1, 8, 8)


# Image data sets of torchvision: class, channels, height and width.
IMAGES = {"mnist": ("MNIST", 1, 28), "fashion_mnist": ("FashionMNIST", 1, 28), "cifar10": ("CIFAR10", 3, 32)}


@optional()
@_on_cpu
def images(
    name: str,
    directory: str | Path = "data",
    download: bool = False,
    flat: bool = False,
    *,
    validation: float = 0.1,
    scale: str | None = "global",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Split:
    """torchvision's "mnist", "fashion_mnist" or "cifar10" from a directory, its own test part kept apart.

    directory: where torchvision's files are, or are put by download. flat: x is (N, features) instead of (N, C, H, W).
    validation: fraction of the training images. scale: "global", one mean and deviation, or None: pixels from 0 to 1.
    ValueError where the files are not there or cannot be had.
    """
    import torchvision.datasets

    if name not in IMAGES:
        raise ValueError(f"the data must be one of {', '.join(IMAGES)}, it is {name!r}")
    if scale not in ("global", None):
        raise ValueError(f"scale of images must be 'global' or None, it is {scale!r}")
    ranges.check_numbers(needed=True, validation=validation)
    kind, channels, size = IMAGES[name]
    try:
        dataset: Any = getattr(torchvision.datasets, kind)
        with (
            _left_as_it_was(Path(directory), _places(directory, kind, dataset))
            if download
            else contextlib.nullcontext()
        ):
            parts = [dataset(directory, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        todo = "download them elsewhere and put them there" if download else "give --download, or another --data-dir"
        there = Path(directory, getattr(dataset, "base_folder", f"{kind}/raw"))
        raise ValueError(f"the files of {name} must be in {there}: {todo} ({reason})") from None

    def tensors(part) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(part.data)
        x = x.movedim(-1, 1) if x.dim() == 4 else x.unsqueeze(1)
        return x, torch.as_tensor(part.targets)

    (x, y), (x_test, y_test) = map(tensors, parts)
    rest, held = _divide(torch.arange(len(x)).tolist(), validation, y, seed)
    train = x[rest].to(dtype) / 255
    mean, std = (
        (train.mean(), train.std(correction=0))
        if scale
        else (torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype))
    )

    def part_of(x: Tensor, y: Tensor) -> TensorDataset:
        return TensorDataset((x.to(dtype) / 255).sub_(mean).div_(std), y)

    split = Split(TensorDataset(train.sub_(mean).div_(std), y[rest]), part_of(x[held], y[held]), part_of(x_test, y_test),
                  channels * size**2, 10, mean, std)  # fmt: skip
    return split.shaped(channels * size**2) if flat else split


def _places(directory: str | Path, kind: str, dataset: Any) -> list[Path]:
    """Where torchvision keeps a data set."""
    return [Path(directory, getattr(dataset, name, kind)) for name in ("base_folder", "filename")]


@contextlib.contextmanager
def _left_as_it_was(directory: Path, places: list[Path]) -> Iterator[None]:
    """Take away what a download that fails, or is interrupted, has put into these places, and nothing beside them."""
    absent = [folder for folder in (directory, *directory.parents) if not folder.exists()]

    def there() -> set[Path]:
        return {path for place in places for path in (place, *place.rglob("*")) if path.exists()}

    before = there()
    try:
        yield
    except BaseException:
        for path in sorted(there() - before, reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        for folder in absent:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@optional()
def augmentation(
    background: float = 0.0, degrees: float = 10.0, translate: float = 0.1, scale: float = 0.1, shear: float = 8.0
) -> Callable[[Tensor], Tensor]:
    """What makes other images of a mini-batch (N, C, H, W): torchvision's RandomAffine, drawn for each image.

    background: the value of what comes in from outside. degrees and shear: at most so many; translate: at most this share
    of the size; scale: at most by this share. The random numbers are torch's.
    """
    from torchvision.transforms import InterpolationMode, v2

    transform = v2.RandomAffine(degrees, (translate, translate), (1 - scale, 1 + scale), shear, InterpolationMode.BILINEAR,
                                background)  # fmt: skip
    return lambda x: torch.stack([transform(image) for image in x])


def _of_sklearn(name: str, description: str) -> Callable[..., Split]:
    @optional()
    def load(**options) -> Split:
        from sklearn import datasets

        return split(*getattr(datasets, f"load_{name}")(return_X_y=True), **options)

    load.__name__ = name
    load.__doc__ = f"scikit-learn's {name}: {description} Options and errors of `split`."
    return load


iris = _of_sklearn("iris", "150 flowers, x (N, 4) in cm, 3 classes. Fisher 1936 (Annals of Eugenics 7).")
wine = _of_sklearn("wine", "178 wines, x (N, 13), 3 classes. Aeberhard & Forina 1992 (UCI).")
breast_cancer = _of_sklearn("breast_cancer", "569 samples, x (N, 30), 2 classes. Street et al. 1993 (SPIE 1905).")
diabetes = _of_sklearn(
    "diabetes", "442 patients, x (N, 10), values y (N, 1). Efron et al. 2004 (Annals of Statistics 32)."
)


@optional()
def moons(samples: int = 400, noise: float = 0.2, seed: int = 0, **options) -> Split:
    """Two half-moons in the plane that no line separates: x (N, 2), 2 classes; options and errors of `split`."""
    from sklearn.datasets import make_moons

    return split(*make_moons(samples, noise=noise, random_state=seed), seed=seed, **options)


@_on_cpu
def noisy_line(samples: int = 200, noise: float = 0.1, features: int = 1, seed: int = 0, **options) -> Split:
    r"""$y = w \cdot x + b + \epsilon$, w, x and the noise normal, b = 0.5: what linear regression recovers.

    x (N, features), y (N, 1). noise: the deviation of $\epsilon$. options and errors: those of `split`.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    w, b = torch.randn(features, 1, generator=generator, dtype=torch.float64), 0.5
    y = x @ w + b + noise * torch.randn(samples, 1, generator=generator, dtype=torch.float64)
    return split(x.numpy(), y.numpy(), seed=seed, **{"scale": None, **options})


@_on_cpu
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
    ValueError where the fractions leave nothing, or scale is another.
    """
    ranges.check_numbers(needed=True, validation=validation, test=test)
    if validation + test >= 1:
        raise ValueError(f"validation and test must be fractions that leave something to train on, they are {validation} "
                         f"and {test}")  # fmt: skip
    if scale not in SCALES:
        raise ValueError(f"scale must be 'global', 'feature' or None, it is {scale!r}")
    x, y = torch.as_tensor(x).to(torch.float64), torch.as_tensor(y)
    classes = None if y.is_floating_point() else int(y.max()) + 1
    rest, parts = list(range(len(x))), []
    for fraction, left in ((test, 1.0), (validation, 1.0 - test)):
        rest, part = _divide(rest, fraction / left, None if classes is None else y, seed)
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


@optional()
def _divide(indices: list[int], fraction: float, labels: Tensor | None, seed: int) -> tuple[list[int], list[int]]:
    """The indices in two parts, the second a fraction of them; classes keep their proportions."""
    from sklearn.model_selection import train_test_split

    if not fraction:
        return indices, []
    stratify = None if labels is None else labels[indices]
    return tuple(train_test_split(indices, test_size=fraction, random_state=seed, stratify=stratify))  # type: ignore[return-value]
