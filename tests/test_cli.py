"""dlref on the command line: what a run leaves, and that wrong use ends in one line and status 2."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.table import Table

import dlref
from dlref.cli import main
from dlref.cli.common import listed, print_table
from dlref.cli.train import by_name

ROOT = Path(__file__).parent.parent
DRAWN = ("metrics.csv", "curves.png", "confusion.png", "mistakes.png", "weights.png")
BRIEF = ("--trainer.accelerator", "cpu", "--trainer.max_epochs", "1")
FIT = ("fit", "--config", str(ROOT / "configs/digits_mlp.yaml"), *BRIEF)
TEXT = ("fit", "--config", str(ROOT / "configs/text_lstm.yaml"), *BRIEF, "--data.limit", "5000")
CODE = ("fit", "--config", str(ROOT / "configs/digits_autoencoder.yaml"), *BRIEF)


# Lightning calls what jsonargparse deprecates; the rest is its advice.
LIGHTNING = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*does not have many workers",
    "ignore:.*LeafSpec", "ignore:The number of training",
)  # fmt: skip


@LIGHTNING
def test_fit_then_test_and_predict(tmp_path, capfd):
    """The fit as a user starts it, in a process of its own, which takes longer than what it does."""
    runs = ("--runs", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "dlref", *FIT, *runs, "--trainer.max_epochs", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    checkpoint = tmp_path / "001-mlp-manual/checkpoints/last.ckpt"
    assert all(
        (tmp_path / "001-mlp-manual" / name).exists() for name in ("config.yaml", "checkpoints/best.ckpt", *DRAWN)
    )
    assert done.stdout.splitlines()[-1] == (
        f"wrote {tmp_path}/001-mlp-manual/: checkpoints/best.ckpt, checkpoints/last.ckpt, config.yaml, "
        "confusion.png, curves.png, metrics.csv, mistakes.png, weights.png"
    )
    with (tmp_path / "001-mlp-manual/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"] and all("" not in row.values() for row in rows)
    for command in ("test", "predict"):
        main([command, *FIT[1:], *runs, "--ckpt_path", str(checkpoint)])
    assert (tmp_path / "002-test-mlp-manual/mistakes.png").exists()
    with (tmp_path / "003-predict-mlp-manual/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert len(rows) == 360
    output = capfd.readouterr().out
    assert f"{right / 360:.8f}"[:7] in output, "the test's accuracy"
    main(["plot", str(tmp_path / "001-mlp-manual")])
    assert capfd.readouterr().out.endswith("001-mlp-manual/: activations.png, boundaries.png, of best.ckpt\n")
    with pytest.raises(SystemExit) as ended:
        main([*FIT, *runs, "--model.hidden", "[64]", "--ckpt_path", str(checkpoint)])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and "architecture" in errors.splitlines()[-1] and "Traceback" not in errors


@LIGHTNING
def test_a_language_model_and_an_autoencoder_leave_what_they_made(tmp_path, capfd):
    runs = ("--runs", str(tmp_path))
    for command in ((*TEXT, "--model.prompt", "1e-3"), CODE):  # a text, though YAML has it for a number
        main([*command, *runs])
    assert "Warning" not in capfd.readouterr().err
    assert (tmp_path / "001-lstm-manual/sample.txt").read_text().startswith("1e-3")
    assert (tmp_path / "002-autoencoder-manual/reconstructions.png").exists()
    made = ((TEXT, "lstm", "sample.txt"), (CODE, "autoencoder", "reconstructions.png"))
    for number, (command, network, file) in enumerate(made, 1):
        checkpoint = tmp_path / f"{number:03d}-{network}-manual/checkpoints/last.ckpt"
        main(["predict", *command[1:], *runs, "--ckpt_path", str(checkpoint)])
        assert (tmp_path / f"{number + 2:03d}-predict-{network}-manual" / file).exists()
    main(["plot", str(tmp_path / "002-autoencoder-manual"), "--checkpoint", "last"])
    assert (tmp_path / "002-autoencoder-manual/codes.png").exists()


@LIGHTNING
@pytest.mark.parametrize("model", ["mlp", "cnn", "rbf_network", "vision_transformer"])
def test_images_by_name(model, directory, tmp_path):
    """--data mnist --data-dir DIR: the model takes the images' size."""
    flat = str(model in ("cnn", "vision_transformer")).lower()
    arguments = ("--model.model", model, "--data", "mnist", f"--data-dir={directory}", "--data.images", flat)
    if model == "rbf_network":
        arguments += ("--model.model_args", '{"units": 20}')
    main([*FIT, *arguments, "--runs", str(tmp_path / "runs"), "--trainer.enable_progress_bar", "false"])
    assert (tmp_path / f"runs/001-{model}-manual/checkpoints/best.ckpt").exists()


