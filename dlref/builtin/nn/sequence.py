"""Modules of networks of sequences that torch lacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import functional as F


class RotaryEmbedding(nn.Module):
    r"""Rotary positions: pair i of the features at place t is turned by the angle $t\,b^{-2 i / D}$, b the base.

    dim: D, even. max_length: the places that there are. Input (*, T, dim), T at most max_length, and the places of its T steps,
    integers (T,) or (*, T), by default 0 to T - 1; output as input. interleaved: pairs are neighbours, and not of each half.
    ValueError where dim, max_length or the base are none, RuntimeError where the input is longer. Su et al. 2021,
    arXiv:2104.09864, eq. 15 and 34.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, dim: int, max_length: int, base: float = 10000.0, interleaved: bool = False, device=None, dtype=None
    ):
        super().__init__()
        for name, value in (("dim", dim), ("max_length", max_length), ("base", base)):
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, it is {value}")
        if dim % 2:
            raise ValueError(f"dim must be even, it is {dim}")
        self.dim, self.max_length, self.base, self.interleaved = dim, max_length, base, interleaved
        speed = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = torch.arange(max_length, dtype=torch.float64).unsqueeze(1) * speed  # (max_length, D / 2)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        for name, table in (("cos", angle.cos()), ("sin", angle.sin())):
            self.register_buffer(name, table.to(device=device, dtype=dtype), persistent=False)

    def angles(self, input: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The cosines and sines of the input's places."""
        if positions is not None:
            return self.cos[positions], self.sin[positions]
        length = input.shape[-2] if input.dim() > 1 else 1
        if length > self.max_length:
            raise RuntimeError(f"the input must have at most max_length={self.max_length} steps, it has {length}")
        return self.cos[:length], self.sin[:length]

    def forward(self, input: Tensor, positions: Tensor | None = None) -> Tensor:
        return F.rotary_embedding(input, *self.angles(input, positions), self.interleaved)

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.max_length}, base={self.base}, interleaved={self.interleaved}"


class SwiGLU(nn.Module):
    r"""The gate of a feed-forward layer, $y = \mathrm{silu}(a) \odot b$ of two projections a and b of its input."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.swiglu(gate, up)


class GEGLU(nn.Module):
    r"""The gate of a feed-forward layer, $y = \mathrm{gelu}(a) \odot b$ of two projections a and b of its input."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.geglu(gate, up, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


def _shape(normalized_shape) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class AddRMSNorm(nn.Module):
    r"""Sum with the residual, and its root-mean-square norm: (y, h) of $h = x + r,\ y = h\,\rho \odot \gamma$.

    Input and residual (*, *normalized_shape), both outputs as they; weight $\gamma$ of normalized_shape, ones at first.
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-6, device=None, dtype=None):
        super().__init__()
        self.normalized_shape, self.eps = _shape(normalized_shape), eps
        self.weight = nn.Parameter(torch.empty(self.normalized_shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, input: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return F.add_rms_norm(input, residual, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class DynamicTanh(nn.Module):
    r"""Dynamic tanh in the place of a norm: $y = \tanh(\alpha x) \odot \gamma + \beta$.

    Input (*, *normalized_shape), output as input; alpha (1,), alpha_init at first, weight $\gamma$ and bias $\beta$ of
    normalized_shape, ones and zeros at first.
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], alpha_init: float = 0.5, device=None, dtype=None):
        super().__init__()
        self.normalized_shape, self.alpha_init = _shape(normalized_shape), alpha_init
        kind = {"device": device, "dtype": dtype}
        self.alpha = nn.Parameter(torch.empty(1, **kind))
        self.weight = nn.Parameter(torch.empty(self.normalized_shape, **kind))
        self.bias = nn.Parameter(torch.empty(self.normalized_shape, **kind))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.alpha, self.alpha_init)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.dynamic_tanh(input, self.alpha, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, alpha_init={self.alpha_init}"


class TopKRouting(nn.Module):
    """The gate of a mixture of experts: logits (*, T, E) to the weights, the indices and the balance loss of the k best."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.top_k_routing(logits, self.k)

    def extra_repr(self) -> str:
        return f"k={self.k}"
