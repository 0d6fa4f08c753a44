"""dlref on the command line: what a run leaves, and that wrong use ends in one line and status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlref.cli import main

ROOT = Path(__file__).parent.parent
FIT = (
    "fit",
    "--config",
    str(ROOT / "configs/digits_mlp.yaml"),
    "--trainer.accelerator",
    "cpu",
    "--trainer.max_epochs",
    "1",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dlref", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_fit_then_test_and_predict(tmp_path):
    runs = ("--runs", str(tmp_path))
    done = run(*FIT, *runs)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    checkpoint = tmp_path / "001-fit/checkpoints/last.ckpt"
    assert all(
        (tmp_path / "001-fit" / name).exists() for name in ("metrics.csv", "config.yaml", "checkpoints/best.ckpt")
    )
    for command in ("test", "predict"):
        done = run(command, *FIT[1:], *runs, "--ckpt_path", str(checkpoint))
        assert done.returncode == 0, done.stderr
    assert len((tmp_path / "003-predict/predictions.csv").read_text().splitlines()) == 361
    done = run(*FIT, *runs, "--model.hidden", "[64]", "--ckpt_path", str(checkpoint))
    assert done.returncode == 2 and "architecture" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


WRONG = {
    "command": (("train",), "train"),
    "key": ((*FIT, "--model.nonsense", "1"), "nonsense"),
    "backend": ((*FIT, "--model.backend", "hand"), "backend"),
    "optimizer": ((*FIT, "--model.optimizer", "SDG"), "SGD"),
    "activation": ((*FIT, "--model.activation", "rleu"), "ReLU"),
    "learning rate": ((*FIT, "--model.lr", "-1"), "lr"),
    "batch": ((*FIT, "--data.batch_size", "0"), "batch_size"),
    "hidden": ((*FIT, "--model.hidden", "[0]"), "positive"),
    "epochs": ((*FIT, "--trainer.max_epochs", "0"), "max_epochs"),
    "run folder": ((*FIT, "--runs", "/proc/x"), "/proc/x"),
    "checkpoint": ((*FIT, "--ckpt_path", "nowhere.ckpt"), "nowhere.ckpt"),
    "corrupt checkpoint": ((*FIT, "--ckpt_path", str(ROOT / "pyproject.toml")), "checkpoint"),
}
if not torch.cuda.is_available():
    WRONG["device"] = ((*FIT, "--trainer.accelerator", "cuda"), "CUDA")


# Lightning calls what jsonargparse deprecates.
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_one_line(case, tmp_path, capfd):
    arguments, told = WRONG[case]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *(() if case in ("command", "run folder") else ("--runs", str(tmp_path)))])
    errors = capfd.readouterr().err
    assert ended.value.code == 2
    assert errors.count("\n") == 1 and "error:" in errors and told in errors, errors
