"""torch.optim itself."""

from torch.optim import *  # noqa: F403
from torch.optim import Optimizer, lr_scheduler  # noqa: F401
