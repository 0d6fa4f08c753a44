"""What each of several processes does in tests/test_parallel.py, and what one process does with the whole batch."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from dlref import builtin, manual
from dlref.core import parallel
from dlref.core.parallel import Weighted, part, ranks, stand_in, weight

SMALL = 64 / 2**20  # MiB of a bucket, so that there are several
CASES: dict[str, Callable[[str], Any]] = {}


def case(function: Callable) -> Callable:
    CASES[function.__name__] = function
    return function


SIDES = ("manual", "bridged", "builtin")  # by hand; by hand, differentiated by autograd; torch's


def space(side: str) -> Any:
    return builtin if side == "builtin" else manual


def wrapped(side: str, network: nn.Module, **options: Any) -> nn.Module:
    """The network of several processes; of one process the network itself."""
    if ranks()[1] == 1:
        return network
    return space(side).nn.parallel.DistributedDataParallel(network, bucket_cap_mb=SMALL, **options)


def step(side: str, network: Any, criterion: Any, x: Tensor, y: Tensor) -> Tensor:
    """Gradients of the mean over all processes' samples, of which this one has its part."""
    x, y = part(x), part(y)
    weighted = Weighted(criterion, float(weight(len(x), x.device)))
    x, y = stand_in(x, y)
    training = manual.training if side == "manual" else builtin.training
    if side == "manual":
        with torch.no_grad():
            return manual.training.gradients(network, weighted, x, y)[1]
    return training.gradients(network, weighted, x, y)[1].detach()


