"""What each operation is tried on beyond PyTorch's database: kinks, extremes, rare options, wrong calls; and its equation."""

from __future__ import annotations

from . import (
    activation,
    batchnorm,
    blocks,
    conv,
    cross_entropy_loss,
    distance,
    dot_product_attention,
    dropout,
    flatten,
    fold,
    instancenorm,
    likelihood_loss,
    linear,
    linear_loss,
    local,
    margin_loss,
    normalization,
    padding,
    perceptron,
    pixelshuffle,
    pooling,
    rbf,
    regression_loss,
    rnn_cell,
    sequence,
    smooth_activation,
    softmax,
    sparse,
    upsampling,
)
from .register import EQUATIONS, ERRORS, SAMPLES, call, equation, errors, samples

__all__ = ["EQUATIONS", "ERRORS", "SAMPLES", "call", "equation", "errors", "samples"]
