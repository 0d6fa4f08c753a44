"""The digits' test accuracy on ten splits: by hand, by autograd, and by scikit-learn with the same settings."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import statistics
import warnings
from typing import Any, Literal

import torch
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dlref import builtin, data, manual
from dlref.builtin import training as builtin_training
from dlref.cli.common import device_named, print_table, script
from dlref.manual import training as manual_training
from dlref.models import mlp

SIDES: dict[str, Any] = {"manual": manual, "builtin": builtin}
TRAINING: dict[str, Any] = {"manual": manual_training, "builtin": builtin_training}
HIDDEN, LR, MOMENTUM, WEIGHT_DECAY, BATCH = 128, 0.01, 0.9, 1e-4, 200


def splits_digits(
    splits: PositiveInt = 10,
    epochs: PositiveInt = 100,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float64",
) -> None:
    """Train the worked example on stratified splits, 80 % to train and 20 % to test, standardised by the training part.

    Args:
        splits: Their number; their seeds are 0, 1, 2, ...
        epochs: Passes over the training images.
        device: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        dtype: Type of the numbers of both sides; scikit-learn's are float64.
    """
    where, kind, console = device_named(device), getattr(torch, dtype), Console()
    accuracies: dict[str, list[float]] = {"manual": [], "builtin": [], "scikit-learn": []}
    differences = []
    for seed in track(range(splits), "splits", console=console):
        split = data.digits(validation=0.0, test=0.2, seed=seed, dtype=kind)
        train, test = (tuple(t.to(where) for t in part.tensors) for part in (split.train, split.test))
        torch.manual_seed(seed)
        start = mlp(builtin, split.features, HIDDEN, 10).to(kind).state_dict()
        networks = {}
        for name, ns in SIDES.items():
            network = networks[name] = mlp(ns, split.features, HIDDEN, 10).to(where, kind)
            network.load_state_dict(start)
            criterion = ns.nn.CrossEntropyLoss()
            optimizer = ns.optim.SGD(
                network.parameters(), LR, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
            )
            TRAINING[name].fit(
                network, criterion, optimizer, train, epochs=epochs, batch_size=BATCH, tolerance=None, seed=seed
            )
            accuracies[name].append(TRAINING[name].evaluate(network, criterion, test)["accuracy"])
        differences.append(max(
            (a - b).abs().max().item()
            for a, b in zip(networks["manual"].parameters(), networks["builtin"].parameters(), strict=True)
        ))  # fmt: skip
        accuracies["scikit-learn"].append(by_sklearn(split, epochs, seed))

    table = Table("split", *accuracies, "largest difference of any parameter", title="Test accuracy of the digits")
    for column in table.columns[1:]:
        column.justify = "right"
    for seed, (*row, difference) in enumerate(zip(*accuracies.values(), differences, strict=True)):
        table.add_row(str(seed), *(f"{accuracy:.4f}" for accuracy in row), f"{difference:.1e}")
    table.add_section()
    deviation = (lambda values: statistics.stdev(values)) if splits > 1 else (lambda values: 0.0)
    means = (f"{statistics.mean(values):.4f} ± {deviation(values):.4f}" for values in accuracies.values())
    table.add_row("mean ± deviation", *means, f"{max(differences):.1e}")
    print_table(console, table)


def by_sklearn(split: Any, epochs: int, seed: int) -> float:
    """Test accuracy of scikit-learn's MLPClassifier with the same settings on the same split."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    classifier = MLPClassifier(
        (HIDDEN,), solver="sgd", learning_rate_init=LR, momentum=MOMENTUM, nesterovs_momentum=True, alpha=WEIGHT_DECAY,
        batch_size=BATCH, max_iter=epochs, random_state=seed,
    )  # fmt: skip
    (x, y), (x_test, y_test) = ([t.numpy() for t in part.tensors] for part in (split.train, split.test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after the epochs, as it was told
        return classifier.fit(x, y).score(x_test, y_test)


if __name__ == "__main__":
    script(splits_digits)
