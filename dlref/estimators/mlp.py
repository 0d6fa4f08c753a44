"""scikit-learn's MLPClassifier and MLPRegressor with their mathematics by this library's pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.utils import compute_sample_weight

from .backpropagation import OWN, OWN_CONSTRAINTS, Backpropagation
from .common import parameters

HIDDEN = """    activation: also any activation of dlref.manual.nn by its name, or a module, of which each layer gets a copy.
    dropout: after each hidden activation, in training.
"""
ABOUT = f"""

    X (n_samples, n_features), an array or a sparse matrix. Errors are scikit-learn's; what is wrong beside its parameters is a
    ValueError. Beside scikit-learn's own parameters, all by keyword:

    backend: "manual", by explicit gradients, or "builtin", by torch.nn and autograd.
    device: "auto" (a CUDA device where there is one), "cpu", "cuda". dtype: "float32", "float64", None: that of the data.
    compile: True: each step as one compiled graph; False: never; "auto": after 20 steps by hand they are recorded and played
        back, to the same numbers.
{HIDDEN}\
    optimizer: in place of the solver, the name of one of dlref.manual.optim, or what is called as optimizer(groups, lr=...).
        alpha is its weight_decay for the weights: the penalty's gradient, or, in AdamW, what shrinks them.
    loss: also a loss of dlref.manual.nn by its name or as a module, or a list of one for each output; values of several outputs
        are added.
    output_activation: what the network ends in before the loss, by name or as a module.
    callbacks: a function or several, called with the estimator after each epoch; what returns true ends the training.
    verbose: also "bar", a progress bar.
"""
CLASS_WEIGHT = (
    '    class_weight: a dict {class: weight}, or "balanced": n_samples / (n_classes * the class\'s samples).\n    '
)


@parameters(loss="log_loss", class_weight=None, **OWN)
class MLPClassifier(Backpropagation, neural_network.MLPClassifier):
    __doc__ = (
        "scikit-learn's MLPClassifier (which see), by torch: on every device, by hand or by autograd. Hinton 1989."
        + ABOUT
        + CLASS_WEIGHT
    )
    _parameter_constraints: dict = {
        **neural_network.MLPClassifier._parameter_constraints,
        **OWN_CONSTRAINTS,
        "class_weight": [dict, list, str, None],
    }

    def _sample_weights(
        self, y: np.ndarray, sample_weight: np.ndarray | None, partly: bool = False
    ) -> np.ndarray | None:
        w = super()._sample_weights(y, sample_weight)
        if self.class_weight is None:
            return w
        if partly and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees a part of y: pass what "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y) gives of all"
            )
        binarizer = self._label_binarizer
        labels = y if binarizer.y_type_.startswith("multilabel") else binarizer.inverse_transform(y)
        balance = compute_sample_weight(self.class_weight, labels)
        return balance if w is None else w * balance

    def _predict(self, X: Any, check_input: bool = True) -> np.ndarray:
        if self.out_activation_ == "softmax" and self.output_activation is None:  # which keeps the order
            return self.classes_[self._values(X, check_input).cpu().numpy().argmax(1)]
        return super()._predict(X, check_input)


@parameters(**OWN)
class MLPRegressor(Backpropagation, neural_network.MLPRegressor):
    __doc__ = (
        "scikit-learn's MLPRegressor (which see), by torch: on every device, by hand or by autograd. Hinton 1989."
        + ABOUT
    )
    _parameter_constraints: dict = {**neural_network.MLPRegressor._parameter_constraints, **OWN_CONSTRAINTS}
