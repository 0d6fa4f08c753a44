"""Batch normalisation over several processes, beside that of one process over the joined batch: cases of tests/ranks.py.

On the CPU torch's SyncBatchNorm speaks to nobody, so the built-in side is its BatchNorm, in every process over the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from ranks import Weighted, batches, gradients, ranks, space, stand_in, total, weight, wrapped
from torch import Tensor, nn

from dlref.core.parallel import counting

CASES: dict[str, Callable[[str], Any]] = {}
# How 9 samples lie in the processes, by their number.
PARTS = {1: [9], 2: [7, 2], 4: [4, 1, 0, 4]}
OF_ONE = {1: [9], 2: [9, 0], 4: [0, 0, 9, 0]}
OF_HALVES = {1: [4, 5], 2: [4, 5], 4: [1, 3, 5, 0]}  # for groups of processes
C = 3


def case(function: Callable) -> Callable:
    CASES[function.__name__] = function
    return function


def gathered(t: Tensor | None, group: Any = None) -> Tensor | None:
    """The rows of all processes, in the ranks' order."""
    if ranks(group)[1] == 1 or t is None:
        return t
    found: list[Any] = [None] * ranks(group)[1]
    dist.all_gather_object(found, t.detach(), group=group)
    return torch.cat(found)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return shift + scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_of(side: str, places: int, **options: Any) -> Any:
    """The layer whose affine map is no identity."""
    kind = {0: "BatchNorm1d", 1: "BatchNorm1d", 2: "BatchNorm2d", 3: "BatchNorm3d"}[places]
    group = options.pop("process_group", None)
    if side == "builtin":
        made = getattr(nn, kind)(C, dtype=torch.float64, **options)
    else:
        made = space(side).nn.SyncBatchNorm(C, process_group=group, dtype=torch.float64, **options)
    for i, p in enumerate(made.parameters()):
        p.data.copy_(numbers(C, seed=10 + i))
    return made


def once(side: str, layer: Any, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor | None]:
    """Output and the input's gradient; the parameters' are added to theirs."""
    if side == "manual":
        y, pull = layer.vjp(x)
        return y, pull(dy)[0]
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(dy)
    return y.detach(), x.grad


def tried(
    side: str, sizes: dict[int, list[int]], places: int = 2, scale: float = 1.0, shift: float = 0.0, turns: int = 3,
    **options: Any,
) -> dict:  # fmt: skip
    """Two steps of training, and one of evaluation: all outputs and gradients, statistics after each.

    torch rounds the mean of numbers that all lie far from 0: it gets them without the shift, which is exact.
    """
    layer, shape = layer_of(side, places, **options), (9, C, *(3, 2, 2)[:places])
    rank, size = ranks()
    found: dict[str, Tensor] = {}
    for turn in range(turns):
        layer.train(turn < 2)
        x, dy = numbers(*shape, seed=turn, scale=scale, shift=shift), numbers(*shape, seed=20 + turn)
        x = x - shift if side == "builtin" else x
        if size > 1 and side != "builtin":
            x, dy = (t.split(sizes[size])[rank] for t in (x, dy))
        y, dx = once(side, layer, x, dy)
        found |= {f"{turn} {n}": t for n, t in layer.named_buffers() for t in [t.clone()]}
        if size > 1 and side != "builtin":
            y, dx = gathered(y), gathered(dx)
        found |= {f"{turn} y": y, f"{turn} dx": dx}
    for name, p in layer.named_parameters():
        found[name] = p.grad if side == "builtin" else total(p.grad.clone())
    return found


@case
def one_part_is_small(side: str) -> dict:
    return tried(side, PARTS)


@case
def without_a_momentum(side: str) -> dict:
    return tried(side, PARTS, 1, momentum=None)


@case
def without_places(side: str) -> dict:
    return tried(side, PARTS, 0, eps=0.1, momentum=0.3)


@case
def without_an_affine_map(side: str) -> dict:
    return tried(side, PARTS, 3, affine=False)


@case
def without_running_statistics(side: str) -> dict:
    """In evaluation each part has its own, so there is none here."""
    return tried(side, PARTS, turns=2, track_running_stats=False)


@case
def one_has_all(side: str) -> dict:
    return tried(side, OF_ONE)


@case
def a_mean_of_many_deviations(side: str) -> dict:
    return tried(side, PARTS, shift=1e6, scale=1e-3, turns=2, track_running_stats=False, eps=1e-9)


@case
def numbers_whose_squares_overflow(side: str) -> dict:
    if side != "builtin":
        return tried(side, PARTS, scale=1e200, turns=2, track_running_stats=False)
    # By torch, where they overflow, in units of 1e200, beside which eps is nothing.
    found = tried(side, PARTS, turns=2, track_running_stats=False, eps=1e-300)
    return {name: t * 1e-200 if name.endswith("dx") else t for name, t in found.items()}


