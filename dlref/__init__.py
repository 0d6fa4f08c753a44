"""dlref: deep learning twice, once derived by hand and once by torch.nn and autograd, and proof that the two agree."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import bench, builtin, data, estimators, lightning, manual, models
    from .check import Finding, Report, check
    from .compare import Comparison, compare
    from .compare_models import ModelComparison, compare_models
    from .compile_step import compile_step
    from .convert import convert
    from .manual.op import definitions
    from .mode import manual_mode
    from .pairs import Pair, pairs
    from .products import products

__version__ = "0.1.0"
__all__ = ["Comparison", "Finding", "ModelComparison", "Pair", "Report", "builtin", "check", "compare", "compare_models",
           "compile_step", "convert", "definitions", "manual", "manual_mode", "pairs", "products"]  # fmt: skip

# Name: the file that defines it. All is loaded where it is first used, so that `dlref --help` and pytest's plug-in need not
# wait for torch, nor a model for lightning, scikit-learn or torchvision.
_DEFINED = {"Comparison": "compare", "Finding": "check", "ModelComparison": "compare_models", "Pair": "pairs",
            "Report": "check", "check": "check", "compare": "compare", "compare_models": "compare_models",
            "compile_step": "compile_step", "convert": "convert", "definitions": "manual.op",
            "manual_mode": "mode", "pairs": "pairs",
            "products": "products"}  # fmt: skip
_MODULES = ("bench", "builtin", "data", "estimators", "lightning", "manual", "models")


def __getattr__(name: str) -> Any:
    if name in _DEFINED:
        value = getattr(importlib.import_module(f"{__name__}.{_DEFINED[name]}"), name)
        setattr(sys.modules[__name__], name, value)
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_DEFINED, *_MODULES})


class _Package(ModuleType):
    """The package, in which a function keeps its name when the file that is called like it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _DEFINED and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
