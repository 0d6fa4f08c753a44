"""What every estimator shares: the side that computes, the device, the dtype, and arrays as tensors."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

# scikit-learn's declaration of the parameters that the estimators have beside its own.
CONSTRAINTS: dict[str, list] = {
    "backend": [StrOptions({"manual", "builtin"})],
    "device": [str, torch.device],
    "dtype": [StrOptions({"float32", "float64"}), np.dtype, type, None],
}


def namespace(backend: str) -> Any:
    """dlref.manual or dlref.builtin."""
    from .. import builtin, manual

    return manual if backend == "manual" else builtin


def device_of(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the first CUDA device, or the CPU. ValueError where it is absent."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or another name of a torch device, it is {device!r}"
        ) from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={str(device)!r} needs a CUDA device that torch sees, it sees {torch.cuda.device_count()}: "
                         "take device='auto' or 'cpu'")  # fmt: skip
    return found


def dtype_of(dtype: Any, default: Any) -> np.dtype:
    """float32 or float64: the estimator's `dtype`, or that of the data. ValueError for another."""
    found = np.dtype(default if dtype is None else dtype)
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32, float64 or None (that of the data), it is {dtype!r}")
    return found


def dense(X: Any) -> np.ndarray:
    """An array, also of a sparse one."""
    return X.toarray() if hasattr(X, "toarray") else X


def tensor_of(array: Any, device: torch.device, dtype: np.dtype | None = None) -> Tensor:
    """An array as a tensor, dense if it was sparse; on the CPU it shares memory where it can."""
    array = np.asarray(dense(array), dtype)
    if any(stride < 0 for stride in array.strides):  # torch has no negative strides
        array = array.copy()
    with warnings.catch_warnings():  # of read-only memory, which nobody writes to
        if not array.flags.writeable:
            warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array).to(device)


def parameters(
    first: dict[str, Any] | None = None, without: Collection[str] = (), **ours: Any
) -> Callable[[type], type]:
    """Give a class the constructor of the estimator that it extends, with these parameters, by keyword, more.

    first: those that come before all others, and may be given by position. without: names of those that it shall not have;
    they are attributes of their default.
    """
    begin = first or {}

    def extended(cls: type) -> type:
        construct = cls.__init__  # type: ignore[misc]
        theirs = inspect.signature(construct).parameters
        own, *kept = [p for name, p in theirs.items() if name not in {*begin, *without, *ours}]
        front = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=v) for k, v in begin.items()]
        more = [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in ours.items()]
        signature = inspect.Signature([own, *front, *kept, *more])

        def __init__(*args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            construct(**{name: value for name, value in bound.arguments.items() if name in theirs})
            for name in (*begin, *ours):
                setattr(bound.arguments["self"], name, bound.arguments[name])

        __init__.__signature__ = signature  # type: ignore[attr-defined]
        __init__.__qualname__ = f"{cls.__qualname__}.__init__"
        cls.__init__ = __init__  # type: ignore[misc]
        return cls

    return extended


class Rows:
    """The rows of an array as tensors on a device; a sparse one stays where it is, and only the rows asked for become dense."""

    def __init__(self, X: Any, device: torch.device, dtype: np.dtype):
        self.sparse = X.tocsr() if hasattr(X, "tocsr") else None
        self.dense = None if self.sparse is not None else tensor_of(X, device, dtype)
        self.device, self.dtype, self.shape = device, dtype, X.shape

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        if self.dense is not None:
            return self.dense[index] if isinstance(index, slice) else self.dense.index_select(0, index)
        rows = index.cpu().numpy() if isinstance(index, Tensor) else index
        return tensor_of(self.sparse[rows].toarray(), self.device, self.dtype)  # type: ignore[index]
