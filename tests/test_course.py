"""The course: both languages have the same code, equations, pictures and exercises; what the lessons name is there.

That its blocks run and print what stands beside them is test_blocks.py's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import dlref
from dlref.experiments import NAMES as EXPERIMENTS

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ROOT / "docs/course", ROOT / "docs/zh/course"
LESSONS = sorted(path.name for path in ENGLISH.glob("[0-9]*.md"))
INDEXES = [ENGLISH / "index.md", ROOT / "docs/zh/index.md"]


def fenced(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def unlike(block: str) -> list[str]:
    """What differs between the languages though it need not: nothing but the path of a source, one folder deeper."""
    return block.replace("../../../", "../../").splitlines()


def test_every_lesson_is_in_both_languages():
    assert LESSONS and sorted(path.name for path in CHINESE.glob("*.md")) == LESSONS
    for index, folder in zip(INDEXES, ("", "course/"), strict=True):
        (listed,) = fenced(index.read_text(), r"\{toctree\}")
        assert [f"{name}.md" for name in listed.split("\n\n")[1].split()] == [folder + name for name in LESSONS]


@pytest.mark.parametrize("name", LESSONS)
def test_both_languages_have_the_same_code_equations_and_sources(name):
    english, chinese = ((folder / name).read_text() for folder in (ENGLISH, CHINESE))
    for kind in ("python", r"\{literalinclude\}[^`]*?"):
        assert list(map(unlike, fenced(english, kind))) == list(map(unlike, fenced(chinese, kind)))
    for part in (r"^\$\$(.*?)\$\$$", r"!\[[^]]*\]\((?:\.\./)+(experiments/\S+)\)", r"^(#+) "):
        assert re.findall(part, english, re.M | re.S) == re.findall(part, chinese, re.M | re.S)


@pytest.mark.parametrize("folder, title", [(ENGLISH, "Exercises"), (CHINESE, "练习")], ids=["en", "zh"])
@pytest.mark.parametrize("name", LESSONS)
def test_three_exercises_with_folded_solutions(name, folder, title):
    exercises = (folder / name).read_text().split(f"## {title}\n")[1]
    asked, solutions = exercises.split("<details>\n")
    assert re.findall(r"^(\d)\. ", asked, re.M) == re.findall(r"^(\d)\. ", solutions, re.M) == ["1", "2", "3"]
    assert len(fenced(solutions, "python")) == 3 and solutions.rstrip().endswith("</details>")


@pytest.mark.parametrize("folder", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize("name", LESSONS)
def test_links_pictures_and_experiments_are_there(name, folder):
    text = (folder / name).read_text()
    links = re.findall(r"\]\(([^)]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    assert links and all((folder / link).exists() for link in links)
    assert set(re.findall(r"experiment run (\w+)", text)) <= set(EXPERIMENTS)


@pytest.mark.parametrize("index", INDEXES, ids=["en", "zh"])
def test_the_table_names_what_there_is(index):
    rows = [row.strip("| ").split(" | ") for row in index.read_text().splitlines() if re.match(r"\| \d", row)]
    assert len(rows) == len(LESSONS)
    for row in rows:
        pairs, experiments, tests, configurations = (set(re.findall(r"`([\w.]+)`", cell)) for cell in row[2:])
        assert pairs and all(
            hasattr(dlref.manual.functional, name) or hasattr(dlref.manual.optim, name) for name in pairs
        )
        assert experiments <= set(EXPERIMENTS)
        assert tests and all((ROOT / "tests" / name).exists() for name in tests)
        assert configurations and all((ROOT / "configs" / f"{name}.yaml").exists() for name in configurations)


def test_the_readme_in_chinese_has_the_same_commands_and_links():
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
    first = english.split("## Use")[0]
    assert fenced(first, "python") == fenced(chinese, "python")
    for part in (r"^    (.+)$", r"dlref\[\w+\]"):
        assert re.findall(part, first, re.M) == re.findall(part, chinese, re.M)
    tables = (text.split("| --- | --- |\n")[1].split("\n\n")[0].splitlines() for text in (english, chinese))
    for ours, theirs in zip(*tables, strict=True):
        assert re.findall(r"`([^`]+)`", ours) == re.findall(r"`([^`]+)`", theirs)
        assert set(re.findall(r"\]\(([^)]+)\)", ours)) == set(re.findall(r"\]\(([^)]+)\)", theirs))


def test_the_notebook_is_the_first_lesson():
    """Its cells of code are the page's blocks, which run; its other cells the page's text."""
    cells = json.loads((ENGLISH / "01_fitting.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    page = (ENGLISH / "01_fitting.md").read_text()
    assert code == [block.rstrip("\n") for block in fenced(page, "python")]
    headings = re.findall(
        r"^#.*$", "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown"), re.M
    )
    assert headings == re.findall(r"^#+ .*$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), re.M)
