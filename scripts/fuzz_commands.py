"""Call every command and script with arguments that are wrong, and judge what becomes of it by the rules below.

A case is a command line that is right and cheap, in which some options got values that may be wrong. It runs in a process that
is forked off this one, which has imported everything, or (--real) in one of its own, in a folder of its own.

The rules, whose breach is a finding:

1. No traceback, whatever was given; the status is 0, 1 (a fault that came up on the way), 2 (wrong use) or 3 (nothing to
   compare, of check).
2. Status 1 or 2 is told in one line on stderr, PROGRAM: error: WHAT; that line alone where the status is 2.
3. Status 2 leaves no file and no folder.
4. Files lie in the folder of the run, or where an option said.
5. Status 0 is nonsense where a number lies outside of its option's domain (NUMBERS), is not finite, is larger than what
   float32 or int64 holds, or where an option that takes a number got a text or a list.
6. Status 0 is nonsense where an option was given that nothing heeds (UNHEEDED).
7. Status 0 is nonsense where a number that was written (metrics.csv, *.json) is not finite.
8. Nothing lasts longer than 60 seconds, or takes more than 4 GiB.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import importlib
import inspect
import itertools
import json
import math
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.console import Console

from dlref.cli.common import script

ROOT = Path(__file__).parent.parent
SECONDS, MEMORY = 60, 4 * 2**30
# What an option is given, whatever it takes.
VALUES = ("0", "-1", "0.5", "1", "2", "7", "1.5", "-0.1", "inf", "-inf", "nan", "1e300", "1e-300", "1e30", str(2**63),
          str(10**21), str(-(2**63) - 1), "", " ", "text", "null", "true", "false", "[1,2]", "[]", "[0]", "[-3]", "[nan]",
          "1,2", "{}", '{"a": 1}', "{", "../x", "/proc/nowhere/x", "é", "a" * 300)  # fmt: skip
# The domains of numbers: least, greatest, whether the least itself is outside, whether they are whole.
Domain = tuple[float, float, bool, bool]
POSITIVE: Domain = (0, math.inf, True, False)
AT_LEAST_0: Domain = (0, math.inf, False, False)
COUNT: Domain = (1, math.inf, False, True)
WHOLE: Domain = (0, math.inf, False, True)
SHARE: Domain = (0, 1, False, False)
ENDLESS: Domain = (-1, math.inf, False, True)
NUMBERS: dict[str, Domain] = {
    **dict.fromkeys("lr max_norm temperature gradient_clip_val seconds width".split(), POSITIVE),
    **dict.fromkeys("beta ridge".split(), AT_LEAST_0),
    **dict.fromkeys("batch_size epochs in_features classes hidden units code accumulate_grad_batches embedding layers "
                    "characters limit top_k splits components max_iter threads samples steps rounds "
                    "check_val_every_n_epoch seeds".split(), COUNT),
    **dict.fromkeys("seed num_workers length".split(), WHOLE),
    **dict.fromkeys("dropout label_smoothing validation test".split(), SHARE),
    **dict.fromkeys("max_epochs max_steps".split(), ENDLESS),
    "noise": POSITIVE,
    "time-limit": POSITIVE,
}  # fmt: skip
# In dictionaries of arguments.
ARGUMENTS: dict[str, Domain] = {
    **dict.fromkeys("step_size T_max T_0 T_mult total_steps channels depth heads patch size code hidden units".split(), COUNT),
    **dict.fromkeys("total_iters patience cooldown power".split(), AT_LEAST_0),
    **dict.fromkeys("gamma factor start_factor".split(), POSITIVE),
    **dict.fromkeys("momentum weight_decay eps".split(), AT_LEAST_0),
}  # fmt: skip


@dataclass
class Case:
    """A command line: its program (dlref or a script), what makes it right, and what was changed."""

    program: str
    base: list[str]
    changes: list[tuple[str, str]]

    @property
    def arguments(self) -> list[str]:
        return self.base + [f"{option}={value}" for option, value in self.changes]

    def __str__(self) -> str:
        return " ".join([self.program, *(a if a and " " not in a else repr(a) for a in self.arguments)])


QUICK = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
IMAGES = ["--data.images=true"]
# Commands that are right and cheap; the options of each are found out from what takes them.
FITS: dict[str, tuple[list[str], str]] = {
    "mlp": ([], "Classifier DigitsDataModule"),
    "perceptron": (["--model.model=perceptron"], "Classifier DigitsDataModule"),
    "rbf": (["--model.model=rbf_network"], "Classifier DigitsDataModule"),
    "cnn": (["--model.model=cnn", '--model.model_args={"channels": [2]}', *IMAGES], "Classifier DigitsDataModule"),
    "rows": (["--model.model=row_classifier", *IMAGES], "Classifier DigitsDataModule"),
    "autoencoder": (["--model=Autoencoder"], "Autoencoder DigitsDataModule"),
    "text": (["--model=LanguageModel", "--model.hidden=8", "--model.length=5", "--data=TextDataModule",
              "--data.limit=4000"], "LanguageModel TextDataModule"),
}  # fmt: skip
SCRIPTS: dict[str, list[str]] = {
    "train_digits": ["--epochs=1"],
    "compare_digits": ["--epochs=1"],
    "train_text": ["--epochs=1", "--limit=4000", "--hidden=8", "--characters=5"],
    "autoencode_digits": ["--epochs=1", "--hidden=8"],
    "fit_surface": ["--epochs=1", "--units=[5]", "--samples=50"],
    "recurrent_gradients": ["--steps=5", "--hidden=4"],
    "article_example": ["--max_iter=1"],
    "splits_digits": ["--epochs=1", "--splits=1"],
    "splits_networks": ["--epochs=1", "--splits=1", "--networks=[rbf]", "--reference=false"],
    "compare_estimators": ["--max_iter=1", "--splits=1"],
}
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "list": ([], ["--family", "--section"]),
    "show": (["relu6"], ["--samples", "--function", "--plain"]),
    "compare": (["relu6"], ["--dtype", "--device", "--json", "--all"]),
    "check": (["torch.nn.functional:relu6", "--against=relu6", "--no-beyond", "--in-process"],
              ["--against", "--dtype", "--device", "--sample", "--time-limit", "--where", "--json", "--junit", "--may-change"]),
    "bench": (["relu6", "--rounds=3", "--seconds=0.01"],
              ["--device", "--threads", "--rounds", "--seconds", "--products", "--json", "--plot"]),
    "plot": (["nowhere"], ["--checkpoint"]),
    "experiment": (["run", "xor", "--seeds=1"], ["--seeds", "--out"]),
    "report": (["relu6", "--epochs=0", "--dtype=float32"], ["--epochs", "--dtype", "--out"]),
}  # fmt: skip
# Values of options that take a dictionary or a name, beside those of VALUES.
OPTIMIZERS = ("SGD", "Adam", "RMSprop", "Adagrad", "LBFGS", "Adamm", "adam")
SCHEDULES = ("StepLR", "ExponentialLR", "CosineAnnealingLR", "ReduceLROnPlateau", "CosineAnnealingWarmRestarts", "LinearLR",
             "PolynomialLR", "MultiStepLR", "OneCycleLR", "CyclicLR", "ConstantLR", "LambdaLR")  # fmt: skip
NAMES = ("cnn", "mlp", "perceptron", "row_classifier", "vision_transformer", "rbf_network", "MSELoss", "PerceptronLoss",
         "MultiMarginLoss", "tanh", "PReLU", "GRU", "convolutional_autoencoder", "variational_autoencoder")  # fmt: skip
KEYS: dict[str, tuple[str, ...]] = {
    "optimizer_args": ("momentum", "weight_decay", "lr", "betas", "eps", "nesterov", "dampening", "maximize", "foreach"),
    "schedule_args": ("step_size", "gamma", "T_max", "milestones", "factor", "patience", "T_0", "T_mult", "total_iters",
                      "power", "max_lr", "base_lr", "total_steps", "start_factor", "lr_lambda", "mode", "last_epoch",
                      "eta_min"),
    "model_args": ("channels", "size", "in_channels", "depth", "heads", "patch", "kind", "hidden", "layers", "units", "code",
                   "noise", "kernel", "width", "activation", "classes", "features", "variant", "tied"),
    "rbf_args": ("scale", "ridge", "method", "seed"),
    "augment_args": ("degrees", "translate", "scale", "shear"),
}  # fmt: skip
INSIDE = ("0", "-1", "0.5", "3", "1e300", "1e30", "NaN", "Infinity", str(2**63), '""', '"text"', "null", "true", "[1, 2]", "[]",
          "{}", "[0.9, 0.99]", "99999999", "0.1")  # fmt: skip


# What is no option, or asks a machine that is not there: of num_nodes a training waits for the others.
LEFT_OUT = {"self", "options", "callbacks", "plugins", "device", "strategy", "num_nodes"}


def options_of(*functions: Any, prefix: str = "--") -> list[str]:
    """The options that parameters of functions, those of a class's bases too, become."""
    names: dict[str, None] = {}
    for function in functions:
        owners = function.__mro__ if isinstance(function, type) else [function]
        for owner in owners:
            made = vars(owner).get("__init__", owner) if isinstance(owner, type) else owner
            if callable(made) and getattr(made, "__module__", "").startswith(("dlref", "lightning.pytorch", "fuzz")):
                with contextlib.suppress(ValueError, TypeError):
                    parameters = inspect.signature(made).parameters.items()
                    names |= dict.fromkeys(n for n, p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
    return [prefix + name for name in names if name not in LEFT_OUT]


def spaces() -> list[tuple[str, str, list[str], list[str]]]:
    """All that is called: a name, the program, right arguments, the options that are changed."""
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint

    from dlref import lightning as room

    found = []
    shared = options_of(lightning.Trainer, prefix="--trainer.") + options_of(ModelCheckpoint, prefix="--checkpoint.")
    for name, (base, classes) in FITS.items():
        model, data = (getattr(room, cls) for cls in classes.split())
        own = options_of(model, prefix="--model.") + options_of(data, prefix="--data.")
        beside = ["--seed_everything", "--runs", "--ckpt_path", "--config", "--data", "--model"]
        for action, epochs in {"fit": ["--trainer.max_epochs=1"], "test": [], "validate": [], "predict": []}.items():
            base_of = [action, *base, *QUICK, *epochs]
            options = [*own, *beside, *(shared if action == "fit" else ())]
            found.append((f"{action} {name}", "dlref", base_of, options))
    for name, base in SCRIPTS.items():
        function = runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="fuzz")[name]
        found.append((name, name, base, [f"--{parameter}" for parameter in inspect.signature(function).parameters]))
    found += [(name, "dlref", [name, *base], own) for name, (base, own) in COMMANDS.items()]
    return found


