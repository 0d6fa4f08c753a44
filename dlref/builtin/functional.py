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
from .newton_schulz import newton_schulz
from .parametrization import orthogonal, spectral_norm, weight_norm

__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "cluster_log_prob",
    "flatten",
    "gaussian_kl",
    "gru_cell",
    "linear_cross_entropy",
    "local_linear",
    "lstm_cell",
    "orthogonal",
    "newton_schulz",
    "perceptron_loss",
    "rbf",
    "reparametrize",
    "rnn_relu_cell",
    "rnn_tanh_cell",
    "spectral_norm",
    "tied_linear",
    "unflatten",
    "weight_norm",
]
