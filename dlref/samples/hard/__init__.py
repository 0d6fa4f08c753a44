"""What each operation is tried on beyond PyTorch's database: kinks, extremes, rare options, wrong calls; and its equation."""

from __future__ import annotations

from . import (
    activation,
    adaptive,
    batchnorm,
    blocks,
    contrastive_loss,
    conv,
    cross_entropy_loss,
    ctc_loss,
    distance,
    divergence_loss,
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
    logit_loss,
    margin_loss,
    newton_schulz,
    normalization,
    padding,
    parametrization,
    perceptron,
    pixelshuffle,
    pooling,
    preference_loss,
    rbf,
    region_loss,
    regression_loss,
    rnn_cell,
    smooth_activation,
    softmax,
    sparse,
    sparsemax,
    upsampling,
)
from .register import EQUATIONS, ERRORS, SAMPLES, call, equation, errors, samples

__all__ = ["EQUATIONS", "ERRORS", "SAMPLES", "call", "equation", "errors", "samples"]
