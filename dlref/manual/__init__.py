"""Deep learning derived by hand: torch tensors, explicit gradients, no autograd."""

from . import amp, functional, init, kernels, nn, optim, training

__all__ = ["amp", "functional", "init", "kernels", "nn", "optim", "training"]

nn.functional = functional  # as torch.nn has it