@case
def groups(side: str) -> dict:
    """The first half of the processes has the first four samples, the second the others, and statistics of its own."""
    rank, size = ranks()
    x, dy = numbers(9, C, 2), numbers(9, C, 2, seed=1)
    sizes = OF_HALVES[size]
    if size == 1 or side == "builtin":
        ends = []
        for a, b in zip(x.split([4, 5]), dy.split([4, 5]), strict=True):
            layer = layer_of(side, 1)
            ends.append((*once(side, layer, a, b), layer.running_mean, layer.running_var))
        y, dx = (torch.cat([end[i] for end in ends]) for i in (0, 1))
        return {
            "y": y,
            "dx": dx,
            "means": torch.stack([e[2] for e in ends]),
            "variances": torch.stack([e[3] for e in ends]),
        }
    half = size // 2
    both = [dist.new_group(list(r)) for r in (range(half), range(half, size))]
    layer = layer_of(side, 1, process_group=both[rank >= half])
    y, dx = once(side, layer, x.split(sizes)[rank], dy.split(sizes)[rank])
    means, variances = (gathered(t[None]) for t in (layer.running_mean, layer.running_var))
    return {"y": gathered(y), "dx": gathered(dx), "means": means[[0, half]], "variances": variances[[0, half]]}


@case
def second_derivatives(side: str) -> dict:
    """Of the input's gradient by input, weight and upstream gradient."""
    if side == "manual":  # which has the first alone
        return {}
    layer, (rank, size) = layer_of(side, 1), ranks()
    x, dy, c = (numbers(9, C, 2, seed=seed) for seed in range(3))
    if size > 1 and side != "builtin":
        x, dy, c = (t.split(PARTS[size])[rank] for t in (x, dy, c))
    x, dy = x.clone().requires_grad_(), dy.clone().requires_grad_()
    (dx,) = torch.autograd.grad(layer(x), x, dy, create_graph=True)
    ddx, ddy, dweight = torch.autograd.grad(dx, (x, dy, layer.weight), c)
    if size > 1 and side != "builtin":
        ddx, ddy, dweight = gathered(ddx), gathered(ddy), total(dweight)
    return {"dx": ddx, "dy": ddy, "dweight": dweight}


@case
def a_network(side: str) -> dict:
    """What BatchNorm's network learns in one process, the converted one learns in several."""
    torch.manual_seed(1)
    nn_, (rank, size) = space(side).nn, ranks()
    network: Any = nn_.Sequential(
        nn_.Linear(5, 8), nn_.BatchNorm1d(8), nn_.ReLU(), nn_.Linear(8, 4), nn_.BatchNorm1d(4)
    ).double()
    whole, criterion = network, nn_.CrossEntropyLoss()
    if size > 1 and side != "builtin":
        before = list(network.state_dict())
        network = nn_.SyncBatchNorm.convert_sync_batchnorm(network)
        assert type(network[1]) is nn_.SyncBatchNorm and list(network.state_dict()) == before
        whole = wrapped(side, network)
    optimizer = space(side).optim.SGD(network.parameters(), 0.5, momentum=0.9)
    for x, y in batches(5, 4, (6, 7, 3)):
        if whole is not network:
            x, y = x.tensor_split(size)[rank], y.tensor_split(size)[rank]
            with counting(len(x)):
                gradients(side, whole, Weighted(criterion, float(weight(len(x), x.device))), *stand_in(x, y))
        else:
            gradients(side, network, criterion, x, y)
        optimizer.step()
        optimizer.zero_grad()
    return {name: t.detach().clone().double() for name, t in network.state_dict().items()}


@case
def fitted(side: str) -> dict:
    """By training.fit, whose last batch of an epoch leaves the last of several processes without a sample."""
    torch.manual_seed(1)
    nn_, (_, size) = space(side).nn, ranks()
    if side == "bridged":  # of fit there are two
        return {}
    network: Any = nn_.Sequential(nn_.Linear(5, 8), nn_.BatchNorm1d(8), nn_.ReLU(), nn_.Linear(8, 4)).double()
    whole = network
    if size > 1 and side != "builtin":
        network = nn_.SyncBatchNorm.convert_sync_batchnorm(network)
        whole = wrapped(side, network)
    x, y = next(batches(5, 4, (10,)))
    optimizer = space(side).optim.SGD(network.parameters(), 0.5)
    space(side).training.fit(
        whole, nn_.CrossEntropyLoss(), optimizer, (x, y), (x, y), epochs=3, batch_size=7, tolerance=None
    )
    return {name: t.detach().clone().double() for name, t in network.state_dict().items()}


@case
def refused(side: str) -> dict:
    """One value of a channel in all, told to every process; no channels; a vmap, whose numbers no process can say."""
    layer, (rank, size) = layer_of(side, 0), ranks()
    rows = 1 if side == "builtin" or rank == size - 1 else 0
    for x in (numbers(rows, C), *([] if side == "builtin" else [numbers(3, 0)])):  # which BatchNorm takes
        try:
            once(side, layer, x, x)
        except (ValueError, RuntimeError) as error:
            assert side == "builtin" or isinstance(error, ValueError)
        else:
            raise AssertionError(f"{tuple(x.shape)} was taken")
    if size > 1 and side != "builtin":
        layer = layer_of(side, 0, track_running_stats=False)
        try:
            torch.func.vmap(layer)(numbers(2, 3, C))
        except RuntimeError as error:
            assert "Batching rule" in str(error)  # torch's own
        else:
            raise AssertionError("a vmap was taken")
    return {}
