"""torch.nn.functional by hand: each name an operation that is called under autograd, or by `.vjp` without."""

from .nn.activation import (
    celu,
    celu_,
    elu,
    elu_,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    hardtanh_,
    leaky_relu,
    leaky_relu_,
    prelu,
    relu,
    relu6,
    relu_,
    rrelu,
    rrelu_,
    selu,
    selu_,
    softshrink,
    threshold,
    threshold_,
)
from .nn.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from .nn.flatten import flatten, unflatten
from .nn.linear import bilinear, linear
from .nn.loss import cross_entropy
from .nn.normalization import layer_norm, rms_norm
from .nn.smooth import gelu, glu, logsigmoid, mish, sigmoid, silu, softplus, softsign, tanh, tanhshrink
from .nn.softmax import gumbel_softmax, log_softmax, softmax, softmin
