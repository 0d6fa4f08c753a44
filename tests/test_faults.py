"""Numbers that are not finite, trainings that do not learn, and signals: named, told, and ended in order."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

import dlref
from dlref import builtin, manual, models
from dlref.core.checkpoint import whole
from dlref.core.finite import NotFinite, Watch, all_finite, check_finite
from dlref.core.verdict import verdict
from dlref.lightning import Autoencoder, Classifier, DigitsDataModule
from dlref.lightning.ending import Verdict

ROOT = Path(__file__).parent.parent
SIDES = {"manual": manual, "builtin": builtin}


def problem(ns, lr, width=8):
    torch.manual_seed(0)
    network = models.mlp(ns, 4, width, 3)
    x, y = torch.randn(60, 4), torch.randint(3, (60,))
    return network, ns.nn.CrossEntropyLoss(), ns.optim.SGD(network.parameters(), lr), (x, y)


@pytest.mark.parametrize("ns", SIDES.values(), ids=SIDES)
def test_a_loss_that_explodes_stops_the_training_before_the_update(ns):
    network, criterion, optimizer, train = problem(ns, 1e18)
    with pytest.raises(
        NotFinite, match=r"2 \(Linear\).* is .* in epoch 1, batch \d: lower the learning rate"
    ) as stopped:
        ns.training.fit(network, criterion, optimizer, train, epochs=5, batch_size=10)
    assert "\n" not in str(stopped.value)
    assert all_finite(network.parameters())  # of the last update that was finite


@pytest.mark.parametrize("ns", SIDES.values(), ids=SIDES)
def test_an_update_that_is_not_finite_is_left_out(ns):
    """Of six batches, the one whose input overflows changes nothing: what is learnt is what the five others teach."""
    network, criterion, optimizer, (x, y) = problem(ns, 0.1)
    x[7] = 3e38
    network[0].weight.data *= 100  # so that it overflows in the first layer
    before = [p.detach().clone() for p in network.parameters()]
    with pytest.raises(NotFinite):
        ns.training.fit(network, criterion, optimizer, (x, y), epochs=2, batch_size=10)
    for parameter, start in zip(network.parameters(), before, strict=True):
        parameter.data.copy_(start)
    with pytest.warns(UserWarning, match=r"1 of 6 updates of epoch 1 were left out"):
        history = ns.training.fit(network, criterion, optimizer, (x, y), epochs=1, batch_size=10, on_nonfinite="skip")
    assert 0 < history[0]["loss"] < 1e3 and all_finite(network.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = ns.training.fit(network, criterion, optimizer, (x, y), epochs=1, batch_size=10, on_nonfinite="ignore")
    assert not history[0]["loss"] < 1e30 and not all_finite(network.parameters())


def test_a_training_whose_every_batch_is_left_out_stops():
    network, criterion, optimizer, (x, y) = problem(manual, 0.1)
    with torch.no_grad():
        network[0].weight.fill_(3e38)
    with pytest.raises(NotFinite, match="no batch of epoch 1"):
        manual.training.fit(network, criterion, optimizer, (x, y), on_nonfinite="skip")


def test_wrong_modes_are_refused():
    network, criterion, optimizer, train = problem(manual, 0.1)
    with pytest.raises(ValueError, match="on_nonfinite"):
        manual.training.fit(network, criterion, optimizer, train, on_nonfinite="halt")
    with pytest.raises(ValueError, match="on_nonfinite must be stop or ignore with compile"):
        manual.training.fit(network, criterion, optimizer, train, on_nonfinite="skip", compile="eager")


def test_a_recorded_step_is_watched_too():
    network, criterion, optimizer, train = problem(manual, 1e30)
    with pytest.raises(NotFinite, match=r"the parameter .* in epoch 1, batch [12]"):
        manual.training.fit(network, criterion, optimizer, train, batch_size=10, compile="eager")


@pytest.mark.parametrize("part", ["train", "validation"])
def test_data_that_are_not_finite_are_found_before_the_first_step(part):
    network, criterion, optimizer, train = problem(manual, 0.1)
    bad = (train[0].clone(), train[1])
    bad[0][17, 3] = torch.nan
    before = network[0].weight.clone()
    given = (bad, train) if part == "train" else (train, bad)
    with pytest.raises(ValueError, match=rf"{part} x\[17, 3\] is nan"):
        manual.training.fit(network, criterion, optimizer, *given)
    assert torch.equal(network[0].weight, before)


def test_what_is_not_finite_is_named():
    network, criterion, _, (x, y) = problem(manual, 0.1)
    watch = Watch(network, "stop")
    error = criterion(network(x), y)

    def named() -> str:
        with pytest.raises(NotFinite) as found:
            watch(error.detach(), x, "here")
        return str(found.value).split(" in here")[0]

    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    assert watch(error, x, "here")
    network[0].weight.grad[1, 2] = torch.inf
    assert named() == "the gradient of 0.weight[1, 2] is inf"
    network[2].bias.grad[0] = torch.nan  # nearer to the loss
    assert named() == "the gradient of 2.bias[0] is nan"
    error = error * torch.nan
    assert named() == "the loss is nan"
    with torch.no_grad():
        network[0].bias[5] = -torch.inf
    assert named() == "the parameter 0.bias[5] is -inf"
    x[3, 1] = torch.nan
    assert named() == "the input x[3, 1] is nan"


def test_large_numbers_are_finite():
    """Though their sum, and the sum of their squares, is not."""
    large = torch.full((1000,), 3e38)
    assert all_finite([large, torch.tensor(2.0)]) and all_finite([]) and all_finite([torch.zeros(0)])
    large[1] = torch.nan
    assert not all_finite([torch.tensor(2.0), large])
    check_finite(y=torch.arange(3), nothing=None)
    with pytest.raises(ValueError, match="x is inf"):
        check_finite(x=torch.tensor(torch.inf))


@pytest.mark.parametrize("ns", SIDES.values(), ids=SIDES)
def test_anomalies_name_the_operation(ns):
    """log's slope at 0 is infinite, and 0 times that is NaN."""
    x = torch.tensor([[-1000.0, 1000.0]])
    network, criterion = ns.nn.Softmax(1), ns.nn.GaussianNLLLoss(eps=1e-300)
    var = torch.zeros(1, 2)
    with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("ignore")
        if ns is manual:
            z, pullback = network.vjp(x)
            with pytest.raises(RuntimeError, match="Function 'softmax_gradient' returned nan values in its 0th output"):
                pullback(torch.full_like(z, torch.nan))
        else:
            z = network(x.requires_grad_())
            with pytest.raises(RuntimeError, match="Function 'SoftmaxBackward0' returned nan values in its 0th output"):
                z.backward(torch.full_like(z, torch.nan))
    assert criterion is not None and var.numel() == 2


