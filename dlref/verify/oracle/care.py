"""Careless and cheating candidates: guarded and poisoned memory, bits compared, what the dispatcher sees."""

from __future__ import annotations

import dis
import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...core.compat import flags_free, len_torch_function_stack, make_contiguous_strides_for, pop_torch_function_stack
from ...samples.edges import poisoned

ZONE = 64  # elements before and after
EMPTIES = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}


def bits(t: Tensor) -> Tensor:
    """The bytes of a tensor, so that NaN equals NaN and -0 does not equal 0."""
    return t.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def equal_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(bits(a), bits(b))


class Snapshot:
    """Tensors as they are now; `changed` lists those that are no longer so."""

    def __init__(self, tensors: list[Tensor]):
        self.tensors, self.bits = tensors, [bits(t) for t in tensors]
        self.shapes = [t.shape for t in tensors]

    def changed(self) -> list[int]:
        return [
            i for i, (t, was, shape) in enumerate(zip(self.tensors, self.bits, self.shapes, strict=True))
            if t.shape != shape or not torch.equal(bits(t), was)
        ]  # fmt: skip


def copier() -> Callable[[Tensor], Tensor]:
    """A copy of a tensor with its strides and what lies between its elements; of one tensor, one copy."""
    made: dict[int, Tensor] = {}

    def copied(t: Tensor) -> Tensor:
        if id(t) not in made:
            if type(t) not in (Tensor, torch.nn.Parameter) or t.layout != torch.strided or t.is_meta:
                made[id(t)] = t.detach().clone()
            else:
                plain = t.detach()
                memory = plain.new_empty(0).set_(plain.untyped_storage().clone())
                made[id(t)] = memory.as_strided(t.shape, t.stride(), t.storage_offset())
                if t.is_conj():
                    made[id(t)] = made[id(t)].conj()
            made[id(t)].requires_grad_(t.requires_grad)
        return made[id(t)]

    return copied


def set_deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def set_modes(number: int) -> None:
    while len_torch_function_stack() > number:
        pop_torch_function_stack()


# Where torch keeps how float32 products may be rounded, in its newer way: the general, which the special ones inherit, first.
_BACKENDS = torch.backends
PLACES: tuple[Any, ...] = (
    _BACKENDS, _BACKENDS.cudnn, _BACKENDS.mkldnn, _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn,  # type: ignore[attr-defined]
    _BACKENDS.mkldnn.matmul, _BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.rnn,  # type: ignore[attr-defined]
)  # fmt: skip
REDUCED = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
)  # sums of products, on a GPU
# No TF32, no bfloat16 inside, sums in float32; in the older way too, lest torch refuse to answer for the two together.
FULL = ("highest", False, "none", "none", "none", "ieee", "none", "none", "ieee", "none", "none", False, False)
AT_THE_START = ("highest", True, "none", "none", "none", "none", "tf32", "tf32", "none", "none", "none", True, True)


def precision() -> tuple:
    """How products are rounded, by torch's two ways to say it; None by the older where the newer has contradicted it."""
    older: list[Any] = []
    for read in (torch.get_float32_matmul_precision, lambda: _BACKENDS.cudnn.allow_tf32):
        try:
            older.append(read())
        except RuntimeError:
            older.append(None)
    newer = (place.fp32_precision for place in PLACES)
    return *older, *newer, *(getattr(_BACKENDS.cuda.matmul, name) for name in REDUCED)


def set_precision(values: tuple) -> None:
    products, convolutions, *newer = values
    with flags_free():
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            _BACKENDS.cudnn.allow_tf32 = convolutions
        for place, value in zip(PLACES, newer, strict=False):
            place.fp32_precision = value
        for name, value in zip(REDUCED, newer[len(PLACES) :], strict=True):
            setattr(_BACKENDS.cuda.matmul, name, value)


def autocast() -> tuple[bool, ...]:
    return tuple(torch.is_autocast_enabled(device) for device in DEVICES)


def set_autocast(values: tuple[bool, ...]) -> None:
    for device, on in zip(DEVICES, values, strict=True):
        torch.set_autocast_enabled(device, on)


def random_numbers() -> tuple[bytes, ...]:
    """The states of the generators of the CPU and, where it is in use, of CUDA."""
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]
    return tuple(state.numpy().tobytes() for state in states)


DEVICES = ("cpu", "cuda", "mps", "xpu")
PRODUCTS = "the precision of float32 products"
RANDOM_NUMBERS = "the state of the random numbers"
# What a function must leave as it is: how it is read, and how it is put back.
SURROUNDINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "autocast": (autocast, set_autocast),
    "deterministic algorithms": (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        set_deterministic,
    ),
    PRODUCTS: (precision, set_precision),
    "anomaly detection": (torch.is_anomaly_enabled, lambda on: torch.autograd.set_detect_anomaly(on)),
    "the modes of torch functions": (len_torch_function_stack, set_modes),
    "the state of Python's random numbers": (random.getstate, random.setstate),
    RANDOM_NUMBERS: (random_numbers, lambda state: None),  # every run seeds them
}


def finished(device: str) -> None:
    """Wait for what was launched on a device, so that its errors are raised here, and not by whoever asks next."""
    if not device.startswith("cpu"):
        torch.accelerator.synchronize(device)


SMALL = 1 << 20  # bytes, up to which the CUDA allocator answers from segments of their own
SEGMENTS = (SMALL, SMALL, 20 << 20)  # what makes it keep segments of both kinds
POISON = 0xFF  # every byte of a NaN, in each floating dtype, and of -1


