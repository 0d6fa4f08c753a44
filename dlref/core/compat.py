"""What differs between the versions of torch that dlref runs on, one entry each, and what of torch's internals it leans on."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

Version = tuple[int, int]
OLDEST: Version = (2, 11)
NEWEST: Version = (2, 15)  # that the tests have passed on


def version(text: str) -> Version:
    """Major and minor number of a version of torch; of a development version those of the release it leads to."""
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"a version of torch must begin with two numbers, it is {text!r}")
    return int(found[1]), int(found[2])


TORCH = version(torch.__version__)


@dataclass(frozen=True)
class Change:
    """What torch does since a version, and did before; true where the torch that runs has it."""

    since: Version
    what: str
    before: str
    ours: str

    def __bool__(self) -> bool:
        return self.since <= TORCH

    def __str__(self) -> str:
        return f"since torch {self.since[0]}.{self.since[1]} {self.what}"


LINEAR_CROSS_ENTROPY = Change(
    (2, 15),
    "torch.nn.functional.linear_cross_entropy, torch.nn.LinearCrossEntropyLoss and LinearCrossEntropyOptions",
    "are not there",
    "composed from linear and cross_entropy, under the same names in dlref.builtin",
)

CLAMP_AT_ITS_BOUND = Change(
    (2, 15),
    "clamp, and what is made of it (the losses with a hinge, second derivatives of elu, celu, selu and huber), has no gradient "
    "at its bound",
    "all of it",
    "as torch: both are subgradients",
)
LP_POOL_OF_INFINITE_NORM = Change(
    (2, 15), "lp_pool of an infinite norm is the largest or the least", "1", "the largest or the least"
)
LBFGS_MAXIMIZE = Change((2, 15), "LBFGS takes maximize", "it does not", "as torch")
ADAGRAD_STATE = Change(
    (2, 15),
    "Adagrad makes a parameter's state at its first step where the constructor made none",
    "KeyError for a parameter of a group that comes later, and for a state that was forgotten",
    "makes it",
)
INTERMEDIATE_RESULTS = Change(
    (2, 15),
    "Dynamo tells a Function's outputs from what it computes on the way",
    "it hands out both, so that an output that is what was computed, as after `to` its own dtype, gets a gradient of 0",
    "outputs are views of what was computed",
)
LANCZOS = Change((2, 15), "interpolate has the mode lanczos", "it does not", "as torch")


@contextlib.contextmanager
def databases() -> Iterator[None]:
    """Round an import of PyTorch's databases, torch.testing._internal, which warns of torch.jit and freezes the flags of
    torch.backends for the rest of the process."""
    free = not torch.backends.flags_frozen()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if free:
            torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True


def flags_free() -> contextlib.AbstractContextManager[None]:
    """Inside, flags of torch.backends can be set also where somebody has frozen them."""
    return getattr(torch.backends, "__allow_nonbracketed_mutation")()
