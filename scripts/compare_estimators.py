"""The estimators of dlref.estimators, by hand and by autograd, beside scikit-learn's: scores and times on several splits."""

from __future__ import annotations

import dlref.cli.signals  # noqa: F401  heeds Ctrl-C while the rest is imported

# isort: split

import statistics
import time
import warnings
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Perceptron, Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from dlref import estimators
from dlref.cli.common import device_named, print_table, script

BACKENDS = ("manual", "builtin")
Models = dict[tuple[str, str], Any]  # by class and side
Measured = list[dict[str, Any]]  # of each model: class, side, and score and seconds on each split


def compare_estimators(
    splits: PositiveInt = 10,
    components: PositiveInt = 8,
    max_iter: PositiveInt | None = None,
    device: str = "cpu",
    threads: PositiveInt = 1,
    json: str | None = None,
) -> None:
    """Fit every estimator on the same splits, 70 % to train and 30 % to test, standardised by the training part.

    Parameters are the defaults; the same random_state gives ours and scikit-learn's one start and the same batches.

    Args:
        splits: Their number; their seeds are 0, 1, 2, ...
        components: Numbers that stand for an image of the digits, in an autoencoder and of principal components.
        max_iter: Of every model that has this parameter, instead of its default.
        device: Of our estimators: cpu, cuda, cuda:1, ..., or auto for a GPU where there is one.
        threads: Of the CPU.
        json: File to write the score and the seconds of every fit to.
    """
    if json and Path(json).exists():
        raise ValueError(f"the file must not exist, so that nothing is overwritten; {json} does")
    if json and not Path(json).parent.is_dir():
        raise ValueError(f"the file must lie in a folder that exists; {json} does not: make it first")
    device_named(device)

    fixed = {} if max_iter is None else {"max_iter": max_iter}

    def models(kind: type, *theirs: Any, **parameters: Any) -> Models:
        """Ours of a kind, by each side, and these of scikit-learn."""
        classes = [cls for name in estimators.__all__ if issubclass(cls := getattr(estimators, name), kind)]
        ours = {(cls.__name__, backend): cls(backend=backend, device=device, **parameters)
                for cls in classes for backend in BACKENDS}  # fmt: skip
        both = ours | {(type(model).__name__, "scikit-learn"): model for model in theirs}
        return {key: changed(model, fixed) for key, model in both.items()}

    digits, diabetes = load_digits(return_X_y=True), load_diabetes(return_X_y=True)
    reference = (MLPClassifier(), Perceptron(), SVC(), KNeighborsClassifier(), LogisticRegression())
    classifiers = models(ClassifierMixin, *reference)
    # A value to predict is standardised, too.
    regressors = {key: TransformedTargetRegressor(model, transformer=StandardScaler())
                  for key, model in models(RegressorMixin, MLPRegressor(), Ridge()).items()}  # fmt: skip
    transformers = models(TransformerMixin, PCA(components), n_components=components)
    found: dict[str, Measured] = {}
    torch.set_num_threads(threads)
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit may use up its iterations
        found["classifiers"] = measured(classifiers, digits, GlobalScaler(), splits, accuracy_or_r2, stratified=True)
        found["regressors"] = measured(regressors, diabetes, StandardScaler(), splits, accuracy_or_r2)
        found["transformers"] = measured(
            transformers, digits, GlobalScaler(), splits, reconstruction_error, stratified=True
        )
    if json:
        with open(json, "x") as file:
            file.write(dumps(found, indent=1))
    console = Console()
    print_table(console, table("Digits", "test accuracy", found["classifiers"]))
    print_table(console, table("Diabetes", "R² of the test part", found["regressors"]))
    print_table(
        console, table(f"Digits in {components} numbers", "squared error of a test pixel", found["transformers"])
    )


class GlobalScaler(TransformerMixin, BaseEstimator):
    """Standardises by one mean and one deviation of all pixels: those that are nearly always empty stay small."""

    def fit(self, X: Any, y: Any = None) -> GlobalScaler:
        self.mean_, self.std_ = X.mean(), X.std()
        return self

    def transform(self, X: Any) -> Any:
        return (X - self.mean_) / self.std_


def measured(
    models: Models,
    data: tuple[Any, Any],
    scaler: Any,
    splits: int,
    score: Callable[..., float],
    stratified: bool = False,
) -> Measured:
    """Each model's score(pipeline, X_test, y_test) and seconds of fit on each split; all models in turn, split by split."""
    found: Measured = [{"class": name, "side": side, "scores": [], "seconds": []} for name, side in models]
    X, y = data
    for seed in track(range(splits), "splits", transient=True):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.3, stratify=y if stratified else None, random_state=seed
        )
        for record, model in zip(found, models.values(), strict=True):
            fitted = make_pipeline(clone(scaler), changed(model, {"random_state": seed}))
            if seed == 0:
                clone(fitted).fit(X_train, y_train)  # what is imported and allocated once
            start = time.perf_counter()
            fitted.fit(X_train, y_train)
            record["seconds"].append(time.perf_counter() - start)
            record["scores"].append(float(score(fitted, X_test, y_test)))
    return found


def changed(model: Any, parameters: dict[str, Any]) -> Any:
    """A copy with these parameters where it, or the regressor that it wraps, has them."""
    names = {name: name.rpartition("__")[2] for name in model.get_params()}
    return clone(model).set_params(**{name: parameters[key] for name, key in names.items() if key in parameters})


def accuracy_or_r2(fitted: Any, X: Any, y: Any) -> float:
    return fitted.score(X, y)


def reconstruction_error(fitted: Any, X: Any, y: Any) -> float:
    """Mean square of what the standardised pixels lack after transform and back."""
    x = fitted[:-1].transform(X)
    return mean_squared_error(x, fitted[-1].inverse_transform(fitted[-1].transform(x)))


def table(title: str, score: str, found: Measured) -> Table:
    made = Table("", "by", score, "fit, ms", title=title, caption="mean ± deviation over the splits")
    for column in made.columns[2:]:
        column.justify = "right"
    for record in found:
        milliseconds = [1000 * seconds for seconds in record["seconds"]]
        made.add_row(record["class"], record["side"], summary(record["scores"], ".4f"), summary(milliseconds, ",.1f"))
    return made


def summary(values: list[float], form: str) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {deviation:{form}}"


if __name__ == "__main__":
    script(compare_estimators)
