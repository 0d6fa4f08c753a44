"""A check in a process of its own, where a crash or a hang is a finding and the next sample goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch

from .report import Finding, Report

BEGUN = "begun"


def isolated(
    candidate: Any, against: Any, wanted: list[str] | None, time_limit: float, options: dict[str, Any]
) -> Report:
    """`dlref.check` in a child; the samples that end it, or take longer than the limit, are left out of the next one."""
    report: Report | None = None
    broken: list[Finding] = []
    while True:
        outcome, sample, reason = child(candidate, against, wanted, time_limit, options, [f.sample for f in broken])
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, Report):
            report = outcome
            break
        dtype, _, where = (sample or "").partition(" ")
        broken.append(Finding(reason.split(":")[0], "the process", "", f"{dtype} {where}".strip(), dtype, diagnosis=reason))
        if sample is None or len(broken) >= 5:
            report = Report(str(getattr(candidate, "__qualname__", candidate)), str(against), options["device"])
            report.note("the check was given up: the process ended " + ("before a sample" if sample is None else "too often"))
            break
    for finding in broken:
        finding.sample = finding.sample.partition(" ")[2] or finding.sample
    report.findings = broken + report.findings
    return report


def child(candidate: Any, against: Any, wanted: list[str] | None, time_limit: float, options: dict[str, Any],
          without: list[str]) -> tuple[Any, str | None, str]:  # fmt: skip
    """The report or exception that a child sends; or None, the sample at which it ended, and how."""
    context = multiprocessing.get_context("fork" if can_fork(options) else "spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(send, candidate, against, wanted, options, without), daemon=True)
    sys.stdout.flush()
    process.start()
    send.close()
    sample, reason = None, ""
    try:
        while True:
            # Before the first sample the database is loaded, and in a new process torch.
            if not receive.poll(time_limit if sample else max(time_limit, 120.0)):
                reason = f"hangs: more than {time_limit:g} s in one sample"
                break
            kind, content = receive.recv()
            if kind != BEGUN:
                return content, sample, ""
            sample = content
    except (EOFError, ConnectionResetError):
        process.join(5)
        code = process.exitcode or 0
        reason = f"crashes: signal {signal.Signals(-code).name}" if code < 0 else f"exits the process: status {code}"
    finally:
        if process.is_alive():
            process.kill()
        process.join(5)
        receive.close()
    return None, sample, reason


def can_fork(options: dict[str, Any]) -> bool:
    return sys.platform == "linux" and not torch.device(options["device"]).type == "cuda" and not torch.cuda.is_initialized()


def work(send: Connection, candidate: Any, against: Any, wanted: list[str] | None, options: dict[str, Any],
         without: list[str]) -> None:  # fmt: skip
    """The child: the check, which tells each sample as it begins it."""
    from .. import check as module
    from .trial import Trials

    torch.set_num_threads(1)  # a forked process cannot use its parent's threads
    plain = Trials.run

    def told(self: Trials, sample: Any, *args: Any, **kwargs: Any) -> None:
        name = f"{str(self.dtype).removeprefix('torch.')} {sample.where}"
        if name not in without:
            send.send((BEGUN, name))
            plain(self, sample, *args, **kwargs)

    Trials.run = told  # type: ignore[method-assign]
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            report = module.check(candidate, against, samples=wanted, **options)
        send.send(("done", report))
    except SystemExit as error:
        send.send(("done", ValueError(f"the candidate exits the process: SystemExit({error.code})")))
    except Exception as error:
        send.send(("done", error if isinstance(error, (ValueError, TypeError)) else RuntimeError(repr(error))))
    os._exit(0)
