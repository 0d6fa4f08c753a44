"""torch.nn itself, and the modules that dlref has beyond it, composed from torch.nn and differentiated by autograd."""

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
from .contrastive_loss import InfoNCELoss, SigLIPLoss
from .divergence_loss import JSDivLoss, TVDistanceLoss
from .linear_loss import LinearCrossEntropyLoss, LinearCrossEntropyOptions
from .local import LocallyConnected1d, LocallyConnected2d
from .logit_loss import FocalLoss, ZLoss
from .perceptron import Perceptron, PerceptronLoss
from .preference_loss import DPOLoss, GRPOLoss, KTOLoss, ORPOLoss, SimPOLoss
from .rbf import RBF
from .region_loss import DiceLoss, TverskyLoss
from .sequence import GEGLU, AddRMSNorm, DynamicTanh, RotaryEmbedding, SwiGLU, TopKRouting
from .sparsemax import Entmax, Sparsemax
