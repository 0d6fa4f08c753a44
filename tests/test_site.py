"""The site: it builds without a warning, has an anchor for each pair, and asks nothing of a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlref.experiments import NAMES as EXPERIMENTS
from dlref.samples import NAMES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "trees"), "-b", "html"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return {path: path.read_text() for path in (folder / "html").rglob("*.html")}


def test_every_pair_has_its_anchor(site):
    anchors = [name for text in site.values() for name in re.findall(r'<a id="(\w+)"></a>', text)]
    assert set(NAMES) <= set(anchors) and len(anchors) == len(set(anchors))


def test_equations_are_mathml(site):
    equations = sum(text.count("<math ") for text in site.values())
    assert equations > 500
    for path, text in site.items():
        assert not re.search(r"<script[^>]*mathjax", text, re.I), path


def test_nothing_is_asked_of_a_network_and_no_link_is_broken(site):
    for path, text in site.items():
        assert not re.findall(r'<(?:script|img|iframe|source)[^>]* src="(?:https?:)?//[^"]*"', text), path
        assert not re.findall(r'<link[^>]* rel="(?:stylesheet|preload|preconnect)"[^>]* href="(?:https?:)?//', text), (
            path
        )
        for link, anchor in re.findall(r'href="([^"#:]*)(?:#([^"]*))?"', text):
            target = (path.parent / link.partition("?")[0]).resolve() if link else path
            assert target.exists(), (path, link)
            if anchor and target.suffix == ".html":
                assert f'id="{anchor}"' in site[target], (path, link, anchor)


def test_each_section_of_the_article_is_treated(site):
    """The table of sections: a lesson, an experiment or pairs, tests and configurations in each row."""
    (text,) = (text for path, text in site.items() if path.name == "sections.html")
    rows = [re.findall(r"<td>(.*?)</td>", row, re.S) for row in re.findall(r"<tr class=.*?</tr>", text, re.S)]
    cells = {row[0].strip("<>p/ \n"): row[1:] for row in rows if row}
    assert len(cells) == 21 and not any(re.sub("<.*?>", "", cell).strip() for cell in cells.pop("2.3")[1:])
    for section, (_, lessons, pairs, tried, tests, configurations) in cells.items():
        assert "course/" in lessons and "test_" in tests and "digits_" in configurations, section
        assert "experiments/" in tried or "pairs/" in pairs or "<code" in pairs, section
    listed = re.findall(r'href="experiments/(\w+)\.html"', "".join(cell for row in cells.values() for cell in row))
    assert sorted(listed) == sorted(EXPERIMENTS)
