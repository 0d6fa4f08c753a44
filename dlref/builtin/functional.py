"""torch.nn.functional itself, and what dlref has beyond it, composed from it."""

from torch import flatten, unflatten
from torch.nn import functional as _torch
from torch.nn.functional import *

from .adaptive import cluster_log_prob
from .composed import (
    gaussian_kl,
    gru_cell,
    linear_cross_entropy,
    local_linear,
    lstm_cell,
    perceptron_loss,
    rbf,
    reparametrize,
    rnn_relu_cell,
    rnn_tanh_cell,
    tied_linear,
)
from .contrastive_loss import info_nce, siglip_loss
from .divergence_loss import js_div, tv_distance
from .logit_loss import focal_loss, z_loss
from .newton_schulz import newton_schulz
from .parametrization import orthogonal, spectral_norm, weight_norm
from .preference_loss import dpo_loss, grpo_loss, kto_loss, orpo_loss, simpo_loss
from .region_loss import dice_loss, tversky_loss
from .sparsemax import entmax, sparsemax

__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "cluster_log_prob",
    "dice_loss",
    "dpo_loss",
    "entmax",
    "flatten",
    "focal_loss",
    "gaussian_kl",
    "grpo_loss",
    "gru_cell",
    "info_nce",
    "js_div",
    "kto_loss",
    "linear_cross_entropy",
    "local_linear",
    "lstm_cell",
    "newton_schulz",
    "orpo_loss",
    "orthogonal",
    "perceptron_loss",
    "rbf",
    "reparametrize",
    "rnn_relu_cell",
    "rnn_tanh_cell",
    "siglip_loss",
    "simpo_loss",
    "sparsemax",
    "spectral_norm",
    "tied_linear",
    "tv_distance",
    "tversky_loss",
    "unflatten",
    "weight_norm",
    "z_loss",
]
