"""Text for character models: any file or folder, by default the docstrings of Python's standard library."""

from __future__ import annotations

import ast
import math
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Text:
    """A text in three parts, each a tensor (length,) of indices into the alphabet.

    alphabet: the characters of the training part, after one that stands for all others.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    alphabet: str


def load(
    path: str | Path | None = None, *, validation: float = 0.05, test: float = 0.1, limit: int | None = None
) -> Text:
    """The text of a file, of all readable text files below a folder, or (None) of the standard library's docstrings.

    The test part is the end of the text, the validation part comes before it: no part holds pieces of another. limit: the
    characters that are taken. ValueError where there is no text.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ValueError(f"validation and test must be fractions that leave something to train on, they are {validation} "
                         f"and {test}")  # fmt: skip
    content = "\n\n".join(docstrings() if path is None else files(Path(path)))[:limit]
    if len(content) < 100:
        raise ValueError(f"the text must have at least 100 characters, that of {path} has {len(content)}")
    ends = [int(len(content) * share) for share in (1 - validation - test, 1 - test)]
    parts = content[: ends[0]], content[ends[0] : ends[1]], content[ends[1] :]
    alphabet = UNKNOWN + "".join(sorted(set(parts[0]) - {UNKNOWN}))
    train, held, last = (encode(part, alphabet) for part in parts)
    return Text(train, held, last, alphabet)


def files(path: Path) -> Iterator[str]:
    """The text of a file, or of each file below a folder that holds UTF-8, in the order of their names."""
    if not path.exists():
        raise ValueError(f"the text must be an existing file or folder, there is no {path}")
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        try:
            yield file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            if path.is_file():
                raise ValueError(f"the text must be UTF-8, {path} is not") from None


def docstrings() -> Iterator[str]:
    """The docstrings of the standard library's modules, in the order of their names."""
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found = ast.get_docstring(node)
                if found:
                    yield found


def encode(text: str, alphabet: str) -> Tensor:
    """Indices into the alphabet, 0 for what is not in it."""
    index = {character: i for i, character in enumerate(alphabet)}
    return torch.tensor([index.get(character, 0) for character in text], device="cpu")


def decode(indices: Tensor, alphabet: str) -> str:
    return "".join(alphabet[i] for i in indices.tolist())


class Windows(Dataset):
    """Pieces of a text, length + 1 characters each, the last of one the first of the next; indexed by lists."""

    def __init__(self, part: Tensor, length: int):
        self.pieces = part.unfold(0, length + 1, length)

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return self.pieces[indices]


class Streams(Dataset):
    """A text as `streams` parallel ones, each read in pieces of length + 1: item i + 1 goes on where item i ended."""

    def __init__(self, part: Tensor, length: int, streams: int):
        streams = max(1, min(streams, (len(part) - 1) // length))
        size = (len(part) - 1) // streams  # predictions a stream
        self.rows = part[: streams * size + 1].unfold(0, size + 1, size)
        self.length, self.size = length, size

    def __len__(self) -> int:
        return -(-self.size // self.length)

    def __getitem__(self, i: int) -> Tensor:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.rows[:, i * self.length : (i + 1) * self.length + 1]


def ngram_bits(train: Tensor, test: Tensor, order: int, symbols: int) -> float:
    r"""Bits per character of test by a model of that order with add-one smoothing, counted on train:
    $p(x_t \mid c) = (n_{c x_t} + 1) / (n_c + S)$ with the context c of the `order` characters before.

    The first `order` characters of test are context alone. Chen & Goodman 1999, section 2.1.
    """
    sequence, held = train.tolist(), test.tolist()
    pairs = Counter(tuple(sequence[i : i + order + 1]) for i in range(len(sequence) - order))
    contexts: Counter = Counter()
    for key, count in pairs.items():
        contexts[key[:-1]] += count
    total, number = 0.0, len(held) - order
    for i in range(number):
        key = tuple(held[i : i + order + 1])
        total -= math.log2((pairs[key] + 1) / (contexts[key[:-1]] + symbols))
    return total / number
