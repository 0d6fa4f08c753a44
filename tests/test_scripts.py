"""The scripts: what they leave behind, that both sides agree, that a run is continued exactly, and that wrong use is brief."""

from __future__ import annotations

import csv
import functools
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error::UserWarning", str(ROOT / "scripts" / f"{name}.py"), *arguments]


@pytest.fixture
def run(monkeypatch, capfd):
    """Run a script in this process, which spares the seconds of its imports; its status, output and errors."""

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        path = str(ROOT / "scripts" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        status = 0
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        return status, *capfd.readouterr()

    return run


def test_compare_leaves_a_table_a_picture_and_two_equal_networks(tmp_path, run):
    options = ("--epochs", "3", "--dtype", "float64", "--hidden", "[32,16]", "--activation", "tanh", "--dropout", "0.2")
    for number in (1, 2):
        status, output, errors = run("compare_digits", *options, "--runs", str(tmp_path))
        assert status == 0, errors
        assert not errors and "accuracy, test" in output
        assert len(list(tmp_path.iterdir())) == number  # a new folder each time
    folder = tmp_path / "001-compare"
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["manual_loss"]) < float(rows[0]["manual_loss"])
    assert max(float(row["parameter_difference"]) for row in rows) < 1e-13
    assert set(json.loads((folder / "summary.json").read_text())) >= {"accuracy, test", "microseconds a step"}


def test_train_continues_a_checkpoint_exactly(tmp_path, run):
    for options in (("--epochs", "4"), ("--epochs", "2"), ("--epochs", "4", "--resume", "002-mlp-manual/last.pt")):
        options = [str(tmp_path / o) if o.endswith(".pt") else o for o in options]
        status, _, errors = run("train_digits", *options, "--runs", str(tmp_path), "--schedule", "ExponentialLR",
                   "--schedule_args", '{"gamma": 0.5}')  # fmt: skip
        assert status == 0, errors
    whole, continued = (
        torch.load(tmp_path / folder / "last.pt")["network"] for folder in ("001-mlp-manual", "003-mlp-manual")
    )
    for name, parameter in whole.items():
        torch.testing.assert_close(parameter, continued[name], rtol=0, atol=0)


def test_kullback_and_leiblers_divergence_from_one_hot_rows_is_cross_entropy(tmp_path, run):
    """So are their gradients, and what is learnt by hand and by autograd; squared error learns something else."""
    found = []
    for number, (backend, loss) in enumerate(
        (("manual", "cross_entropy"), ("manual", "kl_div"), ("builtin", "kl_div"), ("manual", "mse")), 1
    ):
        status, _, errors = run("train_digits", "--backend", backend, "--loss", loss, "--epochs", "3", "--dtype", "float64",
                                "--runs", str(tmp_path))  # fmt: skip
        assert status == 0, errors
        folder = tmp_path / f"{number:03d}-mlp-{backend}"
        assert 0 <= json.loads((folder / "test.json").read_text())["accuracy"] <= 1
        losses = [float(row["loss"]) for row in csv.DictReader((folder / "metrics.csv").read_text().splitlines())]
        assert losses[2] < losses[1] < losses[0]
        found.append(torch.load(folder / "last.pt")["network"]["0.weight"])
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[2], found[1], rtol=1e-10, atol=1e-12)
    assert (found[3] - found[0]).abs().max() > 1e-3


def test_splits_agree_in_float64(run):
    status, output, errors = run("splits_digits", "--splits", "2", "--epochs", "2")
    assert status == 0, errors
    rows = re.findall(r"│ \d +│ +([\d.]+) │ +([\d.]+) │ +[\d.]+ │ +([\d.e+-]+) │", output)
    assert len(rows) == 2
    for manual, builtin, difference in rows:
        assert manual == builtin and float(difference) < 1e-13


def test_the_worked_example_is_scikit_learns_by_another_import(run):
    status, output, errors = run("article_example", "--max_iter", "3")
    assert status == 0, errors
    told = [float(loss) for loss in re.findall(r"Iteration \d, loss = ([\d.]+)", output)]
    rows = re.findall(r"│ (\S+) +│ +3 │ +([\d.]+) │ +([\d.]+) │ +([\d.e-]*) +│", output)
    assert [name for name, *_ in rows] == ["scikit-learn", "manual", "builtin"]
    assert len(told) == 3 and {float(loss) for _, loss, *_ in rows} == {told[-1]}
    assert float(re.search(r"Test accuracy: ([\d.]+)", output)[1]) == pytest.approx(float(rows[0][2]), abs=1e-4)
    assert len({accuracy for _, _, accuracy, _ in rows}) == 1
    assert all(float(difference) < 1e-13 for *_, difference in rows[1:])


