"""Training under Lightning, by explicit gradients ("manual"), by autograd over them ("bridged"), or by torch ("builtin")."""

from ..core.extras import optional

with optional():
    from .autoencoder import Autoencoder
    from .classifier import Classifier
    from .data import DigitsDataModule, ImagesDataModule
    from .language import LanguageModel, TextDataModule
    from .learner import Learner

__all__ = [
    "Autoencoder",
    "Classifier",
    "DigitsDataModule",
    "ImagesDataModule",
    "LanguageModel",
    "Learner",
    "TextDataModule",
]
