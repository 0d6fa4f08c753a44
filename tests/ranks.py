"""What each of several processes does in tests/test_parallel.py, and what one process does with the whole batch."""

from __future__ import annotations

import functools
import importlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from dlref import builtin, manual
from dlref.bench.scaling import wire
from dlref.core.parallel import Weighted, part, ranks, stand_in, total, weight

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
    return space(side).nn.parallel.DistributedDataParallel(network, **{"bucket_cap_mb": SMALL, **options})


def step(side: str, network: Any, criterion: Any, x: Tensor, y: Tensor) -> Tensor:
    """Gradients of the mean over all processes' samples, of which this one has its part."""
    x, y = part(x), part(y)
    weighted = Weighted(criterion, float(weight(len(x), x.device)))
    x, y = stand_in(x, y)
    return gradients(side, network, weighted, x, y)


def gradients(side: str, network: Any, criterion: Any, x: Tensor, y: Tensor) -> Tensor:
    training = manual.training if side == "manual" else builtin.training
    with torch.set_grad_enabled(side != "manual"):
        return training.gradients(network, criterion, x, y)[1].detach()


def batches(
    features: int, classes: int, sizes: tuple[int, ...] = (6, 7, 1), seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        yield (torch.randn(size, features, generator=generator, dtype=torch.float64),
               torch.randint(classes, (size,), generator=generator))  # fmt: skip


def trained(
    side: str, network: nn.Module, data: Any, *, optimizer: str = "SGD", every: int = 1, **options: Any
) -> dict:
    """Parameters after a step for each batch, or for `every` of them."""
    ns = space(side)
    network = network.double().to(place())
    whole = wrapped(side, network, **options)
    criterion = ns.nn.CrossEntropyLoss()
    rule = {"SGD": {"lr": 0.5, "momentum": 0.9}, "Adam": {"lr": 0.1}}[optimizer]
    optimize = getattr(ns.optim, optimizer)(network.parameters(), **rule)
    for number, (x, y) in enumerate(data, 1):
        x, y = x.to(place()), y.to(place())
        criterion_of = criterion if every == 1 else Weighted(criterion, 1 / every)
        if number % every and whole is not network:
            with whole.no_sync():
                step(side, whole, criterion_of, x, y)
            continue
        step(side, whole, criterion_of, x, y)
        if number % every == 0:
            optimize.step()
            optimize.zero_grad()
    return {name: p.detach().cpu().clone() for name, p in network.named_parameters()}


def place() -> torch.device:
    """A GPU for each process where NCCL is what they speak by."""
    return torch.device("cuda" if dist.is_initialized() and dist.get_backend() == "nccl" else "cpu")


def mlp(side: str, width: int = 8) -> nn.Module:
    torch.manual_seed(1 + ranks()[0])  # each process begins elsewhere, until it takes the first one's
    nn_ = space(side).nn
    return nn_.Sequential(nn_.Linear(5, width), nn_.Tanh(), nn_.Linear(width, width), nn_.ReLU(), nn_.Linear(width, 3))


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
    return trained(
        side, nn_.Sequential(twice, nn_.Tanh(), twice, nn_.Tanh(), nn_.Linear(5, 3)), batches(5, 3, (6, 6, 7, 5))
    )


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
        gradients(side, network, Weighted(criterion, 1 / len(xs)), x, y)
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def of_parts(count: int, sizes: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    (x, y), *_ = batches(5, 3, (sum(sizes),))
    return list(x.split(sizes)) * (count // 2), list(y.split(sizes)) * (count // 2)


@case
def used_by_some(side: str) -> dict:
    """Each process's part has another size, by which it uses other layers, and some more often than before."""
    torch.manual_seed(1)
    network = Sometimes(space(side)).double()
    rank, size = ranks()
    whole = wrapped(side, network, find_unused_parameters=True)
    found = {}
    for turn, sizes in enumerate([[3, 4], [4, 5], [5, 3], [6, 6]]):
        xs, ys = of_parts(max(size, 2), sizes)
        if size > 1:
            xs, ys = [xs[rank]], [ys[rank]]
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
    if side == "bridged":  # of fit there are two
        return {}
    ns = space(side)
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


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped and accumulated": {"gradient_clip_val": 0.5, "accumulate_grad_batches": 3},
    "by plateau": {"schedule": "ReduceLROnPlateau", "schedule_args": {"patience": 0, "threshold": 10.0}},
    "by plateau of steps": {
        "schedule": "ReduceLROnPlateau",
        "schedule_args": {"patience": 2, "factor": 0.7, "threshold": 0.02},
        "schedule_every": "step",
    },
}


def under_lightning(module: Any, data: Any, sharded: bool = False) -> dict:
    """Parameters, rate and what was logged after a training whose last batch is one sample."""
    import lightning
    from lightning.fabric.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    size = ranks()[1]
    strategy: Any = "auto"
    if size > 1:
        strategy = ModelParallelStrategy(size, 1) if sharded else DDPStrategy()
        strategy.cluster_environment = TorchElasticEnvironment()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=size, strategy=strategy, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, precision="32-true" if sharded else "64-true",
    )  # fmt: skip
    trainer.fit(module, data)
    found = {name: getattr(p, "full_tensor", p.clone)().detach() for name, p in module.named_parameters()}
    found |= {name: value.double() for name, value in trainer.callback_metrics.items()}
    return {**found, "rate": torch.tensor(trainer.optimizers[0].param_groups[0]["lr"], dtype=torch.float64)}


def classifier(side: str, options: dict[str, Any], sharded: bool = False) -> dict:
    from dlref.lightning import Classifier, DigitsDataModule

    torch.manual_seed(1)
    rule = {"optimizer_args": {"momentum": 0.9, "nesterov": True}, "hidden": (16,), "lr": 0.1}
    module, data = Classifier(backend=side, **rule, **options), DigitsDataModule(batch_size=314)
    # Four batches of the 1,257 images, and one of a single image.
    if sharded:  # where Lightning has no float64
        module.double()
        data.split.train.tensors, data.split.validation.tensors = (
            (part.tensors[0].double(), part.tensors[1]) for part in (data.split.train, data.split.validation)
        )
    return under_lightning(module, data, sharded)


def language_model(side: str) -> dict:
    """Batches of 8 and one of 1 piece; validation by streams, whose state goes on."""
    from dlref.lightning import LanguageModel, TextDataModule

    torch.manual_seed(1)
    module = LanguageModel("GRU", 4, 8, backend=side)
    return under_lightning(module, TextDataModule(limit=2000, length=16, batch_size=8))


LIGHTNING = {name: functools.partial(classifier, options=options) for name, options in OPTIONS.items()}
LIGHTNING["language model"] = language_model


def shared_out(side: str) -> dict:
    """By FSDP2, which knows what autograd does alone."""
    return {} if side == "manual" else classifier(side, {"gradient_clip_val": 0.5}, sharded=True)


LIGHTNING["shared out"] = shared_out


@case
def bytes_on_the_wire(side: str) -> dict:
    r"""Processes write $2 (n - 1) / n$ of the gradients' bytes in a step, each on average, and little more."""
    network, size = mlp(side, width=256), ranks()[1]
    whole, (x, y) = wrapped(side, network, bucket_cap_mb=None), next(batches(5, 3, (8,)))
    for _ in range(2):
        gradients(side, whole, space(side).nn.CrossEntropyLoss(), x.float(), y)
    if size > 1 and IO.exists():
        dist.barrier()
        before = written()
        for _ in range(10):
            gradients(side, whole, space(side).nn.CrossEntropyLoss(), x.float(), y)
        each = float(total(torch.tensor((written() - before) / 10))) / size
        sent = wire(4 * sum(p.numel() for p in network.parameters()), size)
        assert sent < each < 1.01 * sent + 1000, (sent, each)
        dist.barrier()
    return {}


IO = Path("/proc/self/io")  # what a process has read and written, sockets included: Linux


def written() -> int:
    return next(int(line.split()[1]) for line in IO.read_text().splitlines() if line.startswith("wchar"))


NCCL = {name: CASES[name] for name in ("parts_of_other_sizes", "adam", "accumulated", "one_layer_twice", "recurrent")}


def cases(which: str) -> dict[str, Callable[[str], Any]]:
    """The cases of a kind: those here, or of a file of their own."""
    here = globals().get(which)
    return importlib.import_module(f"ranks_{which.lower()}").CASES if here is None else here


def run(rank: int, size: int, port: int, which: str, folder: str) -> None:
    """All cases of a kind in one process of several; what they found goes into the folder."""
    quietly()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": str(size)}  # fmt: skip
    if which == "NCCL":
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if which == "NCCL" else "gloo")
    torch.save({f"{name}: {side}": function(side) for name, function in cases(which).items() for side in SIDES},
               Path(folder, f"{rank}.pt"))  # fmt: skip
    dist.destroy_process_group()


def quietly() -> None:
    from dlref.lightning.runs import quiet

    quiet()
    torch.set_num_threads(1)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(size: int, which: str, folder: Path) -> list[dict]:
    """What each of several processes found."""
    torch.multiprocessing.start_processes(run, (size, free_port(), which, str(folder)), size, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]
