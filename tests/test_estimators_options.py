"""What the multilayer perceptrons have and scikit-learn's have not: activations, losses, optimizers, a compiler."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn import neural_network
from test_estimators import BACKENDS, cancer, digits, labels, regression, weights

import dlref
from dlref.estimators import MLPClassifier, MLPRegressor
from dlref.models import activations

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("activation", [*activations(), "leakyrelu", torch.nn.LeakyReLU(0.3), "logistic"])
def test_activations(activation):
    """Both sides learn alike with any activation; of one that draws random numbers each side draws its own."""
    X, y = digits()
    models = [
        MLPClassifier((20,), activation, backend=b, random_state=0, max_iter=8).fit(X[:600], y[:600]) for b in BACKENDS
    ]
    if activation != "RReLU":
        np.testing.assert_allclose(*(m.loss_curve_ for m in models), rtol=1e-9)
        np.testing.assert_allclose(*(m.predict_proba(X) for m in models), atol=1e-9)
    assert np.ptp(models[0].loss_curve_) > 0.01
    again = pickle.loads(pickle.dumps(models[0]))
    np.testing.assert_array_equal(again.predict_proba(X), models[0].predict_proba(X))
    if activation == "PReLU":
        assert [a.shape for a in models[0].activation_params_] == [(1,)] and models[0].activation_params_[0] != 0.25


APART = ("Optimizer", "LBFGS", "Muon", "Rprop", "ScheduleFreeAdamW", "SparseAdam")  # refused


def optimizers():
    from dlref.manual import optim

    kinds = [c for c in vars(optim).values() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)]
    return sorted(c.__name__ for c in kinds if c.__name__ not in APART)


@pytest.mark.parametrize("optimizer", optimizers())
def test_optimizers(optimizer):
    X, y = digits()
    models = [MLPClassifier((20,), optimizer=optimizer, backend=b, random_state=0, learning_rate_init=0.01, max_iter=8,
                            learning_rate="invscaling").fit(X, y) for b in BACKENDS]  # fmt: skip
    np.testing.assert_allclose(*(m.loss_curve_ for m in models), rtol=1e-8)
    assert models[0].loss_curve_[-1] < models[0].loss_curve_[0]


def test_optimizer_by_a_function():
    X, y = digits()
    from functools import partial

    kwargs = dict(max_iter=3, random_state=0, learning_rate_init=0.003)
    ours = MLPClassifier(optimizer=partial(dlref.manual.optim.Adam, eps=1e-9), **kwargs).fit(X, y)
    named = MLPClassifier(optimizer="Adam", **kwargs).fit(X, y)
    assert ours.loss_ == pytest.approx(named.loss_, rel=1e-5) and ours.loss_ != named.loss_
    decayed = MLPClassifier(optimizer="AdamW", alpha=10.0, **kwargs).fit(
        X, y
    )  # shrinks by lr * alpha, and it is no loss
    assert np.abs(decayed.coefs_[0]).sum() < np.abs(named.coefs_[0]).sum() / 1.5
    assert decayed.loss_ < named.loss_ + 1


def test_dropout():
    """It is there in training only, the same for the same random_state, and torch's own generator goes on undisturbed."""
    X, y = digits()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    models = [MLPClassifier(dropout=0.5, random_state=s, max_iter=10).fit(X, y) for s in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert models[0].loss_curve_ == models[1].loss_curve_ != models[2].loss_curve_
    plain = MLPClassifier(random_state=0, max_iter=10).fit(X, y)
    assert models[0].loss_ > plain.loss_ + 0.1
    np.testing.assert_array_equal(models[0].predict_proba(X), models[0].predict_proba(X))
    assert models[0].score(X, y) > 0.9
    with pytest.raises(ValueError, match=r"dropout must be 0 with the solver 'lbfgs'.*it is 0\.5"):
        MLPClassifier(dropout=0.5, solver="lbfgs").fit(X, y)


@pytest.mark.parametrize("data", [digits, cancer])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weight(data, solver):
    """It is a sample_weight by class, and multiplies the one that is given."""
    X, y = data()
    w = weights(y) + 0.5
    share = {c: 1.0 + c for c in np.unique(y).tolist()}
    by_class = MLPClassifier(class_weight=share, random_state=0, solver=solver, max_iter=5).fit(X, y, sample_weight=w)
    by_sample = MLPClassifier(random_state=0, solver=solver, max_iter=5).fit(X, y, sample_weight=w * (1 + y))
    np.testing.assert_allclose(by_class.predict_proba(X), by_sample.predict_proba(X), atol=1e-10)
    balanced = MLPClassifier(class_weight="balanced", random_state=0, solver=solver, max_iter=5).fit(X, y)
    even = (len(y) / (len(share) * np.bincount(y)))[y]
    by_sample = MLPClassifier(random_state=0, solver=solver, max_iter=5).fit(X, y, sample_weight=even)
    np.testing.assert_allclose(balanced.predict_proba(X), by_sample.predict_proba(X), atol=1e-10)


def test_class_weight_of_labels_and_partial_fit():
    X, Y = labels()
    share = [{0: 1.0, 1: 2.0 + k} for k in range(Y.shape[1])]
    w = np.prod([np.where(Y[:, k], 2.0 + k, 1.0) for k in range(Y.shape[1])], axis=0)
    by_class = MLPClassifier(class_weight=share, random_state=0, max_iter=3).fit(X, Y)
    by_sample = MLPClassifier(random_state=0, max_iter=3).fit(X, Y, sample_weight=w)
    np.testing.assert_allclose(by_class.predict_proba(X), by_sample.predict_proba(X), atol=1e-10)
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=np.arange(Y.shape[1]))


