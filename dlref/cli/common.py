"""What every command and script shares: wrong use ends in one clear line, and each run has a folder of its own."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import inspect
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import jsonargparse

from ..core.extras import lacking
from ..core.files import NotWritten
from ..core.interrupt import Interrupted, NotFinite, held
from ..core.names import device_named as device_named
from ..core.names import reason
from ..core.ranges import check_number
from . import signals
from .signals import first_process

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DEBUG = "JSONARGPARSE_DEBUG"  # jsonargparse's own switch; set, wrong use shows its traceback here as there
PLACES = {"checkpoint", "data_dir", "dirpath", "folder", "json", "junit", "out", "plot", "runs"}  # options
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # no fault of who calls


class OneLine:
    """Mixin for jsonargparse's parsers: a wrong argument is told in one line, without the usage before it, and a number outside
    its option's range is one."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        try:
            found = super().parse_args(*args, **kwargs)  # type: ignore[misc]
        except (RecursionError, ArithmeticError, ValueError, TypeError, AttributeError, LookupError) as error:
            if os.environ.get(DEBUG):
                raise
            self.error(reason(error))  # a value that jsonargparse itself stumbles over
        try:
            for name, value in found.items(branches=False):
                check_number(name.replace(".init_args.", "."), value)
                if isinstance(value, str) and not value.strip() and name.rpartition(".")[2] in PLACES:
                    raise ValueError(f"{name} must name a file or a folder, it is empty: leave it out")
        except ValueError as error:
            self.error(str(error))
        return found

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error or os.environ.get(DEBUG):  # type: ignore[attr-defined]
            super().error(message, ex)  # type: ignore[misc]
        fail(f"{message} (see --help)")


class Parser(OneLine, jsonargparse.ArgumentParser):
    """jsonargparse's parser, brief when it is used wrongly."""


def fail(message: object) -> NoReturn:
    """Say in one line what is wrong, and exit with status 2."""
    beginning.take_back()
    end(message, 2)


def end(message: object, status: int) -> NoReturn:
    """Say in one line why the program ends, and end it."""
    tell(f"error: {' '.join(str(message).split())}")
    sys.exit(status)


def tell(line: str) -> None:
    program = Path(sys.argv[0]).name.replace("__main__.py", "dlref")  # python -m dlref
    sys.stderr.write(f"{program}: {line}\n")


def note(text: str) -> None:
    """Say, in the first of several processes, what is worth knowing and stops nothing."""
    if first_process():
        print(f"note: {text}", file=sys.stderr)


def tell_interrupted() -> None:
    """Say, in the first of several processes, that a signal has ended the program, and take back what no run has begun with."""
    kept = ", ".join(f"{folder}/" for folder in beginning.kept)
    beginning.take_back()
    if first_process():
        tell(f"interrupted; what is done so far lies in {kept}" if kept else
             "interrupted, nothing was written: start it again")  # fmt: skip


def alone(error: Exception) -> None:
    """End at once, in one line, where the error says that another of several processes is gone; its status is 1, or of a signal
    that this one has got."""
    if "torch" not in sys.modules:
        return
    from ..core.parallel import lost

    if (told := lost(error)) is not None:
        number = held["received"]
        if not number or first_process():
            tell(f"error: {told}")
        sys.stderr.flush()
        os._exit(128 + number if number else 1)  # what ends in an orderly way would wait for the others


def leave(status: Any) -> NoReturn:
    """End the process without taking the interpreter apart, which lasts a second and makes extensions complain of leaks."""
    if isinstance(status, str):
        print(status, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if isinstance(status, str) else status or 0)


def to_the_end(call: Callable[[], None]) -> NoReturn:
    """Call what a program is, and end the process with its status."""
    status: Any = 0
    try:
        call()
    except SystemExit as ended:
        status = ended.code
    except Exception:
        traceback.print_exc()
        status = 1
    leave(status)


class Beginning:
    """What a run has made so far, and whether it has begun: until then what fails is wrong use, and nothing of it is left."""

    def __init__(self) -> None:
        self.again()

    def again(self) -> None:
        self.over, self.folder, self.parents, self.kept = False, list[Path](), list[Path](), list[Path]()

    def end(self) -> None:
        """The run has begun: what it has made stays."""
        self.kept += self.folder
        self.over, self.folder, self.parents = True, [], []

    def take_back(self) -> None:
        for folder in self.folder:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self.parents:
            with contextlib.suppress(OSError):  # somebody else's run is in it
                folder.rmdir()


beginning = Beginning()


@contextlib.contextmanager
def quiet_writers() -> Iterator[None]:
    """Of a full disk a thread says nothing itself, as TensorBoard's, whose error is raised again where the next event is
    logged."""
    before = threading.excepthook

    def told(about: threading.ExceptHookArgs) -> None:
        if getattr(about.exc_value, "errno", None) not in DISK:
            before(about)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = before


