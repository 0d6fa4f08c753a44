"""What a wrong value looks like: which hypothesis explains it, and where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...samples import Sample, exactly

SIGN = "the sign is wrong"
Hypothesis = tuple[str, Callable[[], Tensor | None]]


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two values are the same but for rounding, as a whole."""
    if a.shape != b.shape or not bool(a.isfinite().all() and b.isfinite().all()):
        return False
    return float((a - b).norm()) <= tolerance * float(b.norm()) and float(b.norm()) > 0


def diagnose(
    actual: Tensor, truth: Tensor, eps: float, hypotheses: Iterable[Hypothesis], near: dict[str, Tensor]
) -> str:
    """In words, what it is; empty where nothing fits.

    hypotheses: what the value would be if ...; near: the tensors by name that a missing term may be proportional to.
    """
    a, t = exactly(actual.detach()).cpu(), truth.detach().cpu()
    t = t.to(a.dtype)
    if a.is_complex() or a.shape != t.shape or not a.numel():
        return ""
    tolerance = max(64 * eps, 1e-6)
    wrong = ~torch.isclose(
        a, t, rtol=tolerance, atol=tolerance * float(t.nan_to_num(0, 0, 0).abs().max()), equal_nan=True
    )
    if bool((a.isnan() & ~t.isnan()).any()) or bool((a.isinf() & ~t.isinf()).any()):
        what = "NaN" if bool((a.isnan() & ~t.isnan()).any()) else "infinite"
        return f"{what} where float64 is finite: an overflow, a division by zero, or memory that was never written"
    if bool((t.isnan() & ~a.isnan()).any() or (t.isinf() & ~a.isinf()).any()):
        return "finite where float64 is not: NaN or infinity is lost"
    if not bool(a.any()):
        return "all zeros"
    factor = ratio(a, t, tolerance) if bool(wrong.any()) else ""
    if factor == SIGN:
        return factor
    distance = float((a - t).norm())
    for text, value in hypotheses:
        try:
            guess = value()
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, NotImplementedError):
            continue
        if guess is None:
            continue
        guess = guess.detach().cpu().to(torch.float64)
        if guess.shape == t.shape and bool(guess.isfinite().all()):
            left, rounding = float((a - guess).norm()), 4 * eps * float(guess.norm())
            if left < 0.02 * distance or left <= min(rounding, 0.2 * distance):
                return text
    if factor:
        return factor
    if not bool(wrong.any()):
        return "a loss of precision"
    facts = location(a, t, wrong, near) if not bool(wrong.all()) else []
    if not facts and near and (missing := term(t - a, near, tolerance)):
        return missing
    if not facts and bool((a.sign() == t.sign()).all()) and float((a - t).abs().max()) < 0.02 * float(t.abs().max()):
        return "close, but less exact than torch's: an approximation, a smaller dtype inside, or another epsilon"
    return "; ".join(facts) or other_values(a, t)


def other_values(a: Tensor, t: Tensor) -> str:
    """Where it is furthest off, where nothing else can be said."""
    off = (a - t).abs().nan_to_num(0, 0, 0)
    worst = int(off.argmax())
    return f"other values: {float(a.flatten()[worst]):.6g} in place of {float(t.flatten()[worst]):.6g}, and the like"


def ratio(a: Tensor, t: Tensor, tolerance: float) -> str:
    """Off by a constant factor."""
    weight = float((t * t).sum())
    if not weight or not math.isfinite(weight):
        return ""
    factor = float((a * t).sum()) / weight
    if factor and abs(factor - 1) > 10 * tolerance and close(a, factor * t, tolerance):
        known = {f"{n}": float(n) for n in (-1, 2, -2, 0.5, -0.5, 4, 0.25, math.pi)}
        known |= {f"the size of dimension {d} ({n})": float(n) for d, n in enumerate(t.shape) if n > 1}
        known |= {f"1 / the size of dimension {d} ({n})": 1 / n for d, n in enumerate(t.shape) if n > 1}
        known |= {"1 / ln 2, a logarithm of base 2": 1 / math.log(2), "1 / ln 10, a logarithm of base 10": 1 / math.log(10),
                  "the root of 2": 2**0.5, "1 / the root of 2": 0.5**0.5}  # fmt: skip
        known |= {
            f"the number of elements ({t.numel()})": float(t.numel()),
            f"1 / the number of elements ({t.numel()})": 1 / t.numel(),
        }
        name = next((k for k, v in known.items() if v != 1 and math.isclose(factor, v, rel_tol=1e-4)), "")
        if not name and bool((t == t.flatten()[0]).all()):
            return ""  # one number is always a multiple of another
        return (
            SIGN
            if name == "-1"
            else f"off by a constant factor, {factor:.5g}"
            + (f": {name}" if name and not name.replace(".", "").replace("-", "").isdigit() else "")
        )
    return ""


def term(residual: Tensor, near: dict[str, Tensor], tolerance: float) -> str:
    """A term is missing: what lacks is constant, or proportional to a known tensor, in each row or column."""
    scale = float(residual.abs().max())
    if not scale or residual.dim() == 0:
        return ""
    dims: list[Any] = [None, *range(residual.dim() - 1, -1, -1)]
    for d in dims:
        if (residual.numel() if d is None else residual.shape[d]) < 3:  # of so few, much is constant by chance
            continue
        mean = residual.mean() if d is None else residual.mean(d, keepdim=True)
        if float((residual - mean).abs().max()) < 100 * tolerance * scale:
            return "a term is missing or added that is constant" + (f" along dimension {d}" if d is not None else "")
    for name, tensor in near.items():
        other = tensor.detach().cpu().to(torch.float64)
        if other.shape != residual.shape or not bool(other.isfinite().all()):
            continue
        for d in dims:
            part = lambda v, d=d: v.sum() if d is None else v.sum(d, keepdim=True)  # noqa: E731
            if (residual.numel() if d is None else residual.shape[d]) < 3:
                continue
            fit = part(residual * other) / part(other * other).clamp(min=1e-300) * other
            if float((residual - fit).abs().max()) < 100 * tolerance * scale:
                return f"a term is missing or added that is proportional to {name}"
    return ""