@pytest.mark.parametrize(
    "loss", ["huber", "L1Loss", torch.nn.SmoothL1Loss(beta=0.5), ["squared_error", "huber", "poisson"]]
)
def test_losses_of_values(loss):
    """Both sides minimise any loss of the library, one for all outputs or one for each."""
    X, y = regression(3)
    models = [MLPRegressor(loss, backend=b, random_state=0, max_iter=20).fit(X, np.abs(y)) for b in BACKENDS]
    np.testing.assert_allclose(*(m.loss_curve_ for m in models), rtol=1e-9)
    assert models[0].loss_curve_[-1] < models[0].loss_curve_[0]
    if loss == "huber":
        z, t = models[0].predict(X), np.abs(y)
        d = np.abs(z - t)
        mean = np.where(d < 1, 0.5 * d**2, d - 0.5).sum(1).mean()
        last = MLPRegressor(loss, random_state=0, max_iter=1, alpha=0.0, batch_size=len(X), warm_start=True)
        for name in ("coefs_", "intercepts_", "activation_params_"):
            setattr(last, name, copy.deepcopy(getattr(models[0], name)))
        for name, value in vars(models[0]).items():
            if name.endswith("_") and not hasattr(last, name):
                setattr(last, name, value)
        last._no_improvement_count = 0
        assert last.partial_fit(X, np.abs(y)).loss_ == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("loss", ["multi_margin", torch.nn.CrossEntropyLoss(label_smoothing=0.1)])
def test_losses_of_classes(loss):
    X, y = digits()
    models = [MLPClassifier(loss=loss, backend=b, random_state=0, max_iter=8).fit(X, y) for b in BACKENDS]
    np.testing.assert_allclose(*(m.loss_curve_ for m in models), rtol=1e-9)
    assert models[0].score(X, y) > 0.9


def test_output_activation():
    X, y = regression()
    model = MLPRegressor(output_activation="softplus", random_state=0, max_iter=50).fit(X, np.abs(y))
    assert (model.predict(X) > 0).all()


@pytest.mark.parametrize("compile", [False, True, "auto"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_compile(compile, backend):
    """The numbers are the same, whatever takes the steps."""
    X, y = digits()
    kwargs = dict(random_state=0, max_iter=5, hidden_layer_sizes=(16,))
    expected = neural_network.MLPClassifier(**kwargs).fit(X[:500], y[:500])
    found = MLPClassifier(compile=compile, backend=backend, **kwargs).fit(X[:500], y[:500])
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-9)
