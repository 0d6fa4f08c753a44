"""Inside `with dlref.manual_mode():`, torch's functions are the manual ones, whoever calls them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# The functions in torch, and the methods of Tensor, that are called as those of torch.nn.functional are.
TORCH = """relu sigmoid tanh celu selu rrelu threshold prelu hardshrink conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d bilinear cosine_similarity pairwise_distance pixel_shuffle pixel_unshuffle
channel_shuffle max_pool1d max_pool2d max_pool3d avg_pool1d adaptive_avg_pool1d rms_norm""".split()
METHODS = "relu sigmoid tanh prelu hardshrink".split()
INPLACE = "relu celu elu hardtanh leaky_relu rrelu selu threshold".split()
POOLS = [f"{kind}_pool{n}d" for kind in ("max", "adaptive_max") for n in (1, 2, 3)]


class manual_mode(TorchFunctionMode):  # named as torch.no_grad is
    """Route torch.nn.functional, and the torch functions and Tensor methods that mean the same, to the manual ones.

    For any code inside, in this thread: modules of torch.nn, other libraries, models that call functions in their forward.
    What has no counterpart by hand (recurrent kernels of torch.nn.LSTM, arithmetic) is torch's own.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return table().get(func, func)(*args, **(kwargs or {}))


@functools.cache
def table() -> dict[Any, Callable]:
    """torch's function: the manual one under its signature."""
    from .manual import functional as M
    from .manual.op import OPS

    found: dict[Any, Callable] = {}
    for name in dir(F):
        ours = getattr(M, name, None)
        if callable(ours) and callable(getattr(F, name)) and not isinstance(ours, type):
            found[getattr(F, name)] = ours
    for name, op in OPS.items():
        if op.builtin is not None and getattr(F, name, None) is op.builtin:
            found[op.builtin] = op
    for name in TORCH:
        found[getattr(torch, name)] = OPS[name]
    for name in METHODS:
        found[getattr(Tensor, name)] = OPS[name]
    for name in INPLACE:
        inplace = getattr(M, f"{name}_")
        for space in (F, torch):
            if (theirs := getattr(space, f"{name}_", None)) is not None:
                found[theirs] = inplace
    found[Tensor.relu_] = M.relu_
    for name in ("sigmoid", "tanh"):
        overwrite = functools.partial(_overwritten, OPS[name])
        found |= {getattr(torch, f"{name}_"): overwrite, getattr(Tensor, f"{name}_"): overwrite}
    for name in POOLS:
        found[getattr(F, f"{name}_with_indices")] = functools.partial(OPS[name], return_indices=True)
        found[getattr(F, f"_{name}", None)] = OPS[name]
    for name in ("softmax", "log_softmax"):
        by_dim = functools.partial(_softmax, OPS[name])
        found |= {getattr(torch, name): by_dim, getattr(Tensor, name): by_dim}
    for name in ("layer_norm", "group_norm"):
        found[getattr(torch, name)] = functools.partial(_without_flag, OPS[name])
    found[torch.batch_norm] = _batch_norm
    found[torch.embedding] = _embedding
    found[torch.dropout] = lambda input, p, train: OPS["dropout"](input, p, train)
    found[torch.alpha_dropout] = lambda input, p, train: OPS["alpha_dropout"](input, p, train)
    return found


def _overwritten(op: Callable, input: Tensor) -> Tensor:
    return input.copy_(op(input.clone()))


def _softmax(op: Callable, input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return op(input, dim, dtype=dtype)


def _without_flag(op: Callable, input: Tensor, size: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
                  cudnn_enabled: bool = True) -> Tensor:  # fmt: skip
    return op(input, size, weight, bias, eps)


def _batch_norm(input: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool, momentum: float,
                eps: float, cudnn_enabled: bool) -> Tensor:  # fmt: skip
    from .manual.functional import batch_norm

    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _embedding(weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
               sparse: bool = False) -> Tensor:  # fmt: skip
    from .manual.functional import embedding

    return embedding(indices, weight, None if padding_idx < 0 else padding_idx, scale_grad_by_freq=scale_grad_by_freq,
                     sparse=sparse)  # fmt: skip
