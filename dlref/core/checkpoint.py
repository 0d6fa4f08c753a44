"""Checkpoints: they hold numbers and texts alone, are sealed, and verified when they are read."""

from __future__ import annotations

import hashlib
import io
import os
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .files import write_whole

FORMAT = 1
# The comment that ends the archive: what the file is, and the hash of all that stands before it.
SEAL, DIGEST = b"dlref checkpoint %3d sha256 ", 64
# What a checkpoint may name beside torch's own: plain data, and torch's pieces of tensors.
NAMED = ("collections OrderedDict", "_codecs encode", "builtins set", "builtins complex", "__builtin__ set",
         "__builtin__ complex")  # fmt: skip


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, texts, lists and dictionaries, with a manifest and sealed by a hash.

    ValueError where it holds something else, which could not be read again; NotWritten where the disk refuses.
    """
    buffer = io.BytesIO()
    found = {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors(state)}
    torch.save({**state, "manifest": {**versions(), "tensors": found}}, buffer)
    if strange := _strange(buffer):
        raise ValueError(f"a checkpoint must hold tensors, numbers and texts alone, this one holds {strange}: make it one of "
                         "these, or leave it out of the hyperparameters and states")  # fmt: skip
    content = buffer.getvalue()
    seal = SEAL % FORMAT + hashlib.sha256(content).hexdigest().encode()
    # An archive ends with the length of its comment.
    write_whole(path, content[:-2] + len(seal).to_bytes(2, "little") + seal)


def load(path: str | Path, what: str = "a checkpoint of dlref's", resume: bool = True) -> dict[str, Any]:
    """The state that `save` wrote, on the CPU, with its manifest where it is sealed.

    resume: it must be sealed; else one that is not, as of an earlier version, is checked by its archive's checksums, and a
    warning says so. ValueError where the file is missing, broken, foreign or of a newer version.
    """
    try:
        with Path(path).open("rb") as file:
            sealed = _verified(file, path)
            if not sealed and resume:
                raise ValueError(f"{path} has no manifest, as of a version before it: its weights can be tested and predict, "
                                 "but nothing can go on from it exactly; train anew")  # fmt: skip
            if strange := _strange(file):
                raise ValueError(f"the checkpoint must hold tensors, numbers and texts alone, {path} holds {strange}")
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"the checkpoint must be an existing file, there is no {path}") from None
    except ValueError:
        raise
    except Exception as error:  # whatever an unpickler meets in a file that is none
        reason = " ".join(str(error).split()).split(". ")[0][:100] or type(error).__name__
        raise ValueError(f"the checkpoint must be {what}, {path} is none: {reason}") from None
    manifest: Any = state.get("manifest") if isinstance(state, dict) else None
    if not isinstance(state, dict) or (sealed and not isinstance(manifest, dict)):
        raise ValueError(f"the checkpoint must be {what}, {path} is none")
    found = {}
    for name, tensor in tensors(state):
        if (
            tensor.layout is torch.strided
            and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise ValueError(f"the checkpoint must hold every number of its tensors, {path} does not those of {name}")
        found[name] = [list(tensor.shape), str(tensor.dtype)]
    if sealed and manifest.get("tensors") != found:
        raise ValueError(f"the checkpoint must hold what its manifest says, {path} does not")
    if not sealed:
        state.pop("manifest", None)
        warnings.warn(f"{path} has no manifest, as of a version before it: it is taken for its weights", stacklevel=2)
    else:
        was = {name: manifest.get(name) for name in versions()}
        if resume and was != versions():
            warnings.warn(f"{path} was written by {_listed(was)}, here are {_listed(versions())}: it may go on in other last "
                          "digits", stacklevel=2)  # fmt: skip
    return state


def whole(path: str | Path) -> bool:
    """Whether the file is a checkpoint that `save` wrote, bit for bit."""
    try:
        with Path(path).open("rb") as file:
            return _verified(file, path)
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def versions() -> dict[str, str]:
    """Those of torch and dlref."""
    from .. import __version__

    return {"torch": str(torch.__version__), "dlref": __version__}


def tensors(state: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of nested dictionaries and lists with the path to it; what is there several times is told once."""
    seen: set[int] = set()
    todo = [(name, state)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            todo += [(f"{name}.{key}".lstrip("."), part) for key, part in items]


def _verified(file: BinaryIO, path: str | Path) -> bool:
    """Whether the file is sealed, and its content what was sealed; ValueError where it is not that any more."""
    length = len(SEAL % FORMAT) + DIGEST
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - length, 0))
    seal = file.read(length)
    kind = seal[:-DIGEST]
    start, end = (SEAL % 0).split(b"  0")
    if not (kind.startswith(start) and kind.endswith(end)):
        _checksums(file, path)
        return False
    number = kind.removeprefix(start).removesuffix(end).strip()
    if number != b"%d" % FORMAT and number.isdigit() and int(number) > FORMAT:
        raise ValueError(
            f"the checkpoint must be of format {FORMAT} or before, {path} is of {int(number)}: take a newer dlref"
        )
    file.seek(0)
    hashed, left = hashlib.sha256(), size - length - 2
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        hashed.update(part)
        left -= len(part)
    hashed.update(b"\0\0")  # the length of the comment before there was one
    if file.read() != length.to_bytes(2, "little") + SEAL % FORMAT + hashed.hexdigest().encode():
        raise ValueError(f"the checkpoint must be as it was written, {path} is damaged: take another, or train anew")
    return True


def _checksums(file: BinaryIO, path: str | Path) -> None:
    """Hold an archive without a seal to its own checksums; ValueError where it is cut, changed or no archive."""
    try:
        file.seek(-22, os.SEEK_END)  # where an archive without a comment ends
        if file.read(4) != b"PK\5\6":
            raise zipfile.BadZipFile("its end is not there")
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise zipfile.BadZipFile("it is compressed, as torch's are not")
            broken = archive.testzip()
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        OSError,
        OverflowError,
        RuntimeError,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(f"the checkpoint must be a whole file of torch's, {path} is cut or none: {error}") from None
    if broken is not None:
        raise ValueError(f"the checkpoint must be as it was written, {path} is damaged in {broken}: take another")


def _strange(file: BinaryIO) -> str:
    """What a pickle in the archive would call or make beside torch's tensors and plain data; nothing is run."""
    with zipfile.ZipFile(file) as archive:
        for part in archive.namelist():
            if part.endswith(".pkl"):
                for code, argument, _ in pickletools.genops(archive.open(part)):
                    if code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                        return f"the instruction {code.name}"
                    if code.name == "GLOBAL" and argument not in NAMED and not str(argument).startswith("torch"):
                        return str(argument).replace(" ", ".")
    return ""


def _listed(names: dict[str, Any]) -> str:
    return " and ".join(f"{name} {value}" for name, value in names.items())
