"""Write the table of docs/accuracy.md: how far definitions and torch's functions are from fifty digits."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from dlref.cli.common import script
from dlref.core.names import one_of
from dlref.verify import points, proof

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- accuracy -->\n.*?<!-- end -->", re.DOTALL)


def accuracy(names: Sequence[str] = (), file: str = "docs/accuracy.md") -> None:
    """Measure each operation that has an equation, in every dtype, and rewrite what stands between the markers.

    Args:
        names: Operations; all of them where none is named, and only then the file is written: else the table is printed.
        file: Where the table is, relative to the checkout.
    """
    cases = list(points.cases())
    known = {case.name for case in cases}
    for name in names:
        one_of("names", name, known)
    lines = table([case for case in cases if not names or case.name in names])
    if names:
        print("\n".join(lines))
        return
    path = ROOT / file
    block = "\n".join(
        ["<!-- accuracy -->", *lines, "", f"Measured on: cpu, torch {torch.__version__}.", "<!-- end -->"]
    )
    path.write_text(BLOCK.sub(lambda _: block, path.read_text()))


def table(cases: list[points.Case]) -> list[str]:
    """Of each case and dtype the largest error of value and of gradient, ours and torch's."""
    heads = [f"{str(dtype).removeprefix('torch.')}, {what}" for dtype in proof.DTYPES for what in ("value", "gradient")]
    lines = ["| " + " | ".join(["operation", *heads]) + " |", "| --- |" + " ---: |" * len(heads)]
    for case in cases:
        cells = [case.label]
        for dtype in proof.DTYPES:
            ours, theirs = proof.measure(case, dtype)
            cells += [f"{shown(ours[what].units)} / {shown(theirs[what].units)}" for what in ("value", "gradient")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def shown(units: float) -> str:
    """Units to a tenth, large ones by their power of ten; what is infinite or NaN where the truth is not has none."""
    if not math.isfinite(units):
        return "∞"
    return f"{units:.1f}" if units < 1000 else f"{units:.0e}".replace("e+", "e")


if __name__ == "__main__":
    script(accuracy)
