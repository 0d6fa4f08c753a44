"""The records of a benchmark as tables of text: what the command shows, and what the documentation holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]
TITLES = {
    "operations": "operations: how many times longer than torch's forward and gradient",
    "kernels": "kernels: forward and gradient, over the definition's",
    "optimizers": "optimizers: a step",
    "steps": "training steps",
    "estimators": "estimators: how many times longer than scikit-learn's",
    "saved": "bytes kept for the gradient, beyond parameters",
    "peak": "largest memory of a training step, beyond parameters and optimizer state",
    "estimate": "a training step on a GPU: an estimate, not a measurement",
    "growth": "exponents of the time of a step of a multilayer perceptron",
}
NOTE = (
    "Medians of rounds in which every variant was measured in turn. A ratio is the median of the rounds' ratios to the "
    "fastest built-in way, which is named; in brackets its 95 % interval."
)
HEADS = {
    "vjp": "without autograd", "autograd": "under autograd", "manual": "by hand", "manual apart": "by hand, apart",
    "manual played back": "by hand, played back", "manual compiled": "by hand, compiled", "builtin": "built-in",
    "builtin, same products": "built-in, same products",
}  # fmt: skip


def rows(section: str, records: Sequence[Record]) -> list[list[str]]:
    """The header, then a row for each record of a section."""
    return TABLES[section](records)


def where(environment: Record) -> str:
    """Machine, threads, versions and date, in a line."""
    at = environment
    threads = f"{at['threads']} thread" + "s" * (at["threads"] > 1)
    products = ", float32 products by oneDNN" * (at["products"] == "onednn")
    return (f"{at['machine']}, {at['device']}, {threads}{products}, torch {at['torch']}, Python {at['python']}, "
            f"{at['date']}")  # fmt: skip


def label(record: Record) -> str:
    """What a record is of: its name, and what else tells it from others of that name."""
    batch = f"batch {record['batch']}" if "batch" in record else None
    return ", ".join(
        filter(None, (record["name"], record.get("work"), batch, record.get("optimizer"), record.get("parameters")))
    )


def typical(records: Sequence[Record], key: str) -> float | None:
    """The geometric mean of a ratio over the records; None where one in ten lacks it, as it would be of other work then."""
    values = [record["ratios"][key]["value"] for record in records if key in record["ratios"]]
    return math.exp(sum(map(math.log, values)) / len(values)) if len(values) > 0.9 * len(records) else None


def _times(records: Sequence[Record]) -> list[list[str]]:
    keys = list(dict.fromkeys(key for record in records for key in record["ratios"]))
    table = [["", "built-in", "μs", *(HEADS.get(key, key) for key in keys)]]
    for record in records:
        base = next(ratio["base"] for key, ratio in reversed(record["ratios"].items()) if "products" not in key)
        way = base.removeprefix("builtin").strip() or "default"
        cells = [ratio_text(record["ratios"].get(key)) for key in keys]
        table.append([label(record), way, f"{1e6 * record['times'][base]['seconds']:,.0f}", *cells])
    if len(records) > 1:
        means = [typical(records, key) for key in keys]
        table.append(["geometric mean", "", "", *("" if m is None else f"{m:.2f}" for m in means)])
    return table


def _estimators(records: Sequence[Record]) -> list[list[str]]:
    keys = list(dict.fromkeys(key for record in records for key in record["ratios"]))
    table = [["", "scikit-learn, ms", *(HEADS[key] for key in keys), "compilation, s"]]
    for record in records:
        cells = [ratio_text(record["ratios"].get(key)) for key in keys]
        compilation = f"{record['compilation']:.1f}" if "compilation" in record else ""
        table.append([label(record), f"{1e3 * record['times']['scikit-learn']['seconds']:,.1f}", *cells, compilation])
    return table


def ratio_text(ratio: Record | None) -> str:
    return "" if ratio is None else f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _saved(records: Sequence[Record]) -> list[list[str]]:
    table = [["module", "by hand", "built-in", "of inputs, by hand", "built-in"]]
    for record in records:
        ours, theirs = record["manual"], record["builtin"]
        cells = (ours["output"] + ours["own"], theirs["output"] + theirs["own"], ours["input"], theirs["input"])
        table.append([record["name"], *map("{:,}".format, cells)])
    return table


def _peak(records: Sequence[Record]) -> list[list[str]]:
    table = [["", "by hand, KiB", "built-in, KiB", "ratio"]]
    for record in records:
        ours, theirs = record["manual"], record["builtin"]
        table.append([label(record), f"{ours / 1024:,.0f}", f"{theirs / 1024:,.0f}", f"{ours / theirs:.2f}"])
    return table


def _growth(records: Sequence[Record]) -> list[list[str]]:
    table = [["time against", "sizes", "by hand", "built-in"]]
    for record in records:
        exponents = (f"{record['exponents'][side]:.2f}" for side in ("manual", "builtin"))
        table.append([record["what"], f"{record['sizes'][0]} to {record['sizes'][-1]}", *exponents])
    return table


def _estimate(records: Sequence[Record]) -> list[list[str]]:
    table = [["", "kernels, by hand", "built-in", "MB moved, by hand", "built-in", "μs, by hand", "built-in", "ratio"]]
    for record in records:
        ours, theirs = record["manual"], record["builtin"]
        cells = [f"{side['kernels']:,}" for side in (ours, theirs)]
        cells += [f"{side['bytes'] / 1e6:,.1f}" for side in (ours, theirs)]
        cells += [f"{1e6 * side['seconds']:,.0f}" for side in (ours, theirs)]
        table.append([label(record), *cells, f"{ours['seconds'] / theirs['seconds']:.2f}"])
    return table


def _kernels(records: Sequence[Record]) -> list[list[str]]:
    table = [["", "definition, μs", "kernel, μs", "ratio", "peak, KiB", "kernel's", "ratio"]]
    for record in records:
        times = [f"{1e6 * record['times'][way]['seconds']:,.0f}" for way in ("definition", "kernel")]
        whole, less = record["peak"]["definition"], record["peak"]["kernel"]
        peaks = f"{whole / 1024:,.0f}", f"{less / 1024:,.0f}", f"{less / whole:.2f}" if whole else ""
        table.append([record["name"], *times, ratio_text(record["ratios"]["kernel"]), *peaks])
    return table


TABLES: dict[str, Callable[[Sequence[Record]], list[list[str]]]] = {
    **dict.fromkeys(("operations", "optimizers", "steps"), _times),
    "kernels": _kernels, "estimators": _estimators, "saved": _saved, "peak": _peak, "growth": _growth, "estimate": _estimate,
}  # fmt: skip
