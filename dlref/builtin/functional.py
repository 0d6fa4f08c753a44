"""torch.nn.functional itself, and what dlref has beyond it, composed from it."""

from torch import flatten, unflatten
from torch.nn import functional as _torch
from torch.nn.functional import *

from .adaptive import cluster_log_prob
from .attention import attention
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
from .linear_attention import gated_delta_rule, linear_attention
from .logit_loss import focal_loss, z_loss
from .newton_schulz import newton_schulz
from .parametrization import orthogonal, spectral_norm, weight_norm
from .preference_loss import dpo_loss, grpo_loss, kto_loss, orpo_loss, simpo_loss
from .region_loss import dice_loss, tversky_loss
from .sequence import add_rms_norm, dynamic_tanh, geglu, rotary_embedding, swiglu, top_k_routing
from .sparsemax import entmax, sparsemax

__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "add_rms_norm",
    "attention",
    "cluster_log_prob",
    "dice_loss",
    "dpo_loss",
    "dynamic_tanh",
    "entmax",
    "flatten",
    "focal_loss",
    "gated_delta_rule",
    "gaussian_kl",
    "geglu",
    "grpo_loss",
    "gru_cell",
    "info_nce",
    "js_div",
    "kto_loss",
    "linear_attention",
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
    "rotary_embedding",
    "siglip_loss",
    "simpo_loss",
    "sparsemax",
    "spectral_norm",
    "swiglu",
    "tied_linear",
    "top_k_routing",
    "tv_distance",
    "tversky_loss",
    "unflatten",
    "weight_norm",
    "z_loss",
]
