"""Train the networks of configs/ on several splits of the digits, by hand-derived gradients and by autograd."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
import yaml
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dlref.cli.common import print_table, script
from dlref.core.names import one_of
from dlref.lightning import Classifier, DigitsDataModule
from dlref.lightning.runs import quiet

CONFIGS = Path(__file__).parent.parent / "configs"
NETWORKS = ("perceptron", "rbf", "mlp", "local", "cnn", "residual", "lstm", "transformer")


def splits_networks(
    networks: Sequence[str] = NETWORKS,
    backends: Sequence[Literal["manual", "bridged", "builtin"]] = ("manual", "builtin"),
    splits: PositiveInt = 5,
    epochs: PositiveInt | None = None,
    accelerator: str = "cpu",
    reference: bool = True,
) -> None:
    """Train each network of configs/digits_NAME.yaml on stratified splits: 70 % to train, 10 % to validate, 20 % to test.

    What is told is the test accuracy after the last epoch: nothing is chosen by the test part.

    Args:
        networks: Their names, as [cnn,lstm].
        backends: manual (explicit gradients), bridged (the same under autograd), builtin (torch.nn).
        splits: Their number; their seeds are 0, 1, 2, ...
        epochs: Passes over the training images, instead of those of the configuration.
        accelerator: cpu, cuda or another of Lightning's.
        reference: Whether scikit-learn's classifiers are trained on the same splits.
    """
    for name in networks:
        one_of("networks", name, NETWORKS)
    quiet()
    console = Console()
    table = Table("network", *backends, title="Test accuracy, mean ± deviation")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in networks:
        options = yaml.safe_load((CONFIGS / f"digits_{name}.yaml").read_text())
        found = []
        for backend in backends:
            seeds = track(range(splits), f"{name}, {backend}", console=console)
            found.append(summary([trained(options, backend, seed, epochs, accelerator) for seed in seeds]))
            console.print(f"{name}, {backend}: {found[-1]}", highlight=False)
        table.add_row(name, *found)
    print_table(console, table)
    if reference:
        table = Table("scikit-learn", "defaults", title="On the same splits")
        for name, accuracies in by_sklearn(splits).items():
            table.add_row(name, summary(accuracies))
        print_table(console, table)


def trained(options: dict[str, Any], backend: str, seed: int, epochs: int | None, accelerator: str) -> float:
    """Test accuracy of one network on one split."""
    torch.manual_seed(seed)
    model = Classifier(**{**options["model"], "backend": backend})
    data = DigitsDataModule(**options["data"], seed=seed)
    trainer = lightning.Trainer(
        max_epochs=epochs or options["trainer"]["max_epochs"], accelerator=accelerator, devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, data)
    return trainer.test(model, data, verbose=False)[0]["test_accuracy"]


def by_sklearn(splits: int) -> dict[str, list[float]]:
    """Test accuracies of scikit-learn's classifiers."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Perceptron
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    makers = {
        "Perceptron": lambda seed: Perceptron(random_state=seed),
        "MLPClassifier": lambda seed: MLPClassifier(random_state=seed),
        "KNeighborsClassifier": lambda seed: KNeighborsClassifier(),
        "SVC": lambda seed: SVC(),
    }
    found: dict[str, list[float]] = {name: [] for name in makers}
    for seed in range(splits):
        split = DigitsDataModule(seed=seed).split
        (x, y), (x_test, y_test) = ([t.numpy() for t in part.tensors] for part in (split.train, split.test))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for name, make in makers.items():
                found[name].append(make(seed).fit(x, y).score(x_test, y_test))
    return found


def summary(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    script(splits_networks)
