"""What a training needs beside its parameters to go on as if it had not stopped: random generators and equal options."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch


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
