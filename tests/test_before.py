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
from dlref.lightning.resume import CheckpointIO

BEFORE = Path(__file__).parent / "before"


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_without_a_manifest_gives_its_weights_and_goes_on_no_more(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    given = ("--config", str(BEFORE / "config.yaml"), "--ckpt_path", str(BEFORE / "digits.ckpt"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        main(["test", *given])
    assert sum("has no manifest" in str(warning.message) for warning in told) == 1
    weights = torch.load(BEFORE / "digits.ckpt", weights_only=True)["state_dict"]
    taken = CheckpointIO().load_checkpoint(BEFORE / "digits.ckpt")["state_dict"]
    assert all(torch.equal(taken[name], value) for name, value in weights.items())
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["fit", *given, "--trainer.max_epochs", "3"])
    errors = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2 and "nothing can go on from it exactly" in errors[-1]
    assert not list(tmp_path.glob("runs/*/checkpoints"))


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
