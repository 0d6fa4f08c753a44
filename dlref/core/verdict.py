"""What a training has come to where it has not learnt: accuracy at chance, units that are dead, a loss that has risen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

ENOUGH = 0.5  # of a layer's units, dead, to be told of
RECTIFIERS = ("ReLU", "ReLU6")
SEEN = 2000  # samples


@torch.no_grad()
def verdict(network: nn.Module, x: Tensor | None, y: Tensor | None, losses: Sequence[float], lr: float) -> str | None:
    """One line, with what to try, where a training has not learnt, or much of a layer is dead; None where all is well.

    x, y: what it was trained on; y of class indices tells whether the accuracy is better than that of always answering the
    commonest class, by two of its standard deviations. losses: of each epoch, while it was learnt.
    """
    found = []
    dead: dict[str, float] = {}
    if x is not None:
        output, dead = looked_at(network, x[:SEEN])
        if (
            y is not None
            and not y.is_floating_point()
            and y.dim() == 1
            and isinstance(output, Tensor)
            and output.dim() == 2
        ):
            y = y[:SEEN].to(output.device)
            accuracy = (output.argmax(1) == y).double().mean().item()
            chance = y.bincount().max().item() / len(y)
            if accuracy <= chance + 2 * (chance * (1 - chance) / len(y)) ** 0.5:
                found.append(f"its accuracy on what it was trained on is {accuracy:.3f}, that of chance is {chance:.3f}: give "
                             "it more epochs or another learning rate")  # fmt: skip
    if len(losses) > 1 and losses[-1] > losses[0]:
        found.append(f"its loss rose from {losses[0]:.4g} to {losses[-1]:.4g}: the learning rate {lr:g} is beyond what is "
                     "stable, lower it")  # fmt: skip
    beginning = "it has not learnt as it should" if found else "it has learnt, but not with all its units"
    layers = ", ".join(f"{share:.0%} of the units of {name}" for name, share in dead.items() if share >= ENOUGH)
    if layers:
        found.append(f"{layers} are dead, 0 for every sample: lower the learning rate, or take LeakyReLU")
    return f"{beginning}: {'; '.join(found)}" if found else None


def looked_at(network: nn.Module, x: Tensor) -> tuple[Any, dict[str, float]]:
    """The output in evaluation mode, and of each rectifier's layer the share of units that are 0 for all samples."""
    dead: dict[str, float] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if output.dim() > 1:
                units = output.movedim(1, 0).flatten(1)  # (units, samples and places)
                dead[f"{name} ({type(module).__name__})"] = (units == 0).all(1).double().mean().item()

        return hook

    named = [(n, m) for n, m in network.named_modules() if any(b.__name__ in RECTIFIERS for b in type(m).__mro__)]
    hooks = [module.register_forward_hook(look(name)) for name, module in named]
    training = network.training
    network.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            return network(x), dead
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