def poison(device: str) -> None:
    """Fill what the CUDA allocator would hand out next: a kernel that reads memory which it has not written reads NaN.

    What torch's empty makes is poisoned where `Poisoned` looks; what a kernel in Triton or C++ takes comes from here.
    """
    where = torch.device(device)
    if where.type != "cuda":
        return
    empty = functools.partial(torch.empty, dtype=torch.uint8, device=where)
    held = [empty(size) for size in SEGMENTS]
    del held
    stream = torch.cuda.current_stream(where)
    index = stream.device_index
    free = [
        block["size"] for segment in torch.cuda.memory_snapshot() for block in segment["blocks"]
        if block["state"] == "inactive" and (segment["device"], segment["stream"]) == (index, stream.cuda_stream)
        and segment.get("segment_pool_id", (0, 0)) == (0, 0) and block["size"] <= SEGMENTS[-1]
        and (block["size"] <= SMALL) == (segment["segment_type"] == "small")  # else it would not be this block that comes
    ]  # fmt: skip
    _ = [empty(size).fill_(POISON) for size in sorted(free, reverse=True)]  # the largest first, lest they be split


def answered(action: Callable[[], Any], device: str) -> Any:
    """What a candidate answers on a device whose free memory is poisoned, once all that it has launched is done."""
    poison(device)
    answer = action()
    finished(device)
    return answer


def surroundings() -> dict[str, Any]:
    """What a function must leave as it is, by name."""
    return {name: read() for name, (read, _) in SURROUNDINGS.items()}


def restored(before: dict[str, Any]) -> list[str]:
    """Put the surroundings back as they were; the names of what has changed."""
    moved = [name for name, value in surroundings().items() if value != before[name]]
    for name in moved:
        SURROUNDINGS[name][1](before[name])
    return moved


@contextmanager
def usual() -> Iterator[list[str]]:
    """Inside, gradients are on and float32 is the default, as the samples have it, and products are computed in full; the names
    of what was otherwise."""
    before = surroundings()
    untouched = before[PRODUCTS] == AT_THE_START
    wanted = {"grad mode": True, "the default dtype": torch.float32, "autocast": (False,) * len(DEVICES),
              PRODUCTS: FULL}  # fmt: skip
    with torch.inference_mode(False):
        try:
            yield [name for name in restored({**before, **wanted}) if not (untouched and name == PRODUCTS)]
        finally:
            restored(before)


class Zones:
    """Memory with a zone before and after each tensor that holds NaN; whoever reads or writes there is seen."""

    def __init__(self) -> None:
        self.buffers: list[tuple[Tensor, Tensor, int, int]] = []

    def place(self, t: Tensor) -> Tensor:
        """The tensor's numbers in guarded memory, with its strides unless elements share memory."""
        if t.layout != torch.strided or not t.numel():
            return t
        shared = any(n > 1 and s == 0 for n, s in zip(t.shape, t.stride(), strict=True))
        view = self.room(t, tuple(t.shape), make_contiguous_strides_for(t.shape) if shared else t.stride())
        with torch.no_grad():
            view.copy_(t)
        return view.requires_grad_(t.requires_grad)

    def room(self, like: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], before: int = ZONE) -> Tensor:
        """Guarded memory of that shape, poisoned, the zone before it so long."""
        size = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
        buffer = poisoned(like, [before + size + ZONE])
        self.buffers.append((buffer, bits(buffer), before, before + size))
        return buffer.as_strided(shape, strides, before)

    def broken(self) -> bool:
        """Whether somebody wrote into a zone."""
        for buffer, was, *ends in self.buffers:
            now, (first, last) = bits(buffer), (end * buffer.element_size() for end in ends)
            if not (torch.equal(now[:first], was[:first]) and torch.equal(now[last:], was[last:])):
                return True
        return False


class Poisoned(TorchDispatchMode):
    """Inside, new uninitialised memory is NaN and lies between guard zones."""

    def __init__(self, zones: Zones):
        super().__init__()
        self.zones = zones

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        kind = function.overloadpacket.__name__
        if kind in EMPTIES and type(made) is Tensor and made.numel() and made.is_floating_point() and not made.is_meta:
            # Where a slice was written, autograd counts the places of its gradient from where memory begins.
            before = 0 if kind == "new_empty_strided" else ZONE
            return self.zones.room(made, tuple(made.shape), tuple(made.stride()), before)
        return made


class Trace(TorchDispatchMode):
    """The names of the kernels that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))

    def kernels(self) -> list[str]:
        """What computes: without views and bookkeeping."""
        plain = {
            "detach",
            "alias",
            "view",
            "clone",
            "lift_fresh",
            "expand",
            "t",
            "transpose",
            "unsqueeze",
            "squeeze",
            "_to_copy",
        }
        return [name for name in self.names if name not in plain]


def refusal(error: BaseException) -> bool:
    """Whether it is the candidate's own word that it does not do this: its code raises ValueError or NotImplementedError.

    What torch or Python raises in what the candidate calls is a crash.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not isinstance(error, (ValueError, NotImplementedError)) or not str(error).strip():
        return False
    code = trace.tb_frame.f_code
    raised = code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and not Path(code.co_filename).is_relative_to(Path(torch.__file__).parent)


@contextmanager
def saved() -> Iterator[list[Tensor]]:
    """The tensors that autograd saves inside."""
    found: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        if t.layout == torch.strided:
            found.append(t.detach())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        yield found
