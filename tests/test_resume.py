"""Checkpoints are whole or not there, and a training that stopped goes on to the bit."""

from __future__ import annotations

import csv
import errno
import importlib.util
import os
import pickle
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

import dlref
from dlref import data
from dlref.cli import main
from dlref.core import checkpoint
from dlref.core.files import NotWritten, write_whole
from dlref.lightning import Classifier, DigitsDataModule
from dlref.lightning.resume import CheckpointIO, WholeEpochs
from dlref.models import mlp

ROOT = Path(__file__).parent.parent
STATE = {"network": {"w": torch.arange(6.0).view(2, 3)}, "history": [{"epoch": 1, "loss": 0.5}], "n": None}
QUIET = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:The number of", "ignore:Checkpoint directory",
    "ignore:Be aware that when", "ignore:Using ModelCheckpoint with manual",
)  # fmt: skip


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(NotWritten, match=r"last.pt can't be written \(No space left on device\)"):
            checkpoint.save(path, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(NotWritten, match="No such file"):
        write_whole(tmp_path / "gone" / "last.pt", b"")
    with pytest.raises(ValueError, match="tensors, numbers and texts alone, this one holds pathlib"):
        checkpoint.save(path, {"path": tmp_path})
    assert path.read_bytes() == before


def test_every_flipped_bit_and_every_cut_is_told(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, STATE)
    found, content = checkpoint.load(path), path.read_bytes()
    assert torch.equal(found["network"]["w"], STATE["network"]["w"]) and found["history"] == STATE["history"]
    for bit in [*range(0, 8 * len(content), 997), *range(8 * len(content) - 8 * 100, 8 * len(content), 7)]:
        path.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])
        assert not checkpoint.whole(path)
        with pytest.raises(ValueError, match="checkpoint must be"):
            checkpoint.load(path, resume=False)
    for length in range(0, len(content), 101):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="checkpoint must be"):
            checkpoint.load(path, resume=False)
    path.write_bytes(content.replace(b"checkpoint   1", b"checkpoint   2"))
    with pytest.raises(ValueError, match=r"of format 1 or before, .* is of 2"):
        checkpoint.load(path)


