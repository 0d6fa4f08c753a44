"""dlref report: one HTML page of all pairs, their errors, both sources, and the curves of networks trained by both sides."""

from __future__ import annotations

import html
import inspect
import io
import math
import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from .. import builtin, data, manual, models
from ..core.extras import optional
from ..samples import supported
from ..verify.compare import Comparison, compare
from ..verify.pairs import Pair, pairs

DTYPES = ("float64", "float32", "bfloat16")
MATHML = "http://www.w3.org/1998/Math/MathML"
BINS = range(-6, 7)  # of the histogram: powers of two of a unit of rounding
# name: (whether its input is an image, the network of a namespace)
NETWORKS: dict[str, tuple[bool, Callable[[Any], Any]]] = {
    "multilayer perceptron": (False, lambda ns: models.mlp(ns, 64, (64,), 10)),
    "convolutional network": (True, lambda ns: models.cnn(ns, channels=(8, 16), hidden=32)),
    "LSTM over rows": (True, lambda ns: models.row_classifier(ns, hidden=32)),
}


@optional()
def build(names: Sequence[str], dtypes: Sequence[str] = DTYPES, epochs: int = 20,
          progress: Callable[[str], None] = lambda what: None, site: str = "") -> str:  # fmt: skip
    """The page's text. site: where the site stands, as seen from the page; each pair is linked to its place there."""
    from jinja2 import Environment, FileSystemLoader
    from pygments.formatters import HtmlFormatter

    every = pairs()
    rows = []
    for name in sorted(names):
        found = {}
        for dtype in dtypes:
            progress(f"{name}, {dtype}")
            if getattr(torch, dtype) in supported(name, backward=True):
                found[dtype] = compare(name, dtype=getattr(torch, dtype))
        rows.append(row(every[name], found, dtypes))
    curves = []
    for name in NETWORKS if epochs else ():
        progress(f"{name}, trained by both sides")
        curves.append(curve(name, epochs))
    light, dark = (HtmlFormatter(style=style).get_style_defs(".code") for style in ("friendly", "monokai"))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    compared = [c for r in rows for c in r["comparisons"].values()]
    return environment.get_template("page.html").render(
        rows=rows, dtypes=dtypes, curves=curves, light=colours(light), dark=colours(dark), torch=torch.__version__,
        machine=f"{platform.machine()}, {platform.system()}", samples=sum(c.samples for c in compared),
        site=site.rstrip("/"), values=sum(c.values for c in compared), departures=sum(len(c.departures) for c in compared),
    )  # fmt: skip


def colours(css: str) -> str:
    """The colours of a highlighting style, without its background, which is the page's."""
    return "\n".join(line for line in css.splitlines() if line.startswith(".code ."))


def row(pair: Pair, found: dict[str, Comparison], dtypes: Sequence[str]) -> dict[str, Any]:
    """What the template shows of a pair."""
    from ..cli.pairs import sources

    cells = []
    for dtype in dtypes:
        c = found.get(dtype)
        if c is None or not c.values:
            cells.append({"text": "–", "sort": -1.0, "ok": True, "title": f"not of {dtype}"})
            continue
        ours = max(c.largest["manual output"], c.largest["manual gradient"])
        theirs = max(c.largest["built-in output"], c.largest["built-in gradient"])
        measure = dtype == "float64"
        cells.append({"text": brief(ours), "builtin": "reference" if measure else brief(theirs), "sort": ours, "ok": c.ok,
                      "title": f"by hand {ours:.3g}, built-in {'the reference' if measure else f'{theirs:.3g}'}, in units "
                               "of rounding"})  # fmt: skip
    manual, builtin = sources(pair).values()
    return {
        "name": pair.name, "family": pair.family, "section": pair.section, "cells": cells, "comparisons": found,
        "ok": all(c.ok for c in found.values()), "modules": ", ".join(m.__name__ for m in pair.manual_modules),
        "equation": rendered(inspect.cleandoc(pair.equation)), "gradient": rendered(inspect.cleandoc(pair.gradient)),
        "manual": highlighted(manual), "builtin": highlighted(builtin),
        "histograms": {dtype: histogram(c.errors) for dtype, c in found.items() if c.errors},
        "departures": [str(d) for c in found.values() for d in c.departures[:3]],
    }  # fmt: skip


