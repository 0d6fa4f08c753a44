"""Deep learning by torch.nn, torch.optim and autograd: the other side of dlref.manual, under the same names."""

from . import functional, init, nn, optim, training

__all__ = ["functional", "init", "nn", "optim", "training"]
