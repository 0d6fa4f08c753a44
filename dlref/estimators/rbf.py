r"""Networks of radial basis functions as scikit-learn's estimators: $z = W \phi(x) + b$, by least squares or by gradients.

Least squares takes the output weights that minimise what the gradients would, were the error the squared one,

$$E = \frac{1}{2 S} \sum_n w_n \|z_n - y_n\|^2 + \frac{\alpha}{2 S} \|W\|^2,\quad S = \sum_n w_n,$$

at centres and widths that stay; the gradients move these, too. Broomhead & Lowe 1988 (Complex Systems 2); Moody & Darken 1989
(Neural Computation 1).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch import Tensor, nn

from ..builtin.composed import KERNELS, radial
from ..models import least_squares, rbf_network
from .backpropagation import NUMBERS, Backpropagation
from .common import dense, namespace, parameters, tensor_of
from .export import traced
from .mlp import ABOUT, CLASS_WEIGHT, HIDDEN, MLPClassifier, MLPRegressor

SCALE = 2.0  # of the width "auto": neighbouring units overlap, so that what lies between the centres is smooth
LEAST = 2e-3  # of probability in all that least squares leaves to classes which it thinks impossible
CPU = torch.device("cpu")

FIRST: dict[str, Any] = {"n_units": 100, "kernel": "gaussian"}
WITHOUT = ("hidden_layer_sizes", "activation", "dropout")
MORE: dict[str, Any] = {"width": "auto", "centers": "kmeans", "solver": "lstsq", "alpha": 1e-3}
CONSTRAINTS: dict[str, list] = {
    "n_units": [Interval(Integral, 1, None, closed="left")],
    "kernel": [StrOptions(set(KERNELS))],
    "width": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "centers": [StrOptions({"kmeans", "random"}), "array-like"],
    "solver": [StrOptions({"lstsq", "lbfgs", "sgd", "adam"})],
}

RADIAL = """
    A layer of radial basis functions of the distance from centres, and an affine layer.

    n_units: how many, and at most as many as there are different samples with a weight. kernel: "gaussian", "multiquadric",
        "inverse_multiquadric" or "thin_plate", as dlref.manual.nn.RBF has them.
    width: "auto", for each unit twice the root mean square distance of its centre to the nearest two others; or one for all.
    centers: "kmeans", "random" (different samples), both decided by random_state and by the weights; or an array (units,
        features), whose units count, not n_units. In partial_fit they are of the first batch.
    solver: "lstsq", the affine layer by least squares of ridge alpha; "sgd", "adam" or "lbfgs": everything by gradients, alpha
        for the affine layer's weights, and the parameters that only they use. With warm_start the gradients go on from
        what least squares found.

    Learnt are centers_ (units, features), widths_ (units,), coefs_ and intercepts_, lists of the affine layer's one array.
