"""scikit-learn's estimators with their mathematics by this library's pairs: change one import, keep the program."""

from .mlp import MLPClassifier, MLPRegressor
from .perceptron import Perceptron

__all__ = ["MLPClassifier", "MLPRegressor", "Perceptron"]
