"""What every LightningModule here shares: the step of the algorithm by hand or by autograd, optimizer and schedule."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.utils._pytree import tree_map

from .. import builtin, manual
from ..core.finite import CURE, MODES, NotFinite, Watch, check_finite, told_of_anomalies
from ..core.flat import flatten
from ..core.names import one_of
from ..core.parallel import Reducer, counting, ranks, stand_in, total, weight
from ..core.pullback import spending
from ..core.ranges import check_numbers
from ..manual.optim.named import check_arguments, optimizer_named, schedule_named
from ..step.products import Products
from .resume import Resume

# Backend: the namespace of its model, loss, optimizer and schedule.
BACKENDS: dict[str, Any] = {"manual": manual, "bridged": manual, "builtin": builtin}


class Learner(lightning.LightningModule):
    """A network that learns by the algorithm of `training.fit`, one of its subclasses.

    A subclass makes its network and its criterion of the namespace `self.ns`, passes them to `learn`, and says what a batch
    means: `task(batch)` gives the network's input and the criterion's target, `measures(stage, output, error, target)` what
    is logged beside the loss.

    Several processes (the trainer's strategy ddp) learn what one would from their batches together: each batch's error counts
    by its samples, and what is logged, or watched by a schedule, is of all of them.

    ValueError where a name is unknown or a number out of its range.

    Args:
        backend: manual (explicit gradients by vjp, no graph), bridged (the same operations under autograd) or builtin
            (torch.nn and autograd).
        optimizer: Name of a class of the backend's `optim`, in any case.
        lr: Its learning rate.
        optimizer_args: Its further arguments, as {"momentum": 0.9}.
        schedule: Name of a class of the backend's `optim.lr_scheduler`. ReduceLROnPlateau watches the validation loss, and
            the training loss where there is no validation; stepped at every update it watches that of the batch, as nothing
            else is known there.
        schedule_args: Its arguments, as {"step_size": 30}.
        schedule_every: When it is stepped: epoch or step.
        gradient_clip_val: What the norm of all gradients together is clipped to. It stands here, as the next, since Lightning
            leaves both to the module where the module does the optimization.
        accumulate_grad_batches: Batches that make one update.
        compile: With manual, make one graph of each step (dlref.compile_step); with the others, compile the network.
        on_nonfinite: What to do where a loss, a gradient or a parameter is not finite: stop, and name it; skip the update; or
            ignore it.
    """

    network: Any
    criterion: Any
    logs: tuple[str, ...] | None = None  # the names in what `measures` returns, where the class knows them

    def __init__(
        self,
        backend: str = "manual",
        optimizer: str = "SGD",
        lr: float = 0.01,
        optimizer_args: dict[str, Any] | None = None,
        schedule: str | None = None,
        schedule_args: dict[str, Any] | None = None,
        schedule_every: str = "epoch",
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        compile: bool = False,
        on_nonfinite: str = "stop",
    ):
        super().__init__()
        one_of("backend", backend, BACKENDS)
        one_of("schedule_every", schedule_every, ("epoch", "step"))
        check_numbers(needed=True, lr=lr, accumulate_grad_batches=accumulate_grad_batches)
        check_numbers(gradient_clip_val=gradient_clip_val)
        check_arguments(optimizer_args, schedule_args if schedule is None else None)
        if compile and backend == "manual" and accumulate_grad_batches != 1:
            raise ValueError(f"accumulate_grad_batches must be 1 with compile, as a graph holds gradient and update; it is "
                             f"{accumulate_grad_batches}")  # fmt: skip
        one_of("on_nonfinite", on_nonfinite, MODES)
        if compile and backend == "manual" and on_nonfinite == "skip":
            raise ValueError("on_nonfinite must be stop or ignore with compile, as a graph holds gradient and update")
        self.save_hyperparameters()
        self.compiled: Any = None
        self.scaler: Any = None  # of the loss, where the trainer's precision is 16-mixed
        self.products_before: str | None = None  # of the training that goes on
        self.reducer: Reducer | None = None  # of the gradients by hand, where several processes train
        self.weight: Any = 1.0  # of this process's batch in the mean over processes
        self.hp: Any = self.hparams
        # Of the hyperparameters, Lightning removes what cannot be pickled, as a function of LambdaLR's.
        self.given = {name: dict(self.hp[name] or {}) for name in ("optimizer_args", "schedule_args")}
        self.automatic_optimization = False
        self.ns: Any = BACKENDS[backend]

    def learn(self, network: Any, criterion: Any) -> None:
        """Take the network and the criterion; ValueError for what is wrong with the optimizer's and schedule's arguments."""
        self.network, self.criterion, self.products = network, criterion, Products(network)
        self.watch = Watch(network, self.hp.on_nonfinite)
        self._optimizer_and_schedule()

    def task(self, batch: Any) -> tuple[Any, Any]:
        """The network's input and the criterion's target."""
        return batch

    def measures(self, stage: str, output: Any, error: Tensor, target: Any) -> dict[str, Any]:
        """What is logged beside the loss, by name."""
        return {}

    def save_predictions(self, folder: Path, predictions: list) -> Path:
        """Write what `predict_step` returned, batch by batch, into the run's folder; returns the file."""
        path = folder / "predictions.pt"
        torch.save(predictions, path)
        return path

    def forward(self, x: Any) -> Any:
        return self.network(x)

    def gradients(self, x: Any, y: Any) -> tuple[Any, Tensor]:
        """Output and error of a batch; adds the gradients of error / accumulate_grad_batches to the parameters' .grad."""
        share = self.weight / self.hp.accumulate_grad_batches
        if self.hp.backend == "manual":
            z, network_pullback = self.network.vjp(x)  # a. forward
            error, error_pullback = self.criterion.vjp(z, y)  # b. error
            with spending():
                derror = torch.ones_like(error) * share
                derror = derror if self.scaler is None else self.scaler.scale(derror)
                network_pullback(error_pullback(derror)[0], needs=(False,))  # c. chain rule
        else:
            z = self.network(x)
            error = self.criterion(z, y)
            self.manual_backward(error * share)
        return tree_map(Tensor.detach, z), error.detach()

    def training_step(self, batch: Any, index: int) -> None:
        optimizer: Any = self.optimizers()
        every = self.hp.accumulate_grad_batches
        last = (index + 1) % every == 0 or self.trainer.is_last_batch  # of those that make this update
        x, y, samples = self._of_this_process(batch)
        if self.compiled is not None:  # which chooses its products
            z, error = self._compiled_step(optimizer, x, y)
            self.watch.after(error, x, self._place(index))
            self._log("train", z, error, y, samples)
        else:
            self.weight = weight(samples, y.device, x.dtype if x.is_floating_point() else torch.float32)
            with self.products(x), told_of_anomalies(), self._meeting(last), counting(samples):
                z, error = self.gradients(x, y)
            if self.watch(error, x, self._place(index)):
                self._log("train", z, error, y, samples)
            elif last:
                optimizer.zero_grad()
                return
            if not last:
                return
            optimizer.step()  # d. update
            optimizer.zero_grad()
        if self.hp.schedule_every == "step":
            self._step_schedule(error)
        if self.products_before not in (None, self._products.taken):
            rank_zero_warn(f"the checkpoint's training took {self.products_before} products of float32, here they are "
                           f"{self._products.taken}: "
                           "it goes on in other last digits")  # fmt: skip
        self.products_before = None

    def _of_this_process(self, batch: Any) -> tuple[Any, Any, int]:
        """The task, and what its mean is over: 0 where the other processes have all samples, and zeros stand for this one's."""
        x, y = self.task(batch)
        return (*stand_in(x, y), y.numel())

    def _meeting(self, now: bool) -> contextlib.AbstractContextManager:
        """Round the gradients of a batch: they become the means over all processes, or wait for the next batch's."""
        if self.reducer is not None:
            return self.reducer if now else contextlib.nullcontext()
        wrapped: Any = self.trainer.strategy.model
        return contextlib.nullcontext() if now or not hasattr(wrapped, "no_sync") else wrapped.no_sync()

    def _place(self, index: int) -> str:
        return f"epoch {self.current_epoch + 1}, batch {index + 1} (step {self.trainer.global_step + 1})"

    def _compiled_step(self, optimizer: Any, x: Any, y: Any) -> tuple[Any, Tensor]:
        """All of a step, as the closure of the optimizer's step, by which Lightning counts; it leaves nothing to update by."""
        found: list[Any] = []

        def closure() -> None:
            found.extend(self.compiled.run(x, y))
            optimizer.zero_grad()

        optimizer.step(closure)
        return found[0], found[1]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, from which the loss scale has been taken by now."""
        if self.hp.gradient_clip_val is not None and self.compiled is None:
            self.ns.nn.utils.clip_grad_norm_(self.network.parameters(), self.hp.gradient_clip_val)

    def setup(self, stage: str) -> None:
        """The first of several processes draws the numbers that one alone would, each other one its own: from here on, or from
        where a checkpoint, which is loaded after this, found it."""
        if stage == "fit" and (rank := self.trainer.global_rank):
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # of lightning.seed_everything
            torch.manual_seed(1_000_003 * rank + 7_919 * self.trainer.current_epoch + seed)

    def on_train_start(self) -> None:
        """What the loaders' tensors hold is finite; told with its place before the first step."""
        loaders = {"train": self.trainer.train_dataloader, "validation": self.trainer.val_dataloaders}
        for name, loader in loaders.items() if self.hp.on_nonfinite != "ignore" else ():
            dataset = getattr(loader, "dataset", None)
            tensors = getattr(getattr(dataset, "part", dataset), "tensors", ())
            check_finite(**{f"{name} {letter}": tensor for letter, tensor in zip("xy", tensors, strict=False)})

    def on_train_epoch_end(self) -> None:
        self.watch.epoch(self.current_epoch + 1)
        if self.hp.schedule_every == "epoch":
            self._step_schedule()

    def validation_step(self, batch: Any, index: int) -> None:
        self._evaluate("validation", batch)

    def test_step(self, batch: Any, index: int) -> None:
        self._evaluate("test", batch)

    def configure_optimizers(self) -> Any:
        if self.hp.backend == "manual" and ranks()[1] > 1:
            self.reducer = Reducer(self.network)
        elif self.hp.backend == "manual":
            flatten(self.network)  # one update runs for all parameters
        optimizer, schedule = self._optimizer_and_schedule()
        if self.hp.compile and self.hp.backend == "manual":
            from ..step.compile import compile_step  # what it imports takes a while

            self.compiled = compile_step(self.network, self.criterion, optimizer, self.hp.gradient_clip_val)
        elif self.hp.compile:
            self.network.compile()
        return {"optimizer": optimizer} | ({"lr_scheduler": schedule} if schedule is not None else {})

    def configure_callbacks(self) -> list[lightning.Callback]:
        return [] if any(isinstance(callback, Resume) for callback in self.trainer.callbacks) else [Resume()]  # type: ignore[attr-defined]

    def configure_model(self) -> None:
        """Under ModelParallelStrategy let each process keep its share of the parameters alone (FSDP2)."""
        if self.trainer.world_size > 1 and self.hp.backend == "manual":
            if not isinstance(self.trainer.strategy, DDPStrategy):
                raise ValueError("backend 'manual' trains in several processes by the strategy ddp alone, it is "
                                 f"{type(self.trainer.strategy).__name__}: use ddp, or backend 'bridged'")  # fmt: skip
            if self.hp.compile:
                raise ValueError("compile must be off where several processes train by hand, as their gradients meet within "
                                 "the step")  # fmt: skip
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not hasattr(self.network, "unshard"):
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])  # type: ignore[index]

    def on_fit_start(self) -> None:
        self.scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        self.watch.gradients, self.watch.together = self.scaler is None, self.trainer.world_size > 1
        if self.scaler is None:
            return
        if self.hp.compile and self.hp.backend == "manual":
            raise ValueError("compile must be off in 16-mixed, where whether to update is known after the gradients: use "
                             "bf16-mixed, or backend 'bridged'")  # fmt: skip
        if self.hp.gradient_clip_val is not None and self.given["optimizer_args"].get("fused"):
            raise ValueError("gradient_clip_val must be None with a fused optimizer in 16-mixed, as it takes the loss scale "
                             "from the gradients within its step: leave out fused")  # fmt: skip
        if self.hp.backend == "manual" and type(self.scaler) is torch.amp.GradScaler:
            self.scaler.__class__ = manual.amp.GradScaler  # as convert does: the class changes, the state does not

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["products"] = self._products.taken

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.products_before = checkpoint.get("products")
        theirs, ours = checkpoint.get("state_dict", {}), self.state_dict()
        for name in sorted(set(theirs) | set(ours)):
            a, b = (tuple(s[name].shape) if name in s else "missing" for s in (theirs, ours))
            if a != b:
                raise ValueError(
                    f"the checkpoint must be of this architecture: {name} is {a} in it, {b} in the model; start with the "
                    "configuration that it was trained with (config.yaml in its run folder)"
                )

    @property
    def _products(self) -> Products:
        """That of the steps that are taken."""
        return self.products if self.compiled is None else self.compiled.products

    def _optimizer_and_schedule(self) -> tuple[Any, Any]:
        hp = self.hp
        arguments = {**self.given["optimizer_args"], "lr": hp.lr}
        optimizer = optimizer_named(self.ns, hp.optimizer, self.network.parameters(), **arguments)
        if hp.schedule is None:
            return optimizer, None
        return optimizer, schedule_named(self.ns, hp.schedule, optimizer, **self.given["schedule_args"])

    def _step_schedule(self, error: Tensor | None = None) -> None:
        """Step the schedule, of the epoch, or of an update, whose batch had this error."""
        schedule: Any = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            if error is not None:  # of all processes' samples
                error = total(error * self.weight) / self.trainer.world_size
            else:
                seen = self.trainer.callback_metrics
                error = seen["validation_loss" if "validation_loss" in seen else "train_loss"]
            schedule.step(error)
        elif schedule is not None:
            schedule.step()

    def _evaluate(self, stage: str, batch: Any) -> None:
        x, y, samples = self._of_this_process(batch)
        z = self.network(x)
        self._log(stage, z, self._sound(stage, self.criterion(z, y)), y, samples)

    def _sound(self, stage: str, error: Tensor) -> Tensor:
        """The error of a validation or test; NotFinite where it is not finite, which no choice between epochs can use."""
        if self.hp.on_nonfinite == "stop" and not self.trainer.sanity_checking and not bool(error.isfinite()):
            raise NotFinite(f"the {stage} loss is {error.item()} in epoch {self.current_epoch + 1}: {CURE}")
        return error

    def _log(self, stage: str, z: Any, error: Tensor, y: Any, samples: int) -> None:
        if not samples:  # what stands in is not counted
            z, y = tree_map(lambda t: t[:0], (z, y))
        values = {f"{stage}_{name}": value for name, value in self.measures(stage, z, error, y).items()}
        values = {
            name: v if samples or not isinstance(v, Tensor) else torch.zeros_like(v) for name, v in values.items()
        }
        # The mean over the epoch, and over all processes, weighs each batch by the numbers that its own mean is over. Lightning
        # takes the processes' mean of them, of which it keeps the integer part alone.
        self.log_dict(
            {f"{stage}_loss": error, **values}, on_step=False, on_epoch=True, sync_dist=True,
            batch_size=samples * self.trainer.world_size, prog_bar=stage == "validation",
        )  # fmt: skip
