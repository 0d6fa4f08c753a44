r"""The backpropagation algorithm, as a loop that one can read.

Given a network $z = f(x; W)$ and an error $E(z, y)$, find weights of small error on the training data:

    repeat, until converged or told to stop
        for each mini-batch (x, y), in a new random order each epoch
            a. forward        z = f(x; W)
            b. error          E = E(z, y)
            c. chain rule     from the last layer to the first: dE/dW_l = dE/dz_l * dz_l/dW_l, then dE/dz_{l-1}
            d. update         W <- W - lr * dE/dW, or what the optimizer makes of the gradient

For an affine layer $z_l = W_l a_{l-1} + b_l$ with activation $a_l = \phi(z_l)$ and $\delta_l = \partial E / \partial z_l$:

    dE/dW_l = delta_l a_{l-1}^T,   dE/db_l = delta_l,   delta_{l-1} = (W_l^T delta_l) * phi'(z_{l-1})

summed over the samples of the batch (Rumelhart, Hinton and Williams 1986). Worth knowing:

- delta is a gradient: it points up the error, and the minus sign of the update goes down;
- a mini-batch is a compromise: its gradient is an unbiased estimate of the whole's, whose variance falls as 1/batch;
- what is reached is a point of small gradient, a local minimum at best;
- the validation data never enter a gradient: they tell when to stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import finite, parallel, resume
from ..core.flat import flatten
from ..core.optimizer import by_one_gradient
from ..core.pullback import gradients
from ..step.products import Products
from .nn.utils import clip_grad_norm_

Data = tuple[Tensor, Tensor]
Step = Callable[..., Tensor]
MayUpdate = Callable[[Tensor], bool]


def step(
    network: Any,
    criterion: Any,
    optimizer: Any,
    x: Tensor,
    y: Tensor,
    max_norm: float | None = None,
    may_update: MayUpdate | None = None,
) -> Tensor:
    """One step of the algorithm by explicit gradients: no autograd, no graph. Returns the error, a number.

    x (N, *), y (N, *): a batch, as network and criterion take them. max_norm: what the gradients are clipped to.
    may_update: told the error when the gradients are there; where it answers false, there is no update.
    """
    if torch.is_grad_enabled():
        with torch.no_grad():
            return step(network, criterion, optimizer, x, y, max_norm, may_update)
    optimizer.zero_grad()
    _, error = gradients(network, criterion, x, y)  # a. to c., each layer's pullback after the other
    if may_update is not None and not may_update(error):
        return error
    if max_norm is not None:
        clip_grad_norm_(network.parameters(), max_norm)
    optimizer.step()  # d. update
    return error


def fit_by(
    step: Step,
    compiled: Callable[..., Callable[[Tensor, Tensor], Tensor]],
    before: Callable[[Any], Any] = lambda network: None,
) -> Callable[..., list[dict[str, float]]]:
    """The algorithm round a step, which is all in which the two namespaces differ: `fit` of one.

    compiled: makes `take(x, y) -> error` of the step's other arguments and a backend's name. before: called with the network.
    """

    def fit(
        network: Any,
        criterion: Any,
        optimizer: Any,
        train: Data,
        validation: Data | None = None,
        *,
        epochs: int = 100,
        batch_size: int = 200,
        tolerance: float | None = 1e-4,
        patience: int = 10,
        schedule: Any = None,
        max_norm: float | None = None,
        compile: bool | str = False,
        seed: int = 0,
        on_nonfinite: str = "stop",
        callback: Callable[[dict[str, float]], bool | None] | None = None,
        checkpoint: str | Path | None = None,
        options: dict[str, Any] | None = None,
        override: bool = False,
    ) -> list[dict[str, float]]:
        """Train the network by mini-batches; return the history.

        train, validation: (x, y), x (N, *) and y (N, *), whole, on the network's device.
        criterion: called as criterion(output, y), a mean over the batch.
        tolerance, patience: converged when the training error has not fallen by more than tolerance in patience
            epochs; None: never.
        schedule: a learning-rate scheduler, stepped after each epoch. max_norm: what gradients are clipped to.
        compile: make one graph of the step (dlref.compile_step), true by the compiler "inductor"; or a backend's name, as
            "eager", which plays the step's kernels back. It takes seconds to minutes before the second step.
        seed: of the order of the samples; the same seed gives the same batches in both namespaces.
        on_nonfinite: what to do where a loss, a gradient or a parameter is not finite: "stop" raises NotFinite, an
            ArithmeticError that names it, before the update; "skip" leaves the update out; "ignore" looks at none.
        On a CPU, large float32 products are oneDNN's where those are exact (dlref.products).
        callback: called with the epoch's record; what it returns, if true, ends the training. So does Ctrl-C.
        Of a DistributedDataParallel each process gives all data, and learns its part of each batch; losses are of the whole.
        checkpoint: a file that is written after each epoch, and that the training goes on from where it is there, to the
            bit: parameters, optimizer, schedule, what convergence is told by, random generators and history.
        options: what else the training depends on, as numbers and texts; it is kept in the checkpoint.
        override: go on although another option, optimizer or schedule was given than the checkpoint's.
        Returns a record an epoch: epoch, loss (mean over the training data, while they were learnt), seconds; with
            validation data their loss and, for classes, accuracy.
        ValueError where a number is not positive, data do not fit together or are not finite, the optimizer's step asks for a
            closure, or the checkpoint is not of this training.
        """
        _check(train, validation, epochs, batch_size, patience)
        if compile and on_nonfinite == "skip":
            raise ValueError("on_nonfinite must be stop or ignore with compile, as a graph holds gradient and update")
        by_one_gradient(optimizer)
        before(network)
        by = Products(network)
        several = hasattr(network, "no_sync")  # a DistributedDataParallel, torch's or by hand
        group, processes = (network.process_group, parallel.ranks(network.process_group)[1]) if several else (None, 1)
        watch = finite.Watch(network, on_nonfinite, several)
        kind = torch.promote_types(train[0].dtype, torch.float32)  # of the sum of the errors
        whole, criterion = criterion, parallel.Weighted(criterion, 1.0) if several else criterion
        if compile and several:
            raise ValueError(
                "compile must be off where several processes train, as their gradients meet within the step"
            )
        if compile:
            graph = compiled(network, criterion, optimizer, max_norm, "inductor" if compile is True else compile)

        def take(x: Tensor, y: Tensor, place: str) -> Tensor:
            """The batch's error times its samples; of several processes the error of this one's part, as it counts."""
            size = present = len(x)
            if several:  # a batch counts as the mean of its parts, each by the samples that it has
                x, y = parallel.part(x, group), parallel.part(y, group)
                present = len(x)
                criterion.weight = present / size * processes
                x, y = parallel.stand_in(x, y)
            with by(x), parallel.counting(present):
                if compile:
                    error = graph(x, y).detach()
                    watch.after(error, x, place)
                else:
                    error = step(network, criterion, optimizer, x, y, max_norm, watch.at(x, place)).detach()
            if on_nonfinite == "skip" and not error.isfinite():
                return torch.zeros_like(error)
            return error * size

        given = {
            **(options or {}),
            "samples": len(train[0]), "batch_size": batch_size, "tolerance": tolerance, "patience": patience,
            "max_norm": max_norm, "seed": seed, "criterion": type(whole).__name__,
        }  # fmt: skip
        saved = resume.Training(checkpoint, network, optimizer, schedule, given)
        history, best, waited = saved.read(override)
        try:
            for epoch in range(len(history) + 1, epochs + 1):
                if tolerance is not None and waited >= patience:
                    break
                network.train()
                start, errors = time.perf_counter(), torch.zeros((), dtype=kind, device=train[0].device)
                for batch, (x, y) in enumerate(minibatches(train, batch_size, seed, epoch), 1):
                    errors += take(x, y, f"epoch {epoch}, batch {batch}")
                watch.epoch(epoch)
                if several:
                    errors = parallel.total(errors, group) / processes
                loss = errors.item() / len(train[0])
                record = {"epoch": epoch, "loss": loss, "seconds": time.perf_counter() - start}
                if validation is not None:
                    record |= {f"validation_{k}": v for k, v in evaluate(network, whole, validation).items()}
                history.append(record)
                if schedule is not None:
                    plateau = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
                    schedule.step(record.get("validation_loss", loss)) if plateau else schedule.step()
                if tolerance is not None and math.isfinite(loss):
                    waited = 0 if loss < best - tolerance else waited + 1
                    best = min(best, loss)
                told_to_stop = callback is not None and callback(record)
                if not (several and parallel.ranks(group)[0]):  # the first of several
                    saved.write(history, best, waited)
                if told_to_stop:
                    break
        except KeyboardInterrupt:
            pass  # told to stop: what has been learnt so far is in the network
        return history

    return fit


def compiled(network: Any, criterion: Any, optimizer: Any, max_norm: float | None, backend: str) -> Any:
    """The step as one graph, `take(x, y) -> error` of x (N, *) and y (N, *); see `dlref.compile_step`."""
    from ..step.compile import compile_step  # what it imports takes a while

    return compile_step(network, criterion, optimizer, max_norm, backend=backend)


# Before the first step the parameters are laid into one tensor, so that one update runs for them all.
fit = fit_by(step, compiled, before=flatten)


def minibatches(data: Data, batch_size: int, seed: int, epoch: int) -> Iterator[Data]:
    """The samples (N, *) in the random order of this epoch, batch_size at a time; the last batch may be smaller."""
    x, y = data
    for indices in order(len(x), seed, epoch).to(x.device).split(batch_size):
        yield x[indices], y[indices]


def order(samples: int, seed: int, epoch: int) -> Tensor:
    """A random order (samples,) that seed and epoch alone decide: a training that is continued sees the same batches."""
    return torch.randperm(samples, device="cpu", generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))


@torch.no_grad()
def evaluate(network: Any, criterion: Any, data: Data) -> dict[str, float]:
    """Loss, a number, and, for classes, accuracy, from 0 to 1, in evaluation mode; data: x (N, *) and y (N, *)."""
    x, y = data
    training = network.training
    network.eval()
    output = network(x)
    network.train(training)
    result = {"loss": criterion(output, y).item()}
    if not y.is_floating_point() and output.dim() == 2:
        result["accuracy"] = (output.argmax(1) == y).sum().item() / len(y)
    return result


def _check(train: Data, validation: Data | None, epochs: int, batch_size: int, patience: int) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, it is {value}")
    for name, data in (("train", train), ("validation", validation)):
        if data is not None and (len(data[0]) != len(data[1]) or not len(data[0])):
            raise ValueError(f"{name} must hold as many inputs as targets, and at least one; it holds {len(data[0])} and "
                             f"{len(data[1])}")  # fmt: skip
        if data is not None:
            finite.check_finite(**{f"{name} x": data[0], f"{name} y": data[1]})
