"""Train for very many steps, and hold the memory and the open files at the end to those near the beginning. Linux alone."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.table import Table

from dlref import builtin, manual
from dlref.cli.common import print_table, script
from dlref.models import mlp
from dlref.step.compile import compile_step

WAYS = ("by hand", "played back", "bridged", "two processes")
GROWTH = 0.01


def memory() -> tuple[float, int]:
    """Resident memory in MB, and open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd"))


def soak_one(way: str, steps: int, told: Any = None, rank: int = 0, store: str = "") -> None:
    """The steps, and what `memory` says after a tenth of them and at the end, put into the queue."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network: Any = mlp(manual, 16, (16,), 4, "relu", 0.1)
    if store:
        dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2, timeout=timedelta(minutes=5))
        network = manual.nn.parallel.DistributedDataParallel(network)
    criterion, optimizer = manual.nn.CrossEntropyLoss(), manual.optim.Adam(network.parameters())
    x, y = torch.randn(64, 16), torch.randint(4, (64,))
    step: Any = compile_step(network, criterion, optimizer, backend="eager") if way == "played back" else None
    training = builtin.training if way == "bridged" else manual.training
    found = []
    for number in range(steps):
        rows = slice(number % 32, number % 32 + 32)
        if step is not None:
            step(x[rows], y[rows])
        else:
            training.step(network, criterion, optimizer, x[rows], y[rows])
        if number + 1 in (steps // 10, steps):
            found.append(memory())
    if store:
        dist.destroy_process_group()
    if told is not None and rank == 0:
        told.put(found)


def soak(steps: PositiveInt = 200_000, ways: list[str] | None = None) -> None:
    """Train a small network, each way in a process of its own; status 1 where memory grows by a hundredth, or files stay open.

    Args:
        steps: Of each way, at least 20.
        ways: Some of "by hand", "played back", "bridged" (our modules under autograd), "two processes" (data-parallel); all.
    """
    if not sys.platform.startswith("linux"):
        raise ValueError(f"the memory is read from /proc, which Linux has; this is {sys.platform}")
    if steps < 20:
        raise ValueError(f"steps must be at least 20, it is {steps}")
    if unknown := set(ways or ()) - set(WAYS):
        raise ValueError(f"ways must be of {', '.join(WAYS)}; {min(unknown)!r} is none")
    table, failed = Table("way", "steps", "MB after a tenth", "MB at the end", "growth", "open files"), False
    context = get_context("spawn")
    for way in ways or WAYS:
        told = context.Queue()
        with tempfile.TemporaryDirectory() as folder:
            store = f"{folder}/store" if way == "two processes" else ""
            started = [context.Process(target=soak_one, args=(way, steps, told, rank, store))
                       for rank in range(2 if store else 1)]  # fmt: skip
            for process in started:
                process.start()
            for process in started:
                process.join()
            if any(process.exitcode for process in started):
                raise ValueError(f"{way}: a process ended with {[process.exitcode for process in started]}")
            (first, files), (last, files_now) = told.get(timeout=60)
        failed |= last > first * (1 + GROWTH) or files_now > files
        table.add_row(
            way, f"{steps:,}", f"{first:.1f}", f"{last:.1f}", f"{last / first - 1:+.2%}", f"{files}, {files_now}"
        )
    print_table(Console(), table)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    script(soak)
