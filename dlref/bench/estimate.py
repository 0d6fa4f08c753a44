r"""What a training step would cost on a GPU, by formula: an estimate for who has none.

The kernels of a step are those that ATen's dispatcher sees; each takes

$$t = \max(t_{launch},\; \text{bytes} / B,\; \text{flops} / F)$$

with the bytes of its tensor arguments and results, each read or written once, and the operations of its matrix products
or convolutions; views launch nothing. A step takes the sum. Left out: caches, kernels that split in two, Python's own time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .. import builtin, manual
from ..core.names import one_of
from .steps import NETWORKS, step_parts

# The networks of which both sides run on a GPU the kernels that they run here: no recurrent one, whose built-in side is
# there one kernel of cuDNN.
ESTIMATED = ("mlp", "mlp_large", "rbf_network", "cnn", "residual_network", "autoencoder", "convolutional_autoencoder")
FUSED = ("SGD", "Adam", "AdamW", "Adagrad")


@dataclass(frozen=True)
class GPU:
    """seconds to launch a kernel, bytes a second, float32 operations a second; by default as an A100's data sheet has them."""

    launch: float = 4e-6
    bandwidth: float = 1.555e12
    flops: float = 19.5e12


class Kernels(TorchDispatchMode):
    """Counts the kernels that run inside, their bytes and operations, and what they cost on a GPU."""

    def __init__(self, gpu: GPU):
        super().__init__()
        self.gpu, self.kernels, self.bytes, self.flops, self.seconds = gpu, 0, 0, 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        # An output of the storage of an input that it may not write to is a view.
        view = func.is_view or (
            not func._schema.is_mutable and _storages(output) and _storages(output) <= _storages(args)
        )
        if not view and _storages((args, output)):
            moved = sum(_moved(t) for t in tree_leaves((args, kwargs, output)) if isinstance(t, Tensor))
            count = flop_registry.get(func._overloadpacket)
            operations = count(*args, **kwargs, out_val=output) if count is not None else 0
            self.kernels += 1
            self.bytes += moved
            self.flops += operations
            self.seconds += max(self.gpu.launch, moved / self.gpu.bandwidth, operations / self.gpu.flops)
        return output


def estimate_step(name: str, gpu: GPU | None = None) -> dict[str, Any]:
    """Kernels, bytes, operations and estimated seconds of a step of a network of NETWORKS, by hand and built in.

    Both sides run on the CPU once; the built-in optimizer is fused where torch has it so. ValueError where there is no such
    network.
    """
    one_of("name", name, NETWORKS)
    case = NETWORKS[name]
    batch, optimizer = case.batches[0], case.optimizers[-1]
    x, y = case.data(batch, "cpu")
    found: dict[str, Any] = {"name": name, "batch": batch, "optimizer": optimizer[0]}
    for side, space in (("manual", manual), ("builtin", builtin)):
        way = {"fused": True} if space is builtin and optimizer[0] in FUSED else {}
        step = functools.partial(space.training.step, *step_parts(case, space, optimizer, "cpu", **way), x, y)
        step()  # the optimizer's state is made in the first
        with Kernels(GPU() if gpu is None else gpu) as counted:
            step()
        found[side] = {key: getattr(counted, key) for key in ("kernels", "bytes", "flops", "seconds")}
    return found


def _storages(values: Any) -> set[int]:
    return {t.untyped_storage()._cdata for t in tree_leaves(values) if isinstance(t, Tensor)}


def _moved(t: Tensor) -> int:
    """Bytes of the elements that exist: an expanded tensor has each only once."""
    number = 1
    for size, stride in zip(t.shape, t.stride(), strict=True):
        number *= size if stride or not size else 1
    return number * t.element_size()
