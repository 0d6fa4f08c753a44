"""RBFNetworkClassifier, RBFNetworkRegressor and AutoencoderTransformer: scikit-learn's checks, both sides, the weights."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

from dlref import builtin, manual
from dlref.builtin.composed import KERNELS
from dlref.estimators import AutoencoderTransformer, RBFNetworkClassifier, RBFNetworkRegressor

BACKENDS = pytest.mark.parametrize("backend", ["manual", "builtin"])
ALL = [RBFNetworkClassifier, RBFNetworkRegressor, AutoencoderTransformer]
RADIAL = ALL[:2]
SOLVERS = [(cls, s) for cls in ALL for s in ("lstsq", "sgd", "adam", "lbfgs") if cls in RADIAL or s != "lstsq"]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = load_iris(return_X_y=True)


def data(cls, number=150):
    """X and y of so many samples."""
    X, y = (a.astype(np.float64) for a in load_diabetes(return_X_y=True)) if cls is RBFNetworkRegressor else IRIS
    X, y = (a[np.random.default_rng(0).permutation(len(a))[:number]] for a in (X, y))
    return StandardScaler().fit_transform(X), (y - 152) / 77 if cls is RBFNetworkRegressor else y


def learnt(model):
    """The arrays that a fit leaves."""
    radial = [model.centers_, model.widths_] if hasattr(model, "centers_") else []
    return [*model.coefs_, *model.intercepts_, *radial]


def output(model, X):
    """What it makes of X."""
    for name in ("predict_proba", "transform", "predict"):
        if hasattr(model, name):
            return getattr(model, name)(X)
    raise AssertionError(model)


def same(a, b, **tolerance):
    for p, q in zip(learnt(a), learnt(b), strict=True):
        np.testing.assert_allclose(p, q, **tolerance)


# --- scikit-learn's own checks ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        *((cls, {"backend": backend}) for cls in RADIAL for backend in ("manual", "builtin")),
        *((AutoencoderTransformer, {"backend": backend, "max_iter": 10}) for backend in ("manual", "builtin")),
        *((cls, {"solver": "lbfgs", "max_iter": 10}) for cls in ALL),
        (RBFNetworkClassifier, {"solver": "adam", "learning_rate_init": 0.05, "max_iter": 20}),
        (RBFNetworkRegressor, {"solver": "adam", "learning_rate_init": 0.03, "max_iter": 40}),
        *((cls, {"centers": "random", "kernel": "thin_plate"}) for cls in RADIAL),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "-".join(map(str, v.values())),
)
def test_checks(cls, parameters):
    results = check_estimator(cls(**parameters), on_skip=None)
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}


# --- both sides -------------------------------------------------------------------------------------------------------


@quiet
@pytest.mark.parametrize(("cls", "solver"), SOLVERS)
def test_sides_agree(cls, solver):
    parameters = {"solver": solver, "max_iter": 5, "batch_size": 40, "random_state": 0, "learning_rate_init": 0.01}
    for kernel in KERNELS if cls in RADIAL else [None]:
        if kernel is not None:
            parameters |= {"n_units": 20, "kernel": kernel}
        sides_agree(cls, parameters)


def sides_agree(cls, parameters):
    X, y = data(cls)
    manual, builtin = (cls(backend=b, **parameters).fit(X, y) for b in ("manual", "builtin"))
    same(manual, builtin, rtol=1e-7, atol=1e-9)
    assert abs(manual.loss_ - builtin.loss_) < 1e-9 and manual.n_iter_ == builtin.n_iter_
    np.testing.assert_allclose(output(manual, X), output(builtin, X), rtol=1e-7, atol=1e-9)


@BACKENDS
@quiet
@pytest.mark.parametrize("cls", ALL)
def test_float32(cls, backend):
    X, y = data(cls)
    options = {"random_state": 0, "backend": backend} | ({"centers": X[:20]} if cls in RADIAL else {})
    model = cls(dtype="float32", **options).fit(X, y)
    assert {a.dtype for a in learnt(model)} == {np.dtype(np.float32)} and output(model, X).dtype == np.float32
    np.testing.assert_allclose(output(model, X), output(cls(**options).fit(X, y), X), rtol=0.01, atol=0.01)


# --- least squares ------------------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_regression_of_the_units(backend, weighted):
    """Given centres and widths, the rest is scikit-learn's Ridge."""
    X, y = data(RBFNetworkRegressor)
    w = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    Y = np.stack([y, X[:, 2] ** 2], 1)
    model = RBFNetworkRegressor(15, width=2.5, alpha=0.3, random_state=0, backend=backend).fit(X, Y, sample_weight=w)
    distances = ((X[:, None] - model.centers_) ** 2).sum(2)
    units = np.exp(-distances / (2 * 2.5**2))
    ridge = Ridge(0.3, solver="svd").fit(units, Y, sample_weight=w)
    np.testing.assert_allclose(model.coefs_[0], ridge.coef_.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.intercepts_[0], ridge.intercept_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.predict(X), ridge.predict(units), rtol=1e-7, atol=1e-9)


