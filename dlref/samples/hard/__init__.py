"""What each operation is tried on beyond PyTorch's database: kinks, extremes, rare options, wrong calls; and its equation."""

from __future__ import annotations

from . import (
    activation,
    adaptive,
    batchnorm,
    blocks,
    conv,
    cross_entropy_loss,
    ctc_loss,
    distance,
    dot_product_attention,
    dropout,
    flatten,
    fold,
    fractional_pooling,
    grid_sample,
    instancenorm,
    likelihood_loss,
    linear,
    linear_loss,
    local,
    margin_loss,
    newton_schulz,
    normalization,
    padding,
    parametrization,
    perceptron,
    pixelshuffle,
    pooling,
    rbf,
    regression_loss,
    rnn_cell,
    smooth_activation,
    softmax,
    sparse,
    upsampling,
)
from .register import EQUATIONS, ERRORS, SAMPLES, call, equation, errors, samples

__all__ = ["EQUATIONS", "ERRORS", "SAMPLES", "call", "equation", "errors", "samples"]
