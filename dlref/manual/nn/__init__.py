"""torch.nn by hand: modules under torch's names, whose mathematics is ours and whose everything else is torch's."""

from torch.nn import Module, Parameter

from ..module import Manual, ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .activation import (
    CELU,
    ELU,
    SELU,
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    RReLU,
    Softshrink,
    Threshold,
)
from .dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout
from .flatten import Flatten, Unflatten
from .linear import Bilinear, Identity, Linear
from .loss import CrossEntropyLoss
from .normalization import LayerNorm, RMSNorm
from .smooth import GELU, GLU, LogSigmoid, Mish, Sigmoid, SiLU, Softplus, Softsign, Tanh, Tanhshrink
from .softmax import LogSoftmax, Softmax, Softmax2d, Softmin