@quiet
@BACKENDS
def test_gradients_go_on_from_least_squares(backend):
    """Both minimise one error: the first of the gradients is the last of least squares, and falls as the centres move."""
    X, y = data(RBFNetworkRegressor)
    w = np.random.default_rng(1).uniform(0, 3, len(X))
    model = RBFNetworkRegressor(15, alpha=0.3, random_state=0, backend=backend, warm_start=True, batch_size=len(X))
    least = model.fit(X, y, sample_weight=w).loss_
    centers = model.centers_.copy()
    model.set_params(solver="adam", max_iter=30, learning_rate_init=0.003)
    model.fit(X, y, sample_weight=w)
    assert abs(model.loss_curve_[0] - least) < 1e-9 and model.loss_ < least - 1e-3
    assert abs(model.centers_ - centers).max() > 1e-3

    X, y = data(RBFNetworkClassifier)
    model = RBFNetworkClassifier(15, random_state=0, backend=backend, warm_start=True).fit(X, y)
    assert model.out_activation_ == "clip"
    model.set_params(solver="lbfgs").fit(X, y)
    assert model.out_activation_ == "softmax" and model.score(X, y) > 0.98
    np.testing.assert_allclose(model.predict_proba(X), torch.softmax(torch.tensor(model.decision_function(X)), 1).cpu())


@BACKENDS
def test_digits_next_to_a_support_vector_machine(backend):
    X, y = load_digits(return_X_y=True)
    X, X_held, y, y_held = train_test_split(X / 8 - 1, y, random_state=0, stratify=y)
    found = {units: RBFNetworkClassifier(units, random_state=0, backend=backend).fit(X, y) for units in (100, 400)}
    assert found[100].score(X_held, y_held) > 0.975 and found[400].score(X_held, y_held) > 0.985
    assert found[400].score(X_held, y_held) > SVC().fit(X, y).score(X_held, y_held) - 0.005


# --- weights ------------------------------------------------------------------------------------------------------------


@quiet
@pytest.mark.parametrize(("cls", "solver"), [case for case in SOLVERS if case[1] != "adam"])
def test_a_weight_is_so_many_copies(cls, solver):
    """Also in the choice of fewer centres than there are samples."""
    X, y = data(cls)
    rng = np.random.default_rng(2)
    w = rng.integers(0, 4, len(X)).astype(float)
    order = rng.permutation(np.repeat(np.arange(len(X)), w.astype(int)))
    options = {"solver": solver, "random_state": 0, "max_iter": 10, "batch_size": len(order)}
    choices = [{"n_units": 20, "centers": c} for c in ("kmeans", "random")] if cls in RADIAL else [{}]
    for choice in choices:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got `batch_size`")
            weighted = cls(**options, **choice).fit(X, y, sample_weight=w)
        copies = cls(**options, **choice).fit(X[order], y[order])
        plain = cls(**options | {"batch_size": len(X)}, **choice).fit(X, y)
        same(weighted, copies, rtol=1e-6, atol=1e-8)
        assert abs(weighted.loss_ - copies.loss_) < 1e-9
        assert abs(output(weighted, X) - output(plain, X)).max() > 1e-3


