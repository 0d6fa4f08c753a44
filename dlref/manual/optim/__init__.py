r"""Optimizers by hand, under the names, constructors and state of torch.optim.

Parameters $\theta$ and their gradients $g$ have any shape, a real or complex floating dtype, and any device; state has the
parameter's shape, and what is written of numbers is meant element by element, but for LBFGS, Adafactor and Muon. `lr` and
the other arguments are pure numbers.
"""

from torch.optim import Optimizer

from . import lr_scheduler, swa_utils
from .adadelta import Adadelta
from .adafactor import Adafactor
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
from .asgd import ASGD
from .lbfgs import LBFGS
from .lion import Lion
from .muon import Muon
from .nadam import NAdam
from .radam import RAdam
from .rmsprop import RMSprop
from .rprop import Rprop
from .schedule_free import ScheduleFreeAdamW
from .sgd import SGD
from .sparse_adam import SparseAdam

__all__ = ["ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Muon", "NAdam",
           "Optimizer", "RAdam", "RMSprop", "Rprop", "ScheduleFreeAdamW", "SparseAdam", "lr_scheduler",
           "swa_utils"]  # fmt: skip
