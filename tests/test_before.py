"""Files of an earlier commit (tests/before): checkpoints, configurations, pickled modules and estimators go on loading."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import dlref
from dlref.cli import main

BEFORE = Path(__file__).parent / "before"


def test_a_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    was = torch.load(BEFORE / "digits.ckpt", weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        main(["fit", "--config", str(BEFORE / "config.yaml"), "--ckpt_path", str(BEFORE / "digits.ckpt"),
              "--trainer.max_epochs", "3"])  # fmt: skip
    (written,) = tmp_path.glob("runs/*/checkpoints/last.ckpt")
    now = torch.load(written, weights_only=True)
    assert (was["epoch"], now["epoch"]) == (1, 2) and was["state_dict"].keys() == now["state_dict"].keys()


@pytest.mark.filterwarnings("ignore")
def test_modules_and_the_state_of_an_optimizer():
    found = torch.load(BEFORE / "modules.pt", weights_only=False)
    model, parts = dlref.manual.nn.Sequential(*found["model"]).eval(), found["sequence"].eval()
    assert torch.allclose(model(found["x"]), found["y"], atol=1e-6)
    assert torch.allclose(model.vjp(found["x"])[0], found["y"], atol=1e-6)
    encoder = dlref.manual.nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True).eval()
    encoder.load_state_dict(found["encoder"])
    assert torch.allclose(encoder(parts["lstm"](found["s"])[0]), found["z"], atol=1e-6)
    optimizer = dlref.manual.optim.AdamW(model.parameters(), 1e-3)
    optimizer.load_state_dict(found["optimizer"])
    assert all(int(state["step"]) == 1 for state in optimizer.state.values())


@pytest.mark.parametrize(
    "path", ["loss CrossEntropyLoss", "loss NLLLoss", "loss KLDivLoss", "smooth Softplus", "rnn GRUCell"]
)
def test_classes_of_pickles(path):
    file, name = path.split()
    found = pickle.loads(f"cdlref.manual.nn.{file}\n{name}\n.".encode())
    assert found is getattr(dlref.manual.nn, name)


@pytest.mark.filterwarnings("ignore")  # where scikit-learn is of another version
def test_an_estimator():
    from sklearn.datasets import load_digits

    found = pickle.loads((BEFORE / "estimator.pickle").read_bytes())
    X, y = load_digits(return_X_y=True)
    np.testing.assert_allclose(found["model"].predict_proba(X[200:210]), found["proba"], atol=1e-6)
    found["model"].partial_fit(X, y)
