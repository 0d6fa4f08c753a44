r"""Several processes that train one network, each on its part of every batch: what they say to each other.

Each of n processes has all parameters and the gradient $g_r$ of the mean loss over its $m_r$ samples. The gradient of the mean
over all samples is $g = \sum_r \frac{m_r}{m} g_r$, with $m = \sum_r m_r$; by the mean over processes, which an all-reduce
gives, it is $g = \frac{1}{n} \sum_r w_r g_r$ with the weights $w_r = n\,m_r / m$, which are 1 where all parts are of one size.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Variable

from .flat import flatten, lay

FIRST_MB, CAP_MB = 1, 25  # of the buckets: the first is small, so that something is on its way soon


def ranks(group: Any = None) -> tuple[int, int]:
    """This process's rank and the number of processes; 0 and 1 where there is no process group."""
    on = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(group), dist.get_world_size(group)) if on else (0, 1)


def part(whole: Tensor, group: Any = None) -> Tensor:
    """This process's part of a batch: rows one after the other, in the ranks' order, of sizes that differ by 1 at most.

    It is empty where there are more processes than rows.
    """
    rank, size = ranks(group)
    return whole.tensor_split(size)[rank]


def stand_in(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Two rows of zeros in place of none, for a process that has no sample: it takes part, with weight 0."""
    return tuple(t if len(t) else t.new_zeros(2, *t.shape[1:]) for t in tensors)


_absent: ContextVar[bool] = ContextVar("absent", default=False)


@contextlib.contextmanager
def counting(samples: int) -> Iterator[None]:
    """Inside, this process's batch is of so many samples: of none, what stands in for them counts in no joined statistics."""
    token = _absent.set(not samples)
    try:
        yield
    finally:
        _absent.reset(token)


def absent() -> bool:
    """Whether the batch only stands in for one that this process has not."""
    return not torch.compiler.is_compiling() and _absent.get()


def total(value: Tensor, group: Any = None) -> Tensor:
    """The sum over all processes, in place."""
    if ranks(group)[1] > 1:
        with speaking():
            dist.all_reduce(value, group=group)
    return value


def largest(value: Tensor, group: Any = None) -> Tensor:
    """The largest of all processes, number by number, in place."""
    if ranks(group)[1] > 1:
        with speaking():
            dist.all_reduce(value, dist.ReduceOp.MAX, group=group)
    return value


def weight(samples: int, device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor | float:
    r"""$w_r = n\,m_r / \sum_s m_s$: what this process's loss, a mean over its samples, counts in the mean over processes."""
    size = ranks()[1]
    if size == 1:
        return 1.0
    return (samples * size / total(torch.tensor(samples, device=device)).double()).to(dtype)


class Weighted:
    """A criterion times a number, with its pullback."""

    def __init__(self, criterion: Any, weight: float):
        self.criterion, self.weight = criterion, weight

    def __call__(self, *inputs: Any) -> Tensor:
        return self.criterion(*inputs) * self.weight

    def vjp(self, *inputs: Any) -> tuple[Tensor, Any]:
        error, pull = self.criterion.vjp(*inputs)
        return error * self.weight, lambda dy=None: pull(
            torch.full_like(error, self.weight) if dy is None else dy * self.weight
        )


def meet_again(backend: str) -> None:
    """Make the process group of processes that torchrun has restarted, under names of their own in its store.

    There the addresses of those before them still stand, under the names that torch itself would look up.
    """
    if (attempt := os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) != "0" and not dist.is_initialized():
        store, rank, size = next(dist.rendezvous("env://"))
        dist.init_process_group(
            backend, store=dist.PrefixStore(f"attempt {attempt}", store), rank=rank, world_size=size
        )


class Lost(ConnectionError):
    """Another of the processes that train together is gone."""


@contextlib.contextmanager
def speaking() -> Iterator[None]:
    """Turn what a process group raises where another process has ended, or is silent, into Lost."""
    try:
        yield
    except RuntimeError as error:
        if (told := lost(error)) is None:
            raise
        raise Lost(told) from error


# What gloo and NCCL say of a peer that is gone.
GONE = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe", "Timed out waiting",
        "ncclRemoteError", "ncclSystemError", "Watchdog caught collective operation timeout")  # fmt: skip


def lost(error: BaseException) -> str | None:
    """In one line what an error of a process group means; None where it is none."""
    if isinstance(error, Lost):
        return str(error)
    reason = next((word for word in GONE if word in str(error)), None)
    if reason is None or not isinstance(error, RuntimeError):
        return None
    return f"rank {ranks()[0]} ends, as another process has ended or does not answer ({reason})"


class Bucket:
    """Parameters whose gradients lie next to each other, and go to the other processes together, by `wire`."""

    def __init__(self, params: list[nn.Parameter], wire: Tensor):
        self.params, self.wire = params, wire
        self.work: Any = None


class Reducer:
    r"""The mean of the gradients over all processes, $\frac{1}{n} \sum_r g_r$, bucket by bucket while the pullback goes on.

    The gradients are views of one tensor, cut into buckets from its end, since a pullback begins with the last layer. A bucket
    goes when each of its parameters has got its gradient, as often as it once did in a step before (a parameter of two layers
    gets two), and when those before it have gone: all processes send the same buckets in the same order. What comes for a
    parameter that has gone is summed beside it, for a second round. The last bucket carries, before its gradients, which
    parameters this process has used, and whether it asks for a second round: a parameter that no process has used keeps no
    gradient, one that some have used gets the mean, in which the others count as 0.

    with reducer: the pullback of a step, after which every `.grad` is the mean. Without it gradients add up in this process
    alone, and go with those of the next. ValueError where no parameter learns; Lost where a process is gone.
    Li et al. 2020, arXiv:2006.15704.

    group: the process group, by default of all processes. cap_mb: MiB of a bucket.
    """

    def __init__(self, module: nn.Module, group: Any = None, cap_mb: float | None = None):
        flatten(module)
        self.group, self.size = group, dist.get_world_size(group)
        kinds: dict[tuple, list[nn.Parameter]] = defaultdict(list)
        for p in module.parameters():
            if p.requires_grad:
                kinds[p.dtype, p.device].append(p)
        self.params = [p for params in kinds.values() for p in params]
        if not self.params or any("grad_slot" not in p.__dict__ for p in self.params):
            raise ValueError(
                "what several processes train must have parameters that learn, all dense and of torch's class"
            )
        self.buckets: list[Bucket] = []
        for number, params in enumerate(kinds.values()):
            params.sort(key=Tensor.data_ptr)
            said = 0 if number else 1 + len(self.params)
            flat = params[0].new_zeros(said + sum(p.numel() for p in params), requires_grad=False)
            for p, slot in zip(params, lay(params, flat[said:])[1], strict=True):
                p.grad_slot = slot  # type: ignore[attr-defined]
                if p.grad is not None:
                    p.grad = slot.copy_(p.grad)
            if not number:
                self.said = flat[:said]
            self.buckets = [*_cut(params, flat, said, cap_mb), *self.buckets]
        self.slots = {p: p.grad_slot for p in self.params}  # type: ignore[attr-defined]
        self.expected = Counter(self.params)
        self.on = False  # in a pullback whose gradients go to the others
        self.armed = False  # before a backward whose gradients do
        for p in self.params:
            p.register_post_accumulate_grad_hook(self._arrived)

    def __enter__(self) -> Reducer:
        self.on, self.sent = True, 0
        self.arrived: Counter = Counter()
        self.arrived.update(
            {p: 0 for p in self.params if p.grad is not None}
        )  # of the batches before, which have not gone
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.on = False
        if kind is None:
            with torch.no_grad():
                self._finish()

    def _arrived(self, p: Tensor) -> None:
        """What is called when a gradient has been added to a parameter's `.grad`."""
        if not self.on:
            if not self.armed:
                return
            self.__enter__()
            Variable._execution_engine.queue_callback(lambda: self.__exit__(None))  # when this backward ends
        if p.grad.is_sparse:  # type: ignore[union-attr]
            raise ValueError(f"gradients that several processes share must be dense, that of a parameter {tuple(p.shape)} is "
                             "sparse: make its Embedding with sparse=False")  # fmt: skip
        self.arrived[p] += 1
        while self.sent < len(self.buckets) - 1 and self._full(self.buckets[self.sent]):
            self._send()

    def _full(self, bucket: Bucket) -> bool:
        return all(self.arrived[p] >= self.expected[p] for p in bucket.params)

    @torch.no_grad()
    def _send(self) -> None:
        """Send the next bucket; what comes for its parameters from now on gets memory of its own."""
        bucket = self.buckets[self.sent]
        self.sent += 1
        for p in bucket.params:
            slot = self.slots[p]
            if p.grad is None:
                slot.zero_()
            elif p.grad is not slot:
                slot.copy_(p.grad)
            p.grad = None
            del p.grad_slot  # type: ignore[attr-defined]
        with speaking():
            bucket.work = dist.all_reduce(bucket.wire.div_(self.size), group=self.group, async_op=True)

    def _finish(self) -> None:
        """Send what is left, and let every `.grad` be the mean."""
        while self.sent < len(self.buckets) - 1:
            self._send()
        late = {p: p.grad for bucket in self.buckets[:-1] for p in bucket.params if p.grad is not None}
        self.said.copy_(torch.tensor([bool(late), *(p in self.arrived for p in self.params)]))
        self._send()
        with speaking():
            for bucket in self.buckets:
                bucket.work.wait()
            again, *used = self.said.tolist()
            for p, somewhere in zip(self.params, used, strict=True):
                p.grad_slot = self.slots[p]  # type: ignore[attr-defined]
                p.grad = self.slots[p] if somewhere else None
            for p in self.params if again else ():
                rest = torch.zeros_like(p) if p not in late else late[p].div_(self.size)
                dist.all_reduce(rest, group=self.group)
                if p.grad is not None:
                    p.grad.add_(rest)
        self.expected |= self.arrived


def _cut(params: list[nn.Parameter], flat: Tensor, said: int, cap_mb: float | None) -> list[Bucket]:
    """Buckets of at most so many bytes, or of one parameter, from the end; the last one reaches to the beginning."""
    found: list[Bucket] = []
    held: list[nn.Parameter] = []
    start = end = flat.numel()
    for p in reversed(params):
        cap = (CAP_MB if found else FIRST_MB) if cap_mb is None else cap_mb
        if held and (end - start + p.numel()) * p.element_size() > cap * 2**20:
            found.append(Bucket(held, flat[start:end]))
            end, held = start, []
        held.append(p)
        start -= p.numel()
    return [*found, Bucket(held, flat[start - said : end])]


def alike(module: nn.Module, group: Any = None) -> None:
    """Give all processes the parameters and buffers of the first; ValueError where theirs are of other shapes."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    told = [(name, tuple(t.shape), t.dtype) for name, t in state.items()]
    theirs: list[Any] = [None] * dist.get_world_size(group)
    with speaking():
        dist.all_gather_object(theirs, told, group=group)
        for rank, other in enumerate(theirs):
            if other != told:
                name, shape, _ = next(a for a, b in zip_longest(told, other, fillvalue=("nothing", (), None)) if a != b)
                raise ValueError(
                    f"all processes must have one network, that of rank {rank} differs at {name}, here {shape}"
                )
        broadcast(state.values(), group)


def broadcast(tensors: Iterable[Tensor], group: Any = None) -> None:
    """Let the tensors be those of the group's first process."""
    source = 0 if group is None else dist.get_global_rank(group, 0)
    with speaking(), torch.no_grad():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), source, group=group)
