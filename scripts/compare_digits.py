"""Train the digits twice, by hand-derived gradients and by autograd, from one start over the same batches, and compare."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import csv
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dlref import builtin, data, manual
from dlref.builtin import training as builtin_training
from dlref.cli import checkpoint
from dlref.cli.common import beginning, device_named, new_run, print_table, script
from dlref.core.finite import Watch
from dlref.core.flat import flatten
from dlref.core.interrupt import Interrupted
from dlref.core.verdict import verdict
from dlref.manual import training as manual_training
from dlref.manual.optim.named import check_arguments, optimizer_named
from dlref.models import mlp
from dlref.pictures.classifier import draw_classifier

SIDES: dict[str, Any] = {"manual": manual, "builtin": builtin}
TRAINING: dict[str, Any] = {"manual": manual_training, "builtin": builtin_training}
# What may be another when a run is continued; whether the layers are the same, their shapes tell.
FREE = {"hidden", "epochs", "device", "on_nonfinite", "runs", "resume", "override"}
ARTICLE = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}


def compare_digits(
    hidden: Sequence[PositiveInt] = (128,),
    activation: str = "relu",
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    optimizer: str = "SGD",
    lr: PositiveFloat = 0.01,
    optimizer_args: dict[str, Any] | None = None,
    batch_size: PositiveInt = 200,
    epochs: PositiveInt = 100,
    scale: Literal["global", "feature"] | None = "global",
    seed: NonNegativeInt = 0,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    on_nonfinite: Literal["stop", "skip", "ignore"] = "stop",
    runs: str = "runs",
    resume: str | None = None,
    override: bool = False,
) -> None:
    """Train the digits by explicit gradients and by autograd, side by side, and compare.

    Args:
        hidden: Sizes of the hidden layers, as [128] or [64,32].
        activation: Name of an activation of torch.nn, in any case.
        dropout: Probability with which a hidden unit is dropped; both sides draw the same masks.
        label_smoothing: Share of the target that is spread over all classes.
        optimizer: Name of a class of dlref.manual.optim whose step needs no closure.
        lr: Learning rate.
        optimizer_args: Further arguments of the optimizer, as {"betas": [0.9, 0.99]}. By default SGD has Nesterov
            momentum 0.9 and weight decay 1e-4, and the others have torch's defaults.
        batch_size: Images in a mini-batch.
        epochs: Passes over the training images.
        scale: What the pixels are standardised by: one mean and deviation, one a pixel (feature), or nothing (null).
        seed: Of the split, the initial weights and the order of the images.
        device: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        dtype: Type of the numbers; in float64 the two sides should differ by rounding alone.
        on_nonfinite: What to do where a loss, a gradient or a parameter is not finite: stop, and name it; skip the update; or
            ignore it.
        runs: Where the new folder of this run is made.
        resume: Checkpoint of an interrupted run of this script, to continue from; a run's folder; or auto: the last run's
            newest, and a new run where there is none.
        override: Continue although other options were given than those that the run began with.
    """
    given = {name: value for name, value in locals().items() if name not in FREE}
    where, kind, console = device_named(device), getattr(torch, dtype), Console()
    split = data.digits(scale=scale, seed=seed, dtype=kind)
    train, validation, test = (
        tuple(t.to(where) for t in part.tensors) for part in (split.train, split.validation, split.test)
    )

    images, classes = train

    # Both networks start from the same weights.
    torch.manual_seed(seed)
    networks = {name: mlp(ns, split.features, tuple(hidden), 10, activation, dropout) for name, ns in SIDES.items()}
    networks["builtin"].load_state_dict(networks["manual"].state_dict())
    for network in networks.values():
        network.to(where, kind)
    flatten(networks["manual"])
    check_arguments(optimizer_args)
    arguments = ARTICLE if optimizer_args is None and optimizer == "SGD" else optimizer_args or {}
    criteria = {name: ns.nn.CrossEntropyLoss(label_smoothing=label_smoothing) for name, ns in SIDES.items()}
    optimizers = {
        name: optimizer_named(ns, optimizer, networks[name].parameters(), **{"lr": lr, **arguments})
        for name, ns in SIDES.items()
    }
    watches = {name: Watch(network, on_nonfinite) for name, network in networks.items()}
    history: list[dict[str, float]] = []
    if (origin := checkpoint.resolved(resume, runs, "compare")) is not None:
        state = checkpoint.load(origin, "networks", "optimizers", "history", options=given, override=override)
        for name in SIDES:
            checkpoint.restore(networks[name], state["networks"][name])
            optimizers[name].load_state_dict(state["optimizers"][name])
        history = state["history"]
        if len(history) > epochs:
            raise ValueError(f"epochs must be at least the {len(history)} of {origin}, it is {epochs}")
    folder = new_run(runs, "compare")
    saved = folder / "last.pt"

    def save() -> None:
        states = ({name: x.state_dict() for name, x in xs.items()} for xs in (networks, optimizers))
        both = {"networks": next(states), "optimizers": next(states)}
        checkpoint.save(saved, given, **both, history=history, origin=origin and str(origin))

    seconds: dict[str, list[float]] = {name: [] for name in SIDES}

    def step(name: str, x: torch.Tensor, y: torch.Tensor, number: int) -> float:
        torch.manual_seed(number)  # the same dropout masks on both sides
        synchronize(where)
        start = time.perf_counter()
        may_update = watches[name].at(x, f"batch {number + 1} ({name})")
        error = TRAINING[name].step(networks[name], criteria[name], optimizers[name], x, y, None, may_update)
        synchronize(where)
        seconds[name].append(time.perf_counter() - start)
        return error.item() if on_nonfinite != "skip" or error.isfinite() else 0.0

    def epoch(number: int) -> dict[str, float]:
        record: dict[str, float] = {"epoch": number} | {f"{name}_loss": 0.0 for name in SIDES}
        for i, (x, y) in enumerate(manual_training.minibatches((images, classes), batch_size, seed, number)):
            for name in sorted(SIDES, reverse=bool(i % 2)):  # interleaved, so that neither has the quieter minutes
                networks[name].train()
                record[f"{name}_loss"] += step(name, x, y, i) * len(x) / len(train[0])
        for name in SIDES:
            watches[name].epoch(number)
            found = TRAINING[name].evaluate(networks[name], criteria[name], validation)
            record |= {f"{name}_validation_{what}": value for what, value in found.items()}
        record["loss_difference"] = abs(record["manual_loss"] - record["builtin_loss"])
        record["parameter_difference"] = largest_difference(networks)
        return record

    shape = "-".join(map(str, (split.features, *hidden, 10)))
    console.print(
        f"{optimizer}, lr {lr:g}, {arguments or 'its defaults'}; {shape} {activation}, batch {batch_size}, {dtype} on {where}\n"
        f"{len(train[0])} images to train, {len(validation[0])} to validate, {len(test[0])} to test",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    told_so_far = (BarColumn(10), TimeRemainingColumn(compact=True), TextColumn("{task.description}"))
    columns = (TextColumn("epoch"), MofNCompleteColumn(), *told_so_far)
    save()
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=epochs, completed=len(history))
            for number in range(len(history) + 1, epochs + 1):
                history.append(epoch(number))
                beginning.end()
                save()
                progress.update(task, advance=1, description=told(history[-1]))
    except (KeyboardInterrupt, Interrupted) as stopped:
        console.print(
            f"interrupted after epoch {len(checkpoint.read(saved)['history'])}; continue with --resume {saved}",
            soft_wrap=True,
        )
        stopped.told = True  # type: ignore[union-attr]
        raise

    results = {name: TRAINING[name].evaluate(networks[name], criteria[name], test) for name in SIDES}
    rows = [
        *((f"{what}, {part}", *(history[-1][key.format(name)] for name in SIDES))
          for what, part, key in (("loss", "training", "{}_loss"), ("loss", "validation", "{}_validation_loss"),
                                  ("accuracy", "validation", "{}_validation_accuracy"))),
        ("loss, test", *(results[name]["loss"] for name in SIDES)),
        ("accuracy, test", *(results[name]["accuracy"] for name in SIDES)),
    ]  # fmt: skip
    table = Table("", *SIDES, "difference", title="Digits, by hand and by autograd")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, a, b in rows:
        table.add_row(what, f"{a:.6f}", f"{b:.6f}", f"{abs(a - b):.1e}")
    table.add_section()
    table.add_row("largest difference of any parameter", "", "", f"{largest_difference(networks):.1e}")
    medians = {name: statistics.median(times) * 1e6 for name, times in seconds.items() if times}
    if medians:  # all epochs may have been the checkpoint's
        ratio = f"{medians['manual'] / medians['builtin']:.2f} x"
        table.add_row("time a step, median (µs)", *(f"{m:.0f}" for m in medians.values()), ratio)
    print_table(console, table)

    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, history[-1])
        writer.writeheader()
        writer.writerows(history)
    summary: dict[str, Any] = {what: {"manual": a, "builtin": b} for what, a, b in rows}
    summary |= {"microseconds a step": medians, "largest parameter difference": largest_difference(networks)}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(
        history, folder / "curves.png", f"Digits: hand-derived gradients and autograd ({optimizer}, {dtype} on {where})"
    )
    networks["manual"].eval()
    with torch.no_grad():
        scores = networks["manual"](test[0])
    pictures = ", ".join(["curves.png", *draw_classifier(folder, networks["manual"], test[0], test[1], scores, "test")])
    line = verdict(networks["manual"], train[0], train[1], [record["manual_loss"] for record in history], lr)
    console.print(f"wrote {folder}/: {pictures}, metrics.csv, summary.json, last.pt{'; ' + line if line else ''}",
                  soft_wrap=True, highlight=False)  # fmt: skip


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def largest_difference(networks: dict[str, Any]) -> float:
    """The largest absolute difference of any parameter of the two networks."""
    pairs = zip(networks["manual"].parameters(), networks["builtin"].parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def told(record: dict[str, float]) -> str:
    return (f"loss {record['manual_loss']:.4f} | {record['builtin_loss']:.4f}, "
            f"parameters differ by {record['parameter_difference']:.0e}")  # fmt: skip


def draw(history: list[dict[str, float]], path: Path, title: str) -> None:
    """Learning curves of both sides, and their difference on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (losses, accuracies, differences) = plt.subplots(1, 3, figsize=(15, 4.5))
    figure.set_layout_engine("constrained", w_pad=0.12)  # so that no label touches the panel beside it
    epochs = [record["epoch"] for record in history]

    def curve(axis: Any, key: str, label: str, **style: Any) -> None:
        marker = "o" if len(epochs) < 3 else ""
        axis.plot(epochs, [record[key] for record in history], label=label, marker=marker, **style)

    # The second curve is dashed and narrow, so that the first can be seen below it where the two coincide.
    wide, narrow = {"linewidth": 3.5}, {"linewidth": 1.2, "linestyle": "--"}
    curve(losses, "manual_loss", "training, manual", color="lightskyblue", **wide)
    curve(losses, "builtin_loss", "training, builtin", color="navy", **narrow)
    for axis, what in ((losses, "loss"), (accuracies, "accuracy")):
        curve(axis, f"manual_validation_{what}", "validation, manual", color="sandybrown", **wide)
        curve(axis, f"builtin_validation_{what}", "validation, builtin", color="maroon", **narrow)
    losses.set(title="Loss", ylabel="cross entropy (nats), log scale", yscale="log")
    accuracies.set(title="Accuracy", ylabel="fraction of correct classes")
    keys = {"parameter_difference": "largest of any parameter", "loss_difference": "training loss"}
    seen = [record[key] for record in history for key in keys if record[key] > 0]
    for key, label in keys.items():
        values = [record[key] if record[key] > 0 else float("nan") for record in history]
        differences.plot(epochs, values, label=label, marker="o" if len(epochs) < 3 else ".")
    differences.set(title="Difference of manual and builtin (0 is not drawn)", ylabel="absolute difference, log scale")
    if seen:
        differences.set_yscale("log")
    else:
        differences.text(0.5, 0.5, "0 in every epoch", ha="center", transform=differences.transAxes)
    for axis in (losses, accuracies, differences):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    script(compare_digits)
