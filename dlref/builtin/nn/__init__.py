"""torch.nn itself, and the modules that dlref has beyond it, composed from torch.nn and differentiated by autograd."""

from torch import nn as _torch
from torch.nn import *
from torch.nn import functional, init, parameter, utils

from .blocks import (
    GaussianNoise,
    LastStep,
    MeanOver,
    PatchEmbedding,
    Residual,
    SequenceModel,
    TiedLinear,
    VariationalAutoencoder,
    VariationalLoss,
)
from .linear_loss import LinearCrossEntropyLoss, LinearCrossEntropyOptions
from .local import LocallyConnected1d, LocallyConnected2d
from .perceptron import Perceptron, PerceptronLoss
from .rbf import RBF
from .sequence import GEGLU, AddRMSNorm, DynamicTanh, RotaryEmbedding, SwiGLU


def __getattr__(name: str):
    return getattr(_torch, name)
