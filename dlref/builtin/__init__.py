"""Deep learning by torch.nn, torch.optim and autograd: the other side of dlref.manual, under the same names."""

from ..core import namespace
from . import amp, functional, init, nn, optim, training

__all__ = ["amp", "functional", "init", "nn", "optim", "training"]

namespace.mirror(__name__)
