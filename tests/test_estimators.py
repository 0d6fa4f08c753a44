"""The multilayer perceptrons of dlref.estimators: scikit-learn's own tests, its numbers, and what they have beside it."""

from __future__ import annotations

import copy
import pickle
import signal
import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from placed import DEVICE
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, make_multilabel_classification, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from sklearn_tests import sklearn_tests

from dlref import estimators
from dlref.estimators import MLPClassifier, MLPRegressor

BACKENDS = ("manual", "builtin")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
theirs = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}
for backend in BACKENDS:
    globals().update(sklearn_tests("neural_network/tests/test_mlp.py", theirs, backend=backend, device=DEVICE.type))


@pytest.fixture
def global_random_seed():
    return 42


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(theirs))
@pytest.mark.filterwarnings("default")
def test_checks(name, backend):
    """All of scikit-learn's checks of an estimator pass, or skip for want of a package."""
    results = check_estimator(theirs[name](backend=backend, device=DEVICE.type, max_iter=25), on_skip=None)
    assert len(results) > 50
    assert {r["status"] for r in results} <= {"passed", "skipped"}


# --- the same numbers -----------------------------------------------------------------------------------------------


def digits(dtype=np.float64):
    X, y = load_digits(return_X_y=True)
    return ((X - X.mean()) / X.std()).astype(dtype), y


def weights(y):
    return np.random.RandomState(0).randint(0, 3, len(y)).astype(float)


def regression(outputs=1):
    X, y = make_regression(300, 10, n_targets=outputs, random_state=0)
    return X, y / y.std()


def counts():
    X, y = regression()
    return X, np.abs(np.round(3 * y))


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), y


def labels():
    return make_multilabel_classification(n_samples=300, random_state=0)