def brief(value: float) -> str:
    return f"{value:.2g}" if value < 100 or value >= 1e4 else f"{value:,.0f}"


def highlighted(code: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(code, PythonLexer(), HtmlFormatter(cssclass="code"))


def mathml(equation: str, display: str = "inline") -> str:
    """An equation in LaTeX as MathML, a bar as a line above what it is of, as no font stretches one."""
    from latex2mathml.converter import convert

    ElementTree.register_namespace("", MATHML)
    root = ElementTree.fromstring(convert(equation, display=display))
    for over in root.iter(f"{{{MATHML}}}mover"):
        if over[1].text in ("\u2015", "\u00af"):
            over.tag = f"{{{MATHML}}}mrow"
            over.set("style", "border-top: .06em solid; padding-top: .1em")
            over.remove(over[1])
    return ElementTree.tostring(root, encoding="unicode")


def rendered(text: str) -> str:
    """A docstring as HTML, its equations as MathML."""
    parts = re.split(r"\$(.+?)\$", text, flags=re.DOTALL)
    out = []
    for i, part in enumerate(parts):
        if i % 2:
            out.append(mathml(" ".join(part.split())))
        else:
            out.append(html.escape(part).replace("\n\n", "<br><br>"))
    return "".join(out)


def histogram(errors: Sequence[float]) -> list[dict[str, Any]]:
    """How many values have an error of each power of two of a unit."""
    counts = dict.fromkeys(BINS, 0)
    for error in errors:
        power = (
            BINS[0]
            if error <= 0 or math.isnan(error)
            else math.ceil(math.log2(error))
            if error < 2 ** BINS[-1]
            else BINS[-1]
        )
        counts[min(max(power, BINS[0]), BINS[-1])] += 1
    most = max(counts.values()) or 1
    return [
        {"label": f"up to 2^{power}", "count": count, "height": 100 * count / most} for power, count in counts.items()
    ]


def curve(name: str, epochs: int) -> dict[str, str]:
    """Losses of one network on the digits, trained by both sides from one start, as an SVG."""
    from matplotlib.figure import Figure

    images, make = NETWORKS[name]
    digits = data.digits(images, dtype=torch.float64)
    train = digits.train.tensors
    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axis = figure.subplots()
    networks, last = [], 0.0
    for ns, label, style in ((manual, "by hand", "-"), (builtin, "built-in", ":")):
        torch.manual_seed(0)
        network = make(ns).double()
        optimizer = ns.optim.Adam(network.parameters(), lr=2e-3)
        history = ns.training.fit(network, ns.nn.CrossEntropyLoss(), optimizer, train, epochs=epochs, tolerance=None)
        networks.append(network)
        last = history[-1]["loss"]
        losses = [record["loss"] for record in history]
        colour, width = ("#3b7dd8", 2) if style == "-" else ("#e07b39", 3)
        axis.plot(range(1, epochs + 1), losses, style, label=label, linewidth=width, color=colour)
    axis.set_yscale("log")
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss")
    axis.legend(frameon=False, labelcolor="#888")
    grey = "#888"  # legible on a light page and on a dark one
    for spine in axis.spines.values():
        spine.set_color(grey)
    axis.tick_params(colors=grey, which="both")
    axis.xaxis.label.set_color(grey)
    axis.yaxis.label.set_color(grey)
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    apart = max(float((a - b).detach().abs().max()) for a, b in zip(*(n.parameters() for n in networks), strict=True))
    return {"name": name, "svg": text[text.index("<svg") :], "apart": f"{apart:.1e}", "last": f"{last:.4f}"}
