"""Train a multilayer perceptron on the digits: the worked example, by explicit gradients or by autograd."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import csv
import json
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Console
from torch import Tensor

from dlref import builtin, data, manual
from dlref.builtin import training as builtin_training
from dlref.cli import checkpoint
from dlref.cli.common import beginning, device_named, new_run, script
from dlref.core.finite import Watch
from dlref.core.flat import flatten
from dlref.core.interrupt import Interrupted
from dlref.core.verdict import verdict
from dlref.manual import training as manual_training
from dlref.manual.optim.named import check_arguments, optimizer_named, schedule_named
from dlref.models import mlp
from dlref.pictures.classifier import draw_classifier
from dlref.pictures.training import draw_curves

# Backend: namespace of the modules and the optimizer, and whose step. "bridged": manual modules under autograd.
BACKENDS: dict[str, tuple[Any, Any]] = {
    "manual": (manual, manual_training),
    "bridged": (manual, builtin_training),
    "builtin": (builtin, builtin_training),
}
# A loss against rows of probabilities: what the network ends in for it, its module, and the module's arguments.
OF_ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "kl_div": ("LogSoftmax", "KLDivLoss", {"reduction": "batchmean"}),
    "mse": ("Softmax", "MSELoss", {}),
}
# What may be another when a run is continued; whether the layers are the same, their shapes tell.
FREE = {"backend", "hidden", "epochs", "device", "on_nonfinite", "runs", "resume", "override"}
ARTICLE = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}


class AgainstRows(torch.nn.Module):
    r"""A loss of outputs (N, C) against the rows of classes y (N,): $(1 - s)$ of their 1, and s spread over all classes."""

    def __init__(self, loss: Any, smoothing: float):
        super().__init__()
        if not 0 <= smoothing <= 1:
            raise ValueError(f"label_smoothing must lie in [0, 1], it is {smoothing}")
        self.loss, self.smoothing = loss, smoothing

    def rows(self, output: Tensor, y: Tensor) -> Tensor:
        classes = output.shape[1]
        one = torch.eye(classes, dtype=output.dtype, device=output.device)[y]
        return (1 - self.smoothing) * one + self.smoothing / classes

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return self.loss(output, self.rows(output, y))

    def vjp(self, output: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        return self.loss.vjp(output, self.rows(output, y))


def train_digits(
    backend: Literal["manual", "bridged", "builtin"] = "manual",
    hidden: Sequence[PositiveInt] = (128,),
    activation: str = "relu",
    dropout: float = 0.0,
    loss: Literal["cross_entropy", "kl_div", "mse"] = "cross_entropy",
    label_smoothing: float = 0.0,
    optimizer: str = "SGD",
    lr: PositiveFloat = 0.01,
    optimizer_args: dict[str, Any] | None = None,
    schedule: str | None = None,
    schedule_args: dict[str, Any] | None = None,
    max_norm: PositiveFloat | None = None,
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
    """Train the digits by explicit gradients or by autograd.

    Args:
        backend: manual (explicit gradients, no graph), bridged (the same under autograd) or builtin (torch.nn).
        hidden: Sizes of the hidden layers, as [128] or [64,32].
        activation: Name of an activation of torch.nn, in any case.
        dropout: Probability with which a hidden unit is dropped.
        loss: cross_entropy of the logits; kl_div, Kullback and Leibler's divergence of the log-softmax from rows of one 1;
            or mse, the squared error of the softmax against such rows.
        label_smoothing: Share of the target that is spread over all classes.
        optimizer: Name of a class of dlref.manual.optim whose step needs no closure.
        lr: Learning rate.
        optimizer_args: Further arguments of the optimizer, as {"betas": [0.9, 0.99]}. By default SGD has Nesterov
            momentum 0.9 and weight decay 1e-4, and the others have torch's defaults.
        schedule: Name of a learning-rate schedule of dlref.manual.optim.lr_scheduler, stepped after each epoch.
        schedule_args: Its arguments, as {"step_size": 30}.
        max_norm: What the norm of all gradients together is clipped to.
        batch_size: Images in a mini-batch.
        epochs: Passes over the training images, those of the run that is continued included.
        scale: What the pixels are standardised by: one mean and deviation, one a pixel (feature), or nothing (null).
        seed: Of the split, the initial weights and the order of the images.
        device: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        dtype: Type of the numbers.
        on_nonfinite: What to do where a loss, a gradient or a parameter is not finite: stop, and name it; skip the update; or
            ignore it.
        runs: Where the new folder of this run is made.
        resume: Checkpoint of an earlier run of this script, to continue from; a run's folder; or auto: the last run's
            newest, and a new run where there is none.
        override: Continue although other options were given than those that the run began with.
    """
    given = {name: value for name, value in locals().items() if name not in FREE}
    where, kind, console = device_named(device), getattr(torch, dtype), Console()
    ns, training = BACKENDS[backend]
    split = data.digits(scale=scale, seed=seed, dtype=kind)
    train, validation, test = (
        tuple(t.to(where) for t in part.tensors) for part in (split.train, split.validation, split.test)
    )

    torch.manual_seed(seed)
    network = mlp(ns, split.features, tuple(hidden), 10, activation, dropout).to(where, kind)
    if backend == "manual":
        flatten(network)  # one update runs for all parameters
    criterion: Any = ns.nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    if loss in OF_ROWS:
        last, of_rows, options = OF_ROWS[loss]
        network.append(getattr(ns.nn, last)(1))
        criterion = AgainstRows(getattr(ns.nn, of_rows)(**options), label_smoothing)
    check_arguments(optimizer_args, schedule_args if schedule is None else None)
    arguments = ARTICLE if optimizer_args is None and optimizer == "SGD" else optimizer_args or {}
    optimize = optimizer_named(ns, optimizer, network.parameters(), **{"lr": lr, **arguments})
    rate = schedule_named(ns, schedule, optimize, **(schedule_args or {})) if schedule else None

    watch = Watch(network, on_nonfinite)
    history: list[dict[str, float]] = []
    if (origin := checkpoint.resolved(resume, runs, f"mlp-{backend}")) is not None:
        state = checkpoint.load(origin, "network", "optimizer", "schedule", "history", options=given, override=override)
        checkpoint.restore(network, state["network"])
        optimize.load_state_dict(state["optimizer"])
        if rate is not None and state["schedule"] is not None:
            rate.load_state_dict(state["schedule"])
        history = state["history"]
        if len(history) > epochs:
            raise ValueError(f"epochs must be at least the {len(history)} of {origin}, it is {epochs}")
    folder = new_run(runs, f"mlp-{backend}")
    saved = folder / "last.pt"

    def save() -> None:
        states = {"network": network.state_dict(), "optimizer": optimize.state_dict()}
        checkpoint.save(
            saved, given, **states, schedule=rate and rate.state_dict(), history=history, origin=origin and str(origin)
        )

    save()
    console.print(f"{backend}: {network}\n{optimize}", highlight=False)
    # The loop of training.fit, an epoch at a time, so that a run can be continued.
    try:
        for epoch in range(len(history) + 1, epochs + 1):
            network.train()
            total = torch.zeros((), device=where, dtype=kind)
            for batch, (x, y) in enumerate(training.minibatches(train, batch_size, seed, epoch), 1):
                may_update = watch.at(x, f"epoch {epoch}, batch {batch}")
                error = training.step(network, criterion, optimize, x, y, max_norm, may_update).detach()
                total += error.nan_to_num(0, 0, 0) * len(x) if on_nonfinite == "skip" else error * len(x)
            watch.epoch(epoch)
            beginning.end()
            found = training.evaluate(network, criterion, validation)
            record = {"epoch": epoch, "loss": total.item() / len(train[0])}
            history.append(record | {f"validation_{what}": value for what, value in found.items()})
            if isinstance(rate, torch.optim.lr_scheduler.ReduceLROnPlateau):
                rate.step(found["loss"])
            elif rate is not None:
                rate.step()
            save()
            if epoch % 10 == 0 or epoch == epochs:
                console.print(", ".join(f"{what} {value:.4g}" for what, value in history[-1].items()), highlight=False)
    except (KeyboardInterrupt, Interrupted) as stopped:
        done = len(checkpoint.read(saved)["history"])
        console.print(f"interrupted after epoch {done}; continue with --resume {saved}", soft_wrap=True)
        stopped.told = True  # type: ignore[union-attr]
        raise

    result = training.evaluate(network, criterion, test)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, history[-1])
        writer.writeheader()
        writer.writerows(history)
    (folder / "test.json").write_text(json.dumps(result, indent=2) + "\n")
    network.eval()
    with torch.no_grad():
        scores = network(test[0])
        scores = scores.log() if loss == "mse" else scores  # of which softmax makes the probabilities again
    draw_curves(folder / "curves.png", history, f"Digits, {backend}, {optimizer}, {loss}")
    pictures = ["curves.png", *draw_classifier(folder, network, test[0], test[1], scores, "test")]
    console.print(
        f"test: loss ({loss}) {result['loss']:.4f}, accuracy {result['accuracy']:.4f} of {len(test[0])} images"
    )
    line = verdict(network, train[0], train[1], [record["loss"] for record in history], lr)
    console.print(f"wrote {folder}/: metrics.csv, test.json, {', '.join(pictures)}, last.pt{'; ' + line if line else ''}",
                  soft_wrap=True, highlight=False)  # fmt: skip


if __name__ == "__main__":
    script(train_digits)
