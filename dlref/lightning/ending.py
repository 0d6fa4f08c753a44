"""The last line of a training under Lightning, where it has not learnt."""

from __future__ import annotations

from typing import Any

import lightning

from ..core.verdict import verdict
from .learner import Learner


class Verdict(lightning.Callback):
    """Keeps the training loss of each epoch; `line` says in the end what a module of ours has not learnt."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if (loss := trainer.callback_metrics.get("train_loss")) is not None:
            self.losses.append(float(loss))

    def line(self, module: Any, data: Any) -> str | None:
        if not isinstance(module, Learner) or not self.losses:
            return None
        tensors = getattr(getattr(getattr(data, "split", None), "train", None), "tensors", None)
        x, y = (None, None) if tensors is None else tensors[:2]
        x = x if x is None else x[:2000].to(module.device, module.dtype)
        return verdict(module.network, x, y, self.losses, module.hp.lr)
