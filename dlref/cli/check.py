"""dlref check MODULE:NAME --against NAME: somebody's own implementation, held to the reference."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from .common import Parser, device_named


def main(command: str, arguments: list[str]) -> None:
    options = Parser(prog="dlref check", description="Hold your own function, autograd.Function, custom operator, module, "
                     "optimizer or schedule to the reference; status 0 where it is right, 1 where something is "
                     "found, 3 where nothing could be compared.")  # fmt: skip
    options.add_argument("candidate", help="MODULE:NAME, of a module that can be imported from here or of a file.py")
    options.add_argument(
        "--against", required=True, help="as in torch.nn.functional, torch.nn, torch.optim: layer_norm, LSTM, Adam"
    )
    options.add_argument("--dtype", nargs="+", help="float32, float64, bfloat16, float16; by default the first three")
    options.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ..., or auto")
    options.add_argument("--sample", nargs="+", help="only these samples, as a report names them")
    options.add_argument("--all", action="store_true", help="all samples of PyTorch's database, where there are many")
    options.add_argument("--rows", action="store_true", help="more than 65,536 rows, too")
    options.add_argument(
        "--may-change", nargs="+", default=[], metavar="ARGUMENT",
        help="arguments that the candidate writes into by design, as input; grad_output is the upstream gradient",
    )  # fmt: skip
    options.add_argument("--no-backward", action="store_true", help="values only")
    options.add_argument("--no-beyond", action="store_true", help="no second derivative, jvp, vmap, compile, autocast")
    options.add_argument(
        "--in-process", action="store_true", help="not in a process of its own, where a crash is a finding"
    )
    options.add_argument("--time-limit", type=float, default=60.0, help="seconds for one sample")
    options.add_argument(
        "--where", help="the part of the reference's domain that the candidate is made for, an expression over the "
        'reference\'s argument names: "input.dim() == 2 and target.dtype == torch.int64"'
    )  # fmt: skip
    options.add_argument("--json", help="file to write the report to")
    options.add_argument("--junit", help="file to write the report to, as JUnit's XML")
    chosen = options.parse_args(arguments)
    from ..verify.check import check
    from ..verify.oracle.care import restored, surroundings
    from ..verify.oracle.reference import dtype_named, reference_named  # here, so that --help need not wait for torch
    from ..verify.oracle.report import Finding
    from ..verify.oracle.subject import imported

    reference_named(chosen.against)
    for dtype in chosen.dtype or ():
        dtype_named(dtype)
    for path in (chosen.json, chosen.junit):
        if path and Path(path).exists():
            raise ValueError(f"the file must not exist, so that nothing is overwritten; {path} does")
    device = str(device_named(chosen.device))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    before = surroundings()
    candidate = imported(chosen.candidate)
    moved = [name for name in restored(before) if "random" not in name]  # a seed at import is the user's own
    with Console(stderr=True).status(f"checking {chosen.candidate}"):
        report = check(
            candidate, chosen.against, device=device, dtypes=chosen.dtype, backward=not chosen.no_backward,
            beyond=not chosen.no_beyond, rows=chosen.rows, all=chosen.all, samples=chosen.sample,
            isolate=not chosen.in_process, time_limit=chosen.time_limit, may_change=chosen.may_change,
            where=chosen.where,
        )  # fmt: skip
    if moved:
        report.findings.insert(
            0, Finding("global state", "the import", "", "", "any", diagnosis=f"it changes {', '.join(moved)}")
        )
    for finding in report.findings:
        if "--against" in finding.replay:
            finding.replay = f"dlref check {chosen.candidate}" + finding.replay[finding.replay.index(" --against") :]
    console.print(str(report), markup=False)
    if chosen.json:
        Path(chosen.json).write_text(report.json() + "\n")
    if chosen.junit:
        Path(chosen.junit).write_text(report.junit() + "\n")
    if not report.ok:
        sys.exit(1 if report.findings else 3)
