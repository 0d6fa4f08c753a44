"""The site: `python -m sphinx -W -b html docs DIR`, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from dlref import __version__  # noqa: E402

project, author, version = "dlref", "the dlref authors", __version__
extensions = ["myst_parser", "sphinx_copybutton", "reference"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_ext", "generated/changes.md", "generated/devices.md"]  # which are parts of pages
html_theme = "furo"
html_title = "dlref"
html_math_renderer = "mathml"  # of reference.py: at build time, so that no script is asked for
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_copyright = False
python_maximum_signature_line_length = 88
