"""Checkpoints of the scripts: whole epochs, from which `--resume` goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core import checkpoint as files
from ..core.resume import load as kept
from ..core.resume import refuse_other, restore_generators
from ..core.resume import restore as restore
from ..core.resume import save as save
from .common import note

read, write = files.load, files.save  # of a state as it stands


def load(path: str | Path, *keys: str, options: dict[str, Any], override: bool = False) -> dict[str, Any]:
    """The state that `save` wrote; the generators are put where they were.

    ValueError where the file is missing, damaged, none of this script's, or of other options than these (without override).
    """
    state = kept(path, "this script", *keys)
    if not override:
        refuse_other(state["options"], options, "--override true")
    restore_generators(state["generators"])
    return state


def newest(folder: Path, pattern: str) -> Path | None:
    """The newest whole checkpoint in a run's folder; a broken one is told and passed over."""
    for path in sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if files.whole(path):
            return path
        note(f"{path} is not whole, it is passed over")
    return None


def resolved(resume: str | None, runs: str | Path, name: str, pattern: str = "*.pt") -> Path | None:
    """The file that --resume means: itself, the newest whole one of a run's folder, or, by auto, of the last run NNN-name.

    None for auto where there is none yet, and for None. ValueError where a folder has none.
    """
    if resume is None:
        return None
    if resume == "auto":
        there = [path for path in Path(runs).glob(f"*-{name}") if path.name.removesuffix(f"-{name}").isdecimal()]
        for folder in sorted(there, key=lambda path: int(path.name.split("-")[0]), reverse=True):
            if (path := newest(folder, pattern)) is not None:
                note(f"goes on from {path}")
                return path
        note(f"{runs} has no checkpoint of a run {name}, a new one begins")
        return None
    if not Path(resume).is_dir():
        return Path(resume)
    if (path := newest(Path(resume), pattern)) is None:
        raise ValueError(f"the folder must hold a whole checkpoint, {resume} holds none")
    return path
