"""Train a character language model, hold it to counted models of order 2 and 3, and let it write."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import csv
import json
import math
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dlref import builtin, manual
from dlref.builtin import training as builtin_training
from dlref.cli import checkpoint
from dlref.cli.common import beginning, device_named, new_run, print_table, script
from dlref.core.flat import flatten
from dlref.core.verdict import verdict
from dlref.data import text
from dlref.manual import training as manual_training
from dlref.models import language_model, sample
from dlref.pictures.training import draw_curves

# Backend: namespace of the modules and the optimizer, and whose step. "bridged": manual modules under autograd.
BACKENDS: dict[str, tuple[Any, Any]] = {
    "manual": (manual, manual_training),
    "bridged": (manual, builtin_training),
    "builtin": (builtin, builtin_training),
}
# What may be another when a run is continued; the characters are compared themselves.
FREE = {
    "path",
    "backend",
    "device",
    "on_nonfinite",
    "runs",
    "resume",
    "override",
    "prompt",
    "characters",
    "temperature",
    "top_k",
}


def train_text(
    path: str | None = None,
    backend: Literal["manual", "bridged", "builtin"] = "manual",
    kind: Literal["RNN", "LSTM", "GRU"] = "LSTM",
    embedding: PositiveInt = 32,
    hidden: PositiveInt = 256,
    layers: PositiveInt = 1,
    lr: PositiveFloat = 0.003,
    max_norm: PositiveFloat = 1.0,
    batch_size: PositiveInt = 32,
    length: PositiveInt = 64,
    epochs: PositiveInt = 5,
    limit: PositiveInt | None = None,
    prompt: str = "Return ",
    characters: PositiveInt = 400,
    temperature: PositiveFloat = 0.7,
    top_k: PositiveInt | None = None,
    seed: NonNegativeInt = 0,
    device: str = "cpu",
    on_nonfinite: Literal["stop", "skip", "ignore"] = "stop",
    runs: str = "runs",
    resume: str | None = None,
    override: bool = False,
) -> None:
    """Train a recurrent model of the next character.

    Args:
        path: A text file, or a folder of them; by default the docstrings of Python's standard library.
        backend: manual (explicit gradients, no graph), bridged (the same under autograd) or builtin (torch.nn).
        kind: RNN, LSTM or GRU.
        embedding: Numbers for a character.
        hidden: Units of a layer.
        layers: Recurrent layers.
        lr: Learning rate of Adam, which falls to 0 as a cosine.
        max_norm: What the norm of all gradients together is clipped to.
        batch_size: Pieces of text in a mini-batch.
        length: Characters in a piece; the gradient goes back so far.
        epochs: Passes over the training text.
        limit: Characters of the text that are taken, if not all.
        prompt: Beginning of the text that the model writes.
        characters: Their number in it.
        temperature: Near 0 the likeliest character, 1 the model's own distribution.
        top_k: Draw among so many likeliest characters only.
        seed: Of the initial weights, the order of the pieces and the drawn characters.
        device: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        on_nonfinite: What to do where a loss, a gradient or a parameter is not finite: stop, and name it; skip the update; or
            ignore it.
        runs: Where the new folder of this run is made.
        resume: Checkpoint of an interrupted run of this script, to continue from; a run's folder; or auto: the last run's
            newest, and a new run where there is none.
        override: Continue although other options were given than those that the run began with.
    """
    given = {name: value for name, value in locals().items() if name not in FREE}
    where, console = device_named(device), Console()
    ns, training = BACKENDS[backend]
    content = text.load(path, limit=limit)
    symbols = len(content.alphabet)
    if not prompt or len(content.train) <= length:
        raise ValueError(f"prompt must have a character, and length be less than the {len(content.train)} characters to train "
                         f"on; they are {prompt!r} and {length}")  # fmt: skip
    pieces = text.Windows(content.train, length).pieces.to(where)
    train = pieces[:, :-1], pieces[:, 1:]

    torch.manual_seed(seed)
    network = language_model(ns, symbols, kind, embedding, hidden, layers).to(where)
    if backend == "manual":
        flatten(network)  # one update runs for all parameters
    criterion, optimizer = ns.nn.CrossEntropyLoss(), ns.optim.Adam(network.parameters(), lr)
    schedule = ns.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    given |= {"alphabet": content.alphabet}
    state = None
    if (origin := checkpoint.resolved(resume, runs, f"text-{backend}")) is not None:
        state = checkpoint.load(origin, "network", "history", options=given, override=override)
    folder = new_run(runs, f"text-{backend}")
    if state is not None:
        checkpoint.write(folder / "last.pt", {**state, "origin": str(origin)})

    def tell(record: dict[str, float]) -> None:
        beginning.end()
        record["validation_bits"] = bits(network, content.validation.to(where))
        console.print(f"epoch {record['epoch']}: bits per character {record['loss'] / math.log(2):.3f}, validation "
                      f"{record['validation_bits']:.3f}, {record['seconds']:.0f} s", highlight=False)  # fmt: skip

    named = path or "the docstrings of Python's standard library"
    console.print(f"{named}: {len(content.train):,} characters to train on, {symbols} different\n{backend}: {network}",
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    history = training.fit(network, criterion, optimizer, train, epochs=epochs, batch_size=batch_size, schedule=schedule,
                           max_norm=max_norm, tolerance=None, seed=seed, on_nonfinite=on_nonfinite, callback=tell,
                           checkpoint=folder / "last.pt", options=given, override=override)  # fmt: skip

    result = {f"{kind} {hidden}": bits(network, content.test.to(where))}
    for order in (2, 3):
        result[f"order {order}, add-one"] = text.ngram_bits(content.train, content.test, order, symbols)
    table = Table("model", "bits per character", title=f"Test part, {len(content.test):,} characters")
    for name, value in result.items():
        table.add_row(name, f"{value:.3f}")
    print_table(console, table)
    generator = torch.Generator(where).manual_seed(seed)
    start = text.encode(prompt, content.alphabet).to(where)[None]
    drawn = sample(network, start, characters, temperature, top_k, generator)
    written = prompt + text.decode(drawn[0], content.alphabet)
    console.out(written, highlight=False)  # its lines are its own
    (folder / "sample.txt").write_text(written + "\n", encoding="utf-8")
    (folder / "test.json").write_text(json.dumps(result, indent=2) + "\n")
    rows = [{"epoch": record["epoch"], "bits": record["loss"] / math.log(2),
             "validation_bits": record.get("validation_bits", "")} for record in history]  # fmt: skip
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("epoch", "bits", "validation_bits"))
        writer.writeheader()
        writer.writerows(rows)
    draw_curves(folder / "curves.png", rows, f"Bits per character, {kind} {hidden}, {backend}")
    line = verdict(network, None, None, [record["loss"] for record in history], lr)
    console.print(f"wrote {folder}/: metrics.csv, curves.png, sample.txt, test.json, last.pt{'; ' + line if line else ''}",
                  soft_wrap=True, highlight=False)  # fmt: skip


@torch.no_grad()
def bits(network: Any, part: Tensor, streams: int = 16, length: int = 256) -> float:
    """Bits per character of a text, read as parallel streams whose state is carried on."""
    pieces, state, total = text.Streams(part, length, streams), None, 0.0
    for piece in map(pieces.__getitem__, range(len(pieces))):
        logits, state = network.step(piece[:, :-1], state)
        chosen = logits.log_softmax(-1).gather(2, piece[:, 1:, None])
        total -= chosen.double().sum().item()
    return total / (len(pieces.rows) * pieces.size) / math.log(2)


if __name__ == "__main__":
    script(train_text)
