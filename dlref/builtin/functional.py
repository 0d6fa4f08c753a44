"""torch.nn.functional itself, and what dlref has beyond it, composed from it."""

from torch import flatten, unflatten
from torch.nn import functional as _torch
from torch.nn.functional import *

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
from .linear_attention import gated_delta_rule, linear_attention
from .sequence import add_rms_norm, dynamic_tanh, geglu, rotary_embedding, swiglu, top_k_routing


def __getattr__(name: str):
    return getattr(_torch, name)


__all__ = [name for name in dir(_torch) if not name.startswith("_")] + [
    "add_rms_norm",
    "attention",
    "dynamic_tanh",
    "flatten",
    "gated_delta_rule",
    "gaussian_kl",
    "geglu",
    "gru_cell",
    "linear_attention",
    "linear_cross_entropy",
    "local_linear",
    "lstm_cell",
    "perceptron_loss",
    "rbf",
    "reparametrize",
    "rnn_relu_cell",
    "rnn_tanh_cell",
    "rotary_embedding",
    "swiglu",
    "tied_linear",
    "top_k_routing",
    "unflatten",
]
