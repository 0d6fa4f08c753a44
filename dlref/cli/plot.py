"""dlref plot RUN: pictures on request of what a run of dlref fit has learnt."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import yaml

from .. import lightning as lightning_modules
from ..lightning.resume import CheckpointIO
from ..lightning.runs import quiet
from .common import Parser
from .trust import bounded

ROOM = "dlref.lightning."


def main(command: str, arguments: list[str]) -> None:
    options = Parser(prog="dlref plot", description="Draw what a run of dlref fit has learnt, into its folder: activations by "
                     "layer and decision boundaries of a classifier, codes of an autoencoder, for the test part.")  # fmt: skip
    options.add_argument("run", help="folder of the run, as runs/001-mlp-manual")
    options.add_argument("--checkpoint", help="of the run's, by name (default: best, last where there is none)")
    chosen = options.parse_args(arguments)
    folder = Path(chosen.run)
    config = configuration(folder)
    path = checkpoint(folder, chosen.checkpoint)
    quiet()
    module, data = (made(config[part], part) for part in ("model", "data"))
    if not hasattr(module, "plots"):
        raise ValueError(f"the run must be a classifier's or an autoencoder's, it is of {type(module).__name__}")
    if not len(data.split.test):
        raise ValueError("the run's test part must hold what is drawn, it is empty (data.test 0)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
                                    enable_model_summary=False)  # fmt: skip
    module.load_state_dict(CheckpointIO().load_checkpoint(path, "cpu")["state_dict"])
    module.trainer, trainer.datamodule = trainer, data  # type: ignore[attr-defined]
    print(f"wrote {folder}/: {', '.join(drawn.name for drawn in module.plots(folder))}, of {path.name}")


def configuration(folder: Path) -> dict[str, Any]:
    file = folder / "config.yaml"
    if not folder.is_dir():
        raise ValueError(f"the run must be a folder that dlref fit made, {folder} is not there")
    if not file.is_file():
        raise ValueError(f"the run must be a folder that dlref fit made, with a config.yaml; {folder} has none, as "
                         "the runs of scripts, whose pictures lie in the folder already")  # fmt: skip
    try:
        text = file.read_text()
        bounded(text)
        config = yaml.safe_load(text)
        config["model"]["class_path"], config["data"]["class_path"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be a configuration of dlref fit, it is none: {error}") from None
    return config


def checkpoint(folder: Path, name: str | None) -> Path:
    """The checkpoint of that name, the best one, or the last."""
    there = sorted((folder / "checkpoints").glob("*.ckpt"))
    names = [name.removesuffix(".ckpt")] if name else ["best", "last"]
    found = [path for wanted in names for path in there if path.stem == wanted]
    if not found:
        raise ValueError(f"{folder}/checkpoints must hold {' or '.join(names)}, it holds "
                         f"{', '.join(path.stem for path in there) or 'nothing'}")  # fmt: skip
    return found[0]


def made(part: dict[str, Any], what: str) -> Any:
    """The module that a part of the configuration names; only those of dlref.lightning are made."""
    name = str(part["class_path"])
    if not name.startswith(ROOM) or name.removeprefix(ROOM) not in lightning_modules.__all__:
        raise ValueError(f"the run's {what} must be one of dlref.lightning, it is {name}")
    return getattr(lightning_modules, name.removeprefix(ROOM))(**(part.get("init_args") or {}))
