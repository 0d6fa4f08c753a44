"""Kill trainings at random moments and in the middle of a write, or fill their disk, go on, and hold the end to an undisturbed
run, bit for bit."""

from __future__ import annotations

import contextlib
import csv
import importlib
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt
from rich.console import Console
from rich.table import Table

from dlref import builtin, data, manual
from dlref.cli import main
from dlref.cli.common import print_table, script, told_in_one_line
from dlref.core.checkpoint import load, whole
from dlref.models import mlp

HERE = Path(__file__).parent
TRAINER = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.accelerator", "cpu",
           "--trainer.max_epochs", "8", "--resume", "auto")  # fmt: skip
LEARNER = ("--model.optimizer", "Adam", "--model.lr", "0.003", "--model.schedule_every", "step")
STEPWISE = (*LEARNER, "--model.schedule", "CosineAnnealingLR", "--model.schedule_args.T_max", "60")
TEXT = ("fit", "--model", "LanguageModel", "--data", "TextDataModule", "--data.limit", "6000", "--model.hidden", "16",
        "--model.length", "20", *LEARNER, "--model.schedule", "ReduceLROnPlateau",
        "--model.schedule_args.patience", "2")  # fmt: skip
IMAGES = ("--data.images", "true", "--data.augment", "true", "--data.batch_size", "400")
SCRIPT = ("--epochs", "40", "--dropout", "0.3", "--resume", "auto")

SMALL = 2**30
DRAWING = ("lightning.runs", "pictures.training", "pictures.classifier")


def fit_again(runs: str, side: str) -> None:
    """training.fit with dropout, a schedule and convergence, from its checkpoint where there is one."""
    ns: Any = {"manual": manual, "builtin": builtin}[side]
    split = data.digits()
    torch.manual_seed(0)
    network = mlp(ns, 64, (32,), 10, "relu", 0.3)
    optimizer = ns.optim.Adam(network.parameters(), 0.003)
    schedule = ns.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    folder = Path(runs, "001-fit")
    folder.mkdir(parents=True, exist_ok=True)
    with told_in_one_line():
        ns.training.fit(network, ns.nn.CrossEntropyLoss(), optimizer, split.train.tensors, split.validation.tensors, epochs=40,
                        schedule=schedule, max_norm=1.0, checkpoint=folder / "last.pt")  # fmt: skip


def command(*arguments: str) -> Any:
    return lambda runs: main([*arguments, *TRAINER, "--runs", runs])


def of_script(name: str, *arguments: str) -> Any:
    def run(runs: str) -> None:
        sys.argv = [name, *arguments, "--runs", runs]
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")

    return run


PATHS: dict[str, Any] = {
    **{f"fit, mlp, {backend}": command("fit", "--model.dropout", "0.3", "--model.backend", backend, *STEPWISE,
                                       "--model.accumulate_grad_batches", "2")
       for backend in ("manual", "bridged", "builtin")},
    **{f"fit, cnn, augmented, {backend}": command(
        "fit", "--model.model", "cnn", "--model.model_args", '{"channels": [2, 3], "hidden": 8}', "--model.backend", backend,
        *STEPWISE, *IMAGES) for backend in ("manual", "builtin")},
    **{f"fit, text, {backend}": command(*TEXT, "--model.backend", backend) for backend in ("manual", "bridged", "builtin")},
    **{f"fit, early stopping, {backend}": command(
        "fit", "--model.dropout", "0.3", "--model.backend", backend, *LEARNER, "--model.lr", "0.05", "--model.schedule",
        "StepLR", "--model.schedule_args.step_size", "9", "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=validation_loss", "--trainer.callbacks.patience=2") for backend in ("manual", "builtin")},
    "train_digits": of_script("train_digits", *SCRIPT, "--optimizer", "Adam", "--schedule", "ReduceLROnPlateau",
                              "--schedule_args", '{"patience": 1}'),
    "compare_digits": of_script("compare_digits", *SCRIPT),
    "train_text": of_script("train_text", "--limit", "6000", "--hidden", "16", "--epochs", "8", "--characters", "20",
                            "--resume", "auto"),
    "training.fit, manual": lambda runs: fit_again(runs, "manual"),
    "training.fit, builtin": lambda runs: fit_again(runs, "builtin"),
}  # fmt: skip


