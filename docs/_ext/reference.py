"""Pages made of the code: a page a family of pairs, the optimizers and schedules, the public names; equations as MathML.

They are written to docs/generated/ as the site is built, so that no page says what the code does not.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import tables
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from dlref.cli.experiment import shown as figure
from dlref.cli.pairs import at, by_hand, source, sources
from dlref.experiments import NAMES as EXPERIMENTS
from dlref.experiments import experiment
from dlref.report import mathml
from dlref.verify.pairs import Pair, others, pairs

RESULTS = Path(__file__).parents[1] / "experiments"  # `dlref experiment run all --out docs/experiments`
LONG = 40  # characters of LaTeX, beyond which an equation may be wider than a telephone
LOGGER = logging.getLogger(__name__)
SPACES = ("dlref", "dlref.manual.functional", "dlref.manual.nn", "dlref.manual.nn.utils", "dlref.manual.optim",
          "dlref.manual.optim.lr_scheduler", "dlref.manual.init", "dlref.manual.training", "dlref.manual.amp",
          "dlref.models", "dlref.data", "dlref.lightning", "dlref.estimators", "dlref.samples", "dlref.bench")  # fmt: skip


def markdown(docstring: str | None) -> str:
    """A docstring as MyST: an equation in $ stays, `Args:` becomes a list, an asterisk or a bracket of prose means itself."""
    text = inspect.cleandoc(docstring or "")
    text, _, arguments = text.partition("\nArgs:\n")
    out = prose(text)
    for name, described in re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", arguments, re.M | re.S):
        out += f"\n- `{name}`: {prose(' '.join(described.split()))}"
    return out + "\n"


def prose(text: str) -> str:
    out = []
    for i, part in enumerate(re.split(r"(\$\$.+?\$\$|\$.+?\$|`[^`]+`)", text, flags=re.S)):
        if not i % 2:
            out.append(re.sub(r"([*_<\[\]])", r"\\\1", part))
        else:
            of_line = " ".join(part.split())
            out.append(f"\n\n{of_line}\n\n" if part.startswith("$$") else of_line)
    return re.sub(r"\n {4,}", "\n", "".join(out))  # a continued line is no block of code


def code(text: str, caption: str = "") -> str:
    return "```{code-block} python\n" + (f":caption: {caption}\n" if caption else "") + f"\n{text}\n```\n"


def shown(part: Any) -> str:
    """A class with its file and line; nothing of one that is made by a call."""
    try:
        return code(source(part), at(part))
    except OSError:
        return ""


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n</details>\n"


def of_pair(pair: Pair) -> str:
    """A pair: what it is and refuses, its gradient, definition, module, kernel, built-in."""
    (where, definition), (_, builtin) = sources(pair).items()
    out = [f'<a id="{pair.name}"></a>\n\n## {pair.name}\n', markdown(pair.equation),
           f"**Gradient.** {markdown(pair.gradient)}", code(definition, where.removeprefix("by hand, "))]  # fmt: skip
    out += map(shown, pair.manual_modules)
    fast = pair.manual.fast
    if fast is not None:
        own = [part for part in (fast.forward, fast.pull) if ".kernels." in part.__module__]
        out.append(folded("Kernel, the second form for speed", code("\n\n".join(map(source, own)), at(own[0]))))
    out.append(folded("Built-in", code(builtin)))
    return "\n".join(out)


def of_class(name: str, cls: type) -> str:
    parts = map(shown, by_hand(cls))
    return "\n".join([f'<a id="{name}"></a>\n\n## {name}\n', markdown(cls.__doc__), *parts])


def signature(value: Any) -> str:
    """The parameters as they are called, without types; what cannot be written as it is called is an ellipsis."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [
        p.replace(annotation=p.empty, default=p.default if plain(p.default) else ...) for p in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters, return_annotation=found.empty)).replace("Ellipsis", "...")


def plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(plain, value))
    return value is inspect.Parameter.empty or isinstance(value, (bool, int, float, str, type(None)))


def names_of(space: Any) -> list[str]:
    public = getattr(space, "__all__", None) or [n for n in vars(space) if not n.startswith("_")]
    return sorted(n for n in public if callable(getattr(space, n, None)) and ours(getattr(space, n)))


def ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("dlref") and bool(getattr(value, "__doc__", None))


def of_space(name: str) -> str:
    """Every public name of a namespace that is defined here."""
    space, every = importlib.import_module(name), pairs()
    out = [f"# {name}\n", markdown(space.__doc__)]
    for n in names_of(space):
        value = getattr(space, n)
        kind = "class" if isinstance(value, type) else "function"
        more = (
            f"\nDefinition and gradient: [](../pairs/{every[n].family}.md#{n})\n"
            if n in every and kind == "function"
            else ""
        )
        out.append(f"````{{py:{kind}}} {name}.{n}{signature(value)}\n\n{markdown(inspect.getdoc(value))}{more}````\n")
    return "\n".join(out)