def location(a: Tensor, t: Tensor, wrong: Tensor, near: dict[str, Tensor]) -> list[str]:
    """Where it is wrong, if only in part."""
    facts: list[str] = []
    for name, tensor in near.items():
        x = tensor.detach().cpu()
        if x.shape != wrong.shape or not x.is_floating_point() or not name.startswith("argument"):
            continue
        bad, good = x[wrong], x[~wrong]
        if bad.numel() and bool((bad == bad[0]).all()) and not bool((good == bad[0]).any()):
            facts.append(f"wrong only where {name} is {float(bad[0]) + 0.0:g}")
        elif (
            len(values := bad.unique()) <= 3 and values.numel() < bad.numel() + 1 and not torch.isin(good, values).any()
        ):
            facts.append(f"wrong only where {name} is one of {', '.join(f'{float(v) + 0.0:g}' for v in values)}")
        elif good.numel() > 3 and bad.numel() > 1 and float(bad.min()) > float(good.max()):
            facts.append(f"wrong only where {name} is above {float(good.max()):.4g}")
        elif good.numel() > 3 and bad.numel() > 1 and float(bad.max()) < float(good.min()):
            facts.append(f"wrong only where {name} is below {float(good.min()):.4g}")
        elif tied(x)[wrong].all() and not tied(x).all():
            facts.append(f"wrong only at ties of {name}")
        if facts:
            return facts
    for d in range(wrong.dim()):
        other = [e for e in range(wrong.dim()) if e != d]
        lines = wrong.any(dim=other) if other else wrong
        places: list[int] = lines.nonzero().flatten().tolist()
        if 0 < len(places) < lines.numel():
            if places == list(range(places[0], lines.numel())) and places[0] > 0:
                facts.append(f"wrong only from index {places[0]} of dimension {d} on (of {lines.numel()})")
            elif len(places) == 1:
                facts.append(f"wrong only at index {places[0]} of dimension {d} (of {lines.numel()})")
            elif places == list(range(places[-1] + 1)):
                facts.append(f"wrong only up to index {places[-1]} of dimension {d} (of {lines.numel()})")
    return facts


def tied(x: Tensor) -> Tensor:
    """Which elements have an equal along the last or the first dimension."""
    found = torch.zeros_like(x, dtype=torch.bool)
    for d in {0, x.dim() - 1} if x.dim() else ():
        if x.numel() * x.shape[d] > 10**7:  # every pair of elements is compared
            continue
        found |= (x.unsqueeze(d) == x.unsqueeze(d + 1)).sum(d) > 1
    return found


def upstreams(dy: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What a careless gradient makes of the upstream gradient."""
    yield "the upstream gradient is ignored (taken for ones)", torch.ones_like(dy)
    if dy.dim() and dy.numel() > 1:
        first = dy.flatten()[0]
        yield "only the first element of the upstream gradient is used", first.expand(dy.shape)
        yield "only the first row of the upstream gradient is used", dy[:1].expand(dy.shape)
        yield "the upstream gradient is averaged", dy.mean().expand(dy.shape)
        yield "the upstream gradient is summed", dy.sum().expand(dy.shape)
        yield "the upstream gradient's last row is used for all", dy[-1:].expand(dy.shape)
    if not dy.is_contiguous():
        size = dy.untyped_storage().nbytes() // dy.element_size() - dy.storage_offset()
        flat = dy.as_strided((size,), (1,))
        if size >= dy.numel():
            yield ("the upstream gradient is read as if it were contiguous (its strides are ignored)",
                   flat[: dy.numel()].reshape(dy.shape))  # fmt: skip
        elif size:
            yield ("the upstream gradient is read as if it were contiguous (beyond an expanded tensor's memory)",
                   flat[:1].expand(dy.shape))  # fmt: skip


def pattern(failing: list[dict[str, Any]], passing: list[dict[str, Any]]) -> str:
    """What the failing calls have in common that no passing one has: an option's value, sizes, ties, a layout."""
    keys = dict.fromkeys(k for f in [*failing, *passing] for k in f if k not in ("layout", "largest", "made", "ties"))
    for key in [*keys, "ties", "made"] if passing else ():
        bad, good = ({repr(f.get(key, "the default")) for f in calls} for calls in (failing, passing))
        if not bad & good and len(bad) <= 3:
            values = " or ".join(sorted(v.strip("'") for v in bad))
            return {"ties": "only where the argument has ties", "made": f"only for samples made {values}"}.get(
                key, f"only where {key}" if key.endswith("is given") else f"only where {key} is {values}")  # fmt: skip
        if good == {"'the default'"} and "'the default'" not in bad:
            return f"only where {key} is not the default"
    if passing and (least := min(f["largest"] for f in failing)) > max(p["largest"] for p in passing):
        return f"only where a dimension is as large as {least}"
    layouts = {f["layout"] for f in failing}
    if layouts.isdisjoint({"", "dense"}):
        return f"only where the upstream gradient is {' or '.join(sorted(layouts))}"
    return ""


def ties(sample: Sample) -> bool:
    """Whether the first argument has equal elements in a row."""
    first = next(iter(sample.tensors()), None)
    return first is not None and first.is_floating_point() and bool(tied(first.detach()).any())
