"""A network that several processes train, each on its part of the batch: torch.nn.parallel by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ...core.module import Manual, vjp_of
from ...core.parallel import Reducer, alike, broadcast
from ...core.pullback import Pullback, collects, made_of


class DistributedDataParallel(Manual, nn.Module):
    r"""A module whose gradients are the means over all processes, $g = \frac{1}{n} \sum_r g_r$.

    The pullback of `vjp`, and a backward under autograd, end when each parameter's `.grad` is the mean; the gradients go, in
    buckets, while they go on with the layers before. Where the processes have different numbers of samples, their losses are to
    be weighted, $w_r = n\,m_r / m$ (`dlref.core.parallel`: `weight`). Parameters that no process uses keep no gradient.
    Without autograd's hooks it is not torch's class, but is called as that is, and has its state_dict. Li et al. 2020,
    arXiv:2006.15704.

    ValueError where no parameter learns, the processes have different networks, or a gradient is sparse; Lost, which is a
    ConnectionError, where a process has ended.

    Args:
        module: The network, of this process's device.
        device_ids: That device alone, or None.
        broadcast_buffers: Take the first process's buffers, as running statistics, before each forward that is trained by.
        init_sync: Take the first process's parameters and buffers now.
        process_group: Those who share the gradients; by default all.
        bucket_cap_mb: MiB of a bucket; by default 25, and 1 of the first.
        output_device, dim, find_unused_parameters, check_reduction, gradient_as_bucket_view, static_graph: Without effect:
            a process has one device, unused parameters are always found, gradients always lie in the buckets.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: Sequence[int | torch.device] | None = None,
        output_device: int | torch.device | None = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
    ):
        super().__init__()
        if not dist.is_initialized():
            raise ValueError(
                "there must be a process group: call torch.distributed.init_process_group, or start with torchrun"
            )
        if device_ids is not None and len(device_ids) != 1:
            raise ValueError(f"device_ids must be None or the one device of this process, it is {list(device_ids)}")
        self.module, self.process_group, self.broadcast_buffers = module, process_group, broadcast_buffers
        self.require_backward_grad_sync = True
        # What belongs to the processes of today is in no copy.
        self.reducer = Reducer(module, process_group, bucket_cap_mb)
        if init_sync:
            alike(module, process_group)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients add up in this process alone; they go with those of the next step outside of it."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        self._begin(armed=torch.is_grad_enabled())
        return self.module(*inputs, **kwargs)

    def explicit(self, *inputs: Any, **kwargs: Any) -> tuple[Any, Pullback]:
        self._begin(armed=False)
        together = self.reducer if self.require_backward_grad_sync and not collects() else nullcontext()
        output, pull = vjp_of(self.module)(*inputs, **kwargs)

        def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
            with together:
                return pull(dy) if needs is None else pull(dy, needs=needs)

        return output, made_of(pullback, pull)

    def _begin(self, armed: bool) -> None:
        together = self.require_backward_grad_sync
        self.reducer.armed = armed and together
        if together and self.broadcast_buffers and self.training and not collects():
            broadcast(self.module.buffers(), self.process_group)

    def __getstate__(self) -> Any:
        raise TypeError("a network of several processes is not pickled or copied: take its `module`")