class Calls:
    """What a pickle is made to call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile(path: Path) -> list:
    storage = torch.storage.TypedStorage(wrap_storage=torch.UntypedStorage(4), dtype=torch.float32, _internal=True)
    ran = str(path.with_name("ran"))
    return [
        Calls(os.system, f"touch {ran}"), Calls(eval, f"open({ran!r}, 'w')"), Calls(os.mkdir, ran), Calls(exec, "1/0"),
        Calls(bytearray, 10**11), Calls(getattr, "", "join"), Calls(subprocess.Popen, ["touch", ran]),
        Calls(importlib.util.find_spec, "evil"), Calls(torch.load, ran), Calls(torch.hub.load, ran, "x"),
        Calls(torch._utils._rebuild_tensor_v2, storage, 0, (10**6, 10**6), (0, 0), False, {}),
        Calls(torch._utils._rebuild_tensor_v2, storage, 0, (10**6, 10**6), (10**6, 1), False, {}),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("key", ["x", "state_dict"])
def test_a_hostile_file_runs_nothing(number, key, tmp_path):
    path = tmp_path / "evil.ckpt"
    torch.save({key: hostile(path)[number], "pytorch-lightning_version": "2"}, path)
    for read in (lambda: checkpoint.load(path, resume=False), lambda: CheckpointIO().load_checkpoint(path)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="the checkpoint must"):
                read()
    assert list(tmp_path.iterdir()) == [path]


class Killed(Exception):
    pass


def learnt(side: str, path: Path | None, stops: tuple[int, ...] = (), **options):
    """training.fit with dropout and a schedule, killed before the checkpoints of these epochs are written."""
    ns = getattr(dlref, side)
    split = data.digits()
    for stop in (*stops, None):
        torch.manual_seed(0)
        network = mlp(ns, 64, (16,), 10, "relu", 0.3)
        optimizer = ns.optim.Adam(network.parameters(), 0.003)
        schedule = ns.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1)

        def kill(record, stop=stop):
            if record["epoch"] == stop:
                raise Killed

        try:
            history = ns.training.fit(network, ns.nn.CrossEntropyLoss(), optimizer, split.train.tensors,
                                      split.validation.tensors, epochs=6, schedule=schedule, tolerance=0.05, patience=2,
                                      callback=kill, checkpoint=path, **options)  # fmt: skip
        except Killed:
            torch.randn(3), np.random.rand()
    return network, optimizer, [{k: v for k, v in record.items() if k != "seconds"} for record in history]


@pytest.mark.parametrize("side", ["manual", "builtin"])
def test_fit_goes_on_to_the_bit(side, tmp_path):
    path = tmp_path / "fit.pt"
    (a, o, history), (b, p, continued) = learnt(side, None), learnt(side, path, (1, 3, 4))
    assert history == continued
    assert all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())
    for i, state in o.state_dict()["state"].items():
        assert all(torch.equal(value, p.state_dict()["state"][i][name]) for name, value in state.items())
    for wrong, told in (({"seed": 1}, "seed was 0 and is 1"), ({"max_norm": 2.0}, "max_norm was None and is 2.0"),
                        ({"options": {"text": "b"}}, None)):  # fmt: skip
        if told:
            with pytest.raises(ValueError, match=told):
                learnt(side, path, **wrong)
        learnt(side, path, override=True, **wrong)


def lightning_run(folder: Path, backend: str, epochs: int, steps: int | None = None, resume: Path | None = None):
    torch.manual_seed(0)
    module = Classifier(
        hidden=(16,), dropout=0.3, backend=backend, optimizer="Adam", lr=0.003, accumulate_grad_batches=2,
        schedule="CosineAnnealingLR", schedule_args={"T_max": 30}, schedule_every="step",
    )  # fmt: skip
    keep = WholeEpochs(folder, "best", "validation_loss", save_last=True, save_on_train_epoch_end=True)
    callbacks = (
        [keep] if steps is None else [keep, WholeEpochs(folder, "at-{step}", every_n_train_steps=steps, save_top_k=-1)]
    )
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=callbacks, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DigitsDataModule(), ckpt_path=resume)
    return module, trainer


@QUIET
@pytest.mark.parametrize("backend", ["manual", "bridged", "builtin"])
def test_lightning_goes_on_to_the_bit(backend, tmp_path):
    """At the end of an epoch, in another folder, and within one."""
    whole, trainer = lightning_run(tmp_path / "whole", backend, 4, steps=5)
    lightning_run(tmp_path / "first", backend, 2)
    starts = [tmp_path / "first/last.ckpt", tmp_path / "whole/at-step=5.ckpt"]
    assert starts[1].exists()
    for number, start in enumerate(starts):
        module, other = lightning_run(tmp_path / f"{number}", backend, 4, resume=start)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, module.state_dict()[name]), (start.name, name)
        a, b = (t.optimizers[0].state_dict()["state"] for t in (trainer, other))
        assert all(torch.equal(value, b[i][name]) for i, state in a.items() for name, value in state.items())
        if not number:
            keep = other.checkpoint_callback
            assert keep.best_model_score == trainer.checkpoint_callback.best_model_score
            assert Path(keep.best_model_path).parent == tmp_path / "0"
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"best.ckpt", "last.ckpt"}


FIT = ("fit", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.accelerator",
       "cpu", "--model.dropout", "0.2")  # fmt: skip


@QUIET
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_the_command_line_goes_on_with_one_log_and_refuses_other_options(tmp_path, capfd):
    runs = ("--runs", str(tmp_path))
    for options in (("4",), ("2",), ("4", "--resume", "auto")):
        main([*FIT, *runs, "--trainer.max_epochs", *options])
    logs = [list(csv.DictReader((tmp_path / f"00{n}-mlp-manual/metrics.csv").read_text().splitlines())) for n in (1, 3)]
    assert logs[0] == logs[1] and [row["epoch"] for row in logs[0]] == ["0", "1", "2", "3"]
    a, b = (checkpoint.load(tmp_path / f"00{n}-mlp-manual/checkpoints/last.ckpt") for n in (1, 3))
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    capfd.readouterr()
    for wrong, told in (("--data.seed", "data.seed was 0 and is 5"), ("--data.batch_size", "data.batch_size was 200 and is 5"),
                        ("--model.lr", "model.lr was 0.01 and is 5.0")):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main([*FIT, *runs, "--trainer.max_epochs", "5", "--resume", str(tmp_path / "003-mlp-manual"), wrong, "5"])
        errors = capfd.readouterr().err
        assert ended.value.code == 2 and errors.count("\n") == 1 and told in errors and "--override true" in errors


HOSTILE = {
    "model": "model: {class_path: evil.Model}",
    "callback": "trainer: {callbacks: [{class_path: evil.Model}]}",
    "anything": "model: {class_path: dlref.lightning.Classifier, init_args: {model: cnn, model_args: {channels: {class_path: "
    "evil.Model}}}}",
    "allowed by itself": "allow: evil\nmodel: {class_path: evil.Model}",
    "command": "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {on_fit_start: "
    "os.system}}]}",
    "command through torch": "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: "
    "{on_fit_start: torch.os.system}}]}",
    "pickle": "model: {class_path: lightning.pytorch.LightningModule.load_from_checkpoint, init_args: {checkpoint_path: e}}",
    "object": 'model: !!python/object/apply:os.system ["touch ran"]',
    "aliases": "\n".join(
        ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))]
    ),
    "size": "model: " + "x" * 2_000_000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_runs_nothing(case, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(
        "open('ran', 'w')\nfrom dlref.lightning import Classifier\nclass Model(Classifier): pass"
    )
    (tmp_path / "c.yaml").write_text(HOSTILE[case])
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", "c.yaml"])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules
    if case == "model":
        assert "give --allow evil on the command line" in errors


@QUIET
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_somebodys_own_class_is_allowed_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # as the installed command has it
    (tmp_path / "kindly.py").write_text("from dlref.lightning import Classifier\nclass Model(Classifier): pass")
    main([*FIT, "--allow", "kindly", "--model", "kindly.Model", "--trainer.max_epochs", "1"])
    assert (tmp_path / "runs/001-mlp-manual/checkpoints/last.ckpt").exists()
    with pytest.raises(SystemExit):  # it was for that call
        main([*FIT, "--model", "kindly.Model", "--trainer.max_epochs", "1"])


@pytest.mark.parametrize("name,options", [
    ("MLPClassifier", {"dropout": 0.2, "random_state": np.random.RandomState(0)}),
    ("MLPClassifier", {"solver": "sgd", "momentum": 0.9, "random_state": 0}),
    ("MLPRegressor", {"dropout": 0.2, "random_state": 0}),
    ("Perceptron", {"random_state": np.random.RandomState(0), "shuffle": True}),
])  # fmt: skip
@pytest.mark.parametrize("backend", ["manual", "builtin"])
def test_an_estimator_goes_on_from_its_pickle(name, options, backend):
    from sklearn.base import clone
    from sklearn.datasets import load_digits

    from dlref import estimators

    X, y = load_digits(return_X_y=True)
    first = {"classes": range(10)} if name != "MLPRegressor" else {}
    found = []
    for pickled in (False, True):
        model = clone(getattr(estimators, name)(backend=backend, **options))
        for part in range(6):
            model.partial_fit(X[part * 200 : part * 200 + 200], y[part * 200 : part * 200 + 200], **first)
            if pickled:
                model = pickle.loads(pickle.dumps(model))
        found.append(model.coefs_ if hasattr(model, "coefs_") else [model.coef_])
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_killed_trainings_end_as_if_they_had_not_been():
    """Six of the fifty of scripts/kill_and_resume.py."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/kill_and_resume.py"), "--trials", "6", "--only", "fit"],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_flipped_bit_is_unnoticed(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["flip_bits.py", "--flips", "60"])
    runpy.run_path(str(ROOT / "scripts/flip_bits.py"), run_name="__main__")
    assert "other values: 0" in capfd.readouterr().out


@pytest.mark.slow
def test_two_processes_go_on_to_the_bit(tmp_path):
    """With dropout, for which each process has a generator of its own."""
    command = [sys.executable, "-m", "dlref", "fit", "--trainer.strategy", "ddp", "--trainer.devices", "2"]
    command += ["--trainer.accelerator", "cpu", "--model.dropout", "0.3", "--trainer.max_epochs"]

    def last(folder: str, *epochs: str) -> dict:
        (tmp_path / folder).mkdir()
        for more in epochs:
            done = subprocess.run([*command, *more.split()], cwd=tmp_path / folder, capture_output=True, text=True, timeout=300,
                                  env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        return checkpoint.load(max((tmp_path / folder).glob("runs/*/checkpoints/last.ckpt")), resume=False)[
            "state_dict"
        ]

    whole, resumed = last("whole", "3"), last("resumed", "2", "3 --resume auto")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