def output(runs: Path) -> Path:
    """What a training says, on another disk than its runs."""
    return Path(tempfile.gettempdir(), f"{runs.parent.name}-{runs.name}.txt")


def started(path: str, runs: Path, slow: float = 0.0) -> int:
    """A process that trains; slow: seconds that every fsync lasts, so that a kill can come in the middle of a write."""
    if child := os.fork():
        return child
    status = 1
    try:
        with (
            output(runs).open("a") as told,
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
        ):
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
            if slow:
                fsync = os.fsync

                def waiting(file: int) -> None:
                    time.sleep(slow)
                    fsync(file)

                os.fsync = waiting  # type: ignore[assignment]
            try:
                PATHS[path](str(runs / "runs"))
                status = 0
            except Exception:
                traceback.print_exc()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def unfinished(runs: Path) -> bool:
    return any(runs.rglob("*.part"))


def by_a_full_disk(child: int, runs: Path) -> tuple[bool, str]:
    """Fill the disk until the training ends, and make room again; whether it had learnt all, and what went wrong."""
    filler, said, begun = runs.parent / "filler", output(runs).stat().st_size, time.monotonic()
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - begun > 60:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            filler.unlink()
            return False, "it goes on with a full disk"
        time.sleep(0.002)
    filler.unlink()
    status, last = os.waitstatus_to_exitcode(ended[1]), output(runs).read_bytes()[said:].decode()
    right = status == 0 or (status == 1 and last.count(": error: ") == 1 and "Traceback" not in last)
    return status == 0, "" if right else f"status {status} of a full disk: {last[-3000:]}"


def trial(path: str, runs: Path, length: float, chance: random.Random, how: str) -> tuple[int, str]:
    """Train, kill or fill the disk, go on until it ends; how often, and what went wrong."""
    kills, in_write = 0, how == "in a write"
    while True:
        child = started(path, runs, 0.05 if in_write else 0.0)
        limit = time.monotonic() + (chance.uniform(0, length) if kills < 3 else 300)
        while time.monotonic() < limit or (in_write and kills < 3 and not unfinished(runs)):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return kills, "" if status == 0 else f"status {os.waitstatus_to_exitcode(status)}"
            time.sleep(0.002)
        over, wrong = False, ""
        if how == "full disk" and kills < 3:
            over, wrong = by_a_full_disk(child, runs)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        kills += 1
        if over or wrong:
            return kills, wrong
        broken = [str(file) for file in runs.rglob("*") if file.suffix in (".pt", ".ckpt") and not whole(file)]
        if broken:
            return kills, f"unreadable: {broken}"
        if kills > 3:
            return kills, "it hangs"