def test_class_weight():
    X, y = IRIS[0][25:], IRIS[1][25:]
    given = RBFNetworkClassifier(15, class_weight={0: 2.0, 1: 1.0, 2: 3.0}, random_state=0).fit(X, y)
    same(
        given, RBFNetworkClassifier(15, random_state=0).fit(X, y, sample_weight=np.array([2.0, 1.0, 3.0])[y]), rtol=1e-9
    )
    assert abs(given.coefs_[0] - RBFNetworkClassifier(centers=given.centers_).fit(X, y).coefs_[0]).max() > 1e-3
    balanced = RBFNetworkClassifier(15, class_weight="balanced", random_state=0, warm_start=True).fit(X, y)
    same(balanced, RBFNetworkClassifier(15, random_state=0).fit(X, y, len(y) / (3 * np.bincount(y)[y])), rtol=1e-9)
    before = [a.copy() for a in learnt(balanced)]
    for a, b in zip(before, learnt(balanced.fit(X, y)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


# --- centres ------------------------------------------------------------------------------------------------------------


def test_centers():
    X, y = data(RBFNetworkClassifier)
    given = X[:7] + 0.1
    model = RBFNetworkClassifier(centers=given, width=1.5).fit(X, y)
    np.testing.assert_array_equal(model.centers_, given)
    np.testing.assert_array_equal(model.widths_, np.full(7, 1.5))
    assert model.coefs_[0].shape == (7, 3) and model.n_layers_ == 3
    random = RBFNetworkClassifier(10, centers="random", random_state=1).fit(X, y)
    assert all((c == X).all(1).any() for c in random.centers_) and len(np.unique(random.centers_, axis=0)) == 10
    few = RBFNetworkClassifier(100).fit(np.repeat(X[:5], 3, 0), np.repeat(y[:5], 3))
    np.testing.assert_array_equal(np.sort(few.centers_, 0), np.sort(X[:5], 0))
    means = RBFNetworkClassifier(10, random_state=1).fit(X, y)
    found = KMeans(10, init=means.centers_, n_init=1).fit(X)  # it stays where it is
    np.testing.assert_allclose(found.cluster_centers_, means.centers_, atol=1e-8)
    nearest = np.sort(((means.centers_[:, None] - means.centers_) ** 2).sum(2), 1)[:, 1:3]
    np.testing.assert_allclose(means.widths_, 2 * np.sqrt(nearest.mean(1)))
    with pytest.raises(ValueError, match=r"centers must be \(units, 4\)"):
        RBFNetworkClassifier(centers=given[:, :2]).fit(X, y)
    before = means.predict_proba(X)
    means.centers_ = means.centers_ + 1  # what somebody sets counts
    assert abs(means.predict_proba(X) - before).max() > 0.01
    means.set_params(kernel="multiquadric")
    assert np.isfinite(means.decision_function(X)).all()


def test_a_single_unit_and_a_single_class():
    X, y = data(RBFNetworkClassifier)
    assert RBFNetworkClassifier(1).fit(X, y).score(X, y) > 0.3
    one = RBFNetworkClassifier().fit(X, np.full(len(X), "a"))
    assert (one.predict(X) == "a").all()


# --- the classifier's outputs --------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("solver", ["lstsq", "lbfgs"])
@pytest.mark.parametrize("kind", ["two classes", "three classes", "labels"])
@quiet
def test_outputs_fit_together(backend, solver, kind):
    X, y = data(RBFNetworkClassifier)
    if kind == "two classes":
        y = np.array(["no", "yes"])[(y > 0).astype(int)]
    elif kind == "labels":
        X, y = make_multilabel_classification(100, 4, n_classes=3, random_state=0)
    model = RBFNetworkClassifier(15, solver=solver, random_state=0, backend=backend, max_iter=30).fit(X, y)
    p, z, label = model.predict_proba(X), model.decision_function(X), model.predict(X)
    assert ((p > 0) & (p < 1)).all() and model.score(X, y) > 0.5
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(p))
    if kind == "labels":
        assert ((p > 0.5) == label).all() and ((z > 0) == label).all()
    else:
        np.testing.assert_allclose(p.sum(1), 1)
        assert (model.classes_[p.argmax(1)] == label).all()
        assert (model.classes_[(z > 0).astype(int) if kind == "two classes" else z.argmax(1)] == label).all()
    if solver == "lstsq" and kind == "three classes":
        np.testing.assert_allclose(z.sum(1), 1)


# --- scikit-learn's company ----------------------------------------------------------------------------------------------


@quiet
@BACKENDS
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("cls", ALL)
def test_training_parameters(cls, solver, backend):
    X, y = data(cls)
    options = {"solver": solver, "random_state": 0, "backend": backend, "learning_rate_init": 0.01}
    model = cls(early_stopping=True, n_iter_no_change=3, learning_rate="adaptive", max_iter=15, **options).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_ == len(model.loss_curve_)
    assert model.best_validation_score_ == max(model.validation_scores_)

    whole = cls(max_iter=4, shuffle=False, **options).fit(X, y)
    steps, warm = cls(shuffle=False, **options), cls(shuffle=False, max_iter=2, warm_start=True, **options)
    for _ in range(4):
        classes = {"classes": np.unique(y)} if cls is RBFNetworkClassifier else {}
        steps.partial_fit(X, y, **classes)
    same(whole, steps, rtol=1e-7)
    curve = warm.fit(X, y).fit(X, y).loss_curve_
    assert len(curve) == 4 and curve[2] < curve[0], "the second fit goes on where the first ended"

    seen = []
    cls(callbacks=lambda m: seen.append(m.loss_) or len(seen) == 3, max_iter=10, **options).fit(X, y)
    assert len(seen) == 3


@quiet
@BACKENDS
@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_sparse_is_dense(cls, kind, backend):
    X, y = data(cls)
    X = np.where(abs(X) > 0.5, X, 0)
    for solver in ("lstsq", "adam") if cls in RADIAL else ("adam", "lbfgs"):
        options = {"centers": "random", "n_units": 20} if cls in RADIAL else {}
        model = cls(solver=solver, max_iter=5, random_state=0, backend=backend, **options)
        dense, sparse = clone(model).fit(X, y), clone(model).fit(kind(X), y)
        same(dense, sparse, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(output(dense, X), output(sparse, kind(X)), rtol=1e-7, atol=1e-9)
    if cls in RADIAL:
        assert cls(20).fit(kind(X), y).score(kind(X), y) > 0.3
    else:
        assert model.fit(kind(X)).score(kind(X)) == pytest.approx(model.score(X))


@quiet
@BACKENDS
@pytest.mark.parametrize("cls", ALL)
def test_pickles(cls, backend):
    X, y = data(cls)
    for solver in ("lstsq", "adam") if cls in RADIAL else ("adam",):
        model = cls(solver=solver, max_iter=3, random_state=0, backend=backend).fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(output(model, X), output(again, X))
        if solver == "adam":  # the optimizer's state goes along
            same(model.partial_fit(X, y), again.partial_fit(X, y), rtol=1e-12)
        fresh = clone(model)
        assert not hasattr(fresh, "coefs_") and fresh.get_params() == model.get_params()
        with pytest.raises(NotFittedError):
            output(fresh, X)


@quiet
def test_in_a_search_over_a_pipeline():
    X, y = data(RBFNetworkClassifier)
    coder = AutoencoderTransformer(3, (20,), "tanh", solver="lbfgs", max_iter=40, random_state=0)
    pipeline = make_pipeline(StandardScaler(), coder, RBFNetworkClassifier(random_state=0))
    grid = {"autoencodertransformer__n_components": [1, 3], "rbfnetworkclassifier__n_units": [10, 30]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    assert search.best_score_ > 0.9 and search.best_params_["autoencodertransformer__n_components"] in (1, 3)


@BACKENDS
@pytest.mark.parametrize("cls", ALL)
def test_interrupted_it_can_be_used(cls, backend):
    X, y = data(cls)

    def interrupt(model):
        if model.n_iter_ == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model = cls(solver="sgd", callbacks=interrupt, random_state=0, backend=backend).fit(X, y)
    assert model.n_iter_ == 3 and np.isfinite(output(model, X)).all()


@pytest.mark.parametrize("cls", RADIAL)
def test_interrupted_before_the_first_epoch(cls, monkeypatch):
    X, y = data(cls)

    def interrupt(*unused, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KMeans, "fit", interrupt)
        with pytest.warns(UserWarning, match="Choice of centres interrupted by user: they are random samples"):
            model = cls(20, random_state=0).fit(X, y)
    assert all((c == X).all(1).any() for c in model.centers_) and model.score(X, y) > 0.3
    monkeypatch.setattr("dlref.estimators.rbf.least_squares", interrupt)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        model = cls(20, random_state=0).fit(X, y)
    assert np.isfinite(output(model, X)).all()


@pytest.mark.parametrize("cls", RADIAL)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_units": 0}, "The 'n_units' parameter of"),
        ({"kernel": "cubic"}, "The 'kernel' parameter of"),
        ({"width": 0.0}, "The 'width' parameter of"),
        ({"centers": "median"}, "The 'centers' parameter of"),
        ({"solver": "newton"}, "The 'solver' parameter of"),
        ({"alpha": -1.0}, "The 'alpha' parameter of"),
        ({"loss": "huber"}, "loss must be '.*' with the solver 'lstsq'"),
        ({"optimizer": "AdamW"}, "optimizer must be None with the solver 'lstsq'"),
        ({"output_activation": "tanh"}, "output_activation must be None with the solver 'lstsq'"),
        ({"device": "nowhere"}, "device must be"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_wrong_parameters(cls, parameters, message):
    with pytest.raises(ValueError, match=message):
        cls(**parameters).fit(*data(cls))


@pytest.mark.parametrize("cls", ALL)
def test_wrong_data(cls):
    X, y = data(cls)
    model = cls()
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 1, np.nan, X), y)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.where(X > 1, np.inf, X), y)
    with pytest.raises(ValueError, match="could not convert string"):
        model.fit(np.full(X.shape, "a"), y)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        model.fit(X[:0], y[:0])
    with pytest.raises(ValueError, match="Negative values"):
        model.fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="at least one non-zero"):
        model.fit(X, y, sample_weight=np.zeros(len(X)))
    if cls in RADIAL:
        assert not hasattr(model, "coefs_")
    model.set_params(max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    with pytest.raises(ValueError, match="features as input"):
        output(model, X[:, :1])
    if cls in RADIAL:
        with pytest.raises(AttributeError, match="partial_fit"):
            model.partial_fit(X, y)
    if cls is RBFNetworkClassifier:
        model = cls(solver="adam").partial_fit(X, y, classes=[0, 1, 2])
        with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
            model.partial_fit(X, y + 1)


# --- the autoencoder ------------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_linear_autoencoder_finds_the_principal_plane(backend):
    X, _ = data(RBFNetworkRegressor)
    model = AutoencoderTransformer(
        3, (), solver="lbfgs", alpha=0.0, tol=1e-6, max_iter=2000, random_state=0, backend=backend
    )
    model.fit(X)
    principal = PCA(3).fit(X)
    assert model.score(X) == pytest.approx(principal.explained_variance_ratio_.sum(), abs=1e-6)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)), principal.inverse_transform(principal.transform(X)), atol=0.02
    )


