"""Tables made of the code: each section of the article and what treats it; what torch and scikit-learn have changed."""

from __future__ import annotations

import re
from pathlib import Path

from dlref.core import compat
from dlref.estimators import versions
from dlref.experiments import NAMES as EXPERIMENTS
from dlref.experiments import experiment
from dlref.verify.pairs import KINDS, TOPICS, pairs

COURSE = Path(__file__).parents[1] / "course/index.md"
# The article's sections, and what they are about in our words.
ARTICLE = {
    "2.1": "what deep learning is: kinds of networks", "2.2": "what makes it deep", "2.3": "what it is used for",
    "3.1": "models and fitting", "3.2": "data sets", "3.3": "losses", "3.4": "descent", "3.5": "networks of layers",
    "3.5.1": "the perceptron", "3.5.2": "radial basis functions", "3.5.3": "the multilayer perceptron",
    "4.1": "the algorithm", "4.2": "backpropagation", "4.3": "the update", "4.4": "choosing a loss",
    "4.5": "choosing a learning rate", "4.6": "choosing a batch size", "4.7": "choosing an activation",
    "5.1": "the digits", "5.2": "standardising", "5.3": "the network and its score",
}  # fmt: skip


def within(section: str, other: str) -> bool:
    """Whether one of the sections is the other, or a part of it."""
    return f"{section}.".startswith(f"{other}.") or f"{other}.".startswith(f"{section}.")


def lessons() -> list[dict[str, str]]:
    """The rows of the course's table, which says what each lesson covers."""
    rows = [line.strip("| ").split(" | ") for line in COURSE.read_text().splitlines() if line.startswith("|")]
    names = rows[0]
    return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows[2:]]


def once(cells: list[str]) -> str:
    """The entries of cells that are lists, each once."""
    return ", ".join(dict.fromkeys(entry for cell in cells for entry in cell.split(", ") if entry))


def sections() -> str:
    """A row for each section of the article: lessons, pairs by family, experiments, tests, configurations."""
    families = {pair.family: pair.section for pair in pairs().values()}
    out = ["# The article, section by section\n",
           "The article is a Chinese introduction to deep learning in five sections. What they are about is in our words; what "
           "it has wrong is in [corrections](../corrections.md).\n",
           "| section | about | lessons | pairs | experiments | tests | configurations |",
           "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for section, about in ARTICLE.items():
        rows = [row for row in lessons() if any(within(section, other) for other in row["section"].split(", "))]
        treated = [
            f"[{family}](pairs/{family}.md)" for family, at in families.items() if f"{at}.".startswith(f"{section}.")
        ]
        treated += [f"[{kind}](pairs/{kind}.md)" for kind, at in KINDS.items() if section in at]
        treated += [
            f"`{name}`" for names, at in TOPICS.values() if any(within(section, s) for s in at) for name in names
        ]
        tried = [f"[{n}](experiments/{n}.md)" for n in EXPERIMENTS if experiment(n).section == section]
        cells = once([re.sub(r"\]\(", "](../course/", row["lesson"]).replace(", ", "\0") for row in rows]).replace(
            "\0", ", "
        )
        out.append(f"| {section} | {about} | {cells} | {', '.join(dict.fromkeys(treated))} | {', '.join(tried)} | "
                   f"{once([row['tests'] for row in rows])} | {once([row['configurations'] for row in rows])} |")  # fmt: skip
    return "\n".join(out) + "\n"


def devices() -> str:
    """The pages that scripts/prove.py has written."""
    found = sorted(path.stem for path in (COURSE.parents[1] / "devices").glob("*.md") if path.stem != "index")
    rows = "\n".join(f"/devices/{name}" for name in found)
    return f"```{{toctree}}\n:maxdepth: 1\n\n{rows}\n```\n" if found else "No device yet.\n"


def changes() -> str:
    """What differs between the versions that dlref runs on: since when, what, before, ours."""
    found = [
        change for space in (compat, versions) for change in vars(space).values() if isinstance(change, compat.Change)
    ]
    rows = [
        f"| {c.package} {c.since[0]}.{c.since[1]} | {c.what} | {c.before} | {c.ours} |".replace("_", r"\_")
        for c in sorted(found, key=lambda c: (c.package != "torch", c.since))
    ]
    return "\n".join(["| since | what it does | before | dlref |", "| --- | --- | --- | --- |", *rows]) + "\n"
