"""dlref experiment list | run: the article's claims, and what becomes of them when they are tried."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.table import Table

from ..core.extras import optional
from ..core.names import one_of
from .common import Parser, new_run, print_table


def main(command: str, arguments: list[str]) -> None:
    options = Parser(prog="dlref experiment", description="The article's claims, put to the test.")
    commands = options.add_subcommands(dest="action")
    listing = Parser(description="Every experiment: its section of the article and its claim.")
    listing.add_argument("--section", help="only this section of the article, as 3.3 or 4")
    running = Parser(description="Run experiments; each leaves a folder with result.json and a picture.")
    running.add_argument("names", nargs="+", help="of the experiments, or all")
    running.add_argument("--seeds", type=PositiveInt, default=5, help="how often each is run, with seeds 0, 1, 2, ...")
    running.add_argument("--out", help="folder for a folder of each experiment; by default a new one in runs/")
    commands.add_subcommand("list", listing, help="every experiment and its claim")
    commands.add_subcommand("run", running, help="run some, or all")
    chosen = options.parse_args(arguments)
    {"list": show, "run": run}[chosen.action](chosen[chosen.action])


def show(chosen: Any) -> None:
    from ..experiments import NAMES, experiment  # here, so that --help need not wait for torch

    every = [experiment(name) for name in NAMES]
    if chosen.section is not None:
        every = [found for found in every if f"{found.section}.".startswith(f"{chosen.section}.")]
        if not every:
            raise ValueError(f"section must be one that an experiment treats, it is {chosen.section!r}: see "
                             "dlref experiment list")  # fmt: skip
    table = Table("experiment", "section", "claim")
    for found in every:
        table.add_row(found.name, found.section, found.claim)
    print_table(Console(), table, "claim")


def run(chosen: Any) -> None:
    from ..experiments import NAMES, experiment

    for name in chosen.names:
        one_of("experiment", name, (*NAMES, "all"))
    names = list(NAMES) if "all" in chosen.names else list(dict.fromkeys(chosen.names))
    for name in names:
        if chosen.out is not None and Path(chosen.out, name).exists():
            raise ValueError(
                f"the folder must not exist, so that nothing is overwritten; {Path(chosen.out, name)} does"
            )
    with optional():
        importlib.import_module("matplotlib.figure")  # asked for before anything is measured
    import torch

    from ..experiments.base import AGREEMENT

    torch.set_num_threads(1)  # the networks are small, and one thread gives the same bits everywhere
    console, results = Console(), []
    parent = new_run("runs", "experiment") if chosen.out is None else Path(chosen.out)
    for number, name in enumerate(names, 1):
        (folder := parent / name).mkdir(parents=True)
        with console.status(f"{name}, {number} of {len(names)}"):
            results.append(experiment(name).run(folder, chosen.seeds))
        found = results[-1]
        apart = f"{found['built-in differs by']:.0e}"
        console.print(f"{name}: {found['verdict']} ({found['seconds']:.0f} s, sides {apart} apart)", highlight=False)
    for result in results if len(results) < 4 else ():
        told(result, console)
    print_table(console, summary(results), "decided by what must be")
    files = (f"{name}/result.json, {name}/{name}.png" for name in names)
    written = ", ".join(files) if len(names) < 4 else f"{len(names)} folders, each with result.json and its picture"
    console.print(f"wrote {parent}/: {written}", soft_wrap=True, highlight=False)
    for result in results:
        if not result["built-in differs by"] <= AGREEMENT:
            raise ValueError(f"both sides must agree to {AGREEMENT:g}; in {result['name']} they are "
                             f"{result['built-in differs by']:.1e} apart")  # fmt: skip


def summary(results: list[dict[str, Any]]) -> Table:
    """A row for each experiment: the first of its numbers that misses its bound, or the first."""
    title = f"Mean ± deviation of {results[0]['seeds']} seeds; † misses what the claim needs"
    table = Table("experiment", "verdict", "decided by what must be", "mean ± deviation", title=title)
    for result in results:
        rule = next((r for r in result["rules"] if not r["met"]), result["rules"][0])
        decided = f"{shown(result['numbers'][rule['number']])}{'' if rule['met'] else ' †'}"
        table.add_row(result["name"], result["verdict"], f"{rule['number']}: {rule['must be']}", decided)
    return table


def told(result: dict[str, Any], console: Console) -> None:
    """All of one experiment."""
    console.rule(f"{result['name']}, section {result['section']} of the article")
    for what in ("claim", "setup"):
        console.print(f"{what}: {result[what]}", highlight=False, markup=False)
    table = Table("number", "mean ± deviation", "the claim needs", "")
    bounds = {rule["number"]: rule for rule in result["rules"]}
    for name, number in result["numbers"].items():
        if (rule := bounds.get(name)) is None:
            table.add_row(name, shown(number))
            continue
        met = f"{'met' if rule['met'] else 'missed'}, {rule['seeds that meet it']} of {result['seeds']} seeds"
        table.add_row(name, shown(number), rule["must be"], met)
    print_table(console, table, "number")


def shown(number: dict[str, Any]) -> str:
    """Mean and deviation, both with an exponent where one needs it."""
    mean, deviation = number["mean"], number["deviation"]
    if "e" in f"{mean:.4g} {deviation:.4g}":
        return f"{mean:.3e} ± {deviation:.1e}"
    return f"{mean:.4g} ± {float(f'{deviation:.2g}'):.4g}"
