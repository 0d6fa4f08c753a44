"""What a training needs beside its parameters to go on as if it had not stopped: random generators and equal options."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from . import checkpoint as files


def generators() -> dict[str, Any]:
    """The states of the random generators of torch, CUDA, numpy and Python, as tensors and numbers."""
    name, keys, *rest = numpy.random.get_state()
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [str(name), torch.from_numpy(numpy.asarray(keys, dtype=numpy.int64)), *map(_number, rest)],
        "python": [version, list(numbers), gauss],
    }


def restore_generators(states: Mapping[str, Any]) -> None:
    """Put the generators where `generators` found them; those of CUDA where there are as many devices."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, *rest = states["numpy"]
    numpy.random.set_state((name, keys.numpy().astype(numpy.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))


def save(path: str | Path, options: dict[str, Any], **state: Any) -> None:
    """Write the state, the options that it is of, and where the random generators are."""
    files.save(path, {**state, "options": plain(options), "generators": generators()})


def load(path: str | Path, whose: str, *keys: str) -> dict[str, Any]:
    """The state that `save` wrote. ValueError where the file is missing, damaged, or lacks one of the keys.

    whose: what wrote it, in the message.
    """
    state = files.load(path, f"one that {whose} wrote")
    if missing := {*keys, "options", "generators"} - set(state):
        raise ValueError(f"the checkpoint must be one that {whose} wrote, {path} lacks {', '.join(sorted(missing))}")
    return state


class Training:
    """A training's checkpoint, from which it goes on to the bit where the file is there; without a path none.

    options: what decides what is learnt, beside the optimizer and the schedule.
    """

    def __init__(self, path: str | Path | None, network: Any, optimizer: Any, schedule: Any, options: dict[str, Any]):
        self.path, self.network, self.optimizer, self.schedule = path, network, optimizer, schedule
        self.options = options | {
            "optimizer": {"class": type(optimizer).__name__, **optimizer.defaults},
            "schedule": {"class": type(schedule).__name__, **({} if schedule is None else schedule.state_dict())},
        }

    def read(self, override: bool = False) -> tuple[list[dict[str, float]], float, int]:
        """The history, the best error and the epochs waited since; all else is put where it was. A new one's without a file.

        ValueError where the file is broken, another's, or of other options, unless override.
        """
        if self.path is None or not Path(self.path).exists():
            return [], math.inf, 0
        state = load(self.path, "training.fit", "network", "optimizer", "history")
        if self.schedule is not None and plain(self.schedule.state_dict()) == plain(state["schedule"]):
            self.options["schedule"] = state["options"]["schedule"]  # the one that has come so far, not one that begins
        if not override:
            refuse_other(state["options"], self.options, "override=True")
        restore(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None and state["schedule"] is not None:
            self.schedule.load_state_dict(state["schedule"])
        restore_generators(state["generators"])
        return state["history"], state["best"], state["waited"]

    def write(self, history: list[dict[str, float]], best: float, waited: int) -> None:
        """Replace the file, at once or not at all."""
        if self.path is None:
            return
        save(self.path, self.options, network=self.network.state_dict(), optimizer=self.optimizer.state_dict(),
             schedule=self.schedule and self.schedule.state_dict(), history=history, best=best, waited=waited)  # fmt: skip


def refuse_other(theirs: Mapping[str, Any], ours: Mapping[str, Any], override: str) -> None:
    """ValueError where an option that both name has another value: what would be learnt is something else.

    override: what to do if that is meant.
    """
    was, now = flat(theirs), flat(ours)
    changed = [
        f"{name} was {was[name]!r} and is {value!r}" for name, value in now.items() if was.get(name, value) != value
    ]
    if changed:
        raise ValueError(f"a training must go on with the options that it began with: {', '.join(changed)}; give those, or "
                         f"{override} if another training is meant")  # fmt: skip


def flat(options: Any, name: str = "") -> dict[str, Any]:
    """Nested options by their path, as optimizer.lr."""
    options = plain(options)
    if not isinstance(options, dict):
        return {name: options}
    return {
        path: value for key, part in options.items() for path, value in flat(part, f"{name}.{key}".lstrip(".")).items()
    }


def plain(value: Any) -> Any:
    """The value as numbers, texts, lists and dictionaries, which a checkpoint can hold and equality compares."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # of a type that jsonargparse made of it, too
    return None if value is None else str(value)


def restore(network: Any, state: dict[str, torch.Tensor]) -> None:
    """Load a network's parameters; ValueError where they are of another architecture or dtype."""
    ours = network.state_dict()
    for name in sorted(set(ours) | set(state)):
        theirs, mine = (f"{tuple(s[name].shape)} {s[name].dtype}" if name in s else "missing" for s in (state, ours))
        if theirs != mine:
            raise ValueError(f"the checkpoint must be of this architecture: {name} is {theirs} in it, {mine} in the network; "
                             "give the options that it was trained with")  # fmt: skip
    network.load_state_dict(state)


def _number(value: Any) -> int | float:
    return value.item() if hasattr(value, "item") else value