def last(runs: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The state and the log that the newest run ended with, without what the clock and the folder's name have in it."""
    folder = max((runs / "runs").iterdir(), key=lambda path: int(path.name.split("-")[0]))
    state = load(next(iter([*folder.glob("checkpoints/last.ckpt"), *folder.glob("last.pt")])))
    log: list[dict[str, str]] = []
    if (folder / "metrics.csv").exists():
        with (folder / "metrics.csv").open(newline="") as file:
            log = list(csv.DictReader(file))
    for name in ("origin", "manifest", "progress", "hyper_parameters", "datamodule_hyper_parameters", "loops"):
        state.pop(name, None)
    state.get("generators", {}).pop("python", None)  # which no training draws from, and nobody has seeded
    for record in state.get("history", ()):
        record.pop("seconds", None)
    for callback in state.get("callbacks", {}).values():
        for name in ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"):
            callback.pop(name, None)
    return state, log


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Where two nested states differ in a bit."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
        return [] if same else [name]
    if isinstance(a, dict):
        return [f"{name}: other names"] if not isinstance(b, dict) or a.keys() != b.keys() else [
            found for key in a for found in differences(a[key], b[key], f"{name}.{key}")]  # fmt: skip
    if isinstance(a, (list, tuple)):
        return [f"{name}: other lengths"] if len(a) != len(b) else [
            found for i, (x, y) in enumerate(zip(a, b, strict=True)) for found in differences(x, y, f"{name}.{i}")]  # fmt: skip
    return [] if a == b or (a != a and b != b) else [name]


def kill_and_resume(
    trials: PositiveInt = 50,
    seed: NonNegativeInt = 0,
    in_write: NonNegativeFloat = 0.3,
    full_disk: NonNegativeFloat = 0.0,
    only: str = "",
    folder: str | None = None,
) -> None:
    """Kill and resume trainings over all paths; status 1 where one does not end as if it had not been killed.

    Args:
        trials: Trainings in all, over the paths in turn; each is killed up to three times.
        seed: Of the moments.
        in_write: Share of the trials that are killed while a checkpoint is half written.
        full_disk: Share of the trials that are not killed, but whose disk is filled; folder must lie on a small one.
        only: Paths whose name has this.
        folder: Where the runs are made; by default a temporary folder, which is removed.
    """
    console, chance = Console(soft_wrap=True), random.Random(seed)
    torch.set_num_threads(1)
    for warm in ("dlref.cli.train", "dlref.pictures.training", "matplotlib.pyplot", "sklearn.model_selection",
                 "sklearn.datasets", "torch.utils.tensorboard", "torchvision.transforms.v2", "torch._dynamo"):  # fmt: skip
        importlib.import_module(warm)  # once, and not in every trial
    # Pictures are drawn when all is learnt and written, and would take most of the time.
    rooms: list[Any] = [importlib.import_module(f"dlref.{room}") for room in DRAWING]
    rooms[0].Pictures.on_fit_end = rooms[1].draw_curves = lambda *_: None
    rooms[2].draw_classifier = lambda *_: []
    names = [name for name in PATHS if only in name]
    table = Table("path", "trials", "stopped", "equal", "what differs")
    failed, kills = 0, 0
    if in_write + full_disk > 1:
        raise ValueError(f"in_write and full_disk must be shares of all, they are {in_write} and {full_disk}")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    if full_disk and (folder is None or shutil.disk_usage(folder).free > SMALL):
        raise ValueError("full_disk fills the disk of folder, which must have at most 1 GiB free, "
                         "as `mount -t tmpfs -o size=256m tmpfs FOLDER` makes one")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as root:
        for number, name in enumerate(names):
            mine = len(range(number, trials, len(names)))
            if not mine:
                continue
            (undisturbed := Path(root, f"{number}")).mkdir()
            begun = time.monotonic()
            _, status = os.waitpid(started(name, undisturbed), 0)
            length = time.monotonic() - begun
            if status:
                raise ValueError(f"{name} ends with status {status}: {output(undisturbed).read_text()[-500:]}")
            state, log = last(undisturbed)
            equal, told, killed = 0, "", 0
            for i in range(mine):
                (runs := Path(root, f"{number}-{i}")).mkdir()
                drawn = chance.random()
                how = "in a write" if drawn < in_write else "full disk" if drawn < in_write + full_disk else "killed"
                n, wrong = trial(name, runs, length, chance, how)
                if not wrong:
                    theirs, their_log = last(runs)
                    found = differences(state, theirs) + ([] if log == their_log else ["the log"])
                    wrong = ", ".join(found[:4])
                console.print(f"{name}, {how}: {n} times, {wrong or 'equal'}")
                killed += n
                equal += not wrong
                told = told or wrong
                if wrong:
                    told += output(runs).read_text()[-300:]
                shutil.rmtree(runs)
                output(runs).unlink()
            shutil.rmtree(undisturbed)
            output(undisturbed).unlink()
            table.add_row(name, str(mine), str(killed), str(equal), told[:500])
            failed, kills = failed + mine - equal, kills + killed
    print_table(console, table, "what differs")
    console.print(f"{trials - failed} of {trials} trainings, stopped {kills} times, ended as if they had not been")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    script(kill_and_resume)
