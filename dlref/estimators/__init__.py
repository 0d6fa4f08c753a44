"""scikit-learn's estimators with their mathematics by this library's pairs: change one import, keep the program."""

from ..core.extras import optional

with optional():
    from .autoencoder import AutoencoderTransformer
    from .mlp import MLPClassifier, MLPRegressor
    from .perceptron import Perceptron
    from .rbf import RBFNetworkClassifier, RBFNetworkRegressor

__all__ = [
    "AutoencoderTransformer", "MLPClassifier", "MLPRegressor", "Perceptron", "RBFNetworkClassifier", "RBFNetworkRegressor",
]  # fmt: skip
