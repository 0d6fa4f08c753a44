"""torch.nn by hand: modules under torch's names, whose mathematics is ours and whose everything else is torch's."""

from torch.nn import Module, Parameter

from ..module import Manual, ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .activation import ReLU, Sigmoid
from .linear import Bilinear, Identity, Linear
from .loss import CrossEntropyLoss
from .normalization import LayerNorm
