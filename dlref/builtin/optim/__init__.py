"""torch.optim itself, and the optimizers that it lacks, composed from torch's operations."""

from torch.optim import *
from torch.optim import Optimizer, lr_scheduler, swa_utils

from .lion import Lion
from .schedule_free import ScheduleFreeAdamW
