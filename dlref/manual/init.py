"""Initialisations of parameters, in place: torch.nn.init by hand; the same generator gives the same numbers.

Each takes the tensor, of any shape where no other is named, any floating dtype and device, and returns it. `generator` draws
the random numbers, torch's default generator where it is None.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from ..core.compat import TRUNCATED_BY_REJECTION


@torch.no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    r"""Uniform on $[a, b)$."""
    return tensor.uniform_(a, b, generator=generator)


@torch.no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    r"""Normal, $N(\mu, \sigma^2)$."""
    return tensor.normal_(mean, std, generator=generator)


@torch.no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    r"""Normal restricted to $[a, b]$, by rejection; by quantiles where torch does so (compat.TRUNCATED_BY_REJECTION).

    Where $[a, b]$ holds over 0.3 of the normal's probability, values are drawn from it until they lie inside. Else they
    are drawn uniformly on $[a, b]$ and accepted with probability $p(x) / \max p$, that is where $\log u \le \log p(x) -
    \max \log p$. A quantile is $\Phi^{-1}(u)$ of a uniform $u$ on $[\Phi((a - \mu) / \sigma), \Phi((b - \mu) / \sigma)]$.
    Warns where the mean lies more than two deviations outside. Robert 1995 (Statistics and Computing 5).
    """
    if tensor.is_meta:
        return tensor
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(f"trunc_normal_: mean should lie within two deviations of [{a}, {b}], it is {mean} (deviation {std}): "
                      "values may be badly distributed", stacklevel=2)  # fmt: skip
    below, above = _normal_cdf((a - mean) / std), _normal_cdf((b - mean) / std)
    if not TRUNCATED_BY_REJECTION:
        tensor.uniform_(2 * below - 1, 2 * above - 1, generator=generator)
        return tensor.erfinv_().mul_(std * math.sqrt(2.0)).add_(mean).clamp_(min=a, max=b)
    if above - below > 0.3:
        # The bounds as the tensor's dtype has them: a value drawn on a bound is not drawn for ever.
        low, high = (tensor.new_tensor(bound, device="cpu").item() for bound in (a, b))
        result = tensor.normal_(mean, std, generator=generator)
        while (outside := (result < low) | (result > high)).any():
            again = torch.empty_like(result).normal_(mean, std, generator=generator)
            result = torch.where(outside, again, result)
        return tensor if result is tensor else tensor.copy_(result)
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2

    def rejected(x: Tensor) -> Tensor:
        log_density = x.clone().sub_(mean).div_(std).pow_(2).mul_(-0.5).sub_(peak)
        return torch.empty_like(x).uniform_(generator=generator).log_().gt(log_density)

    result = tensor.uniform_(a, b, generator=generator)
    pending = rejected(result)
    while pending.any():
        again = torch.empty_like(result).uniform_(a, b, generator=generator)
        result = torch.where(pending, again, result)
        pending = pending & rejected(again)
    return tensor if result is tensor else tensor.copy_(result)


def _normal_cdf(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


@torch.no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    r"""Every entry val: $w = v$."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    r"""Every entry 1: $w = 1$."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    r"""Every entry 0: $w = 0$."""
    return constant_(tensor, 0.0)


@torch.no_grad()
def eye_(tensor: Tensor) -> Tensor:
    r"""The identity, $w_{ij} = [i = j]$. ValueError where the tensor has not two dimensions."""
    _dimensions(tensor, (2,))
    tensor.zero_().diagonal().fill_(1)
    return tensor


@torch.no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    r"""The identity of a convolution: in each group, output channel d is input channel d, $w_{d d} = 1$ at the kernel's centre.

    tensor (out, in / groups, *kernel) of 1 to 3 dimensions of kernel. ValueError where out is no multiple of groups, or for
    other dimensions. Zagoruyko & Komodakis 2017, arXiv:1706.00388.
    """
    _dimensions(tensor, (3, 4, 5))
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: dim 0 must be divisible by groups, they are {tensor.shape[0]} and {groups}")
    tensor.zero_()
    channels = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    for group in range(groups):
        for d in range(min(channels, tensor.shape[1])):
            place = group * channels + d, d, *centre
            tensor[place] = 1
    return tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    r"""What keeps the variance of activations: $\sqrt{2 / (1 + a^2)}$ for leaky_relu, $\sqrt 2$ for relu, 5/3 for tanh,
    3/4 for selu, 1 for linear maps, convolutions and sigmoid.

    param: the negative slope a of leaky_relu, by default 0.01. ValueError where there is none known. He et al. 2015,
    arXiv:1502.01852, section 2.2; 5/3 and 3/4 are torch's.
    """
    dimensions = ("1d", "2d", "3d")
    linear = {"linear", "sigmoid", *(f"{kind}{d}" for kind in ("conv", "conv_transpose") for d in dimensions)}
    if nonlinearity in linear:
        return 1
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"leaky_relu's negative slope must be a number, it is {param!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity must be one of {', '.join(sorted({*linear, *gains, 'leaky_relu'}))}; it is "
                         f"{nonlinearity!r}")  # fmt: skip
    return gains[nonlinearity]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    r"""Uniform on $(-a, a)$, $a = g \sqrt{6 / (n_{in} + n_{out})}$.

    tensor (out, in, *kernel), whose places count in both n; ValueError for fewer dimensions. Glorot & Bengio 2010
    (AISTATS), eq. 16.
    """
    fan_in, fan_out = _fans(tensor)
    bound = math.sqrt(3.0) * (gain * math.sqrt(2.0 / float(fan_in + fan_out)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    r"""Normal of deviation $g \sqrt{2 / (n_{in} + n_{out})}$.

    tensor (out, in, *kernel); ValueError for fewer dimensions. Glorot & Bengio 2010 (AISTATS), eq. 12.
    """
    fan_in, fan_out = _fans(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    r"""Uniform on $(-b, b)$, $b = g \sqrt{3 / n}$ of the fan n. He et al. 2015, arXiv:1502.01852.

    a: the slope of leaky_relu. mode: "fan_in" keeps the variance forward, "fan_out" backward.
    tensor (out, in, *kernel). ValueError where mode or nonlinearity is unknown, or for fewer dimensions.
    """
    if _nothing(tensor):
        return tensor
    bound = math.sqrt(3.0) * (_deviation(tensor, a, mode, nonlinearity))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    r"""Normal of deviation $g / \sqrt n$ of the fan n. He et al. 2015, arXiv:1502.01852, eq. 10 and 14.

    Arguments, shapes and ValueError as in `kaiming_uniform_`.
    """
    if _nothing(tensor):
        return tensor
    return normal_(tensor, 0.0, _deviation(tensor, a, mode, nonlinearity), generator)


def _nothing(tensor: Tensor) -> bool:
    if 0 not in tensor.shape:
        return False
    warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
    return True


def _deviation(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    modes = ("fan_in", "fan_out")
    if mode.lower() not in modes:
        raise ValueError(f"mode must be one of {modes}, it is {mode!r}")
    fan = _fans(tensor)[modes.index(mode.lower())]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _fans(tensor: Tensor) -> tuple[int, int]:
    """The numbers of inputs of an output, and of outputs of an input."""
    if tensor.dim() < 2:
        raise ValueError(f"a fan needs a tensor of at least 2 dimensions, it has {tensor.dim()}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


@torch.no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    r"""A (semi-)orthogonal matrix times gain, uniformly distributed: $W = g\,Q\,\mathrm{sign}(\mathrm{diag} R)$ of a normal
    matrix $Q R$, so $W^\top W$ or $W W^\top$ is $g^2 I$.

    All dimensions but the first count as one. ValueError where there are fewer than two. Saxe et al. 2013, arXiv:1312.6120;
    Mezzadri 2007.
    """
    if tensor.dim() < 2:
        raise ValueError(f"orthogonal_: the tensor must have 2 or more dimensions, it has {tensor.dim()}")
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    draw = tensor.new_empty((rows, columns)).normal_(0, 1, generator=generator)
    q, r = torch.linalg.qr(draw.t() if rows < columns else draw)
    q = q * r.diagonal().sign()
    return tensor.copy_((q.t() if rows < columns else q).reshape(tensor.shape)).mul_(gain)


@torch.no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    r"""Normal, $N(0, \sigma^2)$ with std $\sigma$, but for the fraction sparsity of each column, which is 0.

    ValueError where it is no matrix. Martens 2010 (ICML).
    """
    _dimensions(tensor, (2,))
    if tensor.is_meta:
        return tensor
    rows, columns = tensor.shape
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        tensor[torch.randperm(rows)[: math.ceil(sparsity * rows)], column] = 0
    return tensor


def _dimensions(tensor: Tensor, allowed: tuple[int, ...]) -> None:
    if tensor.dim() not in allowed:
        names = " or ".join(map(str, allowed))
        raise ValueError(f"the tensor must have {names} dimensions, it has {tensor.dim()}")


def _deprecated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = function.__name__.removesuffix("_")

    @functools.wraps(function)
    def old(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    old.__name__, old.__doc__ = name, f"`{name}_` by its old name, with a FutureWarning."
    return old


uniform, normal, constant, eye, dirac = (_deprecated(f) for f in (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = (_deprecated(f) for f in (xavier_uniform_, xavier_normal_))
kaiming_uniform, kaiming_normal = (_deprecated(f) for f in (kaiming_uniform_, kaiming_normal_))
orthogonal, sparse = (_deprecated(f) for f in (orthogonal_, sparse_))
