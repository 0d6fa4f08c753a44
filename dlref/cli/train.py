"""dlref fit | validate | test | predict: Lightning's command line round a Classifier of the digits."""

from __future__ import annotations

import sys
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from ..lightning import Classifier, DigitsDataModule
from ..lightning.runs import CheckpointIO, TellWhere, WritePredictions, loggers, quiet
from .common import OneLine, new_run


class Parser(OneLine, LightningArgumentParser):
    """Lightning's parser, brief when it is used wrongly."""


class TrainCLI(LightningCLI):
    """LightningCLI whose runs have a numbered folder each: config.yaml, metrics.csv, TensorBoard's events, checkpoints."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--runs", default="runs", help="Where the new folder of this run is made.")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        best = {"monitor": "validation_loss", "filename": "best", "save_last": True, "save_on_train_epoch_end": True}
        parser.set_defaults({f"checkpoint.{key}": value for key, value in best.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the arguments as they were given: Lightning would put the checkpoint's hyperparameters over them."""

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
        if self.subcommand != "fit" and config.ckpt_path is None:
            print("note: without --ckpt_path the weights are the initial ones", file=sys.stderr)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self.config[self.subcommand]
        if config.trainer.logger in (None, True) and not config.trainer.fast_dev_run:
            folder = new_run(config.runs, str(self.subcommand))
            kwargs |= {"default_root_dir": str(folder), "logger": loggers(folder)}
        plugins = self._get(self.config_init, "trainer").plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), CheckpointIO()]
        return super().instantiate_trainer(**kwargs)


def main(command: str, arguments: list[str]) -> None:
    quiet()
    try:
        TrainCLI(
            Classifier, DigitsDataModule, seed_everything_default=0, auto_configure_optimizers=False,
            trainer_defaults={"callbacks": [TellWhere(), WritePredictions()]}, parser_class=Parser,
            args=[command, *arguments],
            parser_kwargs={"prog": "dlref", "description": "Train and test by hand-derived gradients or by torch's."},
        )  # fmt: skip
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
