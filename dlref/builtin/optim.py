"""torch.optim itself."""

from torch.optim import *
from torch.optim import Optimizer, lr_scheduler
