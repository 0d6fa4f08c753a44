"""dlref list | show | compare: the pairs, their sources, and manual against built-in over all samples.

torch is imported where the arguments have been read, so that --help and wrong use need not wait for it.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import sys
import textwrap
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.syntax import Syntax
from rich.table import Table

from ..core.names import find, one_of
from .common import Parser, device_named, print_table

if TYPE_CHECKING:
    from ..verify.pairs import Pair

DTYPES = ("float32", "float64", "bfloat16", "float16", "complex64", "complex128")
SPACES = {"modules": "nn", "optimizers": "optim", "schedules": "optim.lr_scheduler"}


def main(command: str, arguments: list[str]) -> None:
    {"list": list_pairs, "show": show, "compare": compare_pairs}[command](arguments)


def parser(command: str, description: str) -> Parser:
    return Parser(prog=f"dlref {command}", description=description)


def list_pairs(arguments: list[str]) -> None:
    options = parser("list", "Every pair, with its modules, its family and where the article treats it; and every class, "
                     "optimizer and schedule beside.")  # fmt: skip
    options.add_argument("--family", help="only this family, as conv or activation")
    options.add_argument("--section", help="only this section of the article, as 3.3")
    chosen = options.parse_args(arguments)
    from ..verify.pairs import KINDS, TOPICS, others, pairs

    every, console = list(pairs().values()), Console()
    topics = {kind: (tuple(classes), KINDS[kind]) for kind, classes in others().items()} | TOPICS
    elsewhere = {section for _, sections in topics.values() for section in sections}
    for what, more in (("family", set()), ("section", elsewhere)):
        if (value := getattr(chosen, what)) is not None:
            one_of(what, value, sorted({getattr(pair, what) for pair in every} | more))
            every = [pair for pair in every if getattr(pair, what) == value]
    table = Table("pair", "modules")
    for family, members in itertools.groupby(sorted(every, key=lambda pair: pair.family), lambda pair: pair.family):
        table.add_section()
        for number, pair in enumerate(members):
            if not number:
                where = "" if pair.section == "-" else f"[dim], section {pair.section}[/dim]"
                table.add_row(f"[bold]{family}[/bold]{where}", "")
            table.add_row(f"  {pair.name}", ", ".join(m.__name__ for m in pair.manual_modules))
    beside = Table("kind", "names", "sections")
    for kind, (names, sections) in topics.items() if not chosen.family else ():
        if chosen.section in (None, *sections):
            beside.add_row(kind, ", ".join(names), ", ".join(sections))
    for shown in (table, beside):
        if shown.row_count:
            print_table(console, shown, "modules", "names", "sections")


def show(arguments: list[str]) -> None:
    options = parser(
        "show",
        "A pair, its equation, its sources on both sides, its samples; a class, optimizer or schedule, its source by hand and "
        "where the built-in one is; or the algorithm, backpropagation.",
    )
    options.add_argument("name", help="as in torch.nn.functional, torch.nn or torch.optim, in any case")
    options.add_argument("--kernel", action="store_true", help="the kernel too, the second form for speed")
    chosen = options.parse_args(arguments)
    from .. import builtin
    from ..manual import nn
    from ..verify.pairs import TOPICS, others, pairs

    every, beside = pairs(), others()
    classes = {m.__name__: pair for pair in every.values() for m in pair.manual_modules}
    algorithm = TOPICS["training"][0]
    known = [*every, *classes, *algorithm, *(name for found in beside.values() for name in found)]
    name = find("name", chosen.name, known)
    console = Console()
    if name in every or name in classes:
        pair = every.get(name) or classes[name]
        show_pair(pair, [getattr(nn, name)] if name in classes else list(pair.manual_modules), chosen.kernel, console)
        return
    if chosen.kernel:
        raise ValueError(f"--kernel must be asked of an operation, {name} is none")
    if name in algorithm:
        show_algorithm(console)
        return
    kind, cls = next((kind, found[name]) for kind, found in beside.items() if name in found)
    console.rule(f"{name}: {kind}")
    console.print(inspect.cleandoc(cls.__doc__ or ""), highlight=False, markup=False)
    op = getattr(cls, "op", None)
    parts = by_hand(cls)
    for part in (
        *((op.definition.forward, op.definition.pull) if op is not None else ()),
        *parts,
        *helpers(cls, parts),
    ):
        console.print(panel(source(part), at(part)))
    theirs = getattr(attrgetter(SPACES[kind])(builtin), name)
    console.print(f"built-in: {theirs.__module__}.{name}, {at(theirs)}", highlight=False, markup=False, soft_wrap=True)


def show_pair(pair: Pair, modules: list[type], kernel: bool, console: Console) -> None:
    import torch

    from ..samples import database_samples, hard_samples

    console.rule(f"{pair.name}: family {pair.family}, section {pair.section} of the article")
    console.print(inspect.cleandoc(pair.equation), highlight=False, markup=False)
    console.rule("gradient")
    console.print(inspect.cleandoc(pair.gradient), highlight=False, markup=False)
    made = [panel(code, title) for title, code in sources(pair).items()]
    if console.width >= 150:
        (grid := Table.grid(expand=True)).add_row(*made)
        console.print(grid)
    else:
        console.print(*made)
    for module in modules:
        console.print(panel(source(module), at(module)))
    if kernel:
        fast = pair.manual.fast
        if fast is None:
            raise ValueError(f"{pair.name} has no kernel: its definition computes everywhere")
        own = [part for part in (fast.forward, fast.pull) if ".kernels." in part.__module__]
        console.print(panel("\n\n".join(map(source, own)), f"kernel, {at(own[0])}"))
    console.rule("samples")
    dtype = torch.float32
    found = [*database_samples(pair.name, dtype, False), *hard_samples(pair.name, dtype)]
    console.print(f"{len(found)} in float32; the first of them:", highlight=False)
    for sample in found[:5]:
        console.print(f"  {sample!r}", highlight=False, markup=False)


def show_algorithm(console: Console) -> None:
    from ..builtin import training as builtin
    from ..core.pullback import gradients
    from ..manual import training as manual

    console.rule("backpropagation: the algorithm, as training.fit runs it")
    console.print(inspect.cleandoc(manual.__doc__ or ""), highlight=False, markup=False)
    for side, parts in (("by hand", (manual.step, gradients)), ("built-in", (builtin.step, builtin.gradients)),
                        ("the loop of both sides", (manual.fit_by,))):  # fmt: skip
        console.print(panel("\n\n".join(map(source, parts)), f"{side}, {at(parts[0])}"))


def panel(code: str, title: str) -> Panel:
    return Panel(Syntax(code, "python", background_color="default", word_wrap=True), title=title)


def source(part: Any) -> str:
    return textwrap.dedent(inspect.getsource(part)).rstrip()


def at(part: Any) -> str:
    """File and line of a function or a class."""
    part = inspect.unwrap(part)
    file = Path(inspect.getsourcefile(part) or "?")
    package = Path(__file__).parents[1]
    shown = file.relative_to(package.parent) if file.is_relative_to(package) else file
    return f"{shown}:{inspect.getsourcelines(part)[1]}"


def by_hand(cls: type) -> list[Any]:
    """A class and those of its bases that are derived by hand, too; of one that names another module than its own, its rule."""
    return [written(base) for base in cls.__mro__ if base.__module__.startswith("dlref.manual.")]


def written(cls: Any) -> Any:
    try:
        inspect.getsourcelines(cls)
    except OSError:  # inspect looks for it in the module that it names
        return cls.explicit
    return cls


def helpers(cls: type, parts: list[Any]) -> list[Any]:
    """What the sources of a class call to read them by: rules of its bases in dlref.core, functions of their own module."""
    found: dict[Any, None] = {}
    for part in parts:
        beside = vars(sys.modules[part.__module__])
        for own, name in re.findall(r"(?<![\w.])(self\.)?(\w+)\(", source(part)):
            called = getattr(cls, name, None) if own else beside.get(name)
            room = getattr(called, "__module__", None) or ""
            if inspect.isfunction(called) and (room.startswith("dlref.core.") if own else room == part.__module__):
                found[called] = None
    return list(found)


def sources(pair: Pair) -> dict[str, str]:
    """The source of each side, by its title."""
    parts = (pair.manual.definition.forward, pair.manual.definition.pull)
    try:
        builtin = source(pair.builtin)
    except TypeError:
        builtin = f"# torch's own, in C++: {pair.builtin}"
    return {f"by hand, {at(parts[0])}": "\n\n".join(map(source, parts)), "built-in": builtin}


def compare_pairs(arguments: list[str]) -> None:
    options = parser("compare", "Manual against built-in over all samples; status 1 where a value departs.")
    options.add_argument("names", nargs="*", help="of the pairs, by default all")
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ..., or auto")
    options.add_argument("--dtype", default="float32", help=f"one of {', '.join(DTYPES)}")
    options.add_argument("--json", help="file to write the results to")
    chosen = options.parse_args(arguments)
    one_of("dtype", chosen.dtype, DTYPES)
    import torch

    from ..samples import NAMES, database, supported
    from ..verify.compare import compare

    for name in chosen.names:
        one_of("name", name, NAMES)
    if chosen.json and Path(chosen.json).exists():
        raise ValueError(f"the file must not exist, so that nothing is overwritten; {chosen.json} does")
    device, dtype, console = str(device_named(chosen.device)), getattr(torch, chosen.dtype), Console()
    if not database():
        console.print("note: PyTorch's own samples need the package expecttest; only the hard samples are compared")
    names = chosen.names or [name for name in NAMES if dtype in supported(name, backward=True)]
    table = Table("pair", "samples", "values", "output", "built-in", "gradient", "built-in", "wrong")
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
    print_table(console, table)
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
