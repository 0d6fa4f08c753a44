"""The dtypes in which an operation computes: as autocast casts its arguments, and where they differ among themselves."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor


def cast(policy: str | dict[str, str] | None, values: tuple, device: str) -> tuple:
    """The arguments as torch.autocast casts them for its own operation of this policy."""
    if isinstance(policy, dict):
        policy = policy.get(device)
    if policy is None:
        return values
    castable = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()
                and v.dtype != torch.float64 and v.device.type == device]  # fmt: skip
    if policy == "low":
        dtype = torch.get_autocast_dtype(device)
    elif policy == "float32":
        dtype = torch.float32
    else:  # promote: to the widest that came
        dtype = functools.reduce(torch.promote_types, (v.dtype for v in castable), torch.get_autocast_dtype(device))
    return tuple(v.to(dtype) if any(v is c for c in castable) else v for v in values)


class Dtypes(NamedTuple):
    """What an operation makes of arguments of several floating or complex dtypes.

    one: the names of those that must have one dtype. promote: of those that are made of one, the widest, where none of them
    is of integers. result: of the argument whose dtype the output has.
    """

    one: tuple[str, ...] = ()
    promote: tuple[str, ...] = ()
    result: str = ""

    def fit(self, name: str, values: Any) -> Any:
        """The arguments (a named tuple) in dtypes that go together; RuntimeError where they must and do not."""
        if self.one:
            found = {n: dtype for n, dtype in dtypes_of(values, self.one).items() if inexact(dtype)}
            if len(set(found.values())) > 1:
                told = ", ".join(f"{n} {str(dtype).removeprefix('torch.')}" for n, dtype in found.items())
                raise RuntimeError(f"{name}(): its tensors must have one dtype, they have {told}: convert them")
        found = dtypes_of(values, self.promote)
        if len(set(found.values())) < 2 or not all(map(inexact, found.values())):
            return values
        # As in all of torch's arithmetic a real tensor without dimensions is a number beside those that have some.
        numbers = {n for n, dtype in found.items() if not (getattr(values, n).dim() or dtype.is_complex)}
        beside = any(getattr(values, n).dim() for n in found)
        wide = [dtype for n, dtype in found.items() if not (beside and n in numbers)]
        dtype = functools.reduce(torch.promote_types, wide)
        return values._replace(**{n: getattr(values, n).to(dtype) for n in found})


def dtypes_of(values: Any, names: tuple[str, ...]) -> dict[str, torch.dtype]:
    """Of those of the arguments that are tensors."""
    return {n: getattr(values, n).dtype for n in names if isinstance(getattr(values, n), Tensor)}


def inexact(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex
