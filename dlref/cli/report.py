"""dlref report: one self-contained HTML page of all pairs."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ..core.names import one_of
from .common import Parser, new_run


def main(command: str, arguments: list[str]) -> None:
    options = Parser(prog="dlref report", description="One HTML page, without network: all pairs, their errors by dtype, both "
                     "sources, equations, and training curves of both sides.")  # fmt: skip
    options.add_argument("names", nargs="*", help="of the pairs, by default all")
    options.add_argument("--out", help="folder for index.html; by default a new one in runs/")
    options.add_argument("--dtype", nargs="+", help="float64, float32, bfloat16, float16; by default the first three")
    options.add_argument("--epochs", type=int, default=20, help="of the networks; 0 trains none")
    options.add_argument("--site", help="folder or address of the site, to which each pair is linked; by "
                         "default the folder site, if it is there")  # fmt: skip
    chosen = options.parse_args(arguments)
    from ..report import DTYPES, NETWORKS, build  # here, so that --help need not wait for torch
    from ..samples import NAMES

    dtypes = chosen.dtype or DTYPES
    for name in chosen.names:
        one_of("name", name, NAMES)
    for dtype in dtypes:
        one_of("dtype", dtype, ("float64", "float32", "bfloat16", "float16"))
    if chosen.epochs < 0:
        raise ValueError(f"epochs must be 0 or more, they are {chosen.epochs}")
    if chosen.out is not None and Path(chosen.out, "index.html").exists():
        raise ValueError(f"the page must not exist, so that nothing is overwritten; {chosen.out}/index.html does")
    site = chosen.site or ("site" if Path("site/generated/pairs").is_dir() else "")
    if site and "://" not in site and not Path(site, "generated/pairs").is_dir():
        raise ValueError(f"--site must be a folder that sphinx has built, or an address; {site} is none: build it by python -m "
                         f"sphinx -b html docs {site}")  # fmt: skip
    console = Console()
    with Progress(console=console, transient=True) as progress:
        names = chosen.names or NAMES
        task = progress.add_task("", total=len(names) * len(dtypes) + (len(NETWORKS) if chosen.epochs else 0))

        def told(what: str) -> None:
            progress.update(task, description=what, advance=1)

        if site and "://" not in site:
            site = os.path.relpath(site, chosen.out or "runs/report")  # as seen from the page
        page = build(names, dtypes, chosen.epochs, told, site)
    folder = new_run("runs", "report") if chosen.out is None else Path(chosen.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(page, encoding="utf-8")
    console.print(f"{folder / 'index.html'}: {len(names)} pairs, {len(page) / 1e6:.1f} MB", highlight=False)
