"""Times and memory of both sides: operations, optimizers, whole training steps, what is kept for the gradient, growth.

`dlref bench` writes what these return. All sides of a comparison are measured in turn in one process.
"""

from ..step.products import by_onednn
from .estimate import ESTIMATED, GPU, estimate_step
from .estimators import ESTIMATORS, time_estimator
from .growth import draw_growth, exponent, time_growth
from .kernels import KERNELS, time_kernel
from .measure import Ratio, Times, environment, measure
from .memory import peak_bytes, saved_bytes
from .modules import MODULES
from .operations import time_operation
from .optimizers import OPTIMIZERS, PARAMETERS, time_optimizer
from .steps import NETWORKS, Network, time_steps
from .tables import NOTE, TITLES, label, rows, typical, where