"""


class Radial(Backpropagation):
    """Mixin in front of the perceptrons: another network, and least squares as a solver."""

    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    # --- the network ------------------------------------------------------------------------------------------------

    @property
    def centers_(self) -> np.ndarray:
        """(units, features)."""
        return self._radial(0).T

    @centers_.setter
    def centers_(self, value: np.ndarray) -> None:
        self.activation_params_ = [np.asarray(value).T, self._radial(1)]

    @property
    def widths_(self) -> np.ndarray:
        """(units,)."""
        return self._radial(1)

    @widths_.setter
    def widths_(self, value: np.ndarray) -> None:
        self.activation_params_ = [self._radial(0), np.asarray(value)]

    def _radial(self, index: int) -> np.ndarray:
        if not self.__dict__.get("activation_params_"):
            raise NotFittedError(f"{type(self).__name__} has no centres and widths yet: call fit first")
        return self.activation_params_[index]

    def _form(self) -> tuple:
        return *super()._form(), self.kernel

    def _row_size(self) -> int:
        return max(self.centers_.size, super()._row_size())

    def _layers(self, ns: Any) -> nn.Sequential:
        units, features = self.centers_.shape
        with torch.device("meta"):
            layers = rbf_network(ns, features, units, self.coefs_[0].shape[1], self.kernel)
        if self.output_activation is not None:
            layers.append(self._function(self.output_activation))
        return layers

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = super()._validate_input(X, y, incremental, reset)
        if not isinstance(self.centers, str):
            shape = check_array(self.centers, input_name="centers").shape
            if shape[1] != X.shape[1]:
                raise ValueError(
                    f"centers must be (units, {X.shape[1]}), as X has {X.shape[1]} features; they are {shape}"
                )
        if self.solver == "lstsq":
            for name, only in (
                ("loss", "log_loss" if is_classifier(self) else "squared_error"),
                ("optimizer", None),
                ("output_activation", None),
            ):
                if getattr(self, name) != only:
                    raise ValueError(f"{name} must be {only!r} with the solver 'lstsq', which minimises the squared error; it "
                                     f"is {getattr(self, name)!r}: take another solver")  # fmt: skip
        return X, y

    def _initialize(self, y: np.ndarray, layer_units: list[int], dtype: np.dtype) -> None:
        units = self.n_units if isinstance(self.centers, str) else len(self.centers)
        super()._initialize(y, [units, layer_units[-1]], dtype)
        self.n_layers_ = 3

    def _initial_rest(self, dtype: np.dtype) -> list[np.ndarray]:
        return []  # until the samples are known that learn

    def _exported(self) -> nn.Sequential:
        _, *others = super()._exported()
        layers = [Units(tensor_of(self.centers_, CPU), tensor_of(self.widths_, CPU), self.kernel), *others]
        if self.out_activation_ == "clip":
            layers.append(Clip(self._label_binarizer.y_type_))
        # What is not torch.nn's becomes a graph of torch's functions.
        return nn.Sequential(*(traced(m) if isinstance(m, (Units, Clip)) else m for m in layers))

    # --- centres and widths -----------------------------------------------------------------------------------------

    def _place(self, X: Any, w: np.ndarray | None) -> None:
        """Choose the centres and widths, where there are none yet."""
        if self.activation_params_:
            return
        centers = self._chosen(X, w)
        layer = self._layer(centers)
        if self.width == "auto":
            layer.fit_widths(scale=SCALE)
        else:
            nn.init.constant_(layer.widths, self.width)
        for coefs in (self.coefs_, self._best_coefs):
            coefs[0] = coefs[0][: len(centers)].copy()  # of initial weights for more units
        dtype = self.coefs_[0].dtype
        self.activation_params_ = [p.detach().numpy().astype(dtype).T for p in (layer.centers, layer.widths)]
        self._best_rest = [a.copy() for a in self.activation_params_]

    def _chosen(self, X: Any, w: np.ndarray | None) -> np.ndarray:
        """The centres (units, features), float64."""
        if not isinstance(self.centers, str):
            return check_array(self.centers, dtype=np.float64)
        rows, weights = distinct(X, w)
        if self.n_units >= len(weights):
            return dense(rows)
        chosen = self._random_state.choice(len(weights), self.n_units, replace=False, p=weights / weights.sum())
        centers = dense(rows[chosen])
        if self.centers == "kmeans":
            seed = self._random_state.randint(2**31 - 1)
            try:
                found = self._layer(centers).fit_centers(rows, seed=seed, weight=weights)
                return found.centers.detach().numpy()
            except KeyboardInterrupt:
                warnings.warn("Choice of centres interrupted by user: they are random samples.", stacklevel=2)
        return centers

    def _layer(self, centers: np.ndarray) -> Any:
        with torch.random.fork_rng([]):  # what it is made with is replaced
            layer = namespace(self.backend).nn.RBF(
                *reversed(centers.shape), self.kernel, device=CPU, dtype=torch.float64
            )
        with torch.no_grad():
            layer.centers.copy_(torch.from_numpy(centers))
        return layer

    # --- learning ---------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
        if self.solver == "lstsq":
            self._fit_lstsq(X, y, sample_weight)
        else:
            super()._fit(X, y, sample_weight=sample_weight, incremental=incremental)  # type: ignore[misc]
        if not all(np.isfinite(a).all() for a in self._arrays()):
            raise ValueError("Solver produced non-finite parameters. The input data may contain large values and need to be "
                             "preprocessed, or the learning rate is too large.")  # fmt: skip
        return self

    def _fit_lstsq(self, X: Any, y: Any, sample_weight: Any) -> None:
        first = not hasattr(self, "coefs_") or not self.warm_start
        X, y = self._validate_input(X, y, False, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        y = y.reshape(len(y), -1)
        w = self._sample_weights(y, sample_weight)
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize(y, [X.shape[1], y.shape[1]], X.dtype)
        try:
            self._place(X, w)
            self._solve(X, y, w)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)

    def _solve(self, X: Any, y: np.ndarray, w: np.ndarray | None) -> None:
        """The affine layer by least squares, in float64."""
        dtype = self.coefs_[0].dtype
        total = len(y) if w is None else w.sum()
        h = self._apply(self._network().eval()[0], X).cpu().double()
        target, weight = tensor_of(y, CPU, np.dtype(np.float64)), None if w is None else tensor_of(w, CPU)
        units, outputs = self.coefs_[0].shape
        last = nn.Linear(units, outputs, device="meta", dtype=torch.float64).to_empty(device=CPU)
        least_squares(nn.Sequential(last), h, target, self.alpha / total, weight)
        with torch.no_grad():
            squares = np.average((last(h) - target).square().mean(1).numpy(), weights=w)
            penalty = self.alpha / total * float(last.weight.square().sum())
        self.coefs_ = [last.weight.detach().numpy().T.astype(dtype)]
        self.intercepts_ = [last.bias.detach().numpy().astype(dtype)]
        self.loss_, self.n_iter_ = 0.5 * float(squares + penalty), 1
        self.__dict__.pop("loss_curve_", None)  # of gradients before
        self.out_activation_ = "clip" if is_classifier(self) else "identity"

    def _fit_stochastic(self, X: Any, y: np.ndarray, *others: Any) -> None:
        self._link()
        if not hasattr(self, "loss_curve_"):  # least squares came first
            self.loss_curve_, self._no_improvement_count = [], 0
            held = self.early_stopping
            self.validation_scores_, self.best_validation_score_ = ([], -np.inf) if held else (None, None)
            self.best_loss_ = None if held else np.inf
        super()._fit_stochastic(X, y, *others)

    def _epochs(self, X: Any, y: np.ndarray, w: np.ndarray | None, batch: int) -> Callable[[], float]:
        self._place(X, w)
        return super()._epochs(X, y, w, batch)

    def _fit_lbfgs(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, *others: Any) -> None:
        self._link()
        self._place(X, self._sample_weights(y, sample_weight))
        super()._fit_lbfgs(X, y, sample_weight, *others)

    def _link(self) -> None:
        """Let the output be what the loss has it for, also after least squares."""
        if self.out_activation_ == "clip":
            self.out_activation_ = "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"


@parameters(FIRST, WITHOUT, **MORE)
class RBFNetworkClassifier(Radial, MLPClassifier):
    __doc__ = (
        "A network of radial basis functions as a classifier, with the parameters of scikit-learn's MLPClassifier."
        + RADIAL
        + """
    predict_proba: after gradients the softmax, or the logistic function. What least squares makes of targets of 0 and 1
    estimates the probability itself: it is clipped to at least 0.002 over the number of classes and divided by the sum over
    them; where there are two, or several labels, to 0.001 to 0.999.
    decision_function: what predict takes the largest of; where there are two classes, or several labels, positive for the
    second, or for the label.
