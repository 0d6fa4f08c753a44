"""Checkpoints of the scripts: whole epochs, written so that an interruption can't leave half a file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def save(path: Path, **state: Any) -> None:
    """Write the state to path; what stood there before is replaced at once, or not at all."""
    unfinished = path.with_suffix(".part")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load(path: str | Path, *keys: str) -> dict[str, Any]:
    """The state that `save` wrote, on the CPU; ValueError where the file is missing, or none of ours."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"the checkpoint must be an existing file, there is no {path}") from None
    except (pickle.UnpicklingError, EOFError, RuntimeError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"the checkpoint must be a file that this script wrote, {path} is none: {reason}") from None
    if not isinstance(state, dict) or set(keys) - set(state):
        raise ValueError(
            f"the checkpoint must hold {', '.join(keys)}, {path} does not: give one that this script wrote"
        )
    return state


def restore(network: Any, state: dict[str, torch.Tensor]) -> None:
    """Load a network's parameters; ValueError where they are of another architecture or dtype."""
    ours = network.state_dict()
    for name in sorted(set(ours) | set(state)):
        theirs, mine = (f"{tuple(s[name].shape)} {s[name].dtype}" if name in s else "missing" for s in (state, ours))
        if theirs != mine:
            raise ValueError(f"the checkpoint must be of this architecture: {name} is {theirs} in it, {mine} in the network; "
                             "give the options that it was trained with")  # fmt: skip
    network.load_state_dict(state)
