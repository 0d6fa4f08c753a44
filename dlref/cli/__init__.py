"""The command line: dlref COMMAND ...; a command is a module's function of the command's name and arguments."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

# command: (module, what it does). The module is imported when the command is run.
COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("dlref.cli.train", "train a model, with checkpoints and logs, in a new folder of runs/"),
    "validate": ("dlref.cli.train", "loss and accuracy on the validation part"),
    "test": ("dlref.cli.train", "loss and accuracy on the test part"),
    "predict": ("dlref.cli.train", "what a trained model makes of the test part, in a new folder of runs/"),
    "list": ("dlref.cli.pairs", "every pair, by family or by section of the article"),
    "show": ("dlref.cli.pairs", "a pair: equation, gradient, both sources, samples"),
    "compare": ("dlref.cli.pairs", "manual against built-in over all samples, errors against float64"),
    "check": ("dlref.cli.check", "your own function, module, optimizer or schedule against the reference"),
    "bench": ("dlref.cli.bench", "times and memory of both sides: operations, optimizers, training steps"),
    "plot": ("dlref.cli.plot", "activations, boundaries or codes of a run of dlref fit, into its folder"),
    "experiment": ("dlref.cli.experiment", "the article's claims, put to the test over several seeds"),
    "report": ("dlref.cli.report", "one HTML page of all pairs, their errors, sources and training curves"),
}


def register(command: str, module: str, help: str) -> None:
    """Add a command: `dlref COMMAND ARGUMENTS` calls main("COMMAND", [ARGUMENTS]) of the module."""
    COMMANDS[command] = (module, help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments (by default the command line's) name."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(
            "usage: dlref COMMAND ...\n\nDeep learning twice: by hand-derived gradients, and by torch.nn and autograd.\n"
        )
        print("\n".join(f"  {name:10} {help}" for name, (_, help) in COMMANDS.items()))
        print("\ndlref COMMAND --help lists the options of a command, dlref --version tells the version.")
        return
    if command == "--version":
        from .. import __version__

        print(f"dlref {__version__}")
        return
    from .common import fail, told_in_one_line

    if command not in COMMANDS:
        fail(f"the command must be one of {', '.join(COMMANDS)}; it is {command!r} (see --help)")
    with told_in_one_line(trains=COMMANDS[command][0] == "dlref.cli.train"):
        importlib.import_module(COMMANDS[command][0]).main(command, rest)


def program() -> None:
    """The installed command.

    What a command imports stays until its end: the cyclic garbage collector, which would go through all of it again and
    again, is off while it is imported, and leaves it out afterwards. To take the interpreter apart in the end would last a
    second, which nobody waits for.
    """
    from . import signals

    signals.heed()
    gc.disable()
    if (command := "".join(sys.argv[1:2])) in COMMANDS:
        with contextlib.suppress(ModuleNotFoundError):  # main() tells which
            importlib.import_module(COMMANDS[command][0])
    gc.freeze()
    gc.enable()
    from .common import to_the_end

    to_the_end(main)
