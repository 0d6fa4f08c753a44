"""The data of dlref.data as LightningDataModules."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
import torch
from torch.utils.data import DataLoader, Sampler, TensorDataset

from .. import data
from ..manual.training import order


class Batches(Sampler[list[int]]):
    """The indices of each mini-batch; in training those of `training.fit` for the same seed.

    The order is a function of seed and epoch alone (Lightning calls `set_epoch`), so that a run which is continued
    from a checkpoint sees the batches that it would have seen.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None):
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        indices = torch.arange(self.size) if self.seed is None else order(self.size, self.seed, self.epoch + 1)
        return iter([batch.tolist() for batch in indices.split(self.batch_size)])

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)


class DigitsDataModule(lightning.LightningDataModule):
    """scikit-learn's digits in stratified training, validation and test parts, standardised by the training part.

    batch_size: of training. validation, test: fractions of the 1,797 images. scale: "global" (one mean and deviation),
    "feature" (one a pixel) or None. seed: of the split and of the order of the training images.
    images: x is (batch, 1, 8, 8), for convolutions and rows, instead of (batch, 64).
    A batch is x float and y (batch,) class indices. ValueError where a number is out of its range.
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
    ):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, it is {batch_size}")
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.split = data.digits(images, validation=validation, test=test, scale=scale, seed=seed)

    def _loader(self, part: TensorDataset, batch_size: int, seed: int | None = None) -> DataLoader:
        # A sample of this loader is a batch: the tensors are indexed once a batch, with nothing to collate.
        sampler = Batches(len(part), batch_size, seed)
        return DataLoader(part, batch_size=None, sampler=sampler, num_workers=self.num_workers)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.split.train, self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.split.validation, 1000)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.split.test, 1000)

    predict_dataloader = test_dataloader
