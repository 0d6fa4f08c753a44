"""dlref bench: times and memory of both sides, in tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ActionYesNo
from jsonargparse.typing import PositiveFloat, PositiveInt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .. import bench
from ..bench.growth import SIZES
from ..core.names import one_of
from ..samples import NAMES
from ..step.products import products
from .common import Parser, device_named, print_table

Record = dict[str, Any]


def main(command: str, arguments: list[str]) -> None:
    options = Parser(prog="dlref bench", description="Time both sides, and count their memory. Without names: every operation "
                     "and optimizer, or what --kernels, --models, --estimators, --memory, --growth and --estimate ask "
                     "for.")  # fmt: skip
    options.add_argument(
        "names", nargs="*", help="of operations, optimizers, networks, estimators; with --memory modules, networks"
    )
    options.add_argument("--kernels", action="store_true", help="what each kernel gains over its definition")
    options.add_argument("--models", action="store_true", help="a whole training step of every network")
    options.add_argument(
        "--estimators", action="store_true", help="fit and predict of the estimators, over scikit-learn's"
    )
    options.add_argument("--memory", action="store_true", help="bytes kept for the gradient, and the peak of a step")
    options.add_argument("--growth", action="store_true", help="time of a step against batch, width and depth")
    options.add_argument("--estimate", action="store_true", help="what a step would cost on a GPU, by formula")
    options.add_argument(
        "--compile", action=ActionYesNo, default=False, help="torch.compile on both sides too (minutes)"
    )
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ..., or auto")
    options.add_argument("--threads", type=PositiveInt, default=1, help="of the CPU")
    options.add_argument("--rounds", type=PositiveInt, default=20, help="measurements of each variant, at most")
    options.add_argument(
        "--seconds", type=PositiveFloat, default=5.0, help="budget of one comparison; three rounds at least"
    )
    options.add_argument("--products", default="auto", help="of float32 on a CPU: auto, what training by hand takes, the "
                         "built-in torch's own; default: torch's own on every side; onednn: oneDNN's on every side, at twice "
                         "MKL's speed on AMD; refused on a CPU with AMX, which would round them to bfloat16")  # fmt: skip
    options.add_argument("--json", help="file to write the results to")
    options.add_argument("--plot", help="PNG to draw the growth into")
    chosen = options.parse_args(arguments)
    for path in (chosen.json, chosen.plot):
        if path and Path(path).exists():
            raise ValueError(f"the file must not exist, so that nothing is overwritten; {path} does")
        if path and not Path(path).parent.is_dir():
            raise ValueError(f"the file must lie in a folder that exists; {path} does not: make it first")
    if chosen.plot and not chosen.growth:
        raise ValueError("--plot draws the growth: give --growth too")
    timed = (*NAMES, *bench.OPTIMIZERS, *bench.ESTIMATORS)
    known = [*(bench.MODULES if chosen.memory else timed), *bench.NETWORKS]
    for name in chosen.names:
        one_of("name", name, known)
        if chosen.estimate:
            one_of("a network to --estimate", name, bench.ESTIMATED)
    device, console = device_named(chosen.device), Console()
    torch.set_num_threads(chosen.threads)
    everywhere = chosen.products == "onednn"
    with products(chosen.products), bench.by_onednn(everywhere), Progress(console=console, transient=True) as progress:
        found = run(chosen, device, progress)
    found["environment"] = bench.environment(device, chosen.threads, products=chosen.products, compile=chosen.compile)
    if chosen.json:
        with open(chosen.json, "x") as file:
            json.dump(found, file, indent=1)
    if chosen.plot:
        bench.draw_growth(Path(chosen.plot), found["growth"])
    show(found, console)


def run(chosen: Any, device: torch.device, progress: Progress) -> dict[str, Any]:
    """The records of every section that was asked for, each {name of the section: list}."""
    common = {"device": device, "rounds": chosen.rounds, "seconds": chosen.seconds, "threads": chosen.threads}
    asked = chosen.kernels or chosen.models or chosen.estimators or chosen.memory or chosen.growth or chosen.estimate
    timed = chosen.names or not asked  # names choose among what is timed, the flags add to it

    def among(names: Iterable[str], all_of_them: bool) -> list[str]:
        return [name for name in names if (name in chosen.names if chosen.names else all_of_them)]

    def each(section: str, jobs: list[Any], work: Callable[[Any], Any]) -> list[Record]:
        task, found = progress.add_task(section, total=len(jobs)), []
        for job in jobs:
            progress.update(task, description=f"{section}: {job if isinstance(job, str) else ', '.join(job)}")
            records = work(job)
            found += records if isinstance(records, list) else [records]
            progress.advance(task)
        return found

    sections: dict[str, tuple[list[Any], Callable[[Any], Any]]] = {
        "operations": ([] if chosen.memory or chosen.kernels else among(NAMES, timed),
                       lambda name: bench.time_operation(name, compile=chosen.compile, **common)),
        "kernels": (among(bench.KERNELS, True) if chosen.kernels else [], lambda name: bench.time_kernel(name, **common)),
        "optimizers": ([] if chosen.memory else [(n, p) for n in among(bench.OPTIMIZERS, timed) for p in bench.PARAMETERS],
                       lambda job: bench.time_optimizer(*job, **common)),
        "steps": ([] if chosen.memory and not chosen.models else among(bench.NETWORKS, chosen.models),
                  lambda name: bench.time_steps(name, compile=chosen.compile, **common)),
        "estimators": ([] if chosen.memory and not chosen.estimators else among(bench.ESTIMATORS, chosen.estimators),
                       lambda name: bench.time_estimator(name, compile=chosen.compile, **common)),
        "saved": (among(bench.MODULES, True) if chosen.memory else [], lambda name: bench.saved_bytes(name, device)),
        "peak": (among(bench.NETWORKS, True) if chosen.memory else [], lambda name: bench.peak_bytes(name, device)),
        "estimate": (among(bench.ESTIMATED, True) if chosen.estimate else [], bench.estimate_step),
        "growth": (list(SIZES) if chosen.growth else [], lambda what: bench.time_growth(what, **common)),
    }  # fmt: skip
    return {section: each(section, jobs, work) for section, (jobs, work) in sections.items() if jobs}


def show(found: dict[str, Any], console: Console) -> None:
    """Every section as a table."""
    for section, title in bench.TITLES.items():
        if section in found:
            header, *rows = bench.rows(section, found[section])
            table = Table(*header, title=title)
            for column in table.columns[1:]:
                column.justify = "right"
            for row in rows:
                table.add_row(*row)
            print_table(console, table)
    if found.keys() & {"operations", "optimizers", "steps"}:
        console.print(bench.NOTE, highlight=False)
    console.print(bench.where(found["environment"]), highlight=False)
