"""Optimizers and schedules by name, with arguments from a configuration or a command line."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from ...core.names import MISTAKES, called, one_of, reason
from ...core.ranges import LARGEST

# What no name alone sets going, and what to do.
BY_HAND_ALONE = {
    "SparseAdam": "takes sparse gradients alone: take Adam, or call its step in a loop of your own",
    "ScheduleFreeAdamW": "has train() and eval(), too: call those round training.fit, or a loop of your own",
}


def check_arguments(optimizer_args: Any, idle_args: Any = None) -> None:
    """ValueError where the optimizer's arguments hold the learning rate, or a schedule's have no schedule."""
    if "lr" in (optimizer_args or {}):
        raise ValueError("the learning rate must be given once, by lr; optimizer_args has another: leave it out there")
    if idle_args:
        raise ValueError(
            f"schedule_args must be those of a schedule, none was named: give schedule too, or leave out {idle_args}"
        )


def optimizer_named(ns: Any, name: str, parameters: Any, **arguments: Any) -> Any:
    """ns.optim.NAME(parameters, **arguments), whose step needs no closure.

    ValueError where there is none by hand, it takes no such arguments, or its step alone makes no training."""
    from ...core.optimizer import by_one_gradient
    from .. import optim

    if name in BY_HAND_ALONE:
        raise ValueError(
            f"the optimizer must be one whose step is all that a training calls, {name} {BY_HAND_ALONE[name]}"
        )
    optimizer = _named(ns.optim, optim, "optimizer", name, parameters, arguments)
    by_one_gradient(optimizer)
    return optimizer


def schedule_named(ns: Any, name: str, optimizer: Any, **arguments: Any) -> Any:
    """ns.optim.lr_scheduler.NAME(optimizer, **arguments), with the errors of `optimizer_named`."""
    from . import lr_scheduler

    _rehearse(ns, lr_scheduler, name, optimizer, arguments)
    return _named(ns.optim.lr_scheduler, lr_scheduler, "schedule", name, optimizer, arguments)


def _rehearse(ns: Any, reference: Any, name: str, optimizer: Any, arguments: dict[str, Any]) -> None:
    """Take some steps of the schedule on an optimizer of one number; ValueError where they fail, or lead to no learning rate.

    Not where an argument is more than numbers and texts, as a function or another schedule.
    """
    import torch

    plain = (int, float, str, list, tuple, type(None))
    if not all(isinstance(value, plain) for value in arguments.values()) or len(optimizer.param_groups) > 1:
        return
    taken = inspect.signature(type(optimizer)).parameters  # AdamW's groups hold what Adam alone takes
    given = {
        key: value for key, value in optimizer.param_groups[0].items() if key in optimizer.defaults and key in taken
    }
    twin = type(optimizer)([torch.nn.Parameter(torch.zeros(1, 1))], **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = _named(ns.optim.lr_scheduler, reference, "schedule", name, twin, arguments)
        try:
            for _ in range(3):
                twin.step()
                schedule.step(1.0) if isinstance(
                    schedule, torch.optim.lr_scheduler.ReduceLROnPlateau
                ) else schedule.step()
                rate = float(twin.param_groups[0]["lr"])
                if not 0 <= rate <= LARGEST:
                    raise ArithmeticError(f"they lead to a learning rate of {rate}")
        except MISTAKES as error:
            raise ValueError(
                f"schedule_args must be what {name} takes, they are {arguments}: {reason(error)}"
            ) from None


def _named(space: Any, reference: Any, what: str, name: str, first: Any, arguments: dict[str, Any]) -> Any:
    import torch  # which the options on the command line need not

    abstract, kinds = ("Optimizer", "LRScheduler"), (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    classes = [n for n, c in vars(reference).items()
               if isinstance(c, type) and issubclass(c, kinds) and hasattr(space, n) and n not in abstract]  # fmt: skip
    one_of(what, name, classes)
    return called(what, getattr(space, name), first, **arguments)