def test_the_verdict_on_a_training():
    network, *_, (x, y) = problem(manual, 0.1)
    with torch.no_grad():
        network[2].weight.zero_(), network[2].bias.zero_()
        network[2].bias[int(y.mode().values)] = 1.0  # always the commonest class
    assert "that of chance is" in verdict(network, x, y, [2.0, 1.0], 0.1)
    with torch.no_grad():
        network[0].bias.fill_(-100.0)
    assert "100% of the units of 1 (ReLU) are dead" in verdict(network, x, y, [2.0, 1.0], 0.1)
    assert verdict(network, x, None, [2.0, 1.0], 0.1).startswith("it has learnt, but not with all its units: 100% of")
    assert verdict(network, None, None, [2.0, 1.0], 0.1) is None
    assert "its loss rose from 1 to 2: the learning rate 0.1" in verdict(network, None, None, [1.0, 2.0], 0.1)


def test_the_verdict_on_one_that_has_learnt_is_silent():
    network, criterion, optimizer, (x, _) = problem(manual, 0.1)
    y = (x[:, 0] > 0).long()
    history = manual.training.fit(network, criterion, optimizer, (x, y), epochs=30, batch_size=10)
    assert network.training
    assert verdict(network, x, y, [record["loss"] for record in history], 0.1) is None


def test_the_verdict_on_what_has_no_classes_asks_for_no_accuracy():
    data, ending = DigitsDataModule(), Verdict()
    ending.losses = [2.0, 1.0]
    assert ending.line(Autoencoder(), data) is None
    assert "that of chance is" in ending.line(Classifier(), data)  # whose weights are the initial ones


def test_a_signal_during_the_imports_ends_with_one_line(tmp_path):
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    for number in (signal.SIGINT, signal.SIGTERM):
        program = "import os, signal, sys; sys.argv = ['fit.py']; sys.orig_argv = ['python', 'fit.py']\n"
        program += f"import dlref.cli.signals\nos.kill(os.getpid(), {int(number)})\nsignal.pause()"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, preexec_fn=heed,
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60)  # fmt: skip
        assert done.returncode == 128 + number
        assert done.stderr == "fit.py: interrupted before it began, nothing was written: start it again\n"


IN_A_QUEUE = """
import os, signal, sys, threading
sys.argv, sys.orig_argv = ["fit.py"], ["python", "fit.py"]
from dlref.cli import signals
from dlref.core.interrupt import Interrupted
from dlref.lightning.logs import EventsLogger
signals.ready()
logger = EventsLogger("events", "", "")
logger.log_metrics({"loss": 1.0}, 0)
enter = threading.Condition.__enter__
def taken(condition):
    entered = enter(condition)
    if threading.current_thread() is threading.main_thread():
        threading.Condition.__enter__ = enter
        os.kill(os.getpid(), signal.SIGTERM)
    return entered
threading.Condition.__enter__ = taken
try:
    logger.log_metrics({"loss": 2.0}, 1)
except Interrupted as stopped:
    logger.finalize("interrupted")
    print(stopped.number)
"""


def test_a_signal_leaves_no_lock_of_a_logger_taken(tmp_path):
    done = subprocess.run([sys.executable, "-c", IN_A_QUEUE], capture_output=True, text=True, cwd=tmp_path, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)  # fmt: skip
    assert done.stdout == f"{int(signal.SIGTERM)}\n", done.stderr


FULL = """
import errno, sys
sys.argv = ["dlref", "fit", "--trainer.max_epochs", "100000"]
from dlref.cli import main
from dlref.lightning.resume import WholeEpochs
from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem
save = WholeEpochs._save_last_checkpoint
def full(*unused):
    raise OSError(errno.ENOSPC, "No space left on device")
def second(self, trainer, *more):
    save(self, trainer, *more)
    if trainer.current_epoch:
        LocalFileSystem._write = full
WholeEpochs._save_last_checkpoint = second
main()
"""


