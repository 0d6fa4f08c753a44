"""The precision that an operation computes in."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it is half precision: torch's kernels round once, at the end, and so do we.

    NotImplementedError where it holds integers or bools, which have no such function.
    """
    if tensor.dtype in HALF:
        return tensor.float()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise NotImplementedError(f"the input must be floating point, it is {tensor.dtype}: convert it first")
    return tensor
