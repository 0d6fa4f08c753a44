"""Flip single bits of checkpoints, with a manifest and from before it, and count what is refused and what is not noticed."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.console import Console

from dlref import data, manual
from dlref.cli.common import script
from dlref.core.checkpoint import load, tensors
from dlref.models import mlp

BEFORE = Path(__file__).parents[1] / "tests/before/digits.ckpt"


def flip_bits(flips: PositiveInt = 300, seed: NonNegativeInt = 0) -> None:
    """Flip bits, a file each time; status 1 where a value changes and nothing is said.

    Args:
        flips: In all: two thirds in a checkpoint with a manifest, its last hundred bytes among them, one third in one without.
        seed: Of the places.
    """
    chance, console = random.Random(seed), Console()
    counts = dict.fromkeys(("refused", "the same values", "other values"), 0)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        network = mlp(manual, 64, (16,), 10, "relu", 0.1)
        optimizer = manual.optim.Adam(network.parameters())
        kept, old, flipped = (Path(folder, name) for name in ("kept.pt", "old.ckpt", "flipped.pt"))
        manual.training.fit(network, manual.nn.CrossEntropyLoss(), optimizer, data.digits().train.tensors, epochs=2,
                            checkpoint=kept)  # fmt: skip
        shutil.copy(BEFORE, old)
        for number in range(flips):
            path = old if number % 3 == 2 else kept
            content, state = bytearray(path.read_bytes()), load(path, resume=False)
            bits = len(content) * 8
            bit = chance.randrange(bits - 800, bits) if number % 6 == 0 else chance.randrange(bits)
            content[bit // 8] ^= 1 << bit % 8
            flipped.write_bytes(content)
            try:
                found = load(flipped, resume=False)
            except ValueError:
                counts["refused"] += 1
                continue
            counts["the same values" if same(state, found) else "other values"] += 1
    console.print(", ".join(f"{what}: {count}" for what, count in counts.items()))
    if counts["other values"]:
        sys.exit(1)


def same(a: Any, b: Any) -> bool:
    """Whether two states hold the same tensors, and the rest that prints alike."""
    x, y = dict(tensors(a)), dict(tensors(b))
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x) and repr(a) == repr(b)


if __name__ == "__main__":
    script(flip_bits)
