"""scikit-learn's Perceptron, with the passes of the rule by dlref.manual or dlref.builtin."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn import linear_model
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from ..builtin.nn.perceptron_passes import PerceptronPasses, Samples, SparseSamples
from .common import CONSTRAINTS, device_of, dtype_of, namespace, parameters, tensor_of
from .export import ToOnnx
from .versions import STOPS_BY_OBJECTIVE

INT32_MAX = np.iinfo(np.int32).max
SPARSE_BIAS_RATE = 0.01  # sklearn.linear_model: with sparse samples the intercept learns slower
SMALLEST_SCALE = {8: 1e-9, 4: 1e-6}  # sklearn.utils._weight_vector, by the size of a number


@parameters(backend="manual", device="auto", dtype=None)
class Perceptron(ToOnnx, linear_model.Perceptron):
    """Rosenblatt's perceptron as sklearn.linear_model.Perceptron: its parameters, attributes, errors and, in float64, results.

    Beside scikit-learn's parameters: backend, "manual" (the rule by hand) or "builtin" (the gradient of perceptron_loss by
    autograd); device, where it computes, "auto" for the first CUDA device if there is one; dtype, "float32", "float64" or
    None, that of X. One random_state gives scikit-learn's order of the samples. All classes are learnt side by side, so that
    n_jobs changes nothing. A fit that is interrupted (Ctrl-C) warns and keeps what it has.
    """

    coef_: Any
    intercept_: np.ndarray
    _parameter_constraints: dict = {**linear_model.Perceptron._parameter_constraints, **CONSTRAINTS}

    def decision_function(self, X):
        """Scores of the samples, (N,) for two classes, else (N, classes); X (N, features), an array or a sparse matrix."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        device = device_of(self.device)
        coef = self.coef_.toarray() if sparse.issparse(self.coef_) else self.coef_
        dtype = np.result_type(coef, X.dtype) if X.dtype.kind == "f" else np.dtype(np.float64)
        F = namespace(self.backend).functional
        weight, bias = tensor_of(coef, device, dtype), tensor_of(self.intercept_, device, dtype)
        with torch.no_grad():
            if sparse.issparse(X):  # one row of the transposed weights for each entry, summed over the sample
                table, parts = weight.t().contiguous(), []
                for part in _in_parts(X, len(weight)):
                    starts, columns, values = _csr(part, device, dtype)
                    rows = torch.arange(part.shape[0], device=device).repeat_interleave(starts.diff())
                    entries = F.embedding(columns, table) * values.unsqueeze(1)
                    parts.append(table.new_zeros(part.shape[0], len(bias)).index_add(0, rows, entries))
                scores = torch.cat(parts) + bias
            else:
                scores = F.linear(tensor_of(X, device, dtype), weight, bias)
        return (scores.ravel() if len(weight) == 1 else scores).cpu().numpy()

    def export_torch(self) -> nn.Module:
        """A module of torch.nn alone, in the dtype of coef_ and on the CPU, whose output is decision_function's.

        The classes stand in its attribute `classes`, a list.
        """
        check_is_fitted(self)
        coef = self.coef_.toarray() if sparse.issparse(self.coef_) else self.coef_
        weight, bias = torch.from_numpy(coef), torch.from_numpy(self.intercept_)
        layer = nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype, device=weight.device)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        module = nn.Sequential(layer, nn.Flatten(0)) if len(weight) == 1 else nn.Sequential(layer)
        module.classes = self.classes_.tolist()
        return module.requires_grad_(False).eval()

    # What follows takes the place of private methods of sklearn.linear_model._stochastic_gradient.BaseSGDClassifier, which
    # call its compiled loop; _expanded_class_weight, _make_validation_split and _make_validation_score_cb are from there too.

    def _fit_binary(self, X, y, *, sample_weight, max_iter, **_):
        rng = _after_make_dataset(self.random_state)
        targets = _against_rest(y, self.classes_[1:], X.dtype)
        validation = self._make_validation_split(targets[:, 0], sample_mask=sample_weight > 0)
        weight = self._expanded_class_weight
        self._passes(X, targets, sample_weight, validation, max_iter, [rng.randint(INT32_MAX)], weight[1:], weight[:1])

    def _fit_multiclass(self, X, y, *, sample_weight, max_iter, **_):
        validation = self._make_validation_split(y, sample_mask=sample_weight > 0)
        targets = _against_rest(y, self.classes_, X.dtype)
        rngs = check_random_state(self.random_state).randint(INT32_MAX, size=len(self.classes_))
        seeds = [_after_make_dataset(seed).randint(INT32_MAX) for seed in rngs]
        self._passes(X, targets, sample_weight, validation, max_iter, seeds, self._expanded_class_weight, np.ones(1))

    def _passes(self, X, targets, sample_weight, validation, max_iter, seeds, positive, negative):
        """Passes until no output gets better, as _plain_sgd has it; sets coef_, intercept_, n_iter_ and t_.

        targets (N, outputs) of 1 and -1; validation (N,) bool: what is not learnt from; seeds: one for each output's order;
        positive and negative: the weights of an output's class and of the rest.
        """
        ns, device, dtype = namespace(self.backend), device_of(self.device), dtype_of(self.dtype, X.dtype)
        outputs, samples = len(seeds), len(targets)
        network = ns.nn.Perceptron(X.shape[1], max(2, outputs), device=device, dtype=getattr(torch, dtype.name))
        with torch.no_grad():
            network.weight.copy_(tensor_of(self.coef_.reshape(outputs, -1), device))
            network.bias.copy_(tensor_of(self.intercept_, device))
        weights = np.where(targets > 0, positive, negative).astype(X.dtype) * sample_weight[:, None]
        l1_ratio = {"l1": 1.0, "elasticnet": self.l1_ratio}.get(self.penalty, 0.0)
        alpha = self.alpha if self.penalty is not None else 0.0
        passes = PerceptronPasses(
            network,
            _rows(X, device, dtype),
            tensor_of(targets, device, dtype),
            lr=self.eta0,
            weights=None if (weights == 1).all() else tensor_of(weights, device, dtype),
            bias_rate=(SPARSE_BIAS_RATE if sparse.issparse(X) else 1.0) * self.fit_intercept,
            l2=alpha * (1 - l1_ratio),
            l1=alpha * l1_ratio,
        )
        watch = _Watch(self, X, targets, sample_weight, validation)
        order = torch.arange(samples, device=device).expand(outputs, -1)
        shuffled = torch.tensor([_shuffled(seed, samples) for seed in seeds], device=device) if self.shuffle else None
        learnt = None if not validation.any() else tensor_of(~validation, device)
        epoch = 0
        try:
            while epoch < max_iter and watch.active.any():
                epoch += 1
                watch.begin(epoch)
                if shuffled is not None:
                    order = order.gather(1, shuffled)
                chosen = order if learnt is None else order[learnt[order]].view(outputs, -1)
                active = None if watch.active.all() else torch.from_numpy(watch.active).to(device)
                loss, penalty = passes.sweep(chosen, active)
                watch.end(epoch, passes, loss, penalty)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
            watch.epochs[watch.active] = epoch
        self.n_iter_ = int(watch.epochs.max())
        self.t_ += self.n_iter_ * samples
        self.coef_, self.intercept_ = (p.detach().cpu().numpy() for p in (network.weight, network.bias))


