"""What networks of sequences are made of and torch lacks, composed from torch's functions; and the errors of both sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotary_embedding(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    check_rotary_embedding(input, cos, sin)
    if interleaved:
        first, second = input[..., ::2], input[..., 1::2]
    else:
        first, second = input.tensor_split(2, -1)
    turned = first * cos - second * sin, second * cos + first * sin
    output = torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
    return output.to(input.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    check_gate("swiglu", gate, up)
    return F.silu(gate) * up


def geglu(gate: Tensor, up: Tensor, approximate: str = "none") -> Tensor:
    check_gate("geglu", gate, up)
    return F.gelu(gate, approximate=approximate) * up


def add_rms_norm(input: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    check_add_rms_norm(input, residual, weight)
    total = input + residual
    return F.rms_norm(total, weight.shape, weight, eps), total


def dynamic_tanh(input: Tensor, alpha: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    check_dynamic_tanh(input, alpha, weight, bias)
    y = torch.tanh(alpha * input)
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.to(input.dtype)


def top_k_routing(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    check_top_k_routing(logits, k)
    experts = logits.shape[-1]
    p = logits.softmax(-1)
    indices = logits.topk(k).indices  # of the logits, which are in order where probabilities are all 0
    chosen = p.gather(-1, indices)
    share = F.one_hot(indices, experts).to(p.dtype).sum(-2).flatten(0, -2).mean(0) / k
    return chosen / chosen.sum(-1, keepdim=True), indices, experts * (share * p.flatten(0, -2).mean(0)).sum()


# --- errors ---------------------------------------------------------------------------------------------------


def check_one_dtype(name: str, **tensors: Tensor | None) -> None:
    """RuntimeError where the tensors have several dtypes."""
    dtypes = {which: t.dtype for which, t in tensors.items() if t is not None}
    if len(set(dtypes.values())) > 1:
        raise RuntimeError(f"{name}(): {', '.join(dtypes)} must have one dtype, they have {list(dtypes.values())}")


def broadcasts(shape: torch.Size, to: torch.Size | tuple[int, ...]) -> bool:
    """Whether a tensor of the shape is broadcast to the other."""
    missing = len(to) - len(shape)
    return missing >= 0 and all(n in (1, m) for n, m in zip(shape, to[missing:], strict=True))


def check_rotary_embedding(input: Tensor, cos: Tensor, sin: Tensor) -> None:
    if not input.dim() or input.shape[-1] % 2:
        raise RuntimeError(f"rotary_embedding(): the input must be (*, T, D) with an even D, it has shape "
                           f"{tuple(input.shape)}")  # fmt: skip
    half = (*input.shape[:-1], input.shape[-1] // 2)
    if cos.shape != sin.shape or not cos.dim() or cos.shape[-1] != half[-1] or not broadcasts(cos.shape, half):
        raise RuntimeError(f"rotary_embedding(): cos and sin must have one shape (*, T, D / 2) that is broadcast to {half}, "
                           f"they have {tuple(cos.shape)} and {tuple(sin.shape)}")  # fmt: skip


def check_gate(name: str, gate: Tensor, up: Tensor) -> None:
    if gate.shape != up.shape:
        raise RuntimeError(
            f"{name}(): gate and up must have one shape, they have {tuple(gate.shape)} and {tuple(up.shape)}"
        )
    check_one_dtype(name, gate=gate, up=up)


def check_add_rms_norm(input: Tensor, residual: Tensor, weight: Tensor) -> None:
    if input.shape != residual.shape:
        raise RuntimeError(f"add_rms_norm(): input and residual must have one shape, they have {tuple(input.shape)} and "
                           f"{tuple(residual.shape)}")  # fmt: skip
    if not weight.dim() or input.shape[-weight.dim() :] != weight.shape:
        raise RuntimeError(f"add_rms_norm(): the input must end in the weight's shape {tuple(weight.shape)}, of one dimension "
                           f"or more, it has shape {tuple(input.shape)}")  # fmt: skip
    check_one_dtype("add_rms_norm", input=input, residual=residual, weight=weight)


def check_dynamic_tanh(input: Tensor, alpha: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    if alpha.numel() != 1 or not broadcasts(alpha.shape, input.shape):
        raise RuntimeError(f"dynamic_tanh(): alpha must be one number, of no more dimensions than the input, it has shape "
                           f"{tuple(alpha.shape)}")  # fmt: skip
    for which, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != input.shape[input.dim() - tensor.dim() :]:
            raise RuntimeError(f"dynamic_tanh(): the input must end in the {which}'s shape {tuple(tensor.shape)}, it has shape "
                               f"{tuple(input.shape)}")  # fmt: skip


def check_top_k_routing(logits: Tensor, k: int) -> None:
    if logits.dim() < 2:
        raise RuntimeError(
            f"top_k_routing(): the logits must be (*, tokens, experts), they have shape {tuple(logits.shape)}"
        )
    if not 1 <= k <= logits.shape[-1]:
        raise RuntimeError(f"top_k_routing(): k must lie in [1, {logits.shape[-1]}], the number of experts, it is {k}")