def test_estimators_beside_scikit_learns(tmp_path, run):
    options = ("--splits", "1", "--max_iter", "5", "--json", str(tmp_path / "found.json"))
    status, output, errors = run("compare_estimators", *options)
    assert status == 0, errors
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"classifiers", "regressors", "transformers"}
    scores = {(record["class"], record["side"]): record["scores"][0] for part in found.values() for record in part}
    named_as_theirs = [key for key in scores if key[1] != "scikit-learn" and (key[0], "scikit-learn") in scores]
    assert len(named_as_theirs) >= 6  # MLPClassifier, MLPRegressor and Perceptron, by each side
    for name, side in named_as_theirs:
        assert scores[name, side] == pytest.approx(scores[name, "scikit-learn"], abs=1e-10), name
    assert all(f"{score:.4f} ± 0.0000" in output for score in scores.values()) and "…" not in output
    assert run("compare_estimators", *options)[0] == 2  # the file is there


LIGHTNING = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:The number of"
)


@LIGHTNING
def test_networks_on_splits(run):
    options = ("--networks", "[rbf,lstm]", "--splits", "1", "--epochs", "1")
    status, output, errors = run("splits_networks", *options)
    assert status == 0, errors
    for row in re.findall(r"│ (?:rbf|lstm) +│ ([\d.]+) ± [\d.]+ │ ([\d.]+) ± [\d.]+ │", output):
        assert row[0] == row[1] and float(row[0]) > 0.1
    assert "SVC" in output


@pytest.mark.parametrize("side", ["manual", "builtin"])
def test_a_surface_is_approximated_better_by_more_units(side, tmp_path, run, figures):
    options = ("--side", side, "--units", "[5,40]", "--epochs", "20", "--runs", str(tmp_path))
    status, output, errors = run("fit_surface", *options)
    assert status == 0, errors
    few, many = (list(map(float, row)) for row in re.findall(r"│ +\d+ │ +\d+ │ +(\S+) │ +(\S+) │ +(\S+) │", output))
    assert all(b < a for a, b in zip(few, many, strict=True)) and many[0] < 0.03
    assert "errors.png, surfaces.png" in output and (tmp_path / f"001-surface-{side}/surfaces.png").exists()
    images = [axis.images[0] for axis in figures[1].axes if axis.images and axis.get_title()]
    surface, *fits = (image.get_array().data for image in images[5:8])
    assert len(images) == 10 and len({image.norm for image in images[:3] + images[5:8]}) == 1
    for fit, error, found in zip(fits, images[8:], (many[0], many[2]), strict=True):
        assert abs(fit - surface) == pytest.approx(error.get_array().data)
        assert float((error.get_array() ** 2).mean() ** 0.5) == pytest.approx(found, rel=0.5)


def test_autoencoders_against_principal_components(tmp_path, run, figures):
    status, _, errors = run("autoencode_digits", "--epochs", "25", "--runs", str(tmp_path))
    assert status == 0, errors
    found = json.loads((tmp_path / "001-autoencode-manual/errors.json").read_text())
    denoised, by_components = "denoised by an autoencoder (code 64, hidden 512)", "denoised by 8 principal components"
    assert found["dense"] < found["8 principal components"] and found[denoised] < 0.7 * found["noisy images"]
    (figure,) = figures  # images.png
    rows = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert rows[:2] == ["test image", "8 principal components"] and {denoised, by_components} < set(rows)


def test_a_language_model_of_a_file(tmp_path, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "words.txt").write_text("all work and no play makes jack a dull boy. " * 100)
    options = ("--path", str(tmp_path / "words.txt"), "--hidden", "32", "--epochs", "15", "--prompt", "all ", "--length", "20",
               "--lr", "0.01", "--runs", str(tmp_path))  # fmt: skip
    status, output, errors = run("train_text", *options)
    assert status == 0, errors
    folder = tmp_path / "001-text-manual"
    bits = json.loads((folder / "test.json").read_text())
    assert bits["LSTM 32"] < bits["order 2, add-one"], bits
    written = (folder / "sample.txt").read_text()
    assert written.startswith("all ") and len(written) > 400 and written in output  # as one line, as it is one
    assert output.startswith(f"{tmp_path / 'words.txt'}: ")
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["bits"]) < float(rows[0]["bits"]) and float(rows[-1]["validation_bits"]) > 0
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG" and "metrics.csv, curves.png, sample.txt" in output


def test_the_metrics_of_a_text_go_on_without_gap_or_repetition(tmp_path, run):
    options = ("--limit", "3000", "--hidden", "8", "--characters", "5", "--runs", str(tmp_path))
    for more in (("--epochs", "2"), ("--epochs", "4", "--resume", "auto", "--override", "true")):
        status, output, errors = run("train_text", *options, *more)
        assert status == 0, errors
    assert output.startswith("the docstrings of Python's standard library: ")
    half, whole = (
        list(csv.DictReader((tmp_path / f"00{i}-text-manual/metrics.csv").read_text().splitlines())) for i in (1, 2)
    )
    assert [row["epoch"] for row in whole] == ["1", "2", "3", "4"] and whole[:2] == half


