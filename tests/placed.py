"""Where the tests compute: `pytest --device cuda` puts there what they make without naming a device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

import dlref
from dlref.core.compat import whole

# the package names its own devices, and torch's optimizers count their steps on the CPU
APART = (str(Path(dlref.__file__).parent), str(Path(torch.optim.__file__).parent))
CONSTRUCTORS = frozenset(_device_constructors())
DEVICE = torch.device("cpu")  # `place` sets another before any test is imported

# What is about the CPU alone, and skipped on another device: files, and single tests as file::test, each with its reason.
_FILES = "what is written and read is a file's, of numbers on the CPU"
_SKLEARN = "scikit-learn's numbers are the CPU's, to the last digits"
_ASSERTS = "a GPU may answer a wrong index by ending the process's use of it"
CPU_ONLY = {
    "test_before": "what runs before the tests' own code is the same on every device",
    "test_bench": "the clock and the memory are the CPU's",
    "test_check::test_wrong_use": "the command line takes its device by an option of its own",
    "test_check::test_the_report": "it is written of the CPU, or of the device that an option of its own names",
    "test_classics": _SKLEARN,
    "test_cli": "the command line takes its device by an option of its own",
    "test_compat": "what torch's versions differ in is tried on the CPU",
    "test_domain": "where a function is tried is decided on the CPU",
    "test_drawn": "its numbers, strides and refusals are held to torch's kernels of the CPU",
    "test_estimators_export": _FILES,
    "test_estimators_perceptron::test_sparsify_and_export": _FILES,
    "test_experiments": "an experiment's numbers are the CPU's",
    "test_manual": "the kernels that are allowed are told by their names on the CPU",
    "test_losses::test_errors": _ASSERTS,
    "test_memory": "memory is counted where the CPU's allocator gives it",
    "test_modules::test_errors": _ASSERTS,
    "test_ops::test_errors": _ASSERTS,
    "test_ops::test_memory_format": "which layout torch's own kernels return is another on each device",
    "test_optim::test_kernels": "the kernels that are allowed are told by their names on the CPU",
    "test_parallel": "its processes say themselves where they compute",
    "test_pretended": "a device is pretended here",
    "test_products": "it is oneDNN's and MKL's products that are chosen from",
    "test_proof": "fifty digits are the CPU's",
    "test_prove": "the script is tried on the CPU, and given its device by an option of its own",
    "test_resume": "its runs say themselves where they train",
    "test_rooms": "it is about the source",
    "test_rounding": "the longer number that float64 is held to is the CPU's",
    "test_scripts": _FILES,
    "test_startup": "it is about what is imported",
    "test_surroundings": "it is about what a CPU's function may leave changed",
    "test_wrong_use": "the command line takes its device by an option of its own",
}


class Placed(TorchFunctionMode):
    """What tests and torch's own code make without naming a device is made on this one, but for code that stands `APART`.

    Numbers of a generator that draws elsewhere are drawn there, so that they are the same on every device.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = whole(func, kwargs)
        if torch.compiler.is_compiling() or func not in CONSTRUCTORS or kwargs.get("device") is not None:
            return func(*args, **kwargs)
        # device=None asks for the default device, wherever it stands
        frame: Any = sys._getframe(1)
        while frame.f_code.co_name == "__torch_function__":  # of a mode that is inside this one
            frame = frame.f_back
        if "device" not in kwargs and frame.f_code.co_filename.startswith(APART):
            return func(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != self.device.type:
            drawn = func(*args, **{**kwargs, "device": generator.device})
            return drawn.detach().to(self.device).requires_grad_(drawn.requires_grad)
        return func(*args, **{**kwargs, "device": self.device})


def moved(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """A data set's tensors, which are made on the CPU, where the tests compute."""
    return tuple(t.to(DEVICE) for t in tensors)


def place(device: torch.device) -> None:
    """From here on tests compute on this device: in full precision, on both sides."""
    global DEVICE
    DEVICE = device
    if device.type != "cpu":
        from dlref.verify.oracle.care import FULL, set_precision

        set_precision(FULL)
        Placed(device).__enter__()
