"""torch.nn by hand: modules under torch's names, whose mathematics is ours and whose everything else is torch's."""

import sys
from typing import TYPE_CHECKING

from torch.nn import Module, Parameter

from ...builtin.nn.linear_loss import LinearCrossEntropyOptions
from ...core.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from ...core.module import Manual
from .. import init
from . import cross_entropy_loss, grad, parallel, smooth_activation, utils
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
from .adaptive import AdaptiveLogSoftmaxWithLoss
from .attention import MultiheadAttention
from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d
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
from .contrastive_loss import InfoNCELoss, SigLIPLoss
from .conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    LazyConv1d,
    LazyConv2d,
    LazyConv3d,
    LazyConvTranspose1d,
    LazyConvTranspose2d,
    LazyConvTranspose3d,
)
from .cross_entropy_loss import CrossEntropyLoss, KLDivLoss, NLLLoss, NLLLoss2d
from .ctc_loss import CTCLoss
from .distance import CosineSimilarity, PairwiseDistance
from .divergence_loss import JSDivLoss, TVDistanceLoss
from .dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout
from .flatten import Flatten, Unflatten
from .fold import Fold, Unfold
from .fractional_pooling import FractionalMaxPool2d, FractionalMaxPool3d
from .gated_linear_unit import GEGLU, SwiGLU
from .instancenorm import (
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LazyInstanceNorm1d,
    LazyInstanceNorm2d,
    LazyInstanceNorm3d,
)
from .likelihood_loss import (
    BCELoss,
    BCEWithLogitsLoss,
    GaussianNLLLoss,
    MultiLabelSoftMarginLoss,
    PoissonNLLLoss,
    SoftMarginLoss,
)
from .linear import Bilinear, Identity, LazyLinear, Linear
from .linear_loss import LinearCrossEntropyLoss
from .local import LocallyConnected1d, LocallyConnected2d
from .logit_loss import FocalLoss, ZLoss
from .margin_loss import (
    CosineEmbeddingLoss,
    HingeEmbeddingLoss,
    MarginRankingLoss,
    MultiLabelMarginLoss,
    MultiMarginLoss,
    TripletMarginLoss,
    TripletMarginWithDistanceLoss,
)
from .normalization import CrossMapLRN2d, GroupNorm, LayerNorm, LocalResponseNorm, RMSNorm
from .padding import (
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
)
from .perceptron import Perceptron, PerceptronLoss
from .pixelshuffle import ChannelShuffle, PixelShuffle, PixelUnshuffle
from .pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    MaxUnpool1d,
    MaxUnpool2d,
    MaxUnpool3d,
)
from .preference_loss import DPOLoss, GRPOLoss, KTOLoss, ORPOLoss, SimPOLoss
from .rbf import RBF
from .region_loss import DiceLoss, TverskyLoss
from .regression_loss import HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from .residual_norm import AddRMSNorm, DynamicTanh
from .rnn import GRU, LSTM, RNN, RNNBase
from .rnn_cell import GRUCell, LSTMCell, RNNCell, RNNCellBase
from .rotary import RotaryEmbedding
from .routing import TopKRouting
from .smooth_activation import GELU, GLU, LogSigmoid, Mish, Sigmoid, SiLU, Softplus, Softsign, Tanh, Tanhshrink
from .softmax import LogSoftmax, Softmax, Softmax2d, Softmin
from .sparse import Embedding, EmbeddingBag
from .sparsemax import Entmax, Sparsemax
from .sync_batchnorm import SyncBatchNorm
from .transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from .upsampling import Upsample, UpsamplingBilinear2d, UpsamplingNearest2d

if TYPE_CHECKING:
    from .. import functional as functional

# Where modules that were pickled name their class.
sys.modules |= {f"{__name__}.loss": cross_entropy_loss, f"{__name__}.smooth": smooth_activation}
