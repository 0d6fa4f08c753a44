"""The Perceptron estimator: scikit-learn's tests and checks, and scikit-learn's numbers."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import platform
import re
import signal
import threading

import joblib
import numpy as np
import pytest
import torch
from harness import since
from scipy import sparse
from sklearn import linear_model
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from sklearn_tests import sklearn_tests
from test_manual import ALLOWED, Seen

from dlref import builtin, manual
from dlref.builtin.nn.perceptron_passes import PerceptronPasses, Samples, SparseSamples
from dlref.estimators import Perceptron
from dlref.estimators.versions import STOPS_BY_OBJECTIVE

BACKENDS = ("manual", "builtin")
BOTH = pytest.mark.parametrize("backend", BACKENDS)
MAY_STOP = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

for each in BACKENDS:
    globals().update(sklearn_tests("linear_model/tests/test_perceptron.py", {"Perceptron": Perceptron}, backend=each))

# A perceptron's order of samples depends on their number: a weight of 2 is not the sample twice, a weight of 0 not its absence.
NOT_OF_A_PERCEPTRON = {
    f"check_sample_weight_equivalence_on_{kind}_data": "the order of the samples depends on their number"
    for kind in ("dense", "sparse")
}


def checks():
    """As scikit-learn's parametrize_with_checks, which knows no strict xfail before 1.8 and hands pytest a generator."""
    for backend in BACKENDS:
        for estimator, check in estimator_checks_generator(Perceptron(backend=backend)):
            name = check.func.__name__
            reason = NOT_OF_A_PERCEPTRON.get(name)
            marks = pytest.mark.xfail(reason=reason, strict=True) if reason else ()
            yield pytest.param(estimator, check, marks=marks, id=f"{backend}-{name}")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
@pytest.mark.filterwarnings("default")
def test_checks(estimator, check):
    if estimator.backend == "builtin" and check.func.__name__ == "check_class_weight_classifiers":
        pytest.skip("a thousand passes; test_scikit_learns_numbers has weights of classes by both sides")
    check(estimator)


@pytest.mark.filterwarnings("default")
def test_the_checks_that_fail_are_those_that_scikit_learn_fails():
    found = check_estimator(linear_model.Perceptron(), on_fail=None, on_skip=None)
    assert {each["check_name"] for each in found if each["status"] == "failed"} == set(NOT_OF_A_PERCEPTRON)


def data(name: str):
    if name == "digits":
        return load_digits(return_X_y=True)
    if name == "iris":
        return load_iris(return_X_y=True)
    if name == "binary":
        return make_classification(200, 12, random_state=1)
    return make_classification(200, 12, n_informative=6, n_classes=4, random_state=1)


def assert_same(ours, theirs, tolerance: float = 1e-8):
    for name in ("coef_", "intercept_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=tolerance)
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_) and type(ours.n_iter_) is type(theirs.n_iter_)


VARIANTS = {
    "plain": {},
    "l2": {"penalty": "l2"},
    "l2 that is the whole weight": {"penalty": "l2", "alpha": 1.0},
    "l1": {"penalty": "l1"},
    "elasticnet": {"penalty": "elasticnet", "l1_ratio": 0.4, "alpha": 1e-3},
    "alpha 0": {"penalty": "elasticnet", "alpha": 0.0},
    "early stopping": {"early_stopping": True},
    "early stopping l2": {"early_stopping": True, "penalty": "l2", "alpha": 0.01},
    "early stopping, one generator": {"early_stopping": True, "random_state": 3},
    "balanced": {"class_weight": "balanced"},
    "class weights": {"class_weight": {0: 0.3, 1: 2.0}},
    "no intercept": {"fit_intercept": False},
    "eta0": {"eta0": 0.37},
    "no tolerance": {"tol": None, "max_iter": 8},
    "in order": {"shuffle": False},
    "weights": {"weighted": True},
    "weights l2": {"weighted": True, "penalty": "l2"},
    "seed": {"random_state": 7},
}


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["iris", "binary", "multiclass", "digits"])
@BOTH
@MAY_STOP
def test_scikit_learns_numbers(backend, name, variant, kind):
    options = dict(VARIANTS[variant])
    if name == "iris" and kind is sparse.csr_array:
        pytest.skip("three classes of it are as four of the other")
    if name == "digits":
        if backend == "builtin" and variant not in ("plain", "weights"):
            pytest.skip("the small data sets show it")
        options.setdefault("max_iter", 2 if "penalty" in options else 1000)
    options.setdefault("max_iter", 7 if backend == "builtin" else 12)  # five without progress are the end
    X, y = data(name)
    if name != "digits":
        X, y = X[::2], y[::2]  # a mistake costs as much as any other
    weight = np.random.RandomState(0).choice([0.0, 0.5, 1.7], len(y)) if options.pop("weighted", False) else None
    make = lambda cls, **more: cls(  # noqa: E731
        **{**options, "random_state": np.random.RandomState(3)} if variant.endswith("generator") else options, **more
    )
    ours, theirs = make(Perceptron, backend=backend), make(linear_model.Perceptron)
    for estimator in (ours, theirs):
        estimator.fit(kind(X), y, sample_weight=weight)
    assert_same(ours, theirs)
    np.testing.assert_allclose(ours.decision_function(kind(X)), theirs.decision_function(kind(X)), rtol=1e-9, atol=1e-9)
    assert (ours.predict(X) == theirs.predict(X)).all() and ours.score(X, y) == theirs.score(X, y)


@pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="compiled code may fuse * and + elsewhere"
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("classes", [2, 3])
@BOTH
@MAY_STOP
def test_scores_of_0_to_the_last_bit(backend, classes, kind):
    """Tenths: where a score should be 0, rounding decides whether it is a mistake, and must decide as in scikit-learn."""
    rng = np.random.RandomState(0)
    X, y = rng.randint(-3, 4, (300, 20)) / 10, rng.randint(classes, size=300)
    ours, theirs = Perceptron(backend=backend, tol=None, max_iter=20), linear_model.Perceptron(tol=None, max_iter=20)
    for estimator in (ours, theirs):
        estimator.fit(kind(X), y)
    assert (ours.coef_ == theirs.coef_).all() and (ours.intercept_ == theirs.intercept_).all()


@pytest.mark.parametrize("penalty", [None, "l2", "l1", "elasticnet"])
@BOTH
@MAY_STOP
def test_rows_that_are_nearly_empty(backend, penalty):
    """Few entries stored: they stay sparse; one row has none."""
    X = sparse.random(120, 300, 0.02, format="lil", random_state=0)
    X[7] = 0
    X = sparse.csr_array(X)
    y = np.argmax(X @ np.random.RandomState(1).randn(300, 3), 1)
    assert 16 * X.nnz < 120 * 300
    for some in (y, y > 0):
        options = {"penalty": penalty, "max_iter": 15, "alpha": 1e-3}
        ours, theirs = (
            Perceptron(backend=backend, **options).fit(X, some),
            linear_model.Perceptron(**options).fit(X, some),
        )
        assert_same(ours, theirs)
        np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-10)


@BOTH
def test_partial_fit(backend):
    for name in ("binary", "multiclass"):
        X, y = data(name)
        ours, theirs = Perceptron(backend=backend, penalty="l2"), linear_model.Perceptron(penalty="l2")
        for start in range(0, 200, 50):
            part = slice(start, start + 50)
            for estimator in (ours, theirs):
                estimator.partial_fit(X[part], y[part], classes=np.unique(y), sample_weight=1 + y[part])
            assert_same(ours, theirs)
        for estimator in (ours, theirs):
            with pytest.raises(ValueError, match=r"features"):
                estimator.partial_fit(X[:, :3], y)


@BOTH
@MAY_STOP
def test_warm_start(backend):
    for name in ("binary", "multiclass"):
        X, y = data(name)
        ours, theirs = (cls(warm_start=True, max_iter=3) for cls in (Perceptron, linear_model.Perceptron))
        ours.set_params(backend=backend)
        for seed in (0, 1):
            for estimator in (ours, theirs):
                estimator.set_params(random_state=seed).fit(X, y)
            assert_same(ours, theirs)
        start = np.ones_like(theirs.coef_), np.ones_like(theirs.intercept_)
        for estimator in (ours, theirs):
            estimator.fit(X, y, *start)
        assert_same(ours, theirs)