def cases(number: int, seed: int, only: str | None) -> Iterator[Case]:
    """Drawn command lines: of fit the half, since it has the most options."""
    draw = random.Random(seed)
    every = [space for space in spaces() if only is None or space[0].startswith(only)]
    if not every:
        raise ValueError(f"only must begin the name of a command or script, it is {only!r}")
    weights = [12.0 if s[0].startswith("fit") else 3.0 if s[1] != "dlref" else 1.0 for s in every]
    for _ in range(number):
        _, program, base, options = draw.choices(every, weights)[0]
        chosen = draw.sample(sorted(set(options)), min(len(set(options)), draw.choice((1, 1, 1, 2, 3))))
        if draw.random() < 0.5:  # an option of ours
            ours = [o for o in options if not o.startswith(("--trainer", "--checkpoint"))]
            chosen = draw.sample(sorted(set(ours)), min(len(set(ours)), draw.choice((1, 1, 2))))
        changes = []
        for option in chosen:
            name = option.split(".")[-1].removeprefix("--")
            if name in KEYS and draw.random() < 0.8:
                keys = draw.sample(KEYS[name], draw.choice((1, 1, 2)))
                changes.append((option, "{" + ", ".join(f'"{key}": {draw.choice(INSIDE)}' for key in keys) + "}"))
                first = option[: len(option) - len(name)]
                if name == "schedule_args" and draw.random() < 0.9:
                    changes.append((first + "schedule", draw.choice(SCHEDULES)))
                if name == "optimizer_args" and draw.random() < 0.5:
                    changes.append((first + "optimizer", draw.choice(OPTIMIZERS)))
            elif name in ("optimizer", "schedule") and draw.random() < 0.7:
                changes.append((option, draw.choice(OPTIMIZERS if name == "optimizer" else SCHEDULES)))
            elif name in ("model", "loss", "activation", "kind") and draw.random() < 0.7:
                changes.append((option, draw.choice(NAMES)))
            else:
                changes.append((option, draw.choice(VALUES)))
        yield Case(program, base, changes)