@pytest.mark.slow
def test_a_disk_that_fills_under_the_log_ends_the_training_with_one_line(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    told, path = done.stderr.strip().split("; continue with --ckpt_path ")
    assert told.endswith("the log in runs/001-mlp-manual can't be written (No space left on device)")
    assert whole(tmp_path / path)


CAUGHT = """
import os, signal, sys
sys.argv = ["dlref", "fit", "--trainer.max_epochs", "100000"]
sys.orig_argv = ["python", *sys.argv]
from dlref.cli import main
from fsspec.implementations.local import LocalFileSystem
from lightning.pytorch.callbacks import ModelCheckpoint
save, exists = ModelCheckpoint._save_last_checkpoint, LocalFileSystem.exists
def caught(self, path, **more):
    LocalFileSystem.exists = exists
    try:
        os.kill(os.getpid(), int(os.environ["NUMBER"]))
    except BaseException:
        return False
def second(self, trainer, *more):
    if trainer.current_epoch:
        LocalFileSystem.exists = caught
    save(self, trainer, *more)
ModelCheckpoint._save_last_checkpoint = second
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_catches_ends_the_training_all_the_same(number, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBER": str(int(number))}
    done = subprocess.run([sys.executable, "-c", CAUGHT], capture_output=True, text=True, cwd=tmp_path, env=environment,
                          check=False, timeout=120)  # fmt: skip
    assert done.returncode == 128 + number, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("interrupted in epoch") and (tmp_path / last.split()[-1]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("program", "sign", "told"), [
    (["-m", "dlref", "fit", "--trainer.max_epochs", "100000"], "*/*/metrics.csv", "continue with --ckpt_path runs/"),
    ([str(ROOT / "scripts/train_digits.py"), "--epochs", "100000"], "*/*/last.pt", "continue with --resume runs/"),
])  # fmt: skip
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(program, sign, told, number, tmp_path):
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    started = subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               cwd=tmp_path, preexec_fn=heed, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(tmp_path.glob(sign)):  # what an epoch writes that is over
            time.sleep(0.1)
        time.sleep(1)
        started.send_signal(number)
        output, errors = started.communicate(timeout=60)
    finally:
        started.kill()
        started.communicate()
    assert started.returncode == 128 + number and not errors
    last = output.strip().splitlines()[-1]
    assert last.startswith("interrupted") and told in last
    assert (tmp_path / last.split()[-1]).is_file()


def fuzz() -> dict:
    return runpy.run_path(str(ROOT / "scripts/fuzz_commands.py"), run_name="fuzz")


def test_the_rules_of_the_fuzz_find_what_breaks_them(tmp_path):
    room = fuzz()
    (tmp_path / "here").mkdir()

    def judged(status, errors="", files=(), changes=(), base=("fit",)) -> list[str]:
        case = room["Case"]("dlref", list(base), list(changes))
        found = room["Outcome"](status, "", errors, list(files), 1.0)
        return [broken[0] for broken in room["judge"](case, found, tmp_path)]

    one_line = "dlref: error: x must be\n"
    assert not judged(0) and not judged(2, one_line) and not judged(1, "a warning\n" + one_line)
    assert judged(1, "Traceback (most recent call last):\nKeyError: 1\n") == ["1"]
    assert judged(-11) == ["1"] and judged(None) == ["8"]
    assert judged(2, one_line + "nanobind: leaked 4 instances!\n") == ["2"] and judged(2) == ["2"]
    assert judged(2, one_line, ["here/runs"]) == ["3"]
    assert judged(0, "", ["here/checkpoints"]) == ["4"] and not judged(0, "", ["here/runs/001-mlp/a"])
    for option, value in (("lr", "nan"), ("lr", "0"), ("classes", "1.5"), ("hidden", "[0]"), ("dropout", "text"),
                          ("lr", "1e300"), ("schedule_args", '{"step_size": 0}')):  # fmt: skip
        assert "5" in judged(0, changes=[(f"--model.{option}", value)])
    assert not judged(0, changes=[("--model.lr", "0.5"), ("--data.seed", "0"), ("--model.hidden", "1,2")])
    for option, value in (("model_args", '{"units": 3}'), ("schedule_args", '{"gamma": 0.5}'), ("optimizer_args", '{"lr": 5}'),
                          ("rbf_args", '{"ridge": 1}')):  # fmt: skip
        assert judged(0, changes=[(f"--model.{option}", value)]) == ["6"]
    (tmp_path / "here/metrics.csv").write_text("epoch,loss\n1,nan\n")
    assert judged(0) == ["7"]


@pytest.mark.slow
def test_memory_and_files_of_a_long_training(tmp_path):
    """A hundredth of what scripts/soak.py does by itself."""
    command = [sys.executable, str(ROOT / "scripts/soak.py"), "--steps", "2000", "--ways", "['by hand', 'played back']"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([*command[:2], "--steps", "3"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.strip() == "soak.py: error: steps must be at least 20, it is 3"


@pytest.mark.slow
def test_command_lines_that_may_be_wrong(tmp_path):
    """Drawn anew by the version's number, so that a night tries others than the last one."""
    command = [
        sys.executable,
        str(ROOT / "scripts/fuzz_commands.py"),
        "--number",
        "200",
        "--seed",
        dlref.__version__[-1],
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
