"""Hold somebody's own implementation to the reference: a function, module, loss, optimizer or schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..core.pair import OPS
from .oracle.calls import Check
from .oracle.checked import checked
from .oracle.reference import dtype_named, reference_named
from .oracle.report import Finding, Report
from .oracle.subject import Mismatch

__all__ = ["Finding", "Mismatch", "Report", "check"]


def check(
    candidate: Any,
    against: Any,
    *,
    device: str = "cpu",
    dtypes: Sequence[torch.dtype | str] | None = None,
    backward: bool = True,
    beyond: bool = True,
    rows: bool = False,
    all: bool = False,
    samples: Iterable[str] | None = None,
    isolate: bool = False,
    time_limit: float = 60.0,
    may_change: Iterable[str] = (),
    where: str | Callable[..., Any] | None = None,
) -> Report:
    """Hold a candidate to the reference of that name: outputs, gradients, memory and what is beyond the first derivative.

    candidate: a function, an autograd.Function, a custom operator, a module (class or instance), a loss, an optimizer or a
    schedule. against: the name in torch.nn.functional, torch.nn, torch.optim or its lr_scheduler, or the thing itself.
    dtypes: by default float32, float64 and bfloat16, of which those that the candidate refuses everywhere are noted; one
    that is named must work. backward: whether gradients are asked for. beyond: whether the transformations are. rows: more
    rows than 65,536, too. all: every sample of the database. samples: only the samples of these names. isolate: in a
    process of its own, where a crash or more than time_limit seconds for a sample is a finding. where: the part of the
    reference's domain that the candidate is made for, a predicate on the call: an expression over the reference's argument
    names (of a module, over its constructor's and its inputs'), or a function that takes some of them; other calls are not
    made, where few are left more are made inside, and the report says what share was tried.
    may_change: the arguments,
    by the reference's names, that the candidate writes into by design ("grad_output": the upstream gradient; of an
    optimizer "grad"): no finding then, and each of its calls gets copies of its own.

    `report.ok` where there is evidence and nothing was found; `report.verdict` is "right", "wrong", or "unproven" where no
    number was compared. What was not tried, and what was guessed of the candidate's signature, is in the report.

    A call that the candidate refuses in clear words (it raises ValueError or NotImplementedError itself) is no finding: the
    report counts it among what was not tried. A crash, of another exception or from inside of what it calls, is one.

    ValueError where the name is unknown, the candidate cannot be called as the reference is, or no call lies inside.
    """
    changing = frozenset([may_change] if isinstance(may_change, str) else may_change)
    options = {"device": device, "dtypes": dtypes, "backward": backward, "beyond": beyond, "rows": rows, "all": all,
               "may_change": changing, "where": where}  # fmt: skip
    wanted = None if samples is None else list(samples)
    if isolate:
        from .oracle.isolated import isolated

        return isolated(candidate, against, wanted, time_limit, options)
    return checked(candidate, against, wanted, options)


def sample_names(against: Any, dtype: torch.dtype | str, device: str = "cpu", **options: Any) -> list[str]:
    """The names of the samples that `check` tries, for its argument `samples`."""
    kind, name = reference_named(against)
    if kind in ("optimizer", "schedule"):
        from .oracle.courses import sample_names as of_steps

        return of_steps(kind, name, options.get("where"))
    from ..manual import nn

    candidate = getattr(nn, name) if kind == "module" else OPS[name]
    defaults = {"device": device, "dtypes": [dtype], "backward": True, "beyond": False, "rows": False, "all": False,
                "may_change": frozenset(), "where": None}  # fmt: skip
    return [s.where for s in Check(candidate, kind, name, {**defaults, **options}).drawn(dtype_named(dtype))]
