"""A check in a process of its own, where a crash or a hang is a finding and the next sample goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch

from ...samples import database
from .report import Finding, Report
from .subject import Mismatch

# The time in which a new process must begin its first sample: torch is imported, and its database drawn.
START = 120.0
ENDS = 20  # a candidate that ends its process so often is given up


def isolated(
    candidate: Any, against: Any, wanted: list[str] | None, time_limit: float, options: dict[str, Any]
) -> Report:
    """`dlref.check` in a child; after the sample that ends it, or takes longer than the limit, a new one goes on."""
    from .reference import named, reference_named

    kind, name = reference_named(against)
    side = None
    if can_fork(options):
        database()  # once for all processes
    if options["beyond"] and wanted is None and kind in ("function", "module"):  # at the same time, on another core
        side = started(work_beyond, candidate, kind, name, options)
        options = {**options, "beyond": False}
    partial = Report(named(candidate), against if isinstance(against, str) else named(against), str(options["device"]))
    begun: list[str] = []
    for _ in range(ENDS):
        outcome, reason = child(candidate, against, wanted, time_limit, options, begun, partial)
        if isinstance(outcome, Report):
            outcome.merge(partial)
            if side is not None:
                beyond(outcome, *side, max(time_limit, START))
            return outcome
        if isinstance(outcome, Exception):
            raise outcome
        dtype, _, sample = begun[-1].partition(" ") if begun else ("", "", "before the first sample")
        kind, _, words = reason.partition(": ")
        partial.findings.append(Finding(kind, "the process", "", sample, dtype, diagnosis=words))
        if not begun or ("hangs" in kind and len([f for f in partial.findings if f.kind == "hangs"]) >= 3):
            break
    partial.note("the check was given up: the candidate ends or blocks its process too often")
    return partial


def child(candidate: Any, against: Any, wanted: list[str] | None, time_limit: float, options: dict[str, Any],
          begun: list[str], partial: Report) -> tuple[Report | Exception | None, str]:  # fmt: skip
    """The report or exception that a child sends at its end; or None, and how it ended before."""
    process, receive = started(work, candidate, against, wanted, options, list(begun))
    first, found = True, partial.mark()
    try:
        while True:
            if not receive.poll(max(time_limit, START) if first else time_limit):
                partial.merge(found.since(partial))
                return None, f"hangs: one sample takes more than {time_limit:g} s"
            kind, content = receive.recv()
            if kind == "end":
                return content, ""
            if kind == "begin":
                begun.append(content)
                first = False
            else:
                found.merge(content)
    except (EOFError, ConnectionResetError):
        partial.merge(found.since(partial))
        process.join(5)
        code = process.exitcode or 0
        return None, f"crashes: {signal.Signals(-code).name}" if code < 0 else f"exits the process: status {code}"
    finally:
        if process.is_alive():
            process.kill()
        process.join(5)
        receive.close()


def started(target: Any, *arguments: Any) -> tuple[Any, Connection]:
    """A new process, and the end of the pipe at which it is heard; the options are among its arguments."""
    options = next(a for a in arguments if isinstance(a, dict))
    context: Any = multiprocessing.get_context("fork" if can_fork(options) else "spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(send, *arguments), daemon=True)
    sys.stdout.flush()
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # it is sent by its name
        raise Mismatch(f"the candidate must stand at the top of a module to be checked in a process of its own on "
                       f"{options['device']}: move it there, or check it in this process ({error})") from None  # fmt: skip
    send.close()
    return process, receive


def beyond(report: Report, process: Any, receive: Connection, time_limit: float) -> None:
    """Add what the other process found of the transformations."""
    try:
        if receive.poll(time_limit):
            _, found = receive.recv()
            report.merge(found)
        else:
            report.findings.append(
                Finding(
                    "hangs", "beyond the first derivative", "", "", "", diagnosis=f"it takes more than {time_limit:g} s"
                )
            )
    except (EOFError, ConnectionResetError):
        report.findings.append(
            Finding("crashes", "beyond the first derivative", "", "", "", diagnosis="its process ended")
        )
    finally:
        process.kill()
        process.join(5)
        receive.close()


def work_beyond(send: Connection, candidate: Any, kind: str, name: str, options: dict[str, Any]) -> None:
    from .calls import Check

    torch.set_num_threads(1)
    answer = Report("", "")
    with (
        contextlib.suppress(Exception, SystemExit),
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        answer = Check(candidate, kind, name, options).only_beyond()
    send.send(("end", answer))
    os._exit(0)


def can_fork(options: dict[str, Any]) -> bool:
    return (
        sys.platform == "linux" and torch.device(options["device"]).type != "cuda" and not torch.cuda.is_initialized()
    )


def work(send: Connection, candidate: Any, against: Any, wanted: list[str] | None, options: dict[str, Any],
         without: list[str]) -> None:  # fmt: skip
    """The child: the check without those samples; it tells each sample as it begins it, and what was found in it."""
    from .checked import checked
    from .trials import Trials

    torch.set_num_threads(1)  # a forked process cannot use its parent's threads
    plain = Trials.run

    def told(self: Trials, sample: Any, *args: Any, **kwargs: Any) -> None:
        name = f"{str(self.dtype).removeprefix('torch.')} {sample.where}"
        if name not in without:
            send.send(("begin", name))
            before = self.report.mark()
            plain(self, sample, *args, **kwargs)
            send.send(("part", self.report.since(before)))

    Trials.run = told  # type: ignore[method-assign]
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            answer: Any = checked(candidate, against, wanted, options)
    except SystemExit as error:
        answer = ValueError(f"the candidate exits the process: SystemExit({error.code})")
    except (ValueError, TypeError) as error:
        answer = error
    except Exception as error:
        answer = RuntimeError(f"{type(error).__name__}: {error}")
    send.send(("end", answer))
    os._exit(0)
