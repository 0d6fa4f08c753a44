"""What every command and script shares: wrong use ends in one clear line, and each run has a folder of its own."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from ..core.extras import lacking
from ..core.files import NotWritten
from ..core.names import device_named as device_named

DEBUG = "JSONARGPARSE_DEBUG"  # jsonargparse's own switch; set, wrong use shows its traceback here as there

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # no fault of who calls


class OneLine:
    """Mixin for jsonargparse's parsers: a wrong argument is told in one line, without the usage before it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error or os.environ.get(DEBUG):  # type: ignore[attr-defined]
            super().error(message, ex)  # type: ignore[misc]
        fail(f"{message} (see --help)")


class Parser(OneLine, jsonargparse.ArgumentParser):
    """jsonargparse's parser, brief when it is used wrongly."""


def fail(message: object, status: int = 2) -> NoReturn:
    """Say in one line what is wrong, and exit with the status: 2 for wrong use."""
    sys.stderr.write(f"{program()}: error: {' '.join(str(message).split())}\n")
    sys.exit(status)


def program() -> str:
    """The command's name, that of `python -m dlref` too."""
    return Path(sys.argv[0]).name.replace("__main__.py", "dlref")


def alone(error: Exception) -> None:
    """End at once with status 1, in one line, where the error says that another of several processes is gone."""
    if "torch" not in sys.modules:
        return
    from ..core.parallel import lost

    if (told := lost(error)) is not None:
        sys.stderr.write(f"{program()}: error: {told}\n")
        sys.stderr.flush()
        os._exit(1)  # what ends in an orderly way would wait for the others


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what wrong use raises, ValueError and OSError, and a missing optional package into one line and status 2; a disk
    that takes no more into status 1; Ctrl-C into status 130."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get(DEBUG):
            raise
        alone(error)
        if isinstance(error, RuntimeError):
            raise
        fail(error, 1 if isinstance(error, NotWritten) or getattr(error, "errno", None) in DISK else 2)
    except ModuleNotFoundError as error:
        if os.environ.get(DEBUG) or (told := lacking(error)) is None:
            raise
        fail(told)
    except KeyboardInterrupt:
        sys.exit(130)


def script(function: Callable[..., Any]) -> None:
    """Run a script's function; its parameters are the command line's options, its docstring their help."""

    @functools.wraps(function)
    def with_plain(**options: Any) -> Any:
        """Numbers of jsonargparse's own types, as PositiveInt, are numbers from here on: a checkpoint holds no others."""
        from ..core.resume import plain  # here, so that --help need not wait for torch

        return function(**{name: plain(value) for name, value in options.items()})

    with told_in_one_line():
        arguments = [listed(argument) for argument in sys.argv[1:]]
        jsonargparse.auto_cli(with_plain, args=arguments, as_positional=False, parser_class=Parser)


def first_process() -> bool:
    """Whether this process is the first of those that torchrun, SLURM or Lightning started; the only one is."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


def listed(argument: str) -> str:
    """128,64 is the list [128,64]; everything else stays as it is."""
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}[{value}]" if re.fullmatch(r"\d+(,\d+)+,?", value) else argument


def new_run(parent: str | Path, name: str) -> Path:
    """A new folder parent/NNN-name, numbered after those that are there; an existing one is never used again."""
    try:
        Path(parent).mkdir(parents=True, exist_ok=True)
        number = max((int(n) for p in Path(parent).iterdir() if (n := p.name.split("-")[0]).isdecimal()), default=0)
        while True:
            number += 1
            with contextlib.suppress(FileExistsError):  # another run took the number in between
                (folder := Path(parent, f"{number:03d}-{name}")).mkdir()
                return folder
    except OSError as error:
        raise ValueError(
            f"the run folder must be writable, {parent} is not ({error.strerror}): choose another"
        ) from None
