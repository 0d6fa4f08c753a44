"""Training under Lightning, by explicit gradients ("manual"), by autograd over them ("bridged"), or by torch ("builtin")."""

from .classifier import Classifier
from .data import DigitsDataModule

__all__ = ["Classifier", "DigitsDataModule"]
