"""Every operation's forward and gradient against torch's function of its name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..core.compat import not_compilable
from ..samples import flat
from ..verify.pairs import pairs
from .cases import operation_call
from .measure import measure

# Ratio: (the variant, what it is divided by the fastest of).
BUILTIN = ("builtin", "builtin compiled")
RATIOS = {
    "forward": ("manual forward", ("builtin forward",)),
    "vjp": ("manual vjp", BUILTIN),
    "autograd": ("manual autograd", BUILTIN),
    "compiled": ("manual compiled", BUILTIN),
}


def time_operation(
    name: str,
    *,
    device: torch.device | str = "cpu",
    compile: bool = False,
    rounds: int = 20,
    seconds: float | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Seconds of an operation, by hand and built in, and the ratios: a record as `dlref bench --json` writes it.

    forward: values only. vjp: forward and gradient without autograd. autograd: both, by loss.backward()'s machinery, on
    either side. compiled: forward and gradient in one graph of torch.compile, by vjp; left out where Dynamo refuses.
    """
    variants = operation_variants(name, device, compile)
    times = measure(variants, rounds, seconds, threads)
    args, kwargs = operation_call(name, device)
    shapes = [list(v.shape) for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
    ratios = {key: vars(times.ratio(variant, bases)) for key, (variant, bases) in RATIOS.items() if variant in variants}
    return {"name": name, "family": pairs()[name].family, "shapes": shapes, "times": times.as_dict(), "ratios": ratios}


def operation_variants(name: str, device: torch.device | str = "cpu", compile: bool = False) -> dict[str, Callable]:
    """The calls that are timed. Each is forward and gradient, but for those that are named forward."""
    pair = pairs()[name]
    args, kwargs = operation_call(name, device)
    learning = [v for v in args if isinstance(v, Tensor) and v.requires_grad]
    plain = tuple(v.detach() if isinstance(v, Tensor) else v for v in args)
    values = (*args, *kwargs.values())
    needs = tuple(isinstance(v, Tensor) and v.requires_grad for v in values)
    output = pair.builtin(*args, **kwargs)
    # A scalar's upstream gradient too is given, on both sides.
    generator = torch.Generator().manual_seed(1)
    dy = tuple(torch.randn(o.shape, generator=generator).to(o.device) if o.is_floating_point() else None
               for o in flat(output))  # fmt: skip
    dy_manual: Any = dy if isinstance(output, tuple) else dy[0]

    @torch.no_grad()
    def forward(function: Callable) -> Any:
        return function(*plain, **kwargs)

    def autograd(function: Callable) -> Any:
        outputs = [(o, d) for o, d in zip(flat(function(*args, **kwargs)), dy, strict=True) if d is not None]
        return torch.autograd.grad([o for o, _ in outputs], learning, [d for _, d in outputs])

    @torch.no_grad()
    def vjp(*arguments: Any) -> Any:
        output, pullback = pair.manual.vjp(*arguments, **kwargs)
        return output, pullback(dy_manual, needs)

    variants = {"manual forward": lambda: forward(pair.manual), "builtin forward": lambda: forward(pair.builtin)}
    if not learning:  # nothing to differentiate: one_hot
        return variants
    variants |= {
        "manual vjp": lambda: vjp(*plain),
        "manual autograd": lambda: autograd(pair.manual),
        "builtin": lambda: autograd(pair.builtin),
    }
    if compile:
        # The compiler's own random numbers take ten times as long as torch's on a CPU; compile_step has torch's as well.
        torch.compiler.reset()  # the code of another operation would make this one's shapes dynamic
        explicit, function = (
            torch.compile(f, fullgraph=True, dynamic=False, options={"fallback_random": True})
            for f in (vjp, lambda *a, **k: pair.builtin(*a, **k))
        )
        for variant, work in (
            ("manual compiled", lambda: explicit(*plain)), ("builtin compiled", lambda: autograd(function))
        ):  # fmt: skip
            with contextlib.suppress(not_compilable()):  # it cannot be compiled: then it is no variant
                work()
                variants[variant] = work
    return variants
