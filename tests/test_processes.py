"""`dlref fit` in several processes: one run folder, what one process would have learnt, and what happens when one ends."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAINER = {"accelerator": "cpu", "strategy": "ddp", "devices": 2, "max_epochs": 2, "enable_progress_bar": "false",
           "enable_model_summary": "false"}  # fmt: skip


def command(runs: Path, *arguments: str, of: str = "fit", **trainer: object) -> list[str]:
    options = [f"--trainer.{name}={value}" for name, value in {**TRAINER, **trainer}.items()]
    return ["-m", "dlref", of, f"--runs={runs}", *options, *arguments]


def begun(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)  # fmt: skip


def ended(process: subprocess.Popen, seconds: float = 120) -> tuple[str, str]:
    """What a process has written; it and its children are ended where it does not end by itself."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def second(process: subprocess.Popen) -> int:
    """The process that the first has started; 0 where it has not yet."""
    return next((pid for pid in children(process.pid) if b"dlref" in Path(f"/proc/{pid}/cmdline").read_bytes()), 0)


def wait_for(path: Path, pattern: str, process: subprocess.Popen, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_one_run_folder_and_the_numbers_of_one_process(tmp_path):
    found = {}
    for name, options in {"two": {}, "one": {"strategy": "auto", "devices": 1}}.items():
        process = begun(*command(tmp_path / name, precision="64-true", **options))
        output, errors = ended(process)
        assert process.returncode == 0, errors
        assert output.count("wrote ") == 1
        (folder,) = (tmp_path / name).iterdir()
        found[name] = folder
    assert {p.name for p in found["one"].iterdir() if "tfevents" not in p.name} == {
        p.name for p in found["two"].iterdir() if "tfevents" not in p.name
    }
    for two, one in zip(rows(found["two"]), rows(found["one"]), strict=True):
        assert two == pytest.approx(one, rel=1e-6)  # Lightning adds up accuracies in float32

    predicted = {}
    for name, options in {"two": {}, "one": {"strategy": "auto", "devices": 1}}.items():
        last = f"--ckpt_path={found['one'] / 'checkpoints/last.ckpt'}"
        process = begun(*command(tmp_path / f"predict {name}", last, of="predict", **options))
        errors = ended(process)[1]
        assert process.returncode == 0, errors
        (folder,) = (tmp_path / f"predict {name}").iterdir()
        predicted[name] = (folder / "predictions.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in predicted["two"]] == [line.split(",")[:2] for line in predicted["one"]]
    assert len(predicted["two"]) == 1 + 360


@pytest.mark.parametrize("killed", ["the first", "the second"])
def test_the_others_end_with_one_line(killed, tmp_path):
    first = begun(*command(tmp_path, max_epochs=100_000))
    wait_for(tmp_path, "*/checkpoints/last.ckpt", first)
    os.kill(first.pid if killed == "the first" else second(first), signal.SIGKILL)
    errors = ended(first, 30)[1]  # the pipe is open until both have ended
    assert errors.count("\n") == 1
    assert "as another process has ended or does not answer" in errors
    if killed == "the second":
        assert first.returncode == 1


def signalled(process: subprocess.Popen, to: str, number: int) -> tuple[str, str]:
    """What a program of two processes has said after a signal to one of them, or to both as by Ctrl-C at a terminal."""
    if to == "both":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if to == "the first" else second(process), number)
    said = ended(process, 45)  # the pipes are open until both have ended
    assert process.returncode == 128 + number, said
    return said


@pytest.mark.parametrize("to", ["the first", "the second", "both"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_them_together(number, to, tmp_path):
    process = begun(*command(tmp_path, max_epochs=100_000))
    wait_for(tmp_path, "*/metrics.csv", process)
    output, errors = signalled(process, to, number)
    last = output.strip().splitlines()[-1]
    assert not errors and last.startswith("interrupted in epoch") and "continue with --ckpt_path" in last
    process = begun(*command(tmp_path, "--ckpt_path", last.split()[-1], max_epochs=1 + int(last.split()[3].strip(";"))))
    assert not ended(process)[1] and process.returncode == 0


def test_a_signal_ends_all_before_they_have_met(tmp_path):
    process = begun(*command(tmp_path))
    end = time.monotonic() + 60
    while not second(process):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    output, errors = signalled(process, "both", signal.SIGTERM)
    assert not output and errors.count("\n") == 1 and "nothing was written: start it again" in errors


def test_torchrun_goes_on_from_the_checkpoint(tmp_path):
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 1".split()
    process = begun(*torchrun, *command(tmp_path, max_epochs=40))
    wait_for(tmp_path, "*/metrics.csv", process)
    first = next(
        pid for pid in children(process.pid) if b"RANK=0" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    )
    os.kill(first, signal.SIGKILL)
    output, errors = ended(process)
    assert process.returncode == 0, errors
    assert f"restarted: goes on from {tmp_path}/001-mlp-manual/checkpoints/last.ckpt" in output
    before, after = rows(tmp_path / "001-mlp-manual"), rows(tmp_path / "002-mlp-manual")
    assert [row["epoch"] for row in after] == list(range(40))
    assert before[:-1] == after[: len(before) - 1]  # the last epoch may have been broken off