WRONG = {
    "command": (("train",), "train"),
    "key": ((*FIT, "--model.nonsense", "1"), "nonsense"),
    "backend": ((*FIT, "--model.backend", "hand"), "backend"),
    "optimizer": ((*FIT, "--model.optimizer", "SDG"), "SGD"),
    "activation": ((*FIT, "--model.activation", "rleu"), "ReLU"),
    "learning rate": ((*FIT, "--model.lr", "-1"), "lr"),
    "batch": ((*FIT, "--data.batch_size", "0"), "batch_size"),
    "hidden": ((*FIT, "--model.hidden", "[0]"), "at least 1"),
    "epochs": ((*FIT, "--trainer.max_epochs", "0"), "max_epochs"),
    "run folder": ((*FIT, "--runs", "/proc/x"), "/proc/x"),
    "checkpoint": ((*FIT, "--ckpt_path", "nowhere.ckpt"), "nowhere.ckpt"),
    "corrupt checkpoint": ((*FIT, "--ckpt_path", str(ROOT / "pyproject.toml")), "checkpoint"),
    "data": ((*FIT, "--data", "minst"), "near it: mnist"),
    "no files": (
        (*FIT, "--data", "mnist", "--data-dir", "/proc/x"),
        "the files of mnist must be in /proc/x/MNIST/raw: give --download",
    ),
    "text": ((*TEXT, "--data.path", "nowhere.txt"), "nowhere.txt"),
    "prompt": ((*TEXT, "--model.prompt", ""), "prompt"),
    "autoencoder": ((*CODE, "--model.model", "autoencodr"), "near it: autoencoder"),
}
if not torch.cuda.is_available():
    WRONG["device"] = ((*FIT, "--trainer.accelerator", "cuda"), "CUDA")


@LIGHTNING
@LIGHTNING
def test_the_last_line_says_why_a_training_ended(tmp_path, capfd):
    early = (
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=train_loss",
        "--trainer.callbacks.patience=0",
    )
    runs = ("--runs", str(tmp_path), "--trainer.max_epochs", "3", "--model.lr=1e-30")
    main([*FIT, *runs, *early])
    assert "; stopped early, after 2 of 3 epochs" in capfd.readouterr().out.splitlines()[-1]
    main([*FIT, *runs])
    main([*FIT, *runs, "--resume", "auto"])
    output, errors = capfd.readouterr()
    assert output.splitlines()[-1].endswith(
        "; nothing was left to do: all 3 epochs are over, give a higher --trainer.max_epochs"
    )
    assert f"note: goes on from {tmp_path}/002-mlp-manual/checkpoints/last.ckpt" in errors


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_one_line(case, tmp_path, capfd):
    arguments, told = WRONG[case]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *(() if case in ("command", "run folder") else ("--runs", str(tmp_path)))])
    errors = capfd.readouterr().err
    assert ended.value.code == 2
    assert errors.count("\n") == 1 and "error:" in errors and told in errors and len(errors) < 250, errors


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ((), "has none, as the runs of scripts, whose pictures"),
        (("--checkpoint", "third"), "the run must be a folder"),
    ],
)
def test_plot_of_what_is_no_run(wrong, told, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(tmp_path), *wrong])
    assert ended.value.code == 2 and told in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(tmp_path / "nowhere"), *wrong])
    assert ended.value.code == 2 and "nowhere is not there" in capfd.readouterr().err
    data = "data: {class_path: dlref.lightning.DigitsDataModule}"
    (tmp_path / "config.yaml").write_text(f"model: {{class_path: os.system}}\n{data}\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").touch()
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(tmp_path)])
    assert ended.value.code == 2 and "must be one of dlref.lightning, it is os.system" in capfd.readouterr().err


def test_the_help_has_our_options_first(capfd):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    shown = capfd.readouterr().out
    ours, checkpoints, theirs = (
        shown.index(what) for what in ("--model.help=Classifier", "--checkpoint.dirpath", "--trainer.max_")
    )
    assert ours < shown.index("--runs") < shown.index("The data:") < checkpoints < theirs
    own = " ".join(shown[: shown.index("Checkpoints, of")].split())
    assert (
        "--model.hidden [128]" in own
        and "--model.lr 0.01" in own
        and "--data-dir" in own
        and "--data.augment false" in own
    )
    with pytest.raises(SystemExit):
        main(["fit", "--model.help=Classifier"])
    described = capfd.readouterr().out
    assert "Sizes of its hidden layers" in described and "Its learning rate" in described
    assert not re.search(r"^  --model\.\S+( \S+)*\n +\(type", described, re.M), "an option without a word"