def test_gradients_through_time_are_those_of_autograd(tmp_path, run):
    tables = []
    for side in ("manual", "builtin"):
        status, output, errors = run("recurrent_gradients", "--side", side, "--steps", "50", "--runs", str(tmp_path))
        assert status == 0, errors
        tables.append(output.split("wrote")[0])
    assert tables[0] == tables[1] and "1.000e+00" in tables[0]
    assert (tmp_path / "001-recurrent-manual/gradients.png").read_bytes()[:4] == b"\x89PNG"


WITHOUT_RUNS = {"article_example", "compare_estimators", "fit_surface", "splits_networks"}
WRONG = {
    "passes": ("article_example", ["--max_iter", "0"], "max_iter"),
    "splits": ("compare_estimators", ["--splits", "0"], "splits"),
    "folder": ("compare_estimators", ["--json", "/proc/nowhere/found.json"], "/proc/nowhere/found.json"),
    "networks": ("splits_networks", ["--networks", "[cn]"], "cnn"),
    "text": ("train_text", ["--path", "nowhere.txt"], "nowhere.txt"),
    "kernel": ("fit_surface", ["--kernel", "cubic"], "gaussian"),
    "epochs": ("compare_digits", ["--epochs", "x"], "epochs"),
    "no epochs": ("compare_digits", ["--epochs", "0"], "epochs"),
    "learning rate": ("train_digits", ["--lr", "-1"], "lr"),
    "batch": ("train_digits", ["--batch_size", "0"], "batch_size"),
    "hidden": ("train_digits", ["--hidden", "[0]"], "hidden"),
    "key": ("train_digits", ["--nonsense", "1"], "nonsense"),
    "backend": ("train_digits", ["--backend", "hand"], "backend"),
    "activation": ("compare_digits", ["--activation", "rleu"], "ReLU"),
    "optimizer": ("train_digits", ["--optimizer", "Adamm"], "Adam"),
    "optimizer's argument": ("train_digits", ["--optimizer_args", '{"nonsense": 1}'], "nonsense"),
    "loss": ("train_digits", ["--loss", "kl"], "kl_div"),
    "smoothing": ("train_digits", ["--loss", "kl_div", "--label_smoothing", "2"], "label_smoothing"),
    "schedule": ("train_digits", ["--schedule", "StepLRR"], "StepLR"),
    "run folder": ("compare_digits", ["--runs", "/proc/x"], "/proc/x"),
    "checkpoint missing": ("train_digits", ["--resume", "nowhere.pt"], "nowhere.pt"),
    "checkpoint corrupt": ("train_digits", ["--resume", str(ROOT / "pyproject.toml")], "checkpoint"),
}
if not torch.cuda.is_available():
    WRONG["device"] = ("compare_digits", ["--device", "cuda"], "cuda")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_one_line(case, tmp_path, run):
    name, arguments, told = WRONG[case]
    runs = () if name in WITHOUT_RUNS else ("--runs", str(tmp_path))
    status, _, errors = run(name, *runs, *arguments)
    assert status == 2
    assert errors.count("\n") == 1 and "error:" in errors and told in errors, errors
    assert not list(tmp_path.iterdir())  # nothing half done is left


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, run):
    assert run("train_digits", "--epochs", "1", "--runs", str(tmp_path))[0] == 0
    status, _, errors = run("train_digits", "--hidden", "[64]", "--resume", str(tmp_path / "001-mlp-manual/last.pt"),
               "--runs", str(tmp_path))  # fmt: skip
    assert status == 2 and errors.count("\n") == 1 and "architecture" in errors


@pytest.mark.parametrize("name", ["compare_digits", "train_digits"])
def test_after_ctrl_c_the_run_can_be_continued(name, tmp_path, run):
    options = ("--epochs", "100000", "--runs", str(tmp_path))
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # jobs in the background ignore it
    started = subprocess.Popen(
        command(name, *options), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not list(tmp_path.glob("*/last.pt")):
            time.sleep(0.1)
        time.sleep(1)
        os.kill(started.pid, signal.SIGINT)
        told, errors = started.communicate(timeout=30)
    finally:
        started.kill()
    assert started.returncode == 130 and "Traceback" not in errors
    epoch, path = re.search(r"interrupted after epoch (\d+); continue with --resume (\S+)", told).groups()
    assert int(epoch) > 0
    status, _, errors = run(name, "--epochs", str(int(epoch) + 1), "--resume", path, "--runs", str(tmp_path))
    assert status == 0, errors
