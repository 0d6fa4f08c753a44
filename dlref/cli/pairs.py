"""dlref list | show | compare: the pairs, their sources, and manual against built-in over all samples.

torch is imported where the arguments have been read, so that --help and wrong use need not wait for it.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.syntax import Syntax
from rich.table import Table

from ..names import one_of
from .common import Parser, device_named

if TYPE_CHECKING:
    from ..pairs import Pair

DTYPES = ("float32", "float64", "bfloat16", "float16", "complex64", "complex128")


def main(command: str, arguments: list[str]) -> None:
    {"list": list_pairs, "show": show, "compare": compare_pairs}[command](arguments)


def parser(command: str, description: str) -> Parser:
    return Parser(prog=f"dlref {command}", description=description)


def list_pairs(arguments: list[str]) -> None:
    options = parser("list", "Every pair, with its modules, its family and where the article treats it.")
    options.add_argument("--family", help="only this family, as conv or activation")
    options.add_argument("--section", help="only this section of the article, as 3.3")
    chosen = options.parse_args(arguments)
    from ..pairs import pairs

    every = list(pairs().values())
    for what in ("family", "section"):
        if (value := getattr(chosen, what)) is not None:
            one_of(what, value, sorted({getattr(pair, what) for pair in every}))
            every = [pair for pair in every if getattr(pair, what) == value]
    table = Table("pair", "modules", "family", "section")
    for pair in every:
        table.add_row(pair.name, ", ".join(m.__name__ for m in pair.manual_modules), pair.family, pair.section)
    Console().print(table)


def show(arguments: list[str]) -> None:
    options = parser("show", "A pair: its equation, both sources, its gradient and its samples.")
    options.add_argument("name", help="as in torch.nn.functional")
    name = options.parse_args(arguments).name
    import torch

    from ..pairs import pairs
    from ..samples import database_samples, hard_samples

    every = pairs()
    one_of("name", name, every)
    pair, console = every[name], Console()
    console.rule(f"{name}: family {pair.family}, section {pair.section} of the article")
    console.print(inspect.cleandoc(pair.equation), highlight=False, markup=False)
    console.rule("gradient")
    console.print(inspect.cleandoc(pair.gradient), highlight=False, markup=False)
    by_hand, builtin = (
        Panel(Syntax(code, "python", background_color="default", word_wrap=True), title=title)
        for title, code in sources(pair).items()
    )
    if console.width >= 150:
        (grid := Table.grid(expand=True)).add_row(by_hand, builtin)
        console.print(grid)
    else:
        console.print(by_hand, builtin)
    console.rule("samples")
    dtype = torch.float32
    found = [*database_samples(name, dtype, False), *hard_samples(name, dtype)]
    console.print(f"{len(found)} in float32; the first of them:", highlight=False)
    for sample in found[:5]:
        console.print(f"  {sample!r}", highlight=False, markup=False)


def sources(pair: Pair) -> dict[str, str]:
    """The source of each side, by its title."""
    parts = (pair.manual.forward, pair.manual.pull)
    by_hand = "\n\n".join(textwrap.dedent(inspect.getsource(part)).rstrip() for part in parts)
    try:
        builtin = textwrap.dedent(inspect.getsource(pair.builtin)).rstrip()
    except TypeError:
        builtin = f"# torch's own, in C++: {pair.builtin}"
    return {"by hand": by_hand, "built-in": builtin}


def compare_pairs(arguments: list[str]) -> None:
    options = parser("compare", "Manual against built-in over all samples; status 1 where a value departs.")
    options.add_argument("names", nargs="*", help="of the pairs, by default all")
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ..., or auto")
    options.add_argument("--dtype", default="float32", help=f"one of {', '.join(DTYPES)}")
    options.add_argument("--json", help="file to write the results to")
    chosen = options.parse_args(arguments)
    one_of("dtype", chosen.dtype, DTYPES)
    import torch

    from ..compare import compare
    from ..samples import NAMES, database, supported

    for name in chosen.names:
        one_of("name", name, NAMES)
    if chosen.json and Path(chosen.json).exists():
        raise ValueError(f"the file must not exist, so that nothing is overwritten; {chosen.json} does")
    device, dtype, console = str(device_named(chosen.device)), getattr(torch, chosen.dtype), Console()
    if not database():
        console.print("note: PyTorch's own samples need the package expecttest; only the hard samples are compared")
    names = chosen.names or [name for name in NAMES if dtype in supported(name, backward=True)]
    table = Table("pair", "samples", "values", "output", "built-in", "gradient", "built-in", "wrong")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    found: list[Any] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("comparing", total=len(names))
        for name in names:
            progress.update(task, description=name)
            found.append(one := compare(name, device, dtype))
            errors = (f"{value:.2g}" for value in one.largest.values())
            table.add_row(name, str(one.samples), str(one.values), *errors, str(len(one.departures)))
            progress.advance(task)
    console.print(table)
    console.print(
        "The largest errors of outputs and gradients against float64, by hand and built-in, in units of the dtype's rounding; "
        "wrong: values further off than they may be.", highlight=False,
    )  # fmt: skip
    for one in found:
        for departure in one.departures[:3]:
            console.print(f"{one.name}: {departure}", highlight=False, markup=False)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps([one.as_dict() for one in found], indent=2) + "\n")
    if not all(one.ok for one in found):
        sys.exit(1)
