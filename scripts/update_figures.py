"""Write the figures of README.md and docs/ from what `dlref bench --json` measured."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlref import bench
from dlref.cli.common import script
from dlref.core.names import one_of

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- bench: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
# The steps that the README shows.
CHOSEN = {("mlp", 200, "Adam"), ("mlp", 1, "Adam"), ("mlp_large", 256, "Adam"), ("cnn", 200, "Adam"), ("lstm", 200, "Adam"),
          ("transformer", 200, "AdamW")}  # fmt: skip
# Section: its records by what they are of, and where the last of them were measured.
Found = dict[str, tuple[dict[str, Any], Any]]


def update_figures(results: Sequence[str], files: Sequence[str] = ("README.md", "docs/speed.md")) -> None:
    """Rewrite each block between <!-- bench: NAME --> and <!-- end --> whose figures the results hold, and nothing else.

    NAME is a section of the results (operations, optimizers, steps, estimators, saved, peak, growth), or chosen: the
    README's few rows.

    Args:
        results: JSON files of dlref bench; of what is in several, the last one counts.
        files: Where the blocks are, relative to the checkout.
    """
    found: Found = {}
    for result in results:
        try:
            content = json.loads(Path(result).read_text())
            environment = content["environment"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"results must be JSON that dlref bench wrote, {result} is not: dlref bench --json FILE"
            ) from None
        for section in content.keys() & bench.TITLES.keys():
            before = found[section][0] if section in found else {}
            found[section] = ({**before, **{key(record): record for record in content[section]}}, environment)
    texts = {ROOT / name: updated(ROOT / name, found) for name in files}  # all of them, before any is written
    for path, text in texts.items():
        path.write_text(text)


def updated(path: Path, found: Found) -> str:
    """The file's text with its blocks rewritten."""
    text = path.read_text()
    if not BLOCK.search(text) or len(BLOCK.findall(text)) != text.count("<!-- bench:"):
        raise ValueError(
            f"{path} must hold <!-- bench: NAME --> and, for each, <!-- end -->: write them where a table belongs"
        )

    def rewritten(match: re.Match) -> str:
        name = match[1]
        one_of("block", name, [*bench.TITLES, "chosen"])
        section = "steps" if name == "chosen" else name
        if section not in found:
            return match[0]
        records, environment = list(found[section][0].values()), found[section][1]
        if name == "chosen":
            records = [r for r in records if (r["name"], r["batch"], r["optimizer"]) in CHOSEN]
        lines = [markdown(bench.rows(section, records)), "", f"Measured on: {bench.where(environment)}."]
        return "\n".join([f"<!-- bench: {name} -->", *lines, "<!-- end -->"])

    return BLOCK.sub(rewritten, text)


def key(record: dict[str, Any]) -> str:
    return record["what"] if "what" in record else bench.label(record)


def markdown(rows: list[list[str]]) -> str:
    """A table; all columns but the first to the right."""
    header, *rest = rows
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rest))


if __name__ == "__main__":
    script(update_figures)
