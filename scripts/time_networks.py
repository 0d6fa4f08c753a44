"""Time a training step of each network and the layers that it is made of, by hand-derived gradients and by autograd."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.benchmark import Timer

from dlref import builtin, manual, models
from dlref.cli.common import device_named, script
from dlref.manual.flat import flatten

# Name: (what makes the module of a namespace, shape of the input).
LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "convolution 16 to 32": (lambda ns: ns.nn.Conv2d(16, 32, 3, padding=1), (200, 16, 8, 8)),
    "LSTM 8 to 64, 8 steps": (lambda ns: ns.nn.LSTM(8, 64, batch_first=True), (200, 8, 8)),
    "attention 4 x 16, 16 steps": (lambda ns: ns.nn.MultiheadAttention(64, 4, batch_first=True), (200, 16, 64)),
    "batch norm 16": (lambda ns: ns.nn.BatchNorm2d(16), (200, 16, 8, 8)),
}
NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "mlp": (lambda ns: models.mlp(ns, 64, 128, 10), (200, 64)),
    "rbf_network": (lambda ns: models.rbf_network(ns, 64, 200, 10), (200, 64)),
    "locally_connected": (models.locally_connected, (200, 1, 8, 8)),
    "cnn": (models.cnn, (200, 1, 8, 8)),
    "residual_network": (models.residual_network, (200, 1, 8, 8)),
    "row_classifier RNN": (lambda ns: models.row_classifier(ns, "RNN"), (200, 1, 8, 8)),
    "row_classifier LSTM": (models.row_classifier, (200, 1, 8, 8)),
    "row_classifier GRU": (lambda ns: models.row_classifier(ns, "GRU"), (200, 1, 8, 8)),
    "vision_transformer": (models.vision_transformer, (200, 1, 8, 8)),
    "autoencoder": (models.autoencoder, (200, 64)),
    "convolutional_autoencoder": (models.convolutional_autoencoder, (200, 1, 8, 8)),
}


def time_networks(
    names: Sequence[str] | None = None,
    repeats: PositiveInt = 60,
    threads: PositiveInt = 1,
    device: str = "cpu",
    json_file: str | None = None,
) -> None:
    """Print the median times of both sides, measured in turn in one process, and their ratio.

    A layer is timed forward and backward, without the gradient of its input; a network with its error and an update.

    Args:
        names: Of the layers and networks, by default all; a part of a name is enough.
        repeats: Measurements of each side.
        threads: Of the CPU.
        device: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        json_file: Where the table is written too.
    """
    where, console = device_named(device), Console()
    torch.set_num_threads(threads)
    cases = {**LAYERS, **NETWORKS}
    chosen = [case for case in cases if names is None or any(name.lower() in case.lower() for name in names)]
    if not chosen:
        raise ValueError(f"names must be among {', '.join(cases)}; they are {names}")
    table = Table("", "manual, μs", "built-in, μs", "ratio", "spread", title="A step of training, median")
    for column in table.columns[1:]:
        column.justify = "right"
    found = {}
    for name in track(chosen, "timing", console=console):
        make, shape = cases[name]
        steps = layer_steps(make, shape, where) if name in LAYERS else network_steps(make, shape, where, name)
        timers = [Timer("step()", globals={"step": step}, num_threads=threads) for step in steps]
        for timer in timers:
            timer.timeit(5)  # warm-up
        times = [[timer.timeit(1).median * 1e6 for timer in timers] for _ in range(repeats)]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        low, _, high = statistics.quantiles([a / b for a, b in times], n=4)
        found[name] = {"manual": ours, "builtin": theirs, "ratio": ours / theirs, "quartiles": [low, high]}
        table.add_row(name, f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.2f}", f"{low:.2f} to {high:.2f}")
    console.print(table)
    if json_file is not None:
        with open(json_file, "x") as file:  # nothing is overwritten
            json.dump(found, file, indent=2)


def layer_steps(make: Callable[[Any], Any], shape: tuple[int, ...], where: torch.device) -> list[Callable[[], Any]]:
    """Forward and backward of a layer: explicit, and by autograd."""
    by_hand, by_torch = make(manual).to(where), make(builtin).to(where)
    x = torch.randn(shape, device=where)
    inputs = (x, x, x) if isinstance(by_torch, torch.nn.MultiheadAttention) else (x,)

    def first(output: Any) -> Any:
        return output[0] if isinstance(output, tuple) else output

    dy = torch.randn_like(first(by_torch(*inputs)))

    def explicit() -> None:
        by_hand.zero_grad()
        output, pullback = by_hand.vjp(*inputs)
        pullback((dy, None) if isinstance(output, tuple) else dy, needs=(False,) * len(inputs))

    def autograd() -> None:
        by_torch.zero_grad()
        first(by_torch(*inputs)).backward(dy)

    return [explicit, autograd]


def network_steps(
    make: Callable[[Any], Any], shape: tuple[int, ...], where: torch.device, name: str
) -> list[Callable[[], Any]]:
    """The step of `training.fit` on one batch."""
    x = torch.randn(shape, device=where)
    y = x if "autoencoder" in name else torch.randint(0, 10, shape[:1], device=where)
    steps: list[Callable[[], Any]] = []
    for ns in (manual, builtin):
        network = make(ns).to(where)
        if ns is manual:
            flatten(network)
        criterion = ns.nn.MSELoss() if y is x else ns.nn.CrossEntropyLoss()
        optimizer = ns.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

        def step(ns=ns, network=network, criterion=criterion, optimizer=optimizer) -> None:
            ns.training.step(network, criterion, optimizer, x, y)

        steps.append(step)
    return steps


if __name__ == "__main__":
    script(time_networks)
