"""Deep learning derived by hand: torch tensors, explicit gradients, no autograd."""

from . import functional, nn, optim, training

__all__ = ["functional", "nn", "optim", "training"]
