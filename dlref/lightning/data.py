"""The data of dlref.data as LightningDataModules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

from .. import data
from ..core.names import called
from ..core.parallel import part
from ..core.ranges import check_numbers
from ..manual.training import order


class Whole(DistributedSampler):
    """All indices in order, in each of several processes; of torch's class, so that Lightning puts no other in its place."""

    def __init__(self, size: int):
        self.size, self.epoch = size, 0

    def __iter__(self) -> Iterator:
        return iter(range(self.size))

    def __len__(self) -> int:
        return self.size


class Batches(Whole):
    """The indices of each mini-batch; in training those of `training.fit` for the same seed.

    Of several processes each gets its part of every batch, which may be empty: all have as many batches, and no sample is
    counted twice.

    The order is a function of seed and epoch alone (Lightning calls `set_epoch`), so that a run which is continued
    from a checkpoint sees the batches that it would have seen. It is drawn with the first batch, as Lightning makes the
    iterator before it tells the epoch. place: the epoch that is begun with, and how many of its batches have been.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None, place: tuple[int, int] = (0, 0)):
        super().__init__(size)
        self.batch_size = batch_size
        self.seed = seed  # type: ignore[assignment]
        self.epoch, self.been = place

    def __iter__(self) -> Iterator[list[int]]:
        indices = (
            torch.arange(self.size, device="cpu") if self.seed is None else order(self.size, self.seed, self.epoch + 1)
        )
        batches, self.been = indices.split(self.batch_size)[self.been :], 0
        yield from (part(batch).tolist() for batch in batches)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)


class Loader(DataLoader):
    """Tells Lightning that it goes on within an epoch; where, `place` knows."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def place(trainer: Any) -> tuple[int, int]:
    """The epoch that a trainer is to begin with, and how many of its batches a checkpoint has seen; 0, 0 without one."""
    if trainer is None:
        return 0, 0
    epoch, batch = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress
    within = epoch.started > epoch.processed and not batch.is_last_batch
    return epoch.processed, batch.current.ready if within else 0


class Augmented(Dataset):
    """A data set of whole mini-batches whose x is made anew each time."""

    def __init__(self, part: TensorDataset, transform: Callable[[Tensor], Tensor]):
        self.part, self.transform = part, transform

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        x, y = self.part[indices]
        return self.transform(x), y


class SplitDataModule(lightning.LightningDataModule):
    """The three parts of a data.Split in mini-batches, in training with augmentation if it is wanted."""

    def __init__(
        self, split: data.Split, batch_size: int, seed: int, num_workers: int, augment: bool, augment_args: Any
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["split"], logger=False)
        check_numbers(needed=True, batch_size=batch_size, seed=seed, num_workers=num_workers)
        if augment_args and not augment:
            raise ValueError(f"augment_args must come with augment, which is off: give --data.augment true, or leave out "
                             f"{augment_args}")  # fmt: skip
        if augment and split.train.tensors[0].dim() != 4:
            raise ValueError("augment needs images: give images=True (--data.images true)")
        self.split, self.batch_size, self.seed, self.num_workers = split, batch_size, seed, num_workers
        self.transform = None
        if augment:
            self.transform = called("augment", data.augmentation, split.background, **(augment_args or {}))

    def _loader(self, part: Any, size: int, batch_size: int, seed: int | None = None) -> DataLoader:
        # A sample of this loader is a batch: the tensors are indexed once a batch, with nothing to collate.
        kind, begin = (DataLoader, (0, 0)) if seed is None else (Loader, place(self.trainer))
        batches = Batches(size, batch_size, seed, begin)
        return kind(part, batch_size=None, sampler=batches, num_workers=self.num_workers)

    def train_dataloader(self) -> DataLoader:
        train = self.split.train
        part = train if self.transform is None else Augmented(train, self.transform)
        return self._loader(part, len(train), self.batch_size, self.seed)

    def val_dataloader(self) -> Any:
        part = self.split.validation
        return self._loader(part, len(part), 1000) if len(part) else []

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.split.test, len(self.split.test), 1000)

    predict_dataloader = test_dataloader


class DigitsDataModule(SplitDataModule):
    """scikit-learn's digits in stratified training, validation and test parts, standardised by the training part.

    A batch is x float and y (batch,) class indices. ValueError where a number is out of its range.

    Args:
        batch_size: Images in a mini-batch of training.
        validation: Share of the 1,797 images that validates.
        test: Share of the 1,797 images that tests.
        scale: What the pixels are standardised by: global (one mean and deviation), feature (one a pixel) or null.
        seed: Of the split and of the order of the training images.
        num_workers: Processes that load; the images lie in memory, so that 0 is the fastest.
        images: x is (batch, 1, 8, 8), for convolutions and rows, instead of (batch, 64).
        augment: Turn, shift, scale and shear the training images at random.
        augment_args: Arguments of data.augmentation.
    """

    def __init__(
        self,
        batch_size: int = 200,
        validation: float = 0.1,
        test: float = 0.2,
        scale: str | None = "global",
        seed: int = 0,
        num_workers: int = 0,
        images: bool = False,
        augment: bool = False,
        augment_args: dict[str, Any] | None = None,
    ):
        split = data.digits(images, validation=validation, test=test, scale=scale, seed=seed)
        super().__init__(split, batch_size, seed, num_workers, augment, augment_args)


class ImagesDataModule(SplitDataModule):
    """torchvision's MNIST, FashionMNIST or CIFAR10: its test part, and a validation part of its training part.

    A batch is x float and y (batch,) class indices. ValueError where the files are not there.

    Args:
        name: mnist, fashion_mnist or cifar10.
        data_dir: Where torchvision keeps its files.
        download: Fetch them.
        batch_size: Images in a mini-batch of training.
        validation: Share of the training images that validates.
        scale: What the pixels are standardised by: global (one mean and deviation), feature (one a pixel) or null.
        seed: Of the split and of the order of the training images.
        num_workers: Processes that load; the images lie in memory, so that 0 is the fastest.
        images: x is (batch, C, H, W), for convolutions and rows, instead of (batch, C H W).
        augment: Turn, shift, scale and shear the training images at random.
        augment_args: Arguments of data.augmentation.
    """

    def __init__(
        self,
        name: str = "mnist",
        data_dir: str = "data",
        download: bool = False,
        batch_size: int = 200,
        validation: float = 0.1,
        scale: str | None = "global",
        seed: int = 0,
        num_workers: int = 0,
        images: bool = False,
        augment: bool = False,
        augment_args: dict[str, Any] | None = None,
    ):
        split = data.images(name, data_dir, download, not images, validation=validation, scale=scale, seed=seed)
        super().__init__(split, batch_size, seed, num_workers, augment, augment_args)
