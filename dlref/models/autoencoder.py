"""Autoencoders: an image through a narrow code and back."""

from __future__ import annotations

from typing import Any

from ..core.sizes import within_memory
from .dense import module_named


@within_memory
def autoencoder(
    ns: Any,
    features: int = 64,
    hidden: int = 128,
    code: int = 8,
    activation: str = "relu",
    noise: float = 0.0,
    tied: bool = False,
) -> Any:
    r"""$c = W_2 \phi(W_1 x + b_1) + b_2,\ \hat x = V_2 \phi(V_1 c + d_1) + d_2$, to be trained by MSELoss against x.

    code: numbers in the code. noise: standard deviation of what is added to x in training (a denoising autoencoder).
    tied: $V_1 = W_2^\top, V_2 = W_1^\top$. Input and output (N, features). Hinton & Salakhutdinov 2006 (Science 313).
    """
    make = module_named(ns, activation)
    first, second = ns.nn.Linear(features, hidden), ns.nn.Linear(hidden, code)
    if tied:
        third, fourth = ns.nn.TiedLinear(second), ns.nn.TiedLinear(first)
    else:
        third, fourth = ns.nn.Linear(code, hidden), ns.nn.Linear(hidden, features)
    noisy = [ns.nn.GaussianNoise(noise)] if noise else []
    encoder = ns.nn.Sequential(*noisy, first, make(), second)
    return ns.nn.Sequential(encoder, ns.nn.Sequential(third, make(), fourth))


@within_memory
def convolutional_autoencoder(ns: Any, in_channels: int = 1, size: int = 8, code: int = 8, channels: int = 16) -> Any:
    r"""Two convolutions of stride 2 and an affine layer to the code; an affine layer and two transposed ones back.

    Input and output (N, in_channels, size, size), size divisible by 4 (else ValueError). Masci et al. 2011 (ICANN), section 3.
    """
    if size % 4:
        raise ValueError(f"the size must be divisible by 4, it is {size}")
    shape = (2 * channels, size // 4, size // 4)
    features = shape[0] * shape[1] * shape[2]
    encoder = ns.nn.Sequential(
        ns.nn.Conv2d(in_channels, channels, 3, 2, 1), ns.nn.ReLU(),
        ns.nn.Conv2d(channels, 2 * channels, 3, 2, 1), ns.nn.ReLU(),
        ns.nn.Flatten(), ns.nn.Linear(features, code),
    )  # fmt: skip
    decoder = ns.nn.Sequential(
        ns.nn.Linear(code, features), ns.nn.ReLU(), ns.nn.Unflatten(1, shape),
        ns.nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1), ns.nn.ReLU(),
        ns.nn.ConvTranspose2d(channels, in_channels, 4, 2, 1),
    )  # fmt: skip
    return ns.nn.Sequential(encoder, decoder)


@within_memory
def variational_autoencoder(
    ns: Any, features: int = 64, hidden: int = 128, code: int = 8, activation: str = "relu"
) -> Any:
    r"""Encoder to mean and variance of the code, decoder of a draw from them; to be trained by VariationalLoss against x.

    Input (N, features), output (reconstruction, mean, logarithm of the variance). Kingma & Welling 2014, arXiv:1312.6114.
    """
    make = module_named(ns, activation)
    encoder = ns.nn.Sequential(ns.nn.Linear(features, hidden), make(), ns.nn.Linear(hidden, 2 * code))
    decoder = ns.nn.Sequential(ns.nn.Linear(code, hidden), make(), ns.nn.Linear(hidden, features))
    return ns.nn.VariationalAutoencoder(encoder, decoder)