@since(STOPS_BY_OBJECTIVE)
@pytest.mark.parametrize("penalty", [None, "l2", "l1"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose(capsys, early_stopping, penalty):
    """What is printed of two classes is scikit-learn's, the seconds aside."""
    X, y = data("binary")
    texts = []
    for cls in (Perceptron, linear_model.Perceptron):
        cls(verbose=1, early_stopping=early_stopping, penalty=penalty, random_state=1).fit(X, y)
        texts.append(re.sub(r"\d+\.\d\d seconds", "", capsys.readouterr().out))
    assert texts[0] == texts[1] and "Avg. loss" in texts[0] and "Convergence" in texts[0]


@BOTH
def test_float32(backend):
    X, y = data("multiclass")
    exact = linear_model.Perceptron(max_iter=1, tol=None).fit(X, y)
    for given, dtype in ((X.astype(np.float32), None), (X, "float32")):
        found = Perceptron(max_iter=1, tol=None, backend=backend, dtype=dtype).fit(given, y)
        assert found.coef_.dtype == found.intercept_.dtype == np.float32
        np.testing.assert_allclose(found.coef_, exact.coef_, atol=1e-4)
        assert found.export_torch()[0].weight.dtype == torch.float32
    found = Perceptron(max_iter=1, tol=None, backend=backend, dtype="float64").fit(X.astype(np.float32), y)
    assert found.coef_.dtype == np.float64


@pytest.mark.parametrize("penalty", [None, "l2", "l1"])
def test_interrupted(penalty):
    """Ctrl-C: a warning, and an estimator that predicts."""
    X, y = make_classification(2000, 30, flip_y=0.3, n_classes=3, n_informative=5, random_state=0)
    estimator = Perceptron(tol=None, max_iter=10**6, penalty=penalty)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    gc.disable()  # what a signal raises in a callback of the collector, as torch has one, is lost
    try:
        timer.start()
        with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
            estimator.fit(X, y)
    finally:
        gc.enable()
    timer.join()
    assert 1 <= estimator.n_iter_ < 10**6 and estimator.t_ == 1 + 2000 * estimator.n_iter_
    assert estimator.predict(X).shape == (2000,) and np.isfinite(estimator.coef_).all() and estimator.coef_.any()


@BOTH
def test_errors(backend):
    X, y = data("binary")
    for wrong in (
        {"penalty": "l3"}, {"eta0": 0.0}, {"alpha": -1.0}, {"max_iter": 0}, {"tol": -1.0}, {"l1_ratio": 2.0}, {"n_jobs": "all"},
        {"validation_fraction": 1.0}, {"class_weight": "even"}, {"shuffle": "yes"}, {"random_state": "seed"},
    ):  # fmt: skip
        with pytest.raises(ValueError) as theirs:
            linear_model.Perceptron(**wrong).fit(X, y)
        with pytest.raises(ValueError) as ours:
            Perceptron(backend=backend, **wrong).fit(X, y)
        assert str(ours.value) == str(theirs.value)
    for cls in (linear_model.Perceptron, lambda **options: Perceptron(backend=backend, **options)):
        with pytest.raises(ValueError, match="greater than one; got 1 class"):
            cls().fit(X, np.zeros(200))
        with pytest.raises(ValueError, match=r"Floating-point under-/overflow occurred at epoch #1\. Scaling"):
            cls().fit(X * 1e300, y, sample_weight=np.full(200, 1e300))
        with pytest.raises(ValueError, match="sample weights for validation set are all zero"):
            cls(early_stopping=True).fit(X, y, sample_weight=np.zeros(200))
        with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
            cls(class_weight="balanced").partial_fit(X, y, classes=[0, 1])
        with pytest.warns(ConvergenceWarning, match="Maximum number of iteration reached"):
            cls(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="'backend' parameter of Perceptron must be"):
        Perceptron(backend="numpy").fit(X, y)
    with pytest.raises(ValueError, match="dtype must be float32, float64 or None"):
        Perceptron(backend=backend, dtype=np.float16).fit(X, y)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device='cuda' needs a CUDA device that torch sees, it sees 0") as found:
            Perceptron(backend=backend, device="cuda").fit(X, y)
        assert "\n" not in str(found.value)


@BOTH
@MAY_STOP
def test_tools(backend):
    """clone, pickle, joblib, pipelines, searches, metadata routing."""
    X, y = load_iris(return_X_y=True)
    estimator = Perceptron(backend=backend, max_iter=20, random_state=1)
    assert clone(estimator).get_params() == estimator.get_params()
    assert {*estimator.get_params()} - {*linear_model.Perceptron().get_params()} == {"backend", "device", "dtype"}
    fitted = clone(estimator).fit(X, y)
    stored = io.BytesIO()
    joblib.dump(fitted, stored)
    stored.seek(0)
    for twin in (pickle.loads(pickle.dumps(fitted)), joblib.load(stored), copy.deepcopy(fitted)):
        assert (twin.decision_function(X) == fitted.decision_function(X)).all()
        assert twin.partial_fit(X, y).coef_.shape == (3, 4)
    pipeline = make_pipeline(StandardScaler(), estimator).set_output(transform="pandas" if _pandas() else "default")
    grid = {"perceptron__eta0": [0.1, 1.0], "perceptron__penalty": [None, "l2"]}
    theirs = make_pipeline(StandardScaler(), linear_model.Perceptron(max_iter=20, random_state=1))
    found = [GridSearchCV(each, grid, n_jobs=jobs).fit(X, y) for each, jobs in ((pipeline, 2), (theirs, None))]
    np.testing.assert_array_equal(*(each.cv_results_["mean_test_score"] for each in found))
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        weight = np.linspace(0, 1, len(y))
        asked = [
            cls(max_iter=20).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            for cls in (Perceptron, linear_model.Perceptron)
        ]
        scores = [cross_val_score(each, X, y, params={"sample_weight": weight}) for each in asked]
        np.testing.assert_array_equal(*scores)


def _pandas() -> bool:
    try:
        import pandas  # noqa: F401
    except ImportError:
        return False
    return True


@BOTH
def test_sparsify_and_export(backend):
    for name in ("binary", "multiclass"):
        X, y = data(name)
        estimator = Perceptron(penalty="l1", alpha=0.01, max_iter=5, tol=None, backend=backend).fit(X, y)
        scores = estimator.decision_function(X)
        for _ in range(2):  # of dense and of sparse coefficients
            module = estimator.export_torch()
            assert {type(m).__module__.split(".")[0] for m in module.modules()} == {"torch"}
            np.testing.assert_allclose(
                module(torch.from_numpy(X)).detach().cpu().numpy(), scores, rtol=1e-12, atol=1e-12
            )
            assert module(torch.from_numpy(X)).shape == scores.shape
            estimator.sparsify()
            assert sparse.issparse(estimator.coef_)
            np.testing.assert_allclose(estimator.decision_function(X), scores, rtol=1e-12)
        assert isinstance(estimator.densify().coef_, np.ndarray)


@pytest.mark.parametrize("ns", [manual, builtin], ids=BACKENDS)
@pytest.mark.parametrize("kind", [Samples, SparseSamples], ids=["dense", "sparse"])
def test_a_pass_is_the_rule_sample_by_sample(ns, kind):
    """Blocks, several outputs and stored entries change nothing of what `correct` does alone."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 6, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.3] = 0
    y = torch.randint(0, 3, (150,), generator=generator)
    targets = torch.where(y[:, None] == torch.arange(3), 1.0, -1.0).double()
    weights = torch.rand(150, 3, generator=generator, dtype=torch.float64)
    order = torch.stack([torch.randperm(150, generator=generator) for _ in range(3)])
    slow, fast = (ns.nn.Perceptron(6, 3).double() for _ in range(2))
    csr = sparse.csr_array(x.cpu().numpy())
    parts = tuple(torch.tensor(part) for part in (csr.indptr.astype(int), csr.indices.astype(int), csr.data))
    passes = PerceptronPasses(
        fast, Samples(x) if kind is Samples else SparseSamples(*parts), targets, 0.5, weights, bias_rate=0.1, l2=0.02
    )
    for active in (None, torch.tensor([True, False, True])):
        learns = torch.ones(3).double() if active is None else active.double()
        loss = torch.zeros(3, dtype=torch.float64)
        for i in order.t():
            margin = slow.correct(
                x[i],
                targets[i, range(3)] * learns,
                0.5 * weights[i, range(3)],
                0.1,
                (1 - 0.01 * learns)[:, None],
            )
            loss += (-margin).clamp(min=0) * learns
        found, _ = passes.sweep(order, active)
        assert passes._block(3, 150) > 1 and loss.any()
        torch.testing.assert_close(found, loss, rtol=1e-12, atol=1e-12)
        for name, value in slow.state_dict().items():
            torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-12, atol=1e-12)


@MAY_STOP
def test_by_hand_means_tensor_algebra():
    """What ATen's dispatcher sees of a fit by hand; that of one by autograd is told from it."""
    X, y = load_iris(return_X_y=True)
    seen = []
    for backend in BACKENDS:
        for penalty in (None, "elasticnet"):
            with Seen() as names:
                Perceptron(backend=backend, penalty=penalty, max_iter=2).fit(X, y).predict(X)
            seen.append(names.names)
    assert seen[0] | seen[1] <= ALLOWED, sorted((seen[0] | seen[1]) - ALLOWED)
    assert not seen[2] <= ALLOWED


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@BOTH
def test_cuda(backend):
    X, y = data("digits")
    found = [Perceptron(backend=backend, device=device).fit(X, y) for device in ("cuda", "cpu")]
    assert_same(*found)