"""
        + ABOUT.replace(HIDDEN, "")
        + CLASS_WEIGHT
    )
    _parameter_constraints: dict = {**MLPClassifier._parameter_constraints, **CONSTRAINTS}

    def _output(self, z: Tensor) -> Tensor:
        if self.out_activation_ != "clip":
            return super()._output(z)
        return clipped(z, self._label_binarizer.y_type_)

    def decision_function(self, X: Any) -> np.ndarray:
        """(N, classes) or (N, labels), or (N,) where there are two classes."""
        check_is_fitted(self)
        z = self._values(X).cpu().numpy()
        if self.out_activation_ == "clip" and self._label_binarizer.y_type_ != "multiclass":
            z = z - 0.5
        return z.ravel() if self.n_outputs_ == 1 else z


@parameters(FIRST, WITHOUT, loss="squared_error", **MORE)
class RBFNetworkRegressor(Radial, MLPRegressor):
    __doc__ = (
        "A network of radial basis functions as a regressor, with the parameters of scikit-learn's MLPRegressor."
        + RADIAL
        + ABOUT.replace(HIDDEN, "")
    )
    _parameter_constraints: dict = {**MLPRegressor._parameter_constraints, **CONSTRAINTS}

    @available_if(lambda estimator: estimator._check_solver())  # scikit-learn's does not call it
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> RBFNetworkRegressor:
        """One epoch over these samples."""
        return self._fit(X, y, sample_weight=sample_weight, incremental=True)


def clipped(z: Tensor, kind: str) -> Tensor:
    """What least squares found as probabilities (N, outputs); kind: "binary", "multiclass" or another for labels."""
    if kind != "multiclass":
        return z.clamp(LEAST / 2, 1 - LEAST / 2)
    p = z.clamp_min(LEAST / z.shape[1])
    return p / p.sum(1, keepdim=True)


class Clip(nn.Module):
    """The same as a layer; of two classes it gives both."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, z: Tensor) -> Tensor:
        p = clipped(z, self.kind)
        return torch.cat([1 - p, p], 1) if self.kind == "binary" else p


class Units(nn.Module):
    """A layer of radial basis functions whose operations can be recorded, as none looks at a shape."""

    def __init__(self, centers: Tensor, widths: Tensor, kernel: str):
        super().__init__()
        self.centers, self.widths, self.kernel = nn.Parameter(centers), nn.Parameter(widths), kernel

    def forward(self, x: Tensor) -> Tensor:
        return radial(x, self.centers, self.widths, self.kernel)


def distinct(X: Any, w: np.ndarray | None) -> tuple[Any, np.ndarray]:
    """The different rows that weigh anything, in float64, and what each weighs in all.

    Their order is decided by what they hold, so that a weight of k is k copies, and one of 0 none, in what is drawn of them.
    """
    X = X.astype(np.float64)
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    piece = max(1, NUMBERS // X.shape[1])
    keys: list[bytes] = []
    for start in range(0, X.shape[0], piece):
        block = np.ascontiguousarray(dense(X[start : start + piece])) + 0.0  # -0 is 0
        keys += [hashlib.blake2b(row, digest_size=8).digest() for row in block]
    _, first, which = np.unique(np.frombuffer(b"".join(keys), np.uint64), return_index=True, return_inverse=True)
    weights = np.bincount(which, w)
    return X[first[weights > 0]], weights[weights > 0].astype(np.float64)
