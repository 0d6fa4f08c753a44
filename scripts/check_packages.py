"""Hold the activations, layers, losses and optimizers of other packages to the reference, where they have a counterpart.

pip install timm pytorch-optimizer kornia && python scripts/check_packages.py
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from a checkout, whether installed or not
    sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.progress import track
from rich.table import Table

import dlref
from dlref.cli.common import script

# package: (where it stands, what it is held to, arguments that are given to it beforehand)
PACKAGES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "timm": [
        *[(f"timm.layers.activations:{ours}", theirs, {}) for ours, theirs in (
            ("swish", "silu"), ("mish", "mish"), ("sigmoid", "sigmoid"), ("tanh", "tanh"), ("hard_swish", "hardswish"),
            ("hard_sigmoid", "hardsigmoid"), ("gelu", "gelu"), ("Swish", "SiLU"), ("Mish", "Mish"), ("Sigmoid", "Sigmoid"),
            ("Tanh", "Tanh"), ("HardSwish", "Hardswish"), ("HardSigmoid", "Hardsigmoid"), ("PReLU", "PReLU"))],
        *[(f"timm.layers.activations_me:{ours}", theirs, {}) for ours, theirs in (
            ("swish_me", "silu"), ("mish_me", "mish"), ("hard_sigmoid_me", "hardsigmoid"), ("hard_swish_me", "hardswish"),
            ("SwishMe", "SiLU"), ("MishMe", "Mish"), ("HardSigmoidMe", "Hardsigmoid"), ("HardSwishMe", "Hardswish"))],
        ("timm.layers.fast_norm:fast_layer_norm", "layer_norm", {}),
        ("timm.layers.fast_norm:fast_group_norm", "group_norm", {}),
        ("timm.layers.fast_norm:fast_rms_norm", "rms_norm", {}),
        ("timm.layers.fast_norm:rms_norm", "rms_norm", {}),
        ("timm.layers:Linear", "Linear", {}),
        ("timm.loss:LabelSmoothingCrossEntropy", "CrossEntropyLoss", {}),
        ("timm.loss:BinaryCrossEntropy", "BCEWithLogitsLoss", {"smoothing": 0.0}),
        *[(f"timm.optim:{ours}", theirs, {}) for ours, theirs in (
            ("AdamWLegacy", "AdamW"), ("NAdamLegacy", "NAdam"), ("RAdamLegacy", "RAdam"))],
    ],
    "pytorch_optimizer": [
        *[(f"pytorch_optimizer:{ours}", theirs, {}) for ours, theirs in (
            ("AdaMax", "Adamax"), ("NAdam", "NAdam"), ("RAdam", "RAdam"), ("AdaDelta", "Adadelta"))],
        ("pytorch_optimizer:BCELoss", "BCELoss", {}),
        ("pytorch_optimizer:FocalLoss", "BCEWithLogitsLoss", {"alpha": 1.0, "gamma": 0.0}),
    ],
    "kornia": [
        ("kornia.losses:focal_loss", "cross_entropy", {"alpha": None, "gamma": 0.0}),
        ("kornia.losses:binary_focal_loss_with_logits", "binary_cross_entropy_with_logits", {"alpha": None, "gamma": 0.0}),
    ],
}  # fmt: skip


def main(packages: Sequence[str] = tuple(PACKAGES), details: bool = False) -> None:
    """Check each of the packages that is installed.

    Args:
        packages: Their names.
        details: Whether the whole reports are printed.
    """
    console = Console()
    table = Table("candidate", "against", "values", "result", title="Other people's code, float32")
    reports = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            console.print(f"{package} is left out: {error}")
            continue
        for path, against, given in track(PACKAGES[package], package, console=console):
            report = checked(path, against, given)
            values = str(report.values) if isinstance(report, dlref.Report) else "-"
            table.add_row(path, against, values, result(report))
            reports.append(report)
    console.print(table)
    for report in reports if details else ():
        console.print(str(report), markup=False, highlight=False)


def checked(path: str, against: str, given: dict[str, Any]) -> dlref.Report | str:
    """The report; or why it could not be held to it."""
    module, _, name = path.partition(":")
    candidate = getattr(importlib.import_module(module), name, None)
    if candidate is None:
        return "it is not in this version"
    if given:
        candidate = (
            functools.partial(candidate, **given) if not isinstance(candidate, type) else fixed(candidate, given)
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dlref.check(candidate, against, dtypes=["float32"])
    except ValueError as error:
        return str(error)


def fixed(cls: type, given: dict[str, Any]) -> type:
    """The class with these arguments of its constructor given."""
    made = type(cls.__name__, (cls,), {"__init__": functools.partialmethod(cls.__init__, **given)})  # type: ignore[misc]
    made.__module__ = cls.__module__
    return made


def result(report: dlref.Report | str) -> str:
    if isinstance(report, str):
        return f"cannot be called alike: {report[:160]}"
    if report.ok:
        return "right" if report.values else "nothing fits"
    return "\n".join(f"{f.kind}: {f.what}: {f.diagnosis or 'departs'}"[:200] + f" ({len(group)})"
                     for group in report.groups()[:4] for f in group[:1])  # fmt: skip


if __name__ == "__main__":
    script(main)
