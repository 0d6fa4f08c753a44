"""What is written over in place while a pullback still has to read it: versions are counted, copies kept, gradients led on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .compat import get_unwrapped, is_functorch_wrapped_tensor, maybe_current_level


class Held:
    """What a pullback reads, and the version of each tensor when it was kept: autograd counts them, and so must we.

    A tensor that counts none (of inference mode, or while Dynamo traces) is kept as a copy, which nobody else can write to.
    """

    __slots__ = ("op", "parts", "versions")
    versions: list[int] | None

    def __init__(self, op: Any, outputs: tuple, values: tuple, saved: tuple):
        self.op, self.parts = op, (outputs, values, saved)
        if torch.compiler.is_compiling():
            self.versions = None
            self.replace(lambda t: t if isinstance(t, torch.nn.Parameter) else t.clone())
            return
        try:
            self.versions = self.count()
        except RuntimeError:
            with torch.inference_mode(False), torch.no_grad():
                self.replace(lambda t: t.clone() if t.is_inference() else t)
            self.versions = self.count()

    def count(self) -> list[int]:
        if maybe_current_level() is not None:
            return [unwrapped(t)._version for part in self.parts for t in part if isinstance(t, Tensor)]
        return [t._version for part in self.parts for t in part if isinstance(t, Tensor)]

    def replace(self, function: Callable[[Tensor], Tensor]) -> None:
        outputs, values, saved = self.parts
        change = lambda part: tuple([function(t) if isinstance(t, Tensor) else t for t in part])  # noqa: E731
        self.parts = change(outputs), change(values), change(saved)

    def part_from(self, overwritten: Tensor) -> None:
        """Keep a copy of what shares memory with a tensor that is about to be overwritten."""
        if self.versions is not None and self.versions == self.count():
            self.replace(lambda t: t.clone() if shares_memory(t, overwritten) else t)
            self.versions = self.count()

    def read(self) -> tuple[tuple, tuple, tuple]:
        """Outputs, arguments and saved tensors; torch's RuntimeError where one of them is not what it was."""
        if self.versions is not None and (now := self.count()) != self.versions:
            outputs, values, saved = self.parts
            names = [*self.op.outputs, *self.op.names, *("saved" for _ in saved)]
            tensors = [(n, t) for n, t in zip(names, (*outputs, *values, *saved), strict=True) if isinstance(t, Tensor)]
            name, t, version, was = next((n, t, v, w) for (n, t), v, w in zip(tensors, now, self.versions, strict=True)
                                         if v != w)  # fmt: skip
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{t.type()} {list(t.shape)}], which is {name} of {self.op.__name__}, is at version {version}; expected "
                f"version {was} instead. Call the pullback before it is changed, or change a clone of it."
            )
        return self.parts


def held(pullback: Any) -> Iterator[Held]:
    """All that a pullback and those that it is made of, `pullback.held`, will read."""
    for part in getattr(pullback, "held", ()):
        if isinstance(part, Held):
            yield part
        else:
            yield from held(part)


class _Watching(threading.local):
    """Who is told before a tensor is overwritten, in this thread: told(tensor, later)."""

    def __init__(self) -> None:
        self.told: list[Callable[[Tensor, list[Tensor]], None]] = []


_watching = _Watching()


class watching:
    """Let a function be told, before an operation works in place, which tensor it overwrites.

    It gets the tensor and a list: gradients put there are added to the upstream gradient of what is written, as they come
    from those who read it afterwards under the tensor's old name.
    """

    def __init__(self, told: Callable[[Tensor, list[Tensor]], None]):
        self.told = told

    def __enter__(self) -> watching:
        _watching.told.append(self.told)
        return self

    def __exit__(self, *_: Any) -> None:
        _watching.told.pop()


class Reread(watching):
    """A tensor that is read once more after what runs inside: where that writes over it, the reader's gradient enters there.

    RuntimeError where it is written over in another way (a part of it, or not by an operation), which no list tells of.
    """

    def __init__(self, tensor: Tensor):
        super().__init__(self.note)
        self.tensor, self.shape = tensor, tensor.shape
        self.later: list[Tensor] | None = None
        self.version, self.writes = 0, 0
        self.counted = not torch.compiler.is_compiling() and not tensor.is_inference()
        if self.counted:
            self.version = unwrapped(tensor)._version

    def note(self, overwritten: Tensor, later: list[Tensor]) -> None:
        if not shares_memory(overwritten, self.tensor):
            return
        self.writes += 1
        whole = overwritten.numel() == self.tensor.numel()
        same = overwritten.shape == self.tensor.shape and overwritten.stride() == self.tensor.stride()
        if not (whole and (same or (overwritten.is_contiguous() and self.tensor.is_contiguous()))):
            self.refuse()
        self.later, self.shape = later, overwritten.shape

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.counted and error[0] is None and unwrapped(self.tensor)._version != self.version + self.writes:
            self.refuse()

    def refuse(self) -> None:
        raise RuntimeError(f"a tensor of shape {tuple(self.tensor.shape)} is read again after it was written over in place, in "
                           "part or by a step without a gradient here: let what is inside work with inplace=False")  # fmt: skip

    def pull(self, pullback: Callable[..., tuple], dy: Any, own: Tensor | None, needs: Any = None) -> tuple:
        """What the pullback of what ran inside makes of dy, and the gradient of the other reader beside it."""
        if self.later is None or own is None:
            grads = pullback(dy, needs)
            return grads if own is None or grads[0] is None else (grads[0] + own, *grads[1:])
        self.later.append(own.reshape(self.shape))
        try:
            return pullback(dy, needs)
        finally:
            self.later.clear()


def overwrite(tensor: Tensor, new: Tensor) -> list[Tensor]:
    """Write the new values in place, as torch does, once it is told to all who watch; returns the list for gradients."""
    later: list[Tensor] = []
    for told in reversed(_watching.told):
        told(tensor, later)
    if not torch.compiler.is_compiling() and tensor.is_inference():
        with torch.inference_mode():
            tensor.copy_(new)
    else:
        tensor.copy_(new)
    return later


def unwrapped(t: Tensor) -> Tensor:
    """The tensor in the wrappers of torch.func: it counts the versions, and has the memory."""
    while is_functorch_wrapped_tensor(t):
        t = get_unwrapped(t)
    return t


def shares_memory(a: Tensor, b: Tensor) -> bool:
    """Whether writing to one may change the other; while Dynamo traces, only whether they are one."""
    if a is b or torch.compiler.is_compiling():
        return a is b
    a, b = unwrapped(a), unwrapped(b)
    strided = a.layout == b.layout == torch.strided
    return strided and a.untyped_storage()._cdata == b.untyped_storage()._cdata


def inference_mode() -> bool:
    """Whether torch.inference_mode is on; Dynamo, which traces without it, may not be asked."""
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()


def any_inference(values: Iterable) -> bool:
    return any(isinstance(v, Tensor) and v.is_inference() for v in values)
