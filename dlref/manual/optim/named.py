"""Optimizers and schedules by name, with arguments from a configuration or a command line."""

from __future__ import annotations

from typing import Any

from ...core.names import called, one_of


def optimizer_named(ns: Any, name: str, parameters: Any, **arguments: Any) -> Any:
    """ns.optim.NAME(parameters, **arguments), whose step needs no closure.

    ValueError where there is none by hand, it takes no such arguments, or its step asks for a closure."""
    from ...core.optimizer import by_one_gradient
    from .. import optim

    optimizer = _named(ns.optim, optim, "optimizer", name, parameters, arguments)
    by_one_gradient(optimizer)
    return optimizer


def schedule_named(ns: Any, name: str, optimizer: Any, **arguments: Any) -> Any:
    """ns.optim.lr_scheduler.NAME(optimizer, **arguments), with the errors of `optimizer_named`."""
    from . import lr_scheduler

    return _named(ns.optim.lr_scheduler, lr_scheduler, "schedule", name, optimizer, arguments)


def _named(space: Any, reference: Any, what: str, name: str, first: Any, arguments: dict[str, Any]) -> Any:
    import torch  # which the options on the command line need not

    abstract, kinds = ("Optimizer", "LRScheduler"), (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    classes = [n for n, c in vars(reference).items()
               if isinstance(c, type) and issubclass(c, kinds) and hasattr(space, n) and n not in abstract]  # fmt: skip
    one_of(what, name, classes)
    return called(what, getattr(space, name), first, **arguments)