@quiet
@BACKENDS
def test_autoencoder(backend):
    X = load_digits().data / 16
    options = {"random_state": 0, "learning_rate_init": 0.005, "max_iter": 60, "backend": backend, "tol": 0.0}
    model = AutoencoderTransformer(8, (64, 32), "tanh", **options).fit(X)
    codes = model.transform(X)
    assert codes.shape == (len(X), 8) and [c.shape[1] for c in model.coefs_] == [64, 32, 8, 32, 64, 64]
    assert model.score(X) > PCA(8).fit(X).explained_variance_ratio_.sum() + 0.05
    half = np.repeat([1.0, 0.0], [900, len(X) - 900])
    assert model.score(X, sample_weight=half) == pytest.approx(model.score(X[:900]))
    back = model.inverse_transform(codes)
    assert model.score(X) == pytest.approx(1 - ((X - back) ** 2).sum() / ((X - X.mean(0)) ** 2).sum())
    assert list(model.get_feature_names_out()) == [f"autoencodertransformer{i}" for i in range(8)]
    with pytest.raises(ValueError, match="X has 3 features, but AutoencoderTransformer is expecting 8 features"):
        model.inverse_transform(codes[:, :3])
    noisy = AutoencoderTransformer(8, (64, 32), "tanh", noise=0.5, **options).fit(X)
    assert noisy.loss_ > model.loss_ and abs(noisy.coefs_[0] - model.coefs_[0]).max() > 1e-3
    np.testing.assert_array_equal(noisy.transform(X), noisy.transform(X))
    same(noisy, clone(noisy).fit(X), rtol=0)
    with pytest.raises(ValueError, match="noise must be 0"):
        noisy.set_params(solver="lbfgs").fit(X)


