r"""Optimizers by hand, under the names, constructors and state of torch.optim.

Parameters $\theta$ and their gradients $g$ have any shape, a real or complex floating dtype, and any device; state has the
parameter's shape, and what is written of numbers is meant element by element, but for LBFGS. `lr` and the other arguments
are pure numbers.
"""

from torch.optim import Optimizer

from . import lr_scheduler
from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
from .lbfgs import LBFGS
from .nadam import NAdam
from .radam import RAdam
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "Optimizer", "RAdam", "RMSprop",
           "lr_scheduler"]  # fmt: skip
