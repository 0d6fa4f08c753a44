"""Deep learning derived by hand: torch tensors, explicit gradients, no autograd."""

from ..core import namespace
from . import amp, functional, init, kernels, nn, optim, training

__all__ = ["amp", "functional", "init", "kernels", "nn", "optim", "training"]

namespace.mirror(__name__)
