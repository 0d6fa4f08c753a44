"""Kernels: second forms of operations, for speed, in the plain eager case alone.

A kernel may write over its own tensors, work in parts that a cache holds, and use whatever tensor algebra is fastest; it is
by hand as its definition is. Each is held to its definition by the harness and by `dlref.check`, and pays by a fifth of the
time or of the peak memory (`dlref bench --kernels`).
"""

from . import (
    activation,
    adaptive,
    conv,
    cross_entropy_loss,
    dot_product_attention,
    grid_sample,
    likelihood_loss,
    linear,
    linear_attention,
    linear_loss,
    margin_loss,
    normalization,
    pooling,
    rbf,
    regression_loss,
    rnn,
    smooth_activation,
    softmax,
    windows,
)

__all__ = [
    "activation",
    "adaptive",
    "conv",
    "cross_entropy_loss",
    "dot_product_attention",
    "grid_sample",
    "likelihood_loss",
    "linear",
    "linear_attention",
    "linear_loss",
    "margin_loss",
    "normalization",
    "pooling",
    "rbf",
    "regression_loss",
    "rnn",
    "smooth_activation",
    "softmax",
    "windows",
]