@quiet
def test_autoencoder_activations_that_learn():
    X, _ = data(RBFNetworkRegressor)
    model = AutoencoderTransformer(2, (10, 5), "PReLU", max_iter=5, random_state=0).fit(X)
    assert [len(a) for a in model.activation_params_] == [1] * 4  # none for the codes
    assert all(a != 0.25 for a in model.activation_params_)


@quiet
def test_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IRIS[0], columns=["a", "b", "c", "d"])
    model = AutoencoderTransformer(max_iter=2).set_output(transform="pandas").fit(frame)
    codes = model.transform(frame)
    assert list(codes.columns) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert model.inverse_transform(codes).shape == (150, 4)
    assert list(model.feature_names_in_) == ["a", "b", "c", "d"]
    assert list(RBFNetworkClassifier().fit(frame, IRIS[1]).feature_names_in_) == ["a", "b", "c", "d"]


# --- centres by weights -------------------------------------------------------------------------------------------


def test_fit_centers_with_weights():
    X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = np.r_[np.ones(30), np.zeros(30)]
    for ns in (manual, builtin):
        layer = ns.nn.RBF(2, 30, dtype=torch.float64).fit_centers(X, weight=w)
        np.testing.assert_allclose(np.sort(layer.centers.detach(), 0), np.sort(X[:30], 0), atol=1e-12)
        a, b = (
            ns.nn.RBF(2, 5, dtype=torch.float64).fit_centers(x) for x in (X, scipy.sparse.csr_array(X.cpu().numpy()))
        )
        assert len(a.centers) == len(b.centers) == 5
