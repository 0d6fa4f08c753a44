"""What the last line of a training under Lightning says: whether it ended before its time, or has not learnt."""

from __future__ import annotations

from typing import Any

import lightning

from ..core.verdict import verdict
from .classifier import Classifier
from .learner import Learner


class Verdict(lightning.Callback):
    """Keeps each epoch's training loss; `line` says in the end what a module of ours has not learnt, `stopped` why it ended."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.epochs = 0

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.epochs += 1
        if (loss := trainer.callback_metrics.get("train_loss")) is not None:
            self.losses.append(float(loss))

    def stopped(self, trainer: Any) -> str | None:
        if not self.epochs and trainer.current_epoch == trainer.max_epochs:
            return (
                f"nothing was left to do: all {trainer.max_epochs} epochs are over, give a higher --trainer.max_epochs"
            )
        if trainer.should_stop:
            return f"stopped early, after {trainer.current_epoch} of {trainer.max_epochs} epochs"
        return None

    def line(self, module: Any, data: Any) -> str | None:
        if not isinstance(module, Learner) or not self.losses:
            return None
        tensors = getattr(getattr(getattr(data, "split", None), "train", None), "tensors", None)
        x, y = (None, None) if tensors is None else tensors[:2]
        x = x if x is None else x[:2000].to(module.device, module.dtype)
        y = y if isinstance(module, Classifier) else None  # of another module they are no targets
        return verdict(module.network, x, y, self.losses, module.hp.lr)