class _Watch:
    """Which outputs still learn, by their objective or by their score on the validation set; what is printed of it."""

    def __init__(self, estimator, X, targets, sample_weight, validation):
        outputs = targets.shape[1]
        self.estimator, self.samples = estimator, int((~validation).sum())
        classes = np.array([-1, 1], dtype=targets.dtype)
        self.scores = [
            estimator._make_validation_score_cb(validation, X, targets[:, k], sample_weight, classes=classes)
            for k in range(outputs)
        ]
        self.tol = -np.inf if estimator.tol is None else estimator.tol
        self.active, self.epochs = np.ones(outputs, bool), np.zeros(outputs, int)
        self.best, self.stale = np.full(outputs, np.inf), np.zeros(outputs, int)
        self.started = time.time()

    def begin(self, epoch: int) -> None:
        if self.estimator.verbose > 0:
            for _ in range(self.active.sum()):
                print(f"-- Epoch {epoch}")

    def end(self, epoch: int, passes: PerceptronPasses, loss: Tensor, penalty: Tensor) -> None:
        """Take note of a pass; ValueError where a weight is not finite any more."""
        weight, bias = (p.detach().cpu().numpy() for p in (passes.network.weight, passes.network.bias))
        if not (np.isfinite(weight[self.active]).all() and np.isfinite(bias[self.active]).all()):
            raise ValueError(f"Floating-point under-/overflow occurred at epoch #{epoch}. Scaling input data with "
                             "StandardScaler or MinMaxScaler might help.")  # fmt: skip
        mean, objective = ((total / self.samples).cpu().numpy() for total in (loss, loss + penalty))
        for k in np.flatnonzero(self.active):
            worth, score = (objective if STOPS_BY_OBJECTIVE else mean)[k], ""
            if self.scores[k] is not None:
                found = self.scores[k](weight[k] / _scale(passes.decay, epoch * self.samples, weight.itemsize), bias[k])
                worth, score = -found, f", Validation score: {found:f}"
            if self.estimator.verbose > 0:
                norm = passes.norms[0, k] if passes.penalised else np.linalg.norm(weight[k])
                print(f"Norm: {float(norm):.2f}, NNZs: {np.count_nonzero(weight[k])}, Bias: {bias[k]:.6f}, "
                      f"T: {epoch * self.samples}, Avg. loss: {mean[k]:f}, Objective: {objective[k]:f}{score}")  # fmt: skip
                print(f"Total training time: {time.time() - self.started:.2f} seconds.")
            stale = self.tol > -np.inf and worth > self.best[k] - self.tol
            self.stale[k] = self.stale[k] + 1 if stale else 0
            self.best[k] = min(self.best[k], worth)
            self.epochs[k] = epoch
            if self.stale[k] >= self.estimator.n_iter_no_change:
                self.active[k] = False
                if self.estimator.verbose:
                    print(f"Convergence after {epoch} epochs took {time.time() - self.started:.2f} seconds")


