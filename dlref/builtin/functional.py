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


def __getattr__(name: str):
    return getattr(_torch, name)


__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "cluster_log_prob",
    "flatten",
    "gaussian_kl",
    "gru_cell",
    "linear_cross_entropy",
    "local_linear",
    "lstm_cell",
    "perceptron_loss",
    "rbf",
    "reparametrize",
    "rnn_relu_cell",
    "rnn_tanh_cell",
    "tied_linear",
    "unflatten",
]
