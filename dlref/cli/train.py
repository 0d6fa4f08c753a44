"""dlref fit | validate | test | predict: Lightning's command line round the modules of dlref.lightning, or one's own."""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import itertools
import json
import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from .. import data, models
from .. import lightning as lightning_modules
from ..core.names import one_of, reason
from ..core.parallel import meet_again
from ..lightning.ending import Verdict
from ..lightning.rehearsal import rehearse, to_watch
from ..lightning.resume import CheckpointIO, Resume, WholeEpochs
from ..lightning.runs import Pictures, TellHow, WritePredictions, loggers, quiet, restarted, tell
from .checkpoint import resolved
from .common import OneLine, beginning, listed, new_run, note
from .others import Others
from .signals import first_process
from .trust import allowed, refusal

MODULES = "dlref.lightning"
EPOCHS = 100  # the article's, where nothing says when to stop
# Before all arguments, so that a configuration or an option of another class takes their place.
CLASSES = ("--model", f"{MODULES}.Classifier", "--data", f"{MODULES}.DigitsDataModule")
# Options that take a text, in which 1,2 is no list.
TEXTS = {"alphabet", "ckpt_path", "config", "data_dir", "dirpath", "filename", "path", "prompt", "resume", "runs"}


class Parser(OneLine, LightningArgumentParser):
    """Lightning's parser, brief when it is used wrongly."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(brief(message), ex)


def brief(message: object) -> str:
    """What is wrong, out of what jsonargparse says when a class cannot be made: the types that it tried and their reasons."""
    text = refusal(" ".join(str(message).split()))
    found = re.fullmatch(r"(.*?)Does not validate against any of the Union subtypes .*? Errors: - (.*?)"
                         r" - Expected a <class 'NoneType'> Given value type: .*", text)  # fmt: skip
    return "".join(found.groups()) if found else text


def options(of: str, *classes: type) -> str:
    """The options that classes take, with their defaults."""
    found: dict[str, Any] = {}
    for cls in classes:
        found |= inspect.signature(cls).parameters
    return ", ".join(
        f"--{of}.{name} {p.default if isinstance(p.default, str) else json.dumps(p.default)}"
        for name, p in found.items()
        if p.kind is not p.VAR_KEYWORD
    )


class TrainCLI(LightningCLI):
    """LightningCLI whose runs have a numbered folder each: config.yaml, metrics.csv, TensorBoard's events, checkpoints."""

    nowhere = ""  # a folder that goes when the command ends

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--runs", default="runs", help="Where the new folder of this run is made.")
        parser.add_argument("--resume", type=str | None, help="Checkpoint of a run to go on from, in a new folder; a run's "
                            "folder; or auto: the newest of the last run, and a new run where there is none.")  # fmt: skip
        parser.add_argument(
            "--override", type=bool, default=False, help="Go on with other options than the run began with."
        )
        parser.add_lightning_class_args(WholeEpochs, "checkpoint")
        best = {"monitor": "validation_loss", "filename": "best", "save_last": True, "save_on_train_epoch_end": True}
        parser.set_defaults({f"checkpoint.{key}": value for key, value in best.items()})
        parser.usage = (
            "%(prog)s [--config FILE] [--model.OPTION VALUE ...] [--data.OPTION VALUE ...] [--trainer.OPTION VALUE ...]"
        )
        parser.description = (
            "The options of a model and of data: --model.help=Classifier, Autoencoder, LanguageModel; "
            "--data.help=DigitsDataModule, ImagesDataModule, TextDataModule. Classes of others than dlref, Lightning and torch "
            "are named after --allow PACKAGE."
        )
        groups: Any = parser.groups
        titles = {"model": "The model", "data": "The data", "checkpoint": "Checkpoints, of Lightning's ModelCheckpoint",
                  "trainer": "Lightning's Trainer"}  # fmt: skip
        for name, title in titles.items():
            groups[name].title = title
        room = lightning_modules
        groups["model"].description = (
            f"A Classifier's, the default: {options('model', room.Classifier, room.Learner)}. --on_nonfinite is "
            "short for --model.on_nonfinite."
        )
        groups["data"].description = (
            f"A DigitsDataModule's, the default: {options('data', room.DigitsDataModule)}. --data {', '.join(data.IMAGES)}: "
            "torchvision's images; --data-dir and --download are short for --data.data_dir and --data.download true."
        )
        last = [groups["checkpoint"], groups["trainer"]]  # Lightning's own many options after ours
        shown: Any = parser._action_groups
        shown.sort(key=lambda group: last.index(group) + 1 if group in last else 0)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the arguments as they were given: Lightning would put the checkpoint's hyperparameters over them."""

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError:
            raise
        except Exception as error:  # whatever the options lead to in the classes that take them
            raise ValueError(reason(error)) from error

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        trainer = config.trainer
        if trainer.max_epochs is not None and trainer.max_epochs < 1 and trainer.max_epochs != -1:
            raise ValueError(f"trainer.max_epochs must be at least 1, or -1 for no end, it is {trainer.max_epochs}")
        for name, default in (("gradient_clip_val", None), ("accumulate_grad_batches", 1)):
            if trainer[name] not in (None, default):
                raise ValueError(
                    f"the module clips and accumulates gradients itself: give --model.{name} {trainer[name]}"
                )
        if self.subcommand == "fit" and (trainer.max_epochs, trainer.max_steps, trainer.max_time) == (None, -1, None):
            trainer.max_epochs = EPOCHS
        if trainer.get("overfit_batches"):  # for which Lightning changes how the data are drawn
            raise ValueError("trainer.overfit_batches must be 0, as Lightning would take the batches apart: give "
                             "--trainer.limit_train_batches")  # fmt: skip
        within_the_folder(config.checkpoint.filename)
        if config.ckpt_path is not None and not Path(config.ckpt_path).is_file():
            raise ValueError(f"ckpt_path must be an existing file, there is no {config.ckpt_path}: a run's are in its folder, "
                             "checkpoints/last.ckpt")  # fmt: skip
        fit_to_images(config)
        meet_again("nccl" if trainer.accelerator != "cpu" and torch.cuda.is_available() else "gloo")
        if config.weights_only is False:
            raise ValueError("weights_only must be true: a checkpoint is numbers, and runs no code")
        name = run_name(str(self.subcommand), config.model)
        if self.subcommand == "fit" and config.ckpt_path is None and (last := restarted(config.runs, name)) is not None:
            config.ckpt_path, config.resume = str(last), None
            if first_process():
                print(f"restarted: goes on from {last}")
        if config.resume is not None:
            if self.subcommand != "fit" or config.ckpt_path is not None:
                raise ValueError("--resume is of fit, and takes the place of --ckpt_path: give one of the two")
            found = resolved(config.resume, config.runs, name, "checkpoints/*.ckpt")
            config.ckpt_path, config.resume = found and str(found), None  # the configuration that is kept begins anew

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self.config[self.subcommand]
        rehearse(self.model, self.datamodule, str(self.subcommand))
        if self.subcommand == "fit":
            watched = self._get(self.config_init, "checkpoint")
            watched.monitor = to_watch(watched.monitor, self.model, self.datamodule)
        elif config.ckpt_path is None:
            note("without --ckpt_path the weights are the initial ones")
        if config.trainer.fast_dev_run:  # which leaves nothing
            kwargs["default_root_dir"] = self.nowhere
        else:
            # The others of several processes write nothing, and are told where it is by the first.
            name = run_name(str(self.subcommand), config.model)
            folder = new_run(config.runs, name) if first_process() else Path(config.runs)
            kwargs["default_root_dir"] = str(folder)
            if config.trainer.logger in (None, True):
                kwargs["logger"] = loggers(folder)
        plugins = self._get(self.config_init, "trainer").plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), CheckpointIO()]
        trainer: Any = super().instantiate_trainer(**kwargs)
        trainer.callbacks.append(Resume(config.override))
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if getattr(environment, "auto_requeue", False):  # SLURM's, whose signals Lightning answers
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if hasattr(trainer.strategy.launcher, "procs"):
            next(c for c in trainer.callbacks if isinstance(c, TellHow)).others = Others(trainer.strategy.launcher)
        return trainer

    def _prepare_subcommand_parser(self, klass: Any, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Lightning's, which does not offer the switch by which a checkpoint could run code; older configurations have it."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for action in parser._actions:
            if action.dest == "weights_only":
                action.help = argparse.SUPPRESS
        return parser

    def after_fit(self) -> None:
        callbacks: Any = getattr(self.trainer, "callbacks", ())
        for ending in callbacks:
            if isinstance(ending, Verdict):
                lines = (ending.stopped(self.trainer), ending.line(self.model, self.datamodule))
                tell(self.trainer, *filter(None, lines))

    def after_test(self) -> None:
        tell(self.trainer)

    after_predict = after_validate = after_test


def within_the_folder(filename: str | None) -> None:
    """ValueError where a checkpoint of that name would lie outside of the run's folder."""
    if filename and (Path(filename).is_absolute() or ".." in Path(filename).parts):
        raise ValueError(f"checkpoint.filename must name a file in the run's folder, it is {filename!r}: leave out the path, "
                         "or give --checkpoint.dirpath")  # fmt: skip


class Begins(lightning.Callback):
    """Tells the command line that the run has begun: from then on its folder stays, whatever comes."""

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        beginning.end()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        beginning.end()

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        beginning.end()

    def on_validation_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        if not trainer.sanity_checking:
            beginning.end()


def run_name(command: str, model: Any) -> str:
    """network-backend of a training, command-network-backend of the rest; of somebody's own module the name of its class."""
    options = model.get("init_args") or {}
    network = options.get("model") or options.get("kind") or model.class_path.rpartition(".")[2]
    parts = (network, *([options["backend"]] if "backend" in options else []))
    return "-".join(str(part).lower() for part in (parts if command == "fit" else (command, *parts)))


def config_named(name: str) -> str:
    """The file of that name, or this project's own configuration, as digits_cnn; ValueError where there is neither."""
    if Path(name).exists() or "/" in name or name.endswith((".yaml", ".yml", ".json")) or not name.isidentifier():
        return name
    own = configs()
    one_of("config", name, own)
    return str(own[name])


def configs() -> dict[str, Path]:
    """The files of configs/, of the checkout or as the wheel has installed them."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        found: Any = (checkout / "configs").glob("*.yaml")
    else:
        found = (Path(str(f.locate())) for f in importlib.metadata.files("dlref") or () if f.parent.name == "configs")
    return {file.stem: file for file in sorted(found)}


def by_name(arguments: Sequence[str]) -> list[str]:
    """The arguments with --data digits, --data mnist, --data-dir DIR and --download as options of the data modules."""
    given: list[str] = []
    arguments = listed(arguments, TEXTS)
    for i, argument in enumerate(arguments):
        if arguments[max(i - 1, 0)] in ("-c", "--config"):
            arguments[i] = config_named(argument)
        elif argument.startswith("--config="):
            arguments[i] = "--config=" + config_named(argument.removeprefix("--config="))
    for argument in itertools.chain.from_iterable(
        a.split("=", 1) if a.startswith(("--data=", "--data-dir=")) else [a] for a in arguments
    ):
        if given[-1:] == ["--data"] and "." not in argument and argument not in lightning_modules.__all__:
            one_of("data", argument, ("digits", *data.IMAGES))
            kind = "Digits" if argument == "digits" else "Images"
            given += [f"{MODULES}.{kind}DataModule", *(["--data.name", argument] if argument in data.IMAGES else [])]
        elif argument == "--data-dir":
            given.append("--data.data_dir")
        elif argument.partition("=")[0] == "--on_nonfinite":
            given.append(argument.replace("--on_nonfinite", "--model.on_nonfinite", 1))
        else:
            given += ["--data.download", "true"] if argument == "--download" else [argument]
    return given


def fit_to_images(config: Any) -> None:
    """Where a Classifier gets torchvision's images, give its model their size, unless that was given."""
    if config.data.class_path != f"{MODULES}.ImagesDataModule" or config.model.class_path != f"{MODULES}.Classifier":
        return
    options, given = config.model.init_args, config.data.init_args
    if given.name not in data.IMAGES or not hasattr(models, options.model):
        return  # told by what takes them
    _, channels, size = data.IMAGES[given.name]
    found = {"in_channels": channels, "size": size, "in_features": channels * size**2, "features": size}
    if options.model == "mlp":  # whose arguments are the Classifier's own
        options.in_features = found["in_features"]
        return
    takes = inspect.signature(getattr(models, options.model)).parameters
    options.model_args = {**{k: v for k, v in found.items() if k in takes}, **(options.model_args or {})}


def main(command: str, arguments: list[str]) -> None:
    quiet()
    try:
        with tempfile.TemporaryDirectory() as TrainCLI.nowhere:
            TrainCLI(
                lightning.LightningModule, lightning.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
                seed_everything_default=0, auto_configure_optimizers=False,
                trainer_defaults={"callbacks": [Begins(), Verdict(), Pictures(), TellHow(), WritePredictions()]},
                parser_class=Parser,
                args=[command, *CLASSES, *by_name(allowed(arguments))],
                parser_kwargs={"prog": "dlref", "description": "Train and test by hand-derived gradients or by torch's."},
            )  # fmt: skip
    except (MisconfigurationException, ValueError) as error:
        raise ValueError(brief(error)) from error
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):  # of which Lightning makes status 1
            raise ended.__context__ from None
        raise
