r"""An autoencoder as scikit-learn's transformer: $c = f(x),\ \hat x = g(c)$, both learnt by the error of $\hat x$."""

from __future__ import annotations

import inspect
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn import neural_network
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import nn

from ..models import mlp
from .backpropagation import OWN, Backpropagation
from .common import Rows, dense, parameters
from .mlp import ABOUT, MLPRegressor

FIRST: dict[str, Any] = {"n_components": 2, "hidden_layer_sizes": (100,), "activation": "relu"}


class Reconstruction(BaseMultilayerPerceptron):
    """scikit-learn's perceptron, whose target is its input."""

    def __init__(self, **parameters: Any):
        super().__init__(**parameters)

    __init__.__signature__ = inspect.signature(neural_network.MLPRegressor.__init__)  # type: ignore[attr-defined]

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=reset)
        return X, X

    def _score(self, X: Any, y: Any, sample_weight: np.ndarray | None = None) -> float:
        return self._score_with_function(X, dense(y), sample_weight, explained)

    def _predict(self, X: Any, check_input: bool = True) -> np.ndarray:
        return self._forward_pass_fast(X, check_input=check_input)


@parameters(FIRST, loss="squared_error", noise=0.0, tol=1e-5, **OWN)
class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Backpropagation, Reconstruction):
    __doc__ = (
        "An autoencoder as a transformer, with the parameters of scikit-learn's MLPRegressor."
        + """
    transform gives the codes, inverse_transform what they stand for. The encoder is a perceptron, the decoder one of the same
    hidden layers in reverse; neither codes nor reconstructions pass an activation. Hinton & Salakhutdinov 2006 (Science 313).

    n_components: numbers in a code. hidden_layer_sizes: those of the encoder; without any it finds the plane of the principal
        components. noise: standard deviation of what is added to the input in training (a denoising autoencoder).
    score: the part of the variance that the reconstruction explains, at most 1: R^2 over all features together.
"""
        + ABOUT
    )
    _parameter_constraints: dict = {
        **MLPRegressor._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
    }

    # --- the network ------------------------------------------------------------------------------------------------

    def _form(self) -> tuple:
        return *super()._form(), self.noise

    def _layers(self, ns: Any) -> nn.Sequential:
        """Encoder and decoder."""
        sizes, code = [*map(len, self.coefs_), self.coefs_[-1].shape[1]], len(self.coefs_) // 2
        functions = iter(self._functions(len(self.coefs_) - 2))
        with torch.device("meta"):
            encoder = mlp(ns, sizes[0], sizes[1:code], sizes[code], functions.__next__, self.dropout)
            decoder = mlp(ns, sizes[code], sizes[code + 1 : -1], sizes[-1], functions.__next__, self.dropout)
        if self.noise:
            encoder.insert(0, ns.nn.GaussianNoise(self.noise))
        if self.output_activation is not None:
            decoder.append(self._function(self.output_activation))
        return ns.nn.Sequential(encoder, decoder)

    def _initialize(self, y: Any, layer_units: list[int], dtype: np.dtype) -> None:
        features, *hidden, _ = layer_units
        super()._initialize(y, [features, *hidden, self.n_components, *reversed(hidden), features], dtype)

    def _targets(self, y: Any, device: torch.device, dtype: np.dtype) -> Any:
        return super()._targets(y, device, dtype) if self.loss == "poisson" else Rows(y, device, dtype)

    def _fit_lbfgs(self, *arguments: Any) -> None:
        if self.noise:
            raise ValueError(
                f"noise must be 0 with the solver 'lbfgs', whose line search needs one error; it is {self.noise}"
            )
        super()._fit_lbfgs(*arguments)

    # --- what users call --------------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> AutoencoderTransformer:
        """Learn to reconstruct X (N, features), dense or sparse; y is not looked at."""
        return self._fit(X, None, sample_weight=sample_weight)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> AutoencoderTransformer:
        """One epoch over these samples."""
        return self._fit(X, None, sample_weight=sample_weight, incremental=True)

    def transform(self, X: Any) -> np.ndarray:
        """The codes (N, n_components)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        return self._apply(self._network().eval()[0], X).cpu().numpy()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """The reconstructions (N, features) of codes (N, n_components)."""
        check_is_fitted(self)
        X = check_array(X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32))
        if X.shape[1] != self._n_features_out:
            raise ValueError(f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self._n_features_out} "
                             "features as input of inverse_transform, the codes that transform gives.")  # fmt: skip
        return self._output(self._apply(self._network().eval()[1], X)).cpu().numpy()

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        r"""$1 - \sum \|x_n - \hat x_n\|^2 / \sum \|x_n - \bar x\|^2$; of principal components the sum of their ratios."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        return explained(dense(X), self._predict(X, check_input=False), sample_weight)

    @property
    def _n_features_out(self) -> int:
        return self.coefs_[len(self.coefs_) // 2].shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def explained(X: np.ndarray, reconstruction: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    """$R^2$ of all numbers, each from its feature's mean."""
    mean = np.average(X, axis=0, weights=sample_weight)
    w = None if sample_weight is None else np.repeat(sample_weight, X.shape[1])
    return r2_score((X - mean).ravel(), (reconstruction - mean).ravel(), sample_weight=w)
