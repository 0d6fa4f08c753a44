"""The gradient that each sample of a batch gives by itself."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

from .compat import maybe_current_level
from .in_place import Held
from .modes import said, values_hidden
from .pullback import Pullback, _again, collecting


def _check_separate(module: Any) -> None:
    """ValueError where a module inside takes a batch's own statistics, by its path."""
    for path, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise ValueError("per_sample=True needs samples that do not see each other, and "
                             f"{path or 'this'} ({type(part).__name__}) takes the statistics of its batch: call eval() "
                             "where it has running ones, or take GroupNorm in its place")  # fmt: skip


def _check_same(alone: Tensor, output: Tensor) -> None:
    """ValueError where the samples' outputs, each alone, are not those of the batch, by more than rounding explains."""
    if values_hidden() or maybe_current_level() is not None or not output.is_floating_point():
        return
    size = torch.nan_to_num(output).abs().amax() if output.numel() else 0
    if not torch.allclose(alone, output, 0, float(torch.finfo(output.dtype).eps ** 0.5 * size), equal_nan=True):
        raise ValueError("per_sample=True needs samples that do not see each other, along the first dimension of inputs and "
                         "output, and here a sample's output depends on the others: use batch_first=True, eval(), or a "
                         "layer that works on each sample by itself")  # fmt: skip


def per_sample_vjp(module: Any, inputs: tuple, kwargs: dict[str, Any]) -> tuple[Any, Pullback]:
    """The module's output, and a pullback that runs forward and gradient once more, of every sample by itself."""
    _check_separate(module)
    called = inputs
    if any(getattr(m, "inplace", False) for m in module.modules()):  # the samples are run once more, as they were
        inputs = tuple(t.clone() if isinstance(t, Tensor) else t for t in inputs)
    output, _ = module.vjp(*called, **kwargs)
    # What the second run reads, and the output that it is held to.
    whose = types.SimpleNamespace(__name__=type(module).__name__, outputs=("output",), names=["an input"] * len(inputs))
    kept = Held(whose, (output,), inputs, tuple(module.parameters()))
    parameters = [p for p in module.parameters() if p.requires_grad]
    samples = {len(t) if isinstance(t, Tensor) and t.dim() else None for t in (*inputs, output)}
    if len(samples) > 1 or None in samples:
        raise ValueError("per_sample=True needs inputs and an output whose first dimensions count the samples, they have "
                         f"the shapes {[tuple(getattr(t, 'shape', ())) for t in (*inputs, output)]}")  # fmt: skip

    learns: list[bool] = []

    def one(dy: Tensor, *sample: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        with collecting() as found:
            alone, pull = module.vjp(*(t.unsqueeze(0) for t in sample), **kwargs)
            grads = pull(dy.unsqueeze(0))
        learns[:] = [g is not None for g in grads]
        return (alone.squeeze(0), [g.squeeze(0) for g in grads if g is not None],
                [found.get(p, torch.zeros_like(p)) for p in parameters])  # fmt: skip

    def pullback(dy: Any = None, needs: tuple[bool, ...] | None = None) -> tuple:
        if not isinstance(dy, Tensor) or dy.shape != output.shape:
            raise ValueError("with per_sample=True the pullback takes the upstream gradient of every sample's output, of "
                             f"shape {tuple(output.shape)}; it got {getattr(dy, 'shape', dy)}")  # fmt: skip
        _, originals, _ = kept.read()
        buffers = [(b, b._version, b.clone()) for b in module.buffers()]
        with torch.no_grad(), said(_again):
            try:
                alone, given, each = torch.vmap(one)(dy, *originals)
            except (RuntimeError, ValueError, AssertionError, IndexError) as error:
                if "random" in str(error):
                    raise ValueError("per_sample=True needs a module that draws nothing at random, as the samples are run a "
                                     "second time: use eval(), or p=0 for dropout") from error  # fmt: skip
                raise ValueError("per_sample=True runs each sample as a batch of its own, where the module fails: the first "
                                 "dimension of what is passed by position must count the samples, and what is passed by "
                                 f"keyword is the same for all ({error})") from error  # fmt: skip
            finally:
                for buffer, version, before in buffers:  # changed by the first run, once
                    if buffer._version != version:
                        buffer.copy_(before)
        _check_same(alone, output)
        for p, g in zip(parameters, each, strict=True):
            p.grad_sample = g  # type: ignore[attr-defined]
        rest = iter(given)
        grads = [next(rest) if learned else None for learned in learns]
        return (
            tuple(grads) if needs is None else tuple(g if need else None for g, need in zip(grads, needs, strict=True))
        )

    return output, pullback