def _scale(decay: float, steps: int, size: int) -> float:
    """The number by which scikit-learn multiplies a vector to have the weights; it scores the validation set by the vector.

    The number shrinks with the weights; it is multiplied into the vector when it is too small. size: bytes of a number.
    """
    if decay == 1:
        return 1.0
    smallest = SMALLEST_SCALE[size]
    period = 1 if decay < smallest else int(np.log(smallest) // np.log(decay)) + 1
    return decay ** (steps % period)


def _after_make_dataset(random_state: Any) -> np.random.RandomState:
    """The generator as scikit-learn's make_dataset leaves it, which draws a seed that the perceptron has no use for."""
    rng = check_random_state(random_state)
    rng.randint(1, INT32_MAX)
    return rng


def _against_rest(y: np.ndarray, classes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(N, classes): 1 where a sample is of the class, else -1."""
    return np.where(y[:, None] == classes, 1, -1).astype(dtype)


def _shuffled(seed: int, n: int) -> list[int]:
    """How scikit-learn's data set permutes n places: Fisher-Yates, by Marsaglia's xorshift of 32 bits (2003).

    It does so anew before each pass, from the same seed, starting from the order that it has.
    """
    place = list(range(n))
    state = seed or 1
    for i in range(n - 1):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        j = i + (state & 0x7FFFFFFF) % (n - i)
        place[i], place[j] = place[j], place[i]
    return place


def _rows(X: Any, device: torch.device, dtype: np.dtype) -> Samples:
    """The samples; those of a CSR matrix stay sparse where fewer than a 16th of the entries is stored: else it is slower."""
    if not sparse.issparse(X):
        return Samples(tensor_of(X, device, dtype))
    if 16 * X.nnz < X.shape[0] * X.shape[1]:
        return SparseSamples(*_csr(X, device, dtype))
    stored = sparse.csr_array((np.ones(X.nnz, bool), X.indices, X.indptr), X.shape)
    return Samples(tensor_of(X, device, dtype), tensor_of(stored, device))


def _csr(X: Any, device: torch.device, dtype: np.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The starts of the rows, columns and values of a CSR matrix."""
    starts, columns = (tensor_of(indices, device, np.dtype(np.int64)) for indices in (X.indptr, X.indices))
    return starts, columns, tensor_of(X.data, device, dtype)


def _in_parts(X: Any, outputs: int, numbers: int = 2**24) -> list:
    """The rows of a CSR matrix in parts whose entries, times the outputs, are about so many numbers."""
    rows = max(1, numbers * X.shape[0] // max(1, X.nnz * outputs))
    return [X[i : i + rows] for i in range(0, X.shape[0], rows)]
