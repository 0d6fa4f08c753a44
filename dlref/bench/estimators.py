"""This library's estimators beside scikit-learn's of the same name: fit and predict, on the same data from one start."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.benchmark.utils.common import set_torch_threads

from ..core.extras import optional
from ..core.names import one_of
from .measure import in_turn, measure

THEIRS = "scikit-learn"
OURS: dict[str, dict[str, Any]] = {
    "manual": {"compile": False},
    "manual played back": {"compile": "auto"},
    "manual compiled": {"compile": True},
    "builtin": {"backend": "builtin", "compile": False},
}
# What the losses of an epoch may differ by, as a part of the first one. In float64, where both sides round alike, by rounding
# alone. In float32 their products round differently, and Adam's steps have a size of their own also where the gradient is
# hardly more than rounding.
LOSSES = {"float64": 1e-10, "float32": 1e-2}
CHECKED = 4000  # samples that are fitted in float64, before anything is timed


def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return ((X - X.mean()) / X.std()).astype("float32"), y


def made() -> tuple[Any, Any]:
    from sklearn.datasets import make_classification

    X, y = make_classification(100_000, 200, n_informative=50, n_classes=10, random_state=0)
    return X.astype("float32"), y


# What makes X (float32) and y, and the parameters.
ESTIMATORS: dict[str, tuple[Callable[[], tuple[Any, Any]], dict[str, Any]]] = {
    "mlp_classifier": (digits, {"hidden_layer_sizes": (128,), "learning_rate_init": 0.01, "max_iter": 100}),
    "mlp_classifier_large": (made, {"hidden_layer_sizes": (512, 512), "max_iter": 2}),
}


@optional()
def time_estimator(
    name: str,
    *,
    device: torch.device | str = "cpu",
    compile: bool = False,
    rounds: int = 20,
    seconds: float | None = None,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Seconds of fit, by each solver, and of predict of a classifier of ESTIMATORS: records as in the JSON.

    Ratios are to scikit-learn's. manual: each step in Python; manual played back: the default, recorded after some steps;
    manual compiled: a fit whose first epochs, in which the step is compiled, are as short as the others; "compilation" is what
    the first fit took beside. "loss difference": the largest from scikit-learn's losses. ValueError where variants differ in
    their losses by more than LOSSES, or the name is unknown.
    """
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    from .. import estimators

    one_of("name", name, ESTIMATORS)
    data, settings = ESTIMATORS[name]
    X, y = data()
    settings = {"batch_size": 200, "random_state": 0, "tol": 0.0, "n_iter_no_change": settings["max_iter"], **settings}
    ways = {way: options for way, options in OURS.items() if compile or options["compile"] is not True}
    found = []

    def record(work: str, times: Any, **more: Any) -> None:
        ratios = {way: vars(times.ratio(way, [THEIRS])) for way in ways if way in times.seconds}
        found.append({"name": name, "work": work, **more, "times": times.as_dict(), "ratios": ratios})

    with set_torch_threads(threads), threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fit has used up its epochs, as it was told
        for solver in ("sgd", "adam"):
            models: dict[str, Any] = {THEIRS: MLPClassifier(solver=solver, **settings)}
            for way, options in ways.items():
                models[way] = estimators.MLPClassifier(solver=solver, **settings, **options, device=str(device))
            for model in models.values():
                model.fit(X[:CHECKED].astype("float64"), y[:CHECKED])
            difference(models, "float64")
            compilation: list[float] = []
            fits = {way: functools.partial(fit, model, X, y, compilation) for way, model in models.items()}
            times = in_turn(fits, rounds, seconds)
            more = {"compilation": compilation[0]} if compile else {}
            record("fit", times, optimizer=solver, **{"loss difference": difference(models, "float32"), **more})
        predict = {way: functools.partial(models[way].predict, X) for way in (THEIRS, "manual", "builtin")}
        record("predict", measure(predict, rounds, seconds, threads))
    return found


def fit(model: Any, X: Any, y: Any, compilation: list[float]) -> float:
    """Seconds of a fit; without those, added to the list, by which the first epochs of a compiled one were longer."""
    ends = [time.perf_counter()]
    if getattr(model, "compile", False) is not True:
        model.fit(X, y)
        return time.perf_counter() - ends[0]
    model.set_params(callbacks=lambda fitted: ends.append(time.perf_counter())).fit(X, y)
    first = min(3, model.max_iter // 2)
    epoch = (ends[-1] - ends[first]) / (model.max_iter - first)
    compilation.append(ends[first] - ends[0] - first * epoch)
    return time.perf_counter() - ends[0] - compilation[-1]


def difference(models: dict[str, Any], dtype: str) -> float:
    """The largest of the losses of an epoch from scikit-learn's, as a part of its first. ValueError beyond LOSSES."""
    theirs = models[THEIRS].loss_curve_
    found = {way: max(abs(a - b) for a, b in zip(model.loss_curve_, theirs, strict=True)) / theirs[0]
             for way, model in models.items()}  # fmt: skip
    worst = max(found, key=found.__getitem__)
    if not found[worst] <= LOSSES[dtype]:
        raise ValueError(f"all variants must tell the same losses in {dtype}, within {LOSSES[dtype]} of the first; {worst} is "
                         f"{found[worst]:.1e} from scikit-learn: they do not do the same work")  # fmt: skip
    return float(found[worst])