@contextlib.contextmanager
def told_in_one_line(trains: bool = False) -> Iterator[None]:
    """Turn what wrong use raises, ValueError and OSError, and a missing optional package into one line and status 2; Ctrl-C
    into status 130. Of what trains, whatever fails before it has begun is wrong use, and what fails later has status 1, as has
    a disk that takes no more."""
    beginning.again()
    try:
        signals.ready()
        with quiet_writers():
            yield
    except (KeyboardInterrupt, Interrupted, SystemExit) as stopped:
        if isinstance(stopped, SystemExit) and not held["received"]:  # Lightning's SIGTERMException is one, of status 0
            raise
        told = getattr(stopped, "told", None)
        if isinstance(told, str):
            print(f"\n{told}", flush=True)
        elif not told and not isinstance(stopped, KeyboardInterrupt):
            tell_interrupted()
        sys.exit(128 + (held["received"] or getattr(stopped, "number", signal.SIGINT)))
    except Exception as error:
        package = lacking(error) if isinstance(error, ModuleNotFoundError) else None
        foreseen = isinstance(error, (ValueError, OSError)) or package is not None
        if os.environ.get(DEBUG):
            raise
        alone(error)
        if isinstance(error, OSError) and (isinstance(error, NotWritten) or error.errno in DISK):
            beginning.take_back()
            end(error if error.filename or isinstance(error, NotWritten) else
                f"{error.strerror}: make room, and start again; a training goes on with --resume auto", 1)  # fmt: skip
        if isinstance(error, NotFinite) or (beginning.over and foreseen):
            end(error, 1)
        if not (foreseen or (trains and not beginning.over)):
            raise
        fail(package or (error if foreseen else reason(error)))


def script(function: Callable[..., Any]) -> None:
    """Run a script's function; its parameters are the command line's options, its docstring their help."""

    @functools.wraps(function)
    def with_plain(**options: Any) -> Any:
        """Numbers of jsonargparse's own types, as PositiveInt, are numbers from here on: a checkpoint holds no others."""
        from ..core.resume import plain  # here, so that --help need not wait for torch

        return function(**{name: plain(value) for name, value in options.items()})

    def call() -> None:
        with told_in_one_line(trains=True):
            options = inspect.signature(function).parameters.values()
            arguments = listed(sys.argv[1:], {p.name for p in options if str(p.annotation).startswith("str")})
            jsonargparse.auto_cli(with_plain, args=arguments, as_positional=False, parser_class=Parser)

    if signals.is_program():
        to_the_end(call)
    call()


def listed(arguments: Iterable[str], texts: Container[str] = ()) -> list[str]:
    """128,64 is the list [128,64], but as the text of an option of one of these names; everything else stays as it is."""
    found, before = [], ""
    for argument in arguments:
        option, equals, value = argument.rpartition("=")
        name = (option or before).rpartition(".")[2].removeprefix("--").replace("-", "_")
        is_list = re.fullmatch(r"\d+(,\d+)+,?", value) and name not in texts
        found.append(f"{option}{equals}[{value}]" if is_list else argument)
        before = argument
    return found


def new_run(parent: str | Path, name: str) -> Path:
    """A new folder parent/NNN-name, numbered after those that are there; an existing one is never used again."""
    try:
        absent = [folder for folder in (Path(parent), *Path(parent).parents) if not folder.exists()]
        Path(parent).mkdir(parents=True, exist_ok=True)
        beginning.parents += absent
        number = max((int(n) for p in Path(parent).iterdir() if (n := p.name.split("-")[0]).isdecimal()), default=0)
        while True:
            number += 1
            with contextlib.suppress(FileExistsError):  # another run took the number in between
                (folder := Path(parent, f"{number:03d}-{name}")).mkdir()
                beginning.folder.append(folder)
                return folder
    except OSError as error:
        raise ValueError(
            f"the run folder must be writable, {parent} is not ({error.strerror}): choose another"
        ) from None


def print_table(console: Console, table: Table, *prose: str) -> None:
    """A table with every name and number whole, where need be wider than the terminal or 80 columns of a file; only headers and
    the columns with a header of `prose` are broken, between words."""
    free = console.options.update_width(100_000)
    sizes = []
    for column in table.columns:
        header, *cells = (console.measure(cell, options=free) for cell in (column.header, *column.cells))
        least = max([header.minimum, *(cell.minimum if column.header in prose else cell.maximum for cell in cells)])
        sizes.append((column, least, max([header.maximum, *(cell.maximum for cell in cells)])))
    lines = 3 * len(sizes) + 1  # between the columns, a space on each side of each
    room = max(0, console.width - lines - sum(least for _, least, _ in sizes))
    for column, least, most in sizes:
        column.width = least + (taken := min(most - least, room))
        room -= taken
    table.width = lines + sum(column.width or 0 for column in table.columns)
    console.print(table, crop=False)
