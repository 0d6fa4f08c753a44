"""Numbers that are not finite: found in data before the first step, and named where a step makes them."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .flat import coalesce
from .interrupt import NotFinite
from .names import one_of
from .parallel import ranks, total

MODES = ("stop", "skip", "ignore")
CURE = "lower the learning rate, clip the gradients, or standardise the data"


def check_finite(**data: Any) -> None:
    """ValueError where data hold a number that is not finite, with its place; tensors by name, None is passed over."""
    for name, values in data.items():
        if isinstance(values, Tensor) and (place := bad_place(values)) is not None:
            raise ValueError(f"{name} must be finite, {name}{place}: leave such samples out, or fill what is missing")


def bad_place(values: Tensor) -> str | None:
    """Where the first number that is not finite stands, as [17, 3] is nan; None where there is none."""
    if not (values.is_floating_point() or values.is_complex()) or all_finite([values]):
        return None
    values = values.coalesce().values() if values.is_sparse else values
    first = (~values.isfinite()).nonzero()[0].tolist()
    return f"{first if first else ''} is {values[tuple(first)].item()}"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite: their sums are, or else, where finite numbers may have overflowed, each of them."""
    tensors = list(tensors)
    if (together := coalesce([t.detach() for t in tensors[1:]])) is not None:  # gradients that are one tensor's parts
        tensors = [tensors[0], together]
    dense = [t.detach().coalesce().values() if t.is_sparse else t.detach() for t in tensors]
    sums = [t.sum() if t.dim() else t for t in dense]
    if len({(one.dtype, one.device) for one in sums}) == 1:
        sums = [sum(sums[1:], sums[0])]
    return all(math.isfinite(abs(one.item())) for one in sums) or all(bool(t.isfinite().all()) for t in dense)


def agreed(fine: bool, device: torch.device) -> bool:
    """Whether it is fine in each of several processes, which then do the same; asked of all at once."""
    return total(torch.tensor(float(fine), device=device)).item() == ranks()[1]


class Watch:
    """What a training does where a number is not finite: "stop" raises NotFinite before the update, "skip" leaves it out.

    Call it between gradients and update; it tells whether to update. ValueError where the mode is unknown.
    """

    def __init__(self, network: nn.Module, mode: str, together: bool = False):
        """together: whether several processes train the network, which then all do the same."""
        one_of("on_nonfinite", mode, MODES)
        self.together = together
        self.network, self.mode, self.skipped, self.taken = network, mode, 0, 0
        self.gradients = True  # but those of a loss that is scaled may be infinite, which the scaler deals with

    def __call__(self, error: Tensor, x: Any, place: str) -> bool:
        if self.mode == "ignore":
            return True
        grads = [p.grad for p in self.network.parameters() if p.grad is not None] if self.gradients else []
        here = all_finite([error, *grads])
        if agreed(here, error.device) if self.together else here:
            self.taken += 1
            return True
        if self.mode == "stop":
            found = diagnosis(self.network, x, error) if not here else "a number of another process is not finite"
            raise NotFinite(f"{found} in {place}: {CURE}; on_nonfinite skip leaves such batches out")
        self.skipped += 1
        return False

    def at(self, x: Any, place: str) -> Callable[[Tensor], bool]:
        """The watch of one batch, called with its error."""
        return lambda error: self(error, x, place)

    def after(self, error: Tensor, x: Any, place: str) -> None:
        """The same, where a graph holds gradient and update: the parameters are looked at."""
        if self.mode != "ignore" and not all_finite([error, *self.network.parameters()]):
            raise NotFinite(f"{diagnosis(self.network, x, error)} in {place}: {CURE}")

    def epoch(self, number: int) -> None:
        """At the end of an epoch: the parameters are finite, and not every update was left out."""
        if self.mode == "ignore":
            return
        if (found := bad_tensor(self.network.named_parameters())) is not None:
            raise NotFinite(f"the parameter {found} after epoch {number}: {CURE}")
        if self.skipped and not self.taken:
            raise NotFinite(f"no batch of epoch {number} had a finite loss and finite gradients: {CURE}")
        if self.skipped:
            warnings.warn(f"{self.skipped} of {self.skipped + self.taken} updates of epoch {number} were left out, as a loss "
                          "or gradient was not finite", stacklevel=3)  # fmt: skip
        self.skipped = self.taken = 0


def bad_tensor(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    return next((f"{n}{place}" for n, t in named if t is not None and (place := bad_place(t)) is not None), None)


def diagnosis(network: nn.Module, x: Any, error: Tensor) -> str:
    """What is not finite first: the input, a parameter, a module's output, the loss, or a gradient."""
    if isinstance(x, Tensor) and (place := bad_place(x)) is not None:
        return f"the input x{place}"
    if (found := bad_tensor(network.named_parameters())) is not None:
        return f"the parameter {found}"
    if (found := first_output(network, x)) is not None:
        return f"the output of {found}"
    if not all_finite([error]):
        return f"the loss is {error.item()}"
    grads = ((name, p.grad) for name, p in reversed(list(network.named_parameters())))
    return f"the gradient of {bad_tensor(grads)}"


@torch.no_grad()
def first_output(network: nn.Module, x: Any) -> str | None:
    """The first module whose output is not finite, in the order in which they end; the network stays as it is."""
    found: list[str] = []

    def looked_at(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and (place := bad_place_in(output)) is not None:
                found.append(f"{name or 'the network'} ({type(module).__name__}){place}")

        return look

    before = [buffer.clone() for buffer in network.buffers()]
    hooks = [module.register_forward_hook(looked_at(name)) for name, module in network.named_modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            network(x)
    except Exception:  # what cannot be looked at has no name
        return None
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, old in zip(network.buffers(), before, strict=True):
            buffer.copy_(old)
    return found[0] if found else None


def bad_place_in(output: Any) -> str | None:
    return next((place for t in tensors_in(output) if (place := bad_place(t)) is not None), None)


def tensors_in(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for one in output:
            yield from tensors_in(one)


@contextlib.contextmanager
def told_of_anomalies() -> Iterator[None]:
    """Let what detect_anomaly finds under autograd be NotFinite, as it is by hand."""
    try:
        yield
    except RuntimeError as error:
        if not torch.is_anomaly_enabled() or "returned nan values" not in str(error):
            raise
        raise NotFinite(f"{str(error).splitlines()[0]} {CURE[0].upper()}{CURE[1:]}") from error


def without_nan(name: str, gradients: list[Tensor | None]) -> list[Tensor | None]:
    """The gradients of an operation; NotFinite with its name where one is NaN, as torch's detect_anomaly says of its own."""
    for i, gradient in enumerate(gradients):
        if gradient is not None and not gradient.is_sparse and bool(gradient.isnan().any()):
            raise NotFinite(f"Function '{name}_gradient' returned nan values in its {i}th output.")
    return gradients