# --- one case -----------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    status: int | None  # None where it lasted too long
    output: str
    errors: str
    files: list[str]
    seconds: float


def run_forked(case: Case, folder: Path) -> Outcome:
    """In a copy of this process."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        in_child(case, folder)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return outcome(folder, os.waitstatus_to_exitcode(status), time.monotonic() - begun)
        if time.monotonic() - begun > SECONDS:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return outcome(folder, None, time.monotonic() - begun)
        time.sleep(0.005)


def in_child(case: Case, folder: Path) -> None:
    os.setpgid(0, 0)
    status = 70
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.chdir(folder / "here")
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = [case.program, *case.arguments]
        if case.program == "dlref":
            importlib.import_module("dlref.cli").main(case.arguments)
        else:
            path = str(ROOT / "scripts" / f"{case.program}.py")
            sys.argv[0] = path
            runpy.run_path(path, run_name="__main__")
        status = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_real(case: Case, folder: Path) -> Outcome:
    """In a process of its own."""
    program = ["-m", "dlref"] if case.program == "dlref" else [str(ROOT / "scripts" / f"{case.program}.py")]
    begun = time.monotonic()
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        try:
            done = subprocess.run([sys.executable, *program, *case.arguments], cwd=folder / "here", stdout=out, stderr=err,
                                  timeout=SECONDS, check=False)  # fmt: skip
            status = done.returncode
        except subprocess.TimeoutExpired:
            status = None
    return outcome(folder, status, time.monotonic() - begun)


def outcome(folder: Path, status: int | None, seconds: float) -> Outcome:
    output, errors = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name not in ("out", "err"))
    return Outcome(status, output, errors, [file for file in files if file != "here"], seconds)


# --- the rules ----------------------------------------------------------------------------------------------------------


def judge(case: Case, found: Outcome, folder: Path) -> list[str]:
    """The rules that are broken."""
    if found.status is None:
        return ["8: longer than 60 seconds"]
    broken = []
    if "Traceback" in found.errors + found.output:
        last = [line for line in found.errors.splitlines() if line and not line.startswith((" ", "nanobind"))]
        broken.append(f"1: traceback: {last[-1][:150] if last else ''}")
    elif found.status not in (0, 1, 2, 3):
        broken.append(f"1: status {found.status}")
    lines = found.errors.splitlines()
    if found.status in (1, 2) and not broken and case.base[0] != "check":
        told = [line for line in lines if ": error: " in line]
        if len(told) != 1 or (found.status == 2 and len(lines) != 1):
            broken.append(f"2: {len(lines)} lines on stderr: {' | '.join(lines)[:200]}")
    if found.status == 2 and found.files:
        broken.append(f"3: wrote {', '.join(found.files)[:150]}")
    places = ("--runs", "--out", "--json", "--junit", "--plot", "--checkpoint.dirpath")
    allowed = [value for option, value in case.changes if value and option in places]
    for file in found.files:
        inside = file.removeprefix("here/")
        if not (file.startswith("here/runs") or any(inside.startswith(name.strip("./")[:20]) for name in allowed)):
            broken.append(f"4: a file outside: {file}")
            break
    if found.status == 0:
        broken += [f"5: {told}" for told in outside(case)]
        broken += [f"6: {told}" for told in unheeded(case)]
        broken += [f"7: {told}" for told in not_finite(folder / "here")]
    return broken


def number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def domain_broken(name: str, value: Any, domain: Domain) -> str | None:
    least, most, open_below, whole = domain
    values = value if isinstance(value, list) else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, (int, float)):
            return f"{name} takes a number, it is {value!r}"
        if not math.isfinite(one) or abs(one) > (2**63 - 1 if whole else 3.5e38):
            return f"{name} is {one}"
        if one < least or one > most or (open_below and one == least) or (whole and one != int(one)):
            return f"{name} is {one}"
    return None


def outside(case: Case) -> Iterator[str]:
    given = dict(case.changes)  # the last one counts
    for option, value in given.items():
        name = option.split(".")[-1].removeprefix("--")
        if value == "null":
            continue
        if name in NUMBERS and not option.startswith(("--trainer.gradient", "--trainer.accum", "--checkpoint")):
            if name == "test" and not option.startswith("--data"):
                continue
            parsed: Any = number(value)
            if name in ("hidden", "units") and parsed is None:
                with contextlib.suppress(ValueError):
                    parsed = json.loads(f"[{value}]" if "," in value and "[" not in value else value)
            if told := domain_broken(option, value if parsed is None else parsed, NUMBERS[name]):
                yield told
        elif name in KEYS:
            with contextlib.suppress(ValueError, AttributeError):
                for key, inner in json.loads(value).items():
                    for one in inner if isinstance(inner, list) else [inner]:
                        if isinstance(one, float) and not abs(one) < 3.5e38:
                            yield f"{name} {key} is {one}"
                    told = (
                        domain_broken(f"{name} {key}", inner, ARGUMENTS[key])
                        if key in ARGUMENTS and inner is not None
                        else None
                    )
                    if told:
                        yield told


def unheeded(case: Case) -> Iterator[str]:
    """What was given and changes nothing, beside what the command line otherwise says."""
    given = dict(argument.split("=", 1) for argument in case.arguments if "=" in argument)
    get = lambda name: given.get(f"--model.{name}", given.get(f"--{name}"))  # noqa: E731
    empty = (None, "null", "{}", "")
    if get("schedule_args") not in empty and get("schedule") in empty:
        yield "schedule_args without schedule"
    if '"lr"' in (get("optimizer_args") or ""):
        yield "lr in optimizer_args"
    if "--model.backend" in given or "Classifier" in case.program or case.base[0] in ("fit",):
        kind = given.get("--model.model", "mlp")
        if given.get("--model") is None:
            if kind == "mlp" and get("model_args") not in empty:
                yield "model_args of an mlp"
            if kind != "mlp":
                for name in ("hidden", "activation", "dropout", "in_features"):
                    value = given.get(f"--model.{name}", "null")
                    if value != "null" and (name, value) != ("dropout", "0"):  # no dropout is what it has
                        yield f"{name} of {kind}"
            if get("rbf_args") not in empty and kind != "rbf_network":
                yield f"rbf_args of {kind}"
            if given.get("--model.label_smoothing") not in (None, "0", "0.0") and given.get("--model.loss") not in (
                None, "CrossEntropyLoss"
            ):  # fmt: skip
                yield "label_smoothing without CrossEntropyLoss"
    if given.get("--data.augment_args") not in empty and given.get("--data.augment") not in ("true", "1"):
        yield "augment_args without augment"


def not_finite(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.csv"):
        if path.name == "metrics.csv":
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    for key, value in row.items():
                        if value and (number(value) is None or not math.isfinite(float(value))):
                            yield f"{key} is {value} in {path.name}"
                            return
    for path in folder.rglob("*.json"):
        text = path.read_text(errors="replace")
        if path.name != "result.json" and any(word in text for word in ("NaN", "Infinity")):
            yield f"not finite in {path.name}"


def fuzz_commands(
    number: PositiveInt = 1000,
    seed: NonNegativeInt = 0,
    real: bool = False,
    only: str | None = None,
    first: NonNegativeInt = 0,
    stride: PositiveInt = 1,
    findings: str | None = None,
) -> None:
    """Draw command lines, call them, and print each that breaks a rule; status 1 where one does.

    Args:
        number: Of cases.
        seed: Of what is drawn.
        real: Each in a process of its own, instead of in a copy of this one, which spares the seconds of its imports.
        only: Of this command or script alone, as "fit mlp" or train_digits.
        first: Case to begin with.
        stride: Every so many cases from there only.
        findings: File to append the findings to, as JSON lines.
    """
    for name in ("train", "pairs", "check", "bench", "plot", "experiment", "report", "checkpoint"):
        importlib.import_module(f"dlref.cli.{name}")
    chosen = list(itertools.islice(cases(number, seed, only), first, None, stride))
    counts: collections.Counter[str] = collections.Counter()
    console, slowest = Console(highlight=False, soft_wrap=True), 0.0
    if not chosen:
        raise ValueError(f"first and stride must leave some of the {number} cases, they leave none")
    try:
        for case in chosen:
            folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
            (folder / "here").mkdir()
            try:
                found = (run_real if real else run_forked)(case, folder)
                broken = judge(case, found, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            slowest = max(slowest, found.seconds)
            counts["cases"] += 1
            counts[f"status {found.status}"] += 1
            counts["findings"] += bool(broken)
            if broken:
                console.print(f"{case}\n    {'; '.join(broken)}", markup=False)
                if findings:
                    with open(findings, "a") as file:
                        file.write(json.dumps({"case": str(case), "broken": broken, "status": found.status}) + "\n")
    finally:  # after Ctrl-C too
        console.print(f"{dict(counts)}, the longest {slowest:.1f} s", markup=False)
    if counts["findings"]:
        sys.exit(1)


if __name__ == "__main__":
    script(fuzz_commands)
