"""Which kernels compute float32 matrix products on the CPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch

from .names import one_of

PRODUCTS = ("default", "onednn")


@contextlib.contextmanager
def products(which: str) -> Iterator[None]:
    """Compute float32 matrix products by oneDNN inside, on every side ("onednn"), or by torch's choice ("default").

    torch sends mm and addmm to oneDNN where bfloat16 is allowed inside of them; a CPU without AMX computes them in full
    float32 all the same, some (AMD) at twice the speed of MKL. ValueError on a CPU with AMX, where they would be rounded.
    """
    one_of("products", which, PRODUCTS)
    if which == "default":
        yield
        return
    if torch.cpu._is_amx_tile_supported():
        raise ValueError("products must be default on this CPU: it has AMX, and oneDNN would compute in bfloat16")
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


@functools.cache
def onednn_rounds_as_float32() -> bool:
    """Whether products("onednn") is float32 in full on this CPU, which is seen at a sum that bfloat16 has not."""
    if torch.cpu._is_amx_tile_supported() or not torch.backends.mkldnn.is_available():
        return False
    x = torch.full((256, 256), 1 + 2**-12)
    with products("onednn"):
        return bool(torch.allclose(x @ x, (x.double() @ x.double()).float(), rtol=1e-5))