def of_experiment(name: str) -> str:
    """A claim, how it was tried, what came out, the picture and the code, from the results that are committed."""
    tried = experiment(name)
    found = json.loads((RESULTS / name / "result.json").read_text())
    rules = [
        f"| {prose(r['number'])} | {r['must be']} | {figure(found['numbers'][r['number']])} | "
        f"{'yes' if r['met'] else 'no'}, {r['seeds that meet it']} of {found['seeds']} seeds |"
        for r in found["rules"]
    ]
    more = [
        f"| {prose(number)} | | {figure(value)} | |"
        for number, value in found["numbers"].items() if number not in {r["number"] for r in found["rules"]}
    ]  # fmt: skip
    return "\n".join([
        f"# {name.replace('_', ' ')}\n", f"Section {tried.section}. **{prose(tried.claim)}**\n",
        f"The claim **{found['verdict']}**.\n", f"![{name}](../../experiments/{name}/{name}.png)\n",
        prose(found["setup"]) + "\n", "| number | needed | mean and deviation | met |\n| --- | --- | --- | --- |",
        *rules, *more,
        f"\nBy hand and built-in differ by {found['built-in differs by']:.1g}, as a share of the largest value.\n",
        f"    dlref experiment run {name} --seeds {found['seeds']}\n", code(source(type(tried)), at(type(tried))),
    ])  # fmt: skip


def gallery() -> str:
    """A card a claim, in the article's order: the picture, the verdict, the claim."""
    cards = []
    for name in EXPERIMENTS:
        verdict = json.loads((RESULTS / name / "result.json").read_text())["verdict"]
        tried = experiment(name)
        cards.append(f":::{{container}} card\n[![{name}](../../experiments/{name}/{name}.png)]({name}.md)\n\n"
                     f"[{prose(tried.claim)}]({name}.md)\n\nSection {tried.section}: **{verdict}**\n:::")  # fmt: skip
    return "::::{container} gallery\n" + "\n".join(cards) + "\n::::"


def written(folder: Path, pages: Iterable[tuple[str, str]]) -> None:
    for name, text in pages:
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def generate(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "generated"
    shutil.rmtree(folder, ignore_errors=True)
    families: dict[str, list[Pair]] = {}
    for pair in pairs().values():
        families.setdefault(pair.family, []).append(pair)
    for family, of_it in families.items():
        title = (inspect.getdoc(importlib.import_module(f"dlref.manual.nn.{family}")) or family).splitlines()[0]
        page = "\n".join([f"# {family}\n", prose(title) + "\n", *map(of_pair, of_it)])
        written(folder / "pairs", [(family, page)])
    for kind, found in others().items():
        page = "\n".join([f"# {kind}\n", *(of_class(*item) for item in sorted(found.items()))])
        written(folder / "pairs", [(kind, page)])
    written(folder / "api", ((name, of_space(name)) for name in SPACES))
    written(folder / "experiments", ((name, of_experiment(name)) for name in EXPERIMENTS))
    toc = "```{{toctree}}\n:maxdepth: 1\n\n{}\n```\n"
    written(folder, [
        ("sections", tables.sections()), ("changes", tables.changes()), ("devices", tables.devices()),
        ("pairs/index", "# Pairs\n\nEvery concept by its family: definition, gradient, module, kernel, and torch's own.\n\n"
         + toc.format("\n".join([*sorted(families), *others()]))),
        ("experiments/index", "# Experiments\n\nWhat the article claims, put to the test over several seeds, by hand and by "
         "the built-in side. The rules were set before anything was measured.\n\n" + gallery() + "\n\n"
         + toc.format("\n".join(EXPERIMENTS)).replace(":maxdepth: 1", ":maxdepth: 1\n:hidden:")),
        ("api/index", "# Names\n\nThe public names, from their docstrings.\n\n" + toc.format("\n".join(SPACES))),
    ])  # fmt: skip


def equation(translator: Any, text: str, display: str, node: Any) -> None:
    try:
        translator.body.append(mathml(text, display))
    except Exception as error:  # the converter raises many kinds
        LOGGER.warning("no MathML of %r: %r", text, error, location=node)


def inline(translator: Any, node: nodes.math) -> None:
    """Equations that a line may be broken between; of a long one a narrow page shows a part, and the rest where it is moved."""
    for i, part in enumerate(apart(node.astext(), ("\\quad", "\\qquad", "\\ "))):
        translator.body.append(" " * bool(i) + f'<span class="math{" long" * (len(part) > LONG)}">')
        equation(translator, part, "inline", node)
        translator.body.append("</span>")
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """Equations side by side, which a narrow page may have one below the other."""
    translator.body.append('<div class="equations">')
    try:
        for part in apart(node.astext(), ("\\quad", "\\qquad")):
            equation(translator, part, "block", node)
    finally:
        translator.body.append("</div>\n")
    raise nodes.SkipNode


def apart(text: str, spaces: Collection[str]) -> list[str]:
    """What stands between such spaces, but for those within braces or an environment."""
    parts, depth = [""], 0
    for token in re.findall(r"\\[a-zA-Z]+|\\.|[^\\]", text, re.S):
        depth += token in ("{", "\\begin") or -(token in ("}", "\\end"))
        if token in spaces and not depth:
            parts.append("")
        else:
            parts[-1] += token
    return [part for part in parts if part.strip()]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", generate)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True}
