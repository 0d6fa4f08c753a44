"""For the world without this library: estimators as modules of torch alone, by torch.export and as ONNX."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_estimators import BACKENDS, cancer, counts, digits, labels, regression
from test_estimators_networks import data as samples
from test_estimators_networks import output

from dlref import estimators
from dlref.builtin.composed import KERNELS
from dlref.estimators import (
    AutoencoderTransformer,
    MLPClassifier,
    MLPRegressor,
    RBFNetworkClassifier,
    RBFNetworkRegressor,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

EXPORTS = {
    "classes": lambda: (MLPClassifier(max_iter=5, dropout=0.1), *digits()),
    "prelu": lambda: (MLPClassifier(max_iter=5, activation="PReLU", dtype="float32"), *digits()),
    "two classes": lambda: (MLPClassifier(max_iter=5), cancer()[0], np.array(["benign", "malign"])[cancer()[1]]),
    "labels": lambda: (MLPClassifier(max_iter=5), *labels()),
    "values": lambda: (MLPRegressor(max_iter=5), *regression()),
    "outputs": lambda: (MLPRegressor(max_iter=5, activation="GELU", output_activation="softplus"), *regression(3)),
    "counts": lambda: (MLPRegressor("poisson", max_iter=5), *counts()),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", EXPORTS)
def test_export(case, backend, tmp_path):
    """The exported module needs nothing of this library, and predicts the same, also by torch.export."""
    model, X, y = EXPORTS[case]()
    model.set_params(backend=backend, random_state=0).fit(X, y)
    expected = model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)
    module = model.export_torch()
    x = torch.from_numpy(X).to(next(module.parameters()).dtype)
    np.testing.assert_allclose(module(x).cpu().numpy(), expected, atol=1e-5)
    program = torch.export.export(module, (x[:3],), dynamic_shapes=({0: torch.export.Dim("N")},))
    np.testing.assert_allclose(program.module()(x).cpu().numpy(), expected, atol=1e-5)
    assert {type(part).__module__.split(".")[0] for part in module.modules()} == {"torch"}
    if case == "two classes" and backend == "manual":
        assert module.classes == ["benign", "malign"]
        torch.save((module, x, torch.from_numpy(expected)), tmp_path / "module.pt")
        program = f"""
import sys, torch
module, x, expected = torch.load({str(tmp_path / "module.pt")!r}, weights_only=False)
assert torch.allclose(module(x), expected, atol=1e-5) and not any(name.startswith("dlref") for name in sys.modules)"""
        subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", EXPORTS)
def test_onnx(case, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, X, y = EXPORTS[case]()
    model.set_params(random_state=0).fit(X, y)
    expected = model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)
    model.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    (found,) = session.run(None, {"X": X.astype(dtype)})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if case == "two classes":
        assert session.get_modelmeta().custom_metadata_map == {"classes": '["benign", "malign"]'}


OTHERS = {
    "Perceptron": lambda model, X: model.decision_function(X),
    "RBFNetworkClassifier": lambda model, X: model.predict_proba(X),
    "RBFNetworkRegressor": lambda model, X: model.predict(X),
    "AutoencoderTransformer": lambda model, X: model.inverse_transform(model.transform(X)),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", OTHERS)
def test_onnx_of_the_others(name, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    X, y = digits()
    model = getattr(estimators, name)(random_state=0, max_iter=5).fit(X, y)
    model.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    expected = OTHERS[name](model, X)
    np.testing.assert_allclose(session.run(None, {"X": X})[0], expected, atol=1e-5)
    program = torch.export.export(
        model.export_torch(), (torch.from_numpy(X[:3]),), dynamic_shapes=({0: torch.export.Dim("N")},)
    )
    np.testing.assert_allclose(program.module()(torch.from_numpy(X)).cpu().numpy(), expected, atol=1e-5)


class Plain(pickle.Unpickler):
    """A reader that has not got this library."""

    def find_class(self, module, name):
        assert not module.startswith("dlref"), (module, name)
        return super().find_class(module, name)


@pytest.mark.parametrize("kind", ["two classes", "three classes", "labels", "values", "codes"])
def test_export_of_networks(kind):
    X, y = samples(RBFNetworkRegressor if kind in ("values", "codes") else RBFNetworkClassifier)
    if kind == "two classes":
        y = (y > 0).astype(int)
    elif kind == "labels":
        y = np.stack([y > 0, y == 2], 1).astype(int)
    models = [AutoencoderTransformer(2, (5, 3), "PReLU", noise=0.1, dropout=0.1, max_iter=3)]
    if kind != "codes":
        cls = RBFNetworkRegressor if kind == "values" else RBFNetworkClassifier
        models = [cls(15, kernel, solver=solver, max_iter=3) for kernel in KERNELS for solver in ("lstsq", "adam")]
    for model in models:
        module = model.set_params(random_state=0).fit(X, y).export_torch()
        again = Plain(io.BytesIO(pickle.dumps(module))).load()
        x = torch.as_tensor(X)
        found = model.inverse_transform(model.transform(X)) if kind == "codes" else output(model, X)
        np.testing.assert_allclose(again(x), found, rtol=1e-9, atol=1e-12)
        if kind == "codes":
            np.testing.assert_allclose(again[0](x), model.transform(X), rtol=1e-9, atol=1e-12)
        torch.export.export(module, (x[:3],), dynamic_shapes=({0: torch.export.Dim("N")},))
