"""The site: it builds without a warning, has an anchor for each pair, and asks nothing of a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlref.core import compat
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
        for link in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', text):
            assert (path.parent / link.partition("?")[0]).exists(), (path, link)


@pytest.mark.skipif(compat.TORCH != compat.NEWEST, reason="the page is of the newest torch")
def test_what_torch_has_wrong():
    """The page's blocks, in their order."""
    text = (ROOT / "docs/torch.md").read_text()
    torch.manual_seed(0)
    space: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/torch.md", "exec"), space)
