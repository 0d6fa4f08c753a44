r"""How far data-parallel training goes, by formula: `python -m dlref.bench.scaling` prints the tables of docs/scaling.md.

n workers, each with a gradient of G bytes, on links of B bytes a second and a latency of a seconds a message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """bandwidth: bytes a second, each way. latency: seconds until a message begins to arrive."""

    name: str
    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Work:
    """parameters, of float32. seconds: of forward and pullback of a worker's batch. critical: batches of one worker after which
    more samples a step save no steps, the gradient's noise over its size (McCandlish et al. 2018, arXiv:1812.06162)."""

    name: str
    parameters: int
    seconds: float
    critical: float


ETHERNET = Link("10 Gbit/s Ethernet", 1.25e9, 25e-6)
INFINIBAND = Link("400 Gbit/s InfiniBand", 50e9, 5e-6)
DIGITS = Work("the digits' perceptron", 9_610, 0.3e-3, 4)
IMAGES = Work("a network of 25 million parameters", 25_600_000, 0.1, 64)
LANGUAGE = Work("one of a billion", 1_000_000_000, 1.0, 512)
WORKERS = (1, 2, 4, 8, 64, 512, 4096)


def wire(size: float, n: int) -> float:
    r"""Bytes that each worker sends in a ring's all-reduce: $2 \frac{n-1}{n} G$, nearly 2 G for many."""
    return 2 * (n - 1) / n * size


def ring(size: float, n: int, link: Link) -> float:
    r"""Seconds of it: $2 (n - 1) (a + \frac{G}{n B})$, as there are 2 (n - 1) messages, one after the other."""
    return 2 * (n - 1) * (link.latency + size / n / link.bandwidth)


def tree(size: float, n: int, link: Link) -> float:
    r"""Seconds by two trees, up and down: $2 a \log_2 n + \frac{2 G}{B}$ (Sanders et al. 2009)."""
    return 0.0 if n == 1 else 2 * (link.latency * math.log2(n) + size / link.bandwidth)


def fastest(size: float, n: int, link: Link) -> float:
    """Seconds by the better of both, as NCCL chooses."""
    return min(ring(size, n, link), tree(size, n, link))


def step(work: Work, n: int, link: Link, share: float = 1.0, reduce: Callable = fastest) -> float:
    """Seconds of a step: two thirds of the work are the pullback, behind which the gradients are on their way.

    share: of a worker's batch; 1 / n where the whole batch stays what it is for one worker.
    """
    seconds = work.seconds * share
    return seconds + max(0.0, reduce(4 * work.parameters, n, link) - seconds * 2 / 3)


def efficiency(work: Work, n: int, link: Link, reduce: Callable = fastest) -> float:
    """Samples a second over n times those of one worker, each with a batch of its own."""
    return work.seconds / step(work, n, link, reduce=reduce)


def strong(work: Work, n: int, link: Link) -> float:
    """How many times as fast a step becomes whose batch is shared out, and stays what it was."""
    return work.seconds / step(work, n, link, 1 / n)


def sooner(work: Work, n: int, link: Link) -> float:
    r"""How many times sooner a training is over, whose steps are $\propto 1 + c / n$ with n workers' batches in each."""
    return (1 + work.critical) / (1 + work.critical / n) * efficiency(work, n, link)


def table(head: str, rows: Mapping[str, Callable[..., str]]) -> list[str]:
    lines = [f"| {head} | {' | '.join(f'{n:,}' for n in WORKERS)} |", "| --- |" + " --: |" * len(WORKERS)]
    return [*lines, *(f"| {name} | {' | '.join(map(cell, WORKERS))} |" for name, cell in rows.items())]


def tables() -> dict[str, list[str]]:
    """The tables of docs/scaling.md, by name."""
    size = 4 * IMAGES.parameters
    pairs = [(work, link) for work in (DIGITS, IMAGES, LANGUAGE) for link in (ETHERNET, INFINIBAND)]
    named = lambda f, show: {f"{w.name}, {k.name}": lambda n, w=w, k=k: show(f(w, n, k)) for w, k in pairs}  # noqa: E731
    return {
        "wire": table("workers", {
            "bytes sent by each, in gradients": lambda n: f"{wire(1, n):.3f}",
            f"ring, {ETHERNET.name}, ms": lambda n: f"{1e3 * ring(size, n, ETHERNET):.1f}",
            f"trees, {ETHERNET.name}, ms": lambda n: f"{1e3 * tree(size, n, ETHERNET):.1f}",
            f"ring, {INFINIBAND.name}, ms": lambda n: f"{1e3 * ring(size, n, INFINIBAND):.1f}",
            f"trees, {INFINIBAND.name}, ms": lambda n: f"{1e3 * tree(size, n, INFINIBAND):.1f}",
        }),
        "efficiency": table("samples a second, of n times one's", named(efficiency, lambda v: f"{v:.0%}")),
        "strong": table("times as fast, the batch as it was", named(strong, lambda v: f"{v:.1f}")),
        "sooner": table("times sooner over", named(sooner, lambda v: f"{v:.1f}")),
    }  # fmt: skip


if __name__ == "__main__":
    for name, lines in tables().items():
        print(f"{name}\n", *lines, "", sep="\n")