def batches(features: int, classes: int, sizes: tuple[int, ...] = (6, 7, 1), seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        yield (torch.randn(size, features, generator=generator, dtype=torch.float64),
               torch.randint(classes, (size,), generator=generator))  # fmt: skip


def trained(side: str, network: nn.Module, data: Any, *, optimizer: str = "SGD", every: int = 1, **options: Any) -> dict:
    """Parameters after a step for each batch, or for `every` of them."""
    ns = space(side)
    network = network.double()
    whole = wrapped(side, network, **options)
    criterion = ns.nn.CrossEntropyLoss()
    rule = {"SGD": {"lr": 0.5, "momentum": 0.9}, "Adam": {"lr": 0.1}}[optimizer]
    optimize = getattr(ns.optim, optimizer)(network.parameters(), **rule)
    for number, (x, y) in enumerate(data, 1):
        criterion_of = criterion if every == 1 else Weighted(criterion, 1 / every)
        if number % every and whole is not network:
            with whole.no_sync():
                step(side, whole, criterion_of, x, y)
            continue
        step(side, whole, criterion_of, x, y)
        if number % every == 0:
            optimize.step()
            optimize.zero_grad()
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def mlp(side: str, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed + ranks()[0])  # each process begins elsewhere, until it takes the first one's
    nn_ = space(side).nn
    return nn_.Sequential(nn_.Linear(5, 8), nn_.Tanh(), nn_.Linear(8, 8), nn_.ReLU(), nn_.Linear(8, 3))


@case
def parts_of_other_sizes(side: str) -> dict:
    return trained(side, mlp(side), batches(5, 3))


@case
def adam(side: str) -> dict:
    return trained(side, mlp(side), batches(5, 3), optimizer="Adam")


@case
def accumulated(side: str) -> dict:
    return trained(side, mlp(side), batches(5, 3, (6, 5, 4, 3)), every=2)


@case
def frozen(side: str) -> dict:
    network = mlp(side)
    network[2].weight.requires_grad_(False)
    return trained(side, network, batches(5, 3))


@case
def one_layer_twice(side: str) -> dict:
    nn_ = space(side).nn
    torch.manual_seed(1)
    twice = nn_.Linear(5, 5)
    return trained(side, nn_.Sequential(twice, nn_.Tanh(), twice, nn_.Tanh(), nn_.Linear(5, 3)), batches(5, 3, (6, 6, 7, 5)))


class Sometimes(nn.Module):
    """A layer that the second process alone uses, one that none uses, and one as often as the batch says."""

    def __init__(self, ns: Any):
        super().__init__()
        self.never, self.some, self.often = (ns.nn.Linear(5, 5) for _ in range(3))
        self.last = ns.nn.Linear(5, 3)

    def layers(self, x: Tensor) -> list[Any]:
        used = [self.some] if len(x) % 2 else []
        return [*used, *[self.often] * (1 + len(x) % 3), self.last]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers(x):
            x = layer(x)
        return x

    def vjp(self, x: Tensor) -> Any:
        pulls = []
        for layer in self.layers(x):
            x, pull = layer.vjp(x)
            pulls.append(pull)

        def pullback(dy: Tensor, needs: Any = None) -> tuple:
            for pull in reversed(pulls):
                (dy,) = pull(dy)
            return (dy,)

        return x, pullback


def sums_of(network: Any, side: str, xs: list[Tensor], ys: list[Tensor]) -> dict:
    """Gradients of the mean of several parts' means: each part alone is what one of the processes has."""
    criterion = space(side).nn.CrossEntropyLoss()
    for x, y in zip(xs, ys, strict=True):
        weighted = Weighted(criterion, 1 / len(xs))
        if side == "manual":
            with torch.no_grad():
                manual.training.gradients(network, weighted, x, y)
        else:
            builtin.training.gradients(network, weighted, x, y)
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def of_parts(count: int, sizes: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    (x, y), *_ = batches(5, 3, (sum(sizes),))
    return list(x.split(sizes)), list(y.split(sizes))


@case
def used_by_some(side: str) -> dict:
    """Each process's part has another size, by which it uses other layers, and some more often than before."""
    torch.manual_seed(1)
    network = Sometimes(space(side)).double()
    rank, size = ranks()
    whole = wrapped(side, network, find_unused_parameters=True)
    found = {}
    for turn, sizes in enumerate([[3, 4], [4, 5], [5, 3], [6, 6]]):
        xs, ys = of_parts(2, sizes)
        if size > 1:
            xs, ys = [xs[rank % 2]], [ys[rank % 2]]
        network.zero_grad()
        found |= {f"{turn} {name}": g for name, g in sums_of(whole, side, xs, ys).items()}
    return {name.replace("module.", ""): g for name, g in found.items()}


@case
def recurrent(side: str) -> dict:
    from dlref import models

    torch.manual_seed(1)
    network = models.language_model(space(side), 7, "LSTM", 4, 6, 2)
    generator = torch.Generator().manual_seed(0)
    text = [torch.randint(7, (n, 6), generator=generator) for n in (4, 5, 1)]
    return trained(side, network, [(t[:, :-1], t[:, 1:]) for t in text])


@case
def transformer(side: str) -> dict:
    from dlref import models

    torch.manual_seed(1)
    network = models.vision_transformer(space(side), size=8, width=8, heads=2, depth=1, classes=3)
    data = [(x.reshape(-1, 1, 8, 8), y) for x, y in batches(64, 3)]
    return trained(side, network, data)


@case
def fitted(side: str) -> dict:
    """training.fit: its schedule sees the whole loss, its history is that of one process."""
    ns = space(side)
    if side == "bridged":
        return {}
    network = mlp(side).double()
    whole = wrapped(side, network)
    (x, y), (xv, yv) = batches(5, 3, (23, 9))
    optimize = ns.optim.SGD(network.parameters(), 0.5, momentum=0.9)
    plateau = ns.optim.lr_scheduler.ReduceLROnPlateau(optimize, patience=0, threshold=0.05)
    history = ns.training.fit(whole, ns.nn.CrossEntropyLoss(), optimize, (x, y), (xv, yv), epochs=6, batch_size=11,
                              schedule=plateau, tolerance=None, max_norm=1.0)  # fmt: skip
    rate = torch.tensor(optimize.param_groups[0]["lr"])
    assert rate < 0.5
    losses = {f"{k} {i}": torch.tensor(h[k]) for i, h in enumerate(history) for k in ("loss", "validation_loss")}
    return {**{n: p.detach().clone() for n, p in network.named_parameters()}, "rate": rate, **losses}


def run(rank: int, size: int, port: int, folder: str) -> None:
    """All cases in one process of several; what they found, or how they failed, goes into the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    found = {}
    for name, function in CASES.items():
        for side in SIDES:
            try:
                found[f"{name} {side}"] = function(side)
            except Exception:
                found[f"{name} {side}"] = traceback.format_exc()
                torch.save(found, Path(folder, f"{rank}.pt"))
                raise
    torch.save(found, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(size: int, folder: Path) -> list[dict]:
    """What each of several processes found."""
    torch.multiprocessing.start_processes(run, (size, free_port(), str(folder)), size, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]


if __name__ == "__main__":
    import sys
    import tempfile
    import time

    start = time.time()
    found = together(int(sys.argv[1]), Path(tempfile.mkdtemp()))
    print(f"{time.time() - start:.1f} s")
    for name, function in CASES.items():
        alone = {side: function(side) for side in SIDES}
        for side in SIDES:
            worst, at = 0.0, ""
            for rank, f in enumerate(found):
                got = f[f"{name} {side}"]
                want = alone[side]
                assert got.keys() == want.keys(), (got.keys(), want.keys())
                for k in want:
                    if (got[k] is None) != (want[k] is None):
                        print("NONE", name, side, rank, k, got[k] is None, want[k] is None)
                    elif want[k] is not None and (d := (got[k] - want[k]).abs().max().item()) > worst:
                        worst, at = d, f"{rank} {k}"
            print(f"{name:24} {side:8} {worst:.1e} {at}")
