"""Optimizers by hand, under the names, constructors and state of torch.optim."""

from torch.optim import Optimizer

from . import lr_scheduler
from .sgd import SGD

__all__ = ["SGD", "Optimizer", "lr_scheduler"]