ALL = dict(tol=0.0, n_iter_no_change=1000)  # as many iterations as were asked for
CASES = {
    **{
        f"{solver}-{n}": ("MLPClassifier", digits, False, dict(hidden_layer_sizes=(128,), solver=solver, max_iter=n, **ALL))
        for solver in ("sgd", "adam")
        for n in (1, 10, 100)
    },
    "plain sgd": ("MLPClassifier", digits, False, dict(solver="sgd", momentum=0.0, max_iter=10, learning_rate_init=0.1)),
    "momentum": ("MLPClassifier", digits, False, dict(solver="sgd", nesterovs_momentum=False, max_iter=10, alpha=1.0)),
    "invscaling": ("MLPRegressor", regression, False, dict(solver="sgd", learning_rate="invscaling", power_t=0.3,
                                                           learning_rate_init=0.1, max_iter=30)),
    "adaptive": ("MLPClassifier", digits, False, dict(solver="sgd", learning_rate="adaptive", learning_rate_init=0.5,
                                                      max_iter=60, tol=1e-2, n_iter_no_change=2)),
    "early": ("MLPClassifier", digits, False, dict(early_stopping=True, max_iter=60)),
    "early, weights": ("MLPRegressor", regression, True, dict(early_stopping=True, max_iter=60, n_iter_no_change=3)),
    "weights": ("MLPClassifier", digits, True, dict(solver="sgd", activation="tanh", alpha=0.1, max_iter=20)),
    "layers": ("MLPClassifier", digits, False, dict(hidden_layer_sizes=(30, 20, 10), activation="logistic", max_iter=10)),
    "no layer": ("MLPClassifier", digits, False, dict(hidden_layer_sizes=(), max_iter=10)),
    "two classes": ("MLPClassifier", cancer, False, dict(shuffle=False, batch_size=64, max_iter=30)),
    "labels": ("MLPClassifier", labels, True, dict(max_iter=30)),
    "outputs": ("MLPRegressor", lambda: regression(3), False, dict(max_iter=50)),
    "poisson": ("MLPRegressor", counts, True, dict(loss="poisson", max_iter=50)),
    "betas": ("MLPRegressor", regression, False, dict(beta_1=0.5, beta_2=0.9, epsilon=1e-3, max_iter=30)),
    **{
        f"lbfgs {name}": (cls, data, weighed, dict(solver="lbfgs", max_iter=30, **kwargs))
        for name, cls, data, weighed, kwargs in (
            ("classes", "MLPClassifier", digits, False, {}),
            ("weights", "MLPClassifier", digits, True, dict(activation="logistic", alpha=0.1)),
            ("outputs", "MLPRegressor", lambda: regression(3), False, {}),
            ("poisson", "MLPRegressor", counts, True, dict(loss="poisson", activation="tanh")),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_equals_scikit_learn(case, backend):
    """The same random_state gives scikit-learn's coefficients, losses, scores and predictions, to rounding."""
    name, data, weighed, parameters = CASES[case]
    X, y = data()
    w = weights(y) if weighed else None
    expected = getattr(neural_network, name)(random_state=1, **parameters).fit(X, y, sample_weight=w)
    found = theirs[name](random_state=1, backend=backend, device=DEVICE.type, **parameters).fit(X, y, sample_weight=w)
    for ours, other in zip(found.coefs_ + found.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
        assert ours.dtype == other.dtype and ours.shape == other.shape
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-8)
    for attribute in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "loss_"):
        if (value := getattr(expected, attribute, None)) is not None:
            np.testing.assert_allclose(getattr(found, attribute), value, rtol=1e-7)
    for attribute in (
        "n_iter_",
        "t_",
        "n_outputs_",
        "n_layers_",
        "out_activation_",
        "n_features_in_",
        "_no_improvement_count",
    ):
        assert getattr(found, attribute, None) == getattr(expected, attribute, None), attribute
    np.testing.assert_allclose(found.predict(X), expected.predict(X), atol=1e-7)
    if name == "MLPClassifier":
        np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_and_warm_start_equal_scikit_learn(solver):
    X, y = digits()
    pair = [cls(solver=solver, random_state=0, max_iter=3, warm_start=True)
            for cls in (neural_network.MLPClassifier, MLPClassifier)]  # fmt: skip
    for model in pair:
        model.partial_fit(X[:500], y[:500], classes=np.arange(10))
        model.partial_fit(X[500:900], y[500:900])
        model.fit(X, y)
        model.fit(X, y)
        model.partial_fit(X[:100], y[:100])
    expected, found = pair
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-8)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_)
    assert found.t_ == expected.t_


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32(backend):
    """Data of float32 are learnt in float32, and so are others with dtype="float32"; scikit-learn's rounding is as large."""
    X, y = digits(np.float32)
    parameters = dict(random_state=0, max_iter=10)
    exact = neural_network.MLPClassifier(**parameters).fit(X.astype(np.float64), y).predict_proba(X)
    bound = np.abs(neural_network.MLPClassifier(**parameters).fit(X, y).predict_proba(X) - exact).max()
    for data, dtype in ((X, None), (X.astype(np.float64), "float32")):
        found = MLPClassifier(backend=backend, device=DEVICE.type, dtype=dtype, **parameters).fit(data, y)
        assert {a.dtype for a in found.coefs_ + found.intercepts_} == {np.dtype(np.float32)}
        assert found.predict_proba(data).dtype == np.float32
        assert np.abs(found.predict_proba(data) - exact).max() < 2 * bound + 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_by_onednn(backend, monkeypatch):
    """Large products may be another kernel's: they are float32 in full, and torch's setting is what it was."""
    step_products = sys.modules["dlref.step.products"]

    monkeypatch.setattr(step_products, "faster", lambda: True)
    X, y = digits(np.float32)
    before = torch.backends.mkldnn.matmul.fp32_precision
    found = []
    for large in (2**60, 1):
        monkeypatch.setattr(step_products, "LARGE", large)
        model = MLPClassifier(backend=backend, device=DEVICE.type, random_state=0, max_iter=5).fit(X, y)
        found.append((model.loss_curve_, model.predict_proba(X)))
        assert torch.backends.mkldnn.matmul.fp32_precision == before
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("container", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_sparse(container, solver):
    X, y = load_digits(return_X_y=True)
    dense = MLPClassifier(solver=solver, max_iter=5, random_state=0).fit(X / 16, y)
    sparse = MLPClassifier(solver=solver, max_iter=5, random_state=0).fit(container(X / 16), y)
    np.testing.assert_allclose(sparse.predict_proba(container(X / 16)), dense.predict_proba(X / 16), atol=1e-12)


# --- the life of an estimator ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_pickle_goes_on(solver, backend):
    """Stopped, pickled and continued, it learns what it would have learnt."""
    X, y = digits()
    whole, parts = (MLPClassifier(solver=solver, backend=backend, random_state=0) for _ in range(2))
    for i in range(4):
        whole.partial_fit(X, y, classes=np.arange(10))
        parts = pickle.loads(pickle.dumps(parts.partial_fit(X, y, classes=np.arange(10))))
        if i == 1:
            parts = copy.deepcopy(parts)
    for a, b in zip(whole.coefs_, parts.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not hasattr(clone(parts), "coefs_") and clone(parts).get_params() == whole.get_params()


def test_coefficients_are_the_truth():
    """What is written into coefs_, or put in their place, is what predicts and what is learnt on."""
    X, y = digits()
    model = MLPClassifier(random_state=0, max_iter=3).fit(X, y)
    before = model.predict_proba(X)
    model.coefs_[0][:] *= 2
    assert not np.allclose(model.predict_proba(X), before)
    model.coefs_[0][:] /= 2
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.coefs_ = [np.zeros_like(c) for c in model.coefs_]
    model.intercepts_ = [np.zeros_like(b) for b in model.intercepts_]
    np.testing.assert_allclose(model.predict_proba(X), 0.1)
    model.partial_fit(X, y)
    assert np.abs(model.intercepts_[-1]).max() > 0 and model.coefs_[0].dtype == np.float64


def test_pipeline_search_and_scores():
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((16,), random_state=0, max_iter=200))
    search = GridSearchCV(
        pipeline, {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__backend": BACKENDS}, cv=2, n_jobs=2
    )
    search.fit(X[:400], y[:400])
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == pytest.approx(scores[1]) and scores.min() > 0.5  # the sides agree
    assert cross_val_score(pipeline, X[:400], y[:400], cv=2).min() > 0.5


def test_metadata_routing():
    import sklearn

    X, y = cancer()
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(max_iter=3, random_state=0).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        assert np.isfinite(cross_val_score(model, X, y, cv=2, params={"sample_weight": weights(y) + 1})).all()


def test_callbacks_and_progress(capsys):
    X, y = digits()
    seen = []

    def callback(model):
        seen.append((model.n_iter_, model.loss_, model.score(X, y)))
        return model.n_iter_ == 4

    model = MLPClassifier(random_state=0, callbacks=callback, verbose="bar").fit(X, y)
    assert model.n_iter_ == 4 == len(seen) and [s[1] for s in seen] == model.loss_curve_
    assert seen[-1][2] == model.score(X, y)
    assert "loss" in capsys.readouterr().out
    MLPClassifier(random_state=0, max_iter=2, verbose=True).fit(X, y)
    ours = capsys.readouterr().out
    neural_network.MLPClassifier(random_state=0, max_iter=2, verbose=True).fit(X, y)
    assert ours == capsys.readouterr().out and ours.startswith("Iteration 1, loss = ")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_interrupted(solver, backend):
    """Ctrl-C leaves an estimator that predicts with what it has learnt, and a warning."""
    X, y = digits()

    def press(model):
        if model.n_iter_ == 12:
            signal.raise_signal(signal.SIGINT)

    model = MLPClassifier(solver=solver, backend=backend, random_state=0, callbacks=press, max_iter=10_000)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, y)
    assert model.n_iter_ == 12 and model.score(X, y) > 0.9
    assert np.isfinite(model.loss_)


def refused(function, *arguments, **kwargs):
    with pytest.raises(Exception) as caught:
        function(*arguments, **kwargs)
    return type(caught.value), str(caught.value)


def bad(X, y):
    """Name: what is wrong with a fit, a prediction, a partial_fit."""
    nan, inf = X.copy(), X.copy()
    nan[3, 2], inf[3, 2] = np.nan, np.inf
    return {
        "nan": lambda m: m.fit(nan, y), "inf": lambda m: m.fit(inf, y),
        "strings": lambda m: m.fit([["a"] * X.shape[1]] * 2, y[:2]),
        "no samples": lambda m: m.fit(X[:0], y[:0]), "lengths": lambda m: m.fit(X, y[:-1]),
        "one dimension": lambda m: m.fit(X[0], y),
        "not fitted": lambda m: m.predict(X), "features": lambda m: m.fit(X, y).predict(X[:, 1:]),
        "unknown class": lambda m: m.partial_fit(X, y, classes=np.unique(y)).partial_fit(X, y + 100),
        "no classes": lambda m: m.partial_fit(X, y), "layers": lambda m: m.set_params(hidden_layer_sizes=(3, 0)).fit(X, y),
        "alpha": lambda m: m.set_params(alpha=-1).fit(X, y), "solver": lambda m: m.set_params(solver="newton").fit(X, y),
        "target": lambda m: m.fit(X, y + 0.5), "weights": lambda m: m.fit(X, y, sample_weight=np.ones(3)),
    }  # fmt: skip


@pytest.mark.parametrize("what", bad(np.ones((4, 3)), np.arange(4)))
def test_errors_are_scikit_learns(what):
    X, y = load_digits(n_class=3, return_X_y=True)
    X, y = X[:50], y[:50]
    expected = refused(bad(X, y)[what], neural_network.MLPClassifier(max_iter=2))
    assert refused(bad(X, y)[what], MLPClassifier(max_iter=2)) == expected


def test_one_class_is_scikit_learns():
    X, y = np.random.RandomState(0).randn(10, 3), np.ones(10)
    expected = neural_network.MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    found = MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(device="tpu9"), "device must be 'auto', 'cpu', 'cuda'"),
        (dict(activation="rellu"), "near it: ReLU"),
        (dict(optimizer="Adm"), "near it: .*Adam"),
        (dict(optimizer="Adam", solver="lbfgs"), "optimizer takes the place"),
        (dict(loss="hubber"), "near it: .*Huber"),
        (dict(loss=["huber"]), "one for each of the 10 outputs, it holds 1"),
        (dict(dtype=np.int64), "dtype must be float32, float64 or None"),
        (dict(backend="numpy"), "'backend' parameter"),
        (dict(dropout=1.0), "'dropout' parameter"),
        (dict(compile="yes"), "'compile' parameter"),
    ],
)
def test_errors_of_our_own(parameters, message):
    X, y = digits()
    with pytest.raises((ValueError, TypeError), match=message):
        MLPClassifier(max_iter=1, **parameters).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_absent():
    X, y = digits()
    with pytest.raises(ValueError, match="device='cuda' needs a CUDA device that torch sees, it sees 0"):
        MLPClassifier(device="cuda").fit(X, y)


def test_negative_weights():
    X, y = digits()
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        MLPClassifier(max_iter=1).fit(X, y, sample_weight=-np.ones(len(y)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_cuda(solver, backend):
    X, y = digits()
    kwargs = dict(solver=solver, random_state=0, max_iter=10, early_stopping=solver != "lbfgs")
    expected = neural_network.MLPClassifier(**kwargs).fit(X, y)
    found = MLPClassifier(backend=backend, device="cuda", **kwargs).fit(X, y)
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-6)
    found.coefs_[0][:] = 0
    assert not np.allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-3)


def test_documented():
    """Every parameter that scikit-learn has not stands in the docstring."""
    for name, cls in theirs.items():
        own = set(cls().get_params()) - set(getattr(neural_network, name)().get_params())
        for parameter in own:
            assert f"{parameter}:" in cls.__doc__, (name, parameter)
    assert set(estimators.__all__) >= set(theirs)
