"""What must fit together, looked at before anything starts: data with model, loss with target, what is watched with what is
logged."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ..core.names import MISTAKES, reason
from .autoencoder import Autoencoder
from .classifier import Classifier
from .data import SplitDataModule
from .language import LanguageModel, TextDataModule
from .learner import Learner

IMAGE_MODELS = ("locally_connected", "cnn", "residual_network", "row_classifier", "vision_transformer",
                "convolutional_autoencoder")  # fmt: skip
PARTS = {"fit": "train", "validate": "validation", "test": "test", "predict": "test"}


def rehearse(module: Any, data: Any, command: str) -> None:
    """Put two samples through a module of ours, which learns nothing; ValueError, with the cure, where the two do not fit.

    command: fit, validate, test or predict. Modules and data of somebody else's pass unseen.
    """
    if not isinstance(module, Learner):
        return
    theirs = TextDataModule if isinstance(module, LanguageModel) else SplitDataModule
    if isinstance(data, (TextDataModule, SplitDataModule)) and not isinstance(data, theirs):
        ours = "TextDataModule" if theirs is TextDataModule else "DigitsDataModule or ImagesDataModule"
        raise ValueError(f"the data must be what a {type(module).__name__} learns, they are of {type(data).__name__}: give "
                         f"--data {ours}")  # fmt: skip
    if isinstance(data, SplitDataModule):
        part = PARTS[command]
        if not len(getattr(data.split, part)):
            raise ValueError(f"the {part} part must hold data, it is empty: give --data.{part} a share greater than 0")
        x, y = (tensor[:2] for tensor in data.split.train.tensors)
        fits(module, x, y, data.split.classes)
        batch: Any = (x, y)
    elif isinstance(data, TextDataModule):
        batch = data.text.train[: data.length + 1].repeat(2, 1)
    else:
        return
    if isinstance(module, LanguageModel) and module.hp.alphabet is None:
        module.make(data.text.alphabet)
    training = module.training
    module.eval()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            x, y = module.task(batch)
            error = module.criterion(module.network(x), y)
        except MISTAKES as failed:
            raise ValueError(f"model, loss and data must fit together; of a batch {tuple(x.shape)} they do not: "
                             f"{reason(failed)}") from failed  # fmt: skip
    module.train(training)
    if error.dim():
        raise ValueError(f"the loss of a batch must be one number, it is {tuple(error.shape)}")


def fits(module: Any, x: Tensor, y: Tensor, classes: int | None) -> None:
    """ValueError, with the cure, where a Classifier or an Autoencoder takes other samples than x, or fewer classes."""
    model = getattr(module.hp, "model", None)
    if not isinstance(module, (Autoencoder, Classifier)):
        return
    if x.dim() == 2 and model in IMAGE_MODELS:
        raise ValueError(f"the data must be images for a {model}, they are rows of {x.shape[1]} numbers: give --data.images "
                         "true")  # fmt: skip
    if x.dim() == 4 and model not in IMAGE_MODELS:
        raise ValueError(f"the data must be rows of numbers for a model {model}, they are images {tuple(x.shape[1:])}: leave "
                         "out --data.images true, or give --model.model cnn")  # fmt: skip
    if isinstance(module, Autoencoder):
        return
    if model == "mlp" and module.hp.in_features != x.shape[1]:
        raise ValueError(f"in_features must be the {x.shape[1]} numbers of a sample, it is {module.hp.in_features}")
    if classes is not None and module.hp.classes < classes:
        raise ValueError(f"classes must be at least the {classes} of the data, it is {module.hp.classes}")


def to_watch(monitor: str | None, module: Any, data: Any) -> str | None:
    """What a checkpoint of the best epoch watches: the training loss instead of the validation loss where nothing validates.

    ValueError where it is nothing that a module of ours logs.
    """
    ours = (
        isinstance(module, Learner) and module.logs is not None and isinstance(data, (SplitDataModule, TextDataModule))
    )
    if not ours or monitor is None:
        return monitor
    validates = isinstance(data, TextDataModule) or len(data.split.validation) > 0
    if monitor == "validation_loss" and not validates:
        return "train_loss"
    stages = ("train", "validation") if validates else ("train",)
    known = [f"{stage}_{name}" for stage in stages for name in ("loss", *module.logs)] + ["epoch", "step"]
    if monitor not in known:
        raise ValueError(f"checkpoint.monitor must be one of {', '.join(known)}, it is {monitor!r}")
    return monitor