@pytest.mark.parametrize("given", [("--config", "digits_cnn"), ("--config=digits_cnn",), ("-c", "digits_cnn")])
def test_own_configurations_by_name(given):
    found = Path(by_name(given)[-1].removeprefix("--config="))  # of the checkout, or as the wheel has installed it
    assert found.parent.name == "configs" and found.read_text() == (ROOT / "configs/digits_cnn.yaml").read_text()
    with pytest.raises(ValueError, match="digits_cnn"):
        by_name(("--config", "digit_cnn"))
    assert by_name(("--config", "mine.yaml")) == ["--config", "mine.yaml"]


def test_the_version(capfd):
    main(["--version"])
    assert capfd.readouterr().out == f"dlref {dlref.__version__}\n"


@pytest.mark.parametrize(("given", "taken"), [
    ("128,64", "[128,64]"), ("--model.hidden=128,64", "--model.hidden=[128,64]"), ("128", "128"), ("[128,64]", "[128,64]"),
    ("0.1,0.2", "0.1,0.2"), ("a,b", "a,b"), ("--data=1,2,", "--data=[1,2,]"),
])  # fmt: skip
def test_a_list_without_brackets(given, taken):
    assert listed([given]) == [taken]


def test_a_text_is_no_list():
    given = ["--prompt", "1,2", "--model.data_dir=1,2", "--hidden", "1,2"]
    assert listed(given, {"prompt", "data_dir"}) == [*given[:-1], "[1,2]"]


@LIGHTNING
@pytest.mark.filterwarnings("ignore:Total length of")  # Lightning asks whether the empty part was meant
def test_a_part_that_is_empty_is_not_drawn(tmp_path, capfd):
    main(
        [
            *FIT,
            "--runs",
            str(tmp_path),
            "--data.validation",
            "0",
            "--data.test",
            "0",
            "--checkpoint.monitor",
            "train_loss",
        ]
    )
    left = {path.name for path in (tmp_path / "001-mlp-manual").iterdir()}
    assert {"weights.png", "curves.png"} <= left and not left & {"confusion.png", "mistakes.png"}
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(tmp_path / "001-mlp-manual")])
    assert ended.value.code == 2 and "it is empty (data.test 0)" in capfd.readouterr().err


@LIGHTNING
def test_predictions_of_somebody_elses_data_and_of_a_part(tmp_path):
    import lightning

    from dlref.lightning import Classifier, DigitsDataModule

    module, digits = Classifier(), DigitsDataModule()
    loader = digits.test_dataloader()
    for data, header, rows in ((loader, ["predicted", "p0"], 360), (digits, ["true", "predicted"], 360)):
        trainer = lightning.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
        )
        found = trainer.predict(module, data)
        lines = list(csv.reader(module.save_predictions(tmp_path, found).read_text().splitlines()))
        assert lines[0][:2] == header and len(lines) == rows + 1
    lines = list(csv.reader(module.save_predictions(tmp_path, [found[0][:7]]).read_text().splitlines()))
    assert [int(line[0]) for line in lines[1:]] == digits.split.test.tensors[1][:7].tolist()


def test_tables_cut_no_name_and_no_number(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name, number, claim = "name_of_" + 30 * "x", "2,280.4 ± 1,016.8", "a claim of many words" * 9
    wide = Table("name", *map(str, range(4)))
    wide.add_row(name, *4 * [number])
    prose = Table("name", "claim", "number")
    prose.add_row(name, claim, number)
    for table, words in ((wide, ()), (prose, ("claim",))):
        print_table(Console(), table, *words)
    output = capfd.readouterr().out
    lines = output.splitlines()
    assert output.count(name) == 2 and output.count(number) == 5 and "…" not in output
    assert len(lines[0]) > 80 and len(lines[-1]) == 80 and all(word in output for word in claim.split())


def test_every_table_is_printed_by_what_cuts_nothing():
    for path in (*ROOT.glob("dlref/**/*.py"), *ROOT.glob("scripts/*.py")):
        text = path.read_text()
        if re.search(r"\bTable\(", text) and path.name != "common.py":
            assert "print_table(" in text and not re.search(r"\.print\((table|Table)", text), path
