"""Character language models under Lightning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .. import models
from ..core.names import one_of
from ..core.parallel import part
from ..core.ranges import check_numbers
from ..data import text
from .data import Batches, Loader, Whole, place
from .learner import Learner
from .runs import draws, run_folder


class LanguageModel(Learner):
    r"""A recurrent model of the next character; logs bits per character, $-\frac{1}{n} \sum \log_2 p(x_t)$.

    A batch is (N, T + 1) indices into the alphabet. Validation and test read the text from its beginning to its end with
    the state carried on. A fit and a prediction leave a text of the model's own in the run's folder, sample.txt. ValueError
    where a name is unknown or a number out of its range.

    Args:
        kind: RNN, LSTM or GRU.
        embedding: Numbers that stand for a character.
        hidden: Units of a recurrent layer.
        layers: Recurrent layers.
        alphabet: The characters; by default those of the data module, and kept in the checkpoint.
        prompt: How the text begins that the model writes.
        length: Its characters after the prompt.
        temperature: What the logits are divided by before a character is drawn.
        top_k: Draw among so many of the likeliest characters alone.
        options: Those of Learner: backend, optimizer, schedule.
    """

    logs = ("bits",)

    def __init__(
        self,
        kind: str = "LSTM",
        embedding: int = 32,
        hidden: int = 256,
        layers: int = 1,
        alphabet: str | None = None,
        prompt: str = "Return ",
        length: int = 500,
        temperature: float = 0.7,
        top_k: int | None = None,
        **options,
    ):
        super().__init__(**options)
        one_of("kind", kind, models.sequence.KINDS)
        check_numbers(
            needed=True, embedding=embedding, hidden=hidden, layers=layers, temperature=temperature, length=length
        )
        check_numbers(top_k=top_k)
        if alphabet == "":
            raise ValueError("the alphabet must have at least one character: leave it out for the text's own")
        if not prompt:
            raise ValueError("the prompt must have at least one character")
        self.hp.prompt = prompt  # which Lightning has read as YAML, and taken 1e-3 for a number
        self.state: Any = None
        if alphabet is not None:
            self.make(alphabet)

    def make(self, alphabet: str) -> None:
        """Make the network for an alphabet."""
        hp = self.hp
        hp.alphabet = alphabet
        network = models.language_model(self.ns, len(alphabet), hp.kind, hp.embedding, hp.hidden, hp.layers)
        self.learn(network, self.ns.nn.CrossEntropyLoss())

    def setup(self, stage: str) -> None:
        theirs = self.trainer.datamodule.text.alphabet  # type: ignore[attr-defined]
        if self.hp.alphabet is None:
            self.make(theirs)
        elif self.hp.alphabet != theirs:
            raise ValueError(
                "the text must have the alphabet that the model was made for: give the text it was trained on"
            )
        super().setup(stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("hyper_parameters", {}).get("alphabet", self.hp.alphabet) != self.hp.alphabet:
            raise ValueError("the checkpoint must be of this text's alphabet: give the text it was trained on")
        super().on_load_checkpoint(checkpoint)

    def task(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return batch[:, :-1], batch[:, 1:]

    def measures(self, stage: str, output: Any, error: Tensor, target: Tensor) -> dict[str, Any]:
        return {"bits": error / math.log(2)}

    def _evaluate(self, stage: str, batch: Tensor) -> None:
        x, y, samples = self._of_this_process(batch)
        z, self.state = self.network.step(x, self.state)
        z = z.transpose(1, 2)
        self._log(stage, z, self._sound(stage, self.criterion(z, y)), y, samples)

    def on_validation_epoch_start(self) -> None:
        self.state = None

    on_test_epoch_start = on_validation_epoch_start

    def write(self, generator: torch.Generator | None = None) -> str:
        """A text that begins with the prompt, each drawn character fed back."""
        hp = self.hp
        prompt = text.encode(hp.prompt, hp.alphabet).to(self.device).unsqueeze(0)
        drawn = models.sample(self.network, prompt, hp.length, hp.temperature, hp.top_k, generator)
        return hp.prompt + text.decode(drawn[0], hp.alphabet)

    def on_fit_end(self) -> None:
        if (folder := run_folder(self.trainer)) is not None and draws(self.trainer):
            self.save_predictions(folder, [self.write()])

    def predict_step(self, batch: Any, index: int) -> str:
        """A text of the model's own."""
        return self.write()

    def save_predictions(self, folder: Path, predictions: list[str]) -> Path:
        path = folder / "sample.txt"
        path.write_text("\n".join(predictions) + "\n", encoding="utf-8")
        return path


class TextDataModule(lightning.LightningDataModule):
    """A text of characters, from a file or a folder, by default the docstrings of Python's standard library.

    ValueError where there is no text or a number is out of its range.

    Args:
        path: The file or folder.
        batch_size: Pieces in a mini-batch.
        length: Characters in a piece.
        validation: Share of the text that validates, taken from its end.
        test: Share of the text that tests, its last.
        limit: Characters taken in all.
        seed: Of the order of the pieces.
    """

    def __init__(
        self,
        path: str | None = None,
        batch_size: int = 32,
        length: int = 64,
        validation: float = 0.05,
        test: float = 0.1,
        limit: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_numbers(needed=True, batch_size=batch_size, length=length, seed=seed)
        check_numbers(limit=limit)
        if length < 1:
            raise ValueError(f"length must be at least 1, it is {length}")
        self.text = text.load(path, validation=validation, test=test, limit=limit)
        if len(self.text.train) <= length:
            raise ValueError(
                f"length must be less than the {len(self.text.train)} characters to train on, it is {length}"
            )
        self.batch_size, self.length, self.seed = batch_size, length, seed

    def train_dataloader(self) -> DataLoader:
        pieces = text.Windows(self.text.train, self.length)
        batches = Batches(len(pieces), self.batch_size, self.seed, place(self.trainer))
        return Loader(pieces, batch_size=None, sampler=batches)

    def val_dataloader(self) -> DataLoader:
        return self._streams(self.text.validation)

    def test_dataloader(self) -> DataLoader:
        return self._streams(self.text.test)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([0], batch_size=None, sampler=Whole(1))  # type: ignore[arg-type]

    def _streams(self, text_part: Tensor) -> DataLoader:
        """The text from its beginning to its end; each process reads its part of the streams."""
        streams = text.Streams(text_part, self.length, 16)
        streams.rows = part(streams.rows)
        return DataLoader(streams, batch_size=None, sampler=Whole(len(streams)))
