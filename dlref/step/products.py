"""Which kernels compute float32 matrix products on the CPU.

torch sends mm and addmm to oneDNN where bfloat16 is allowed inside of them. A CPU without AMX computes them in full float32 all
the same: AMD's with AVX-512 at twice the speed, as MKL takes half of such a machine.
"""

from __future__ import annotations

import contextlib
import functools
import math
import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.compat import is_amx_tile_supported
from ..core.names import one_of

PRODUCTS = ("auto", "default", "onednn")
LARGE = 2**22  # multiplications of a step's largest product that are worth it: below, its calls cost what they gain


class products:
    """Choose which products the trainings of dlref take on the CPU, from here on, or inside of a `with`.

    "auto", at the start: oneDNN's where they are float32 in full and pay, by a rule on the CPU and the shapes, so that a
    training that is resumed takes the same. "default": torch's own choice. "onednn": oneDNN's for all float32 products.
    torch's setting is changed round each step alone, and is as it was after it. ValueError for "onednn" on a CPU with AMX,
    where they would be rounded to bfloat16.
    """

    def __init__(self, which: str):
        one_of("products", which, PRODUCTS)
        if which == "onednn":
            _check()
        self.before = _choice.which
        _choice.which = which

    def __enter__(self) -> products:
        return self

    def __exit__(self, *_: Any) -> None:
        _choice.which = self.before


class _Choice:
    which = "auto"


_choice = _Choice()


class _Switch:
    """torch's setting, which is one for the whole process: how many are inside, and what it was before the first."""

    def __init__(self) -> None:
        self.lock, self.inside, self.before = threading.Lock(), 0, ""


_switch = _Switch()


@contextlib.contextmanager
def by_onednn(on: bool = True) -> Iterator[None]:
    """Compute float32 products by oneDNN inside, on every side; those that overlap leave torch's setting as the first found it.

    ValueError on a CPU with AMX.
    """
    if not on:
        yield
        return
    _check()
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    with _switch.lock:
        if not _switch.inside:
            _switch.before, setting.fp32_precision = setting.fp32_precision, "bf16"
        _switch.inside += 1
    try:
        yield
    finally:
        with _switch.lock:
            _switch.inside -= 1
            if not _switch.inside:
                setting.fp32_precision = _switch.before


def pay(multiplications: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a step whose largest product has so many multiplications is to take oneDNN's products."""
    if dtype != torch.float32 or device.type != "cpu" or _choice.which == "default" or not onednn_rounds_as_float32():
        return False
    return _choice.which == "onednn" or (multiplications >= LARGE and faster())


class Products:
    """The products of a network's steps: `with self(x):` round a step on an input x of any shape.

    ValueError where oneDNN was asked for on a CPU with AMX (`dlref.products`).
    """

    def __init__(self, network: Any):
        self.network, self.known = network, {}  # type: ignore[var-annotated]
        self.taken = "default"

    def __call__(self, x: Any) -> contextlib.AbstractContextManager:
        shape = x.shape if isinstance(x, Tensor) else None
        key = None if shape is None else (shape, x.dtype, x.device), _choice.which  # the network is where its input is
        if key not in self.known:
            # Rows that meet a weight: of (N, features) N, of sequences and images each step and line too.
            rows = 0 if shape is None else x.numel() if not x.is_floating_point() else math.prod(shape[:-1])
            weights = [p for p in self.network.parameters() if p.dim() > 1]
            largest = max(weights, key=Tensor.numel, default=None)
            self.known[key] = largest is not None and pay(rows * largest.numel(), largest.dtype, largest.device)
        here = self.known[key]
        self.taken = "onednn" if here else "default"
        return by_onednn() if here else _NOTHING


_NOTHING = contextlib.nullcontext()


def _check() -> None:
    if is_amx_tile_supported():
        raise ValueError("products must be default on this CPU: it has AMX, and oneDNN would compute in bfloat16")


@functools.cache
def onednn_rounds_as_float32() -> bool:
    """Whether oneDNN's products are float32 in full on this CPU, which is seen at a sum that bfloat16 has not."""
    if is_amx_tile_supported() or not torch.backends.mkldnn.is_available():
        return False
    x = torch.full((256, 256), 1 + 2**-12, dtype=torch.float32)
    with by_onednn(), torch.autocast("cpu", enabled=False):
        return bool(torch.allclose(x @ x, (x.double() @ x.double()).float(), rtol=1e-5))


@functools.cache
def faster() -> bool:
    """Whether oneDNN's products take half of MKL's time here: on AMD's CPUs with AVX-512, which MKL leaves to Intel's."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    with contextlib.suppress(OSError):
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    return "AMD" in platform.processor()
