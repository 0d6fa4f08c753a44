"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class NotWritten(OSError):
    """A file could not be written; what stood there before is as it was."""


def write_whole(path: str | Path, content: bytes) -> None:
    """Write the content to path; what stood there before is replaced at once, or not at all.

    NotWritten where the folder is full, read-only or gone.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        if hasattr(os, "O_DIRECTORY"):  # where a folder can be opened, its entry can be made to last
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            raise NotWritten(
                error.errno, f"{path} can't be written ({reason}); what was there before is whole"
            ) from None
        raise
