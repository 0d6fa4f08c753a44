"""Whose classes a configuration may name, and how large it may be: what is not allowed is not even imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

OURS = ("dlref", "lightning", "torch")
LETTERS, NODES, DEPTH = 1_000_000, 100_000, 100  # of a configuration, its aliases written out
allowed_before: set[str] = set()


def allowed(arguments: Sequence[str]) -> list[str]:
    """The arguments without --allow PACKAGE, after which classes of those packages may be named too.

    It is read here and by no parser, so that no configuration can give it.
    """
    rest: list[str] = []
    packages: set[str] = set()
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name != "--allow":
            rest.append(argument)
            continue
        package = value if equals else next(given, "")
        if not all(part.isidentifier() for part in package.split(".")):
            raise ValueError(f"--allow must be followed by a package, as --allow mine, it is by {package!r}")
        packages.add(package)
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*", *allowed_before - packages], import_path_allowlist=[*OURS, *packages],
        instantiate_subclass_spec_in_any=False,
    )  # fmt: skip
    allowed_before.update(packages)
    if packages and not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(
            str(Path.cwd())
        )  # where one's own module lies; last, so that nothing there takes another's place
    read: Any = jsonargparse.get_loader("yaml")
    if read is not bounded_load:
        bounded_load.read = read  # type: ignore[attr-defined]
        jsonargparse.set_loader("yaml", bounded_load, (yaml.YAMLError, ValueError))
    return rest


def bounded_load(stream: str) -> Any:
    """jsonargparse's own reading of a text that is not too large."""
    bounded(stream)
    return bounded_load.read(stream)  # type: ignore[attr-defined]


def bounded(text: str) -> None:
    """ValueError where a configuration, its aliases written out, has too many letters or parts or is too deep; linear."""
    if len(text) > LETTERS:
        raise ValueError(f"a configuration must have at most {LETTERS:,} letters, this one has {len(text):,}")
    if len(text) < DEPTH and "*" not in text:
        return
    sizes: dict[str, int] = {}
    open_parts: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"a configuration must not hold itself, this one does by *{event.anchor}")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_parts.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_parts.pop()
            if anchor:
                sizes[anchor] = total - before
        if total > NODES or len(open_parts) > DEPTH:
            raise ValueError(f"a configuration must have at most {NODES:,} parts in {DEPTH} levels, its aliases written out; "
                             "this one has more")  # fmt: skip


def refusal(message: str) -> str:
    """jsonargparse's words for a class that is not allowed, in ours."""
    found = re.search(r"Importing '([\w.]+)' is not allowed, denied by", message)
    if found is None:
        return message
    path = found[1]
    return (f"{path} must be a class of {', '.join(OURS[:-1])} or {OURS[-1]}: if you trust whose it is, give "
            f"--allow {path.partition('.')[0]} on the command line")  # fmt: skip
