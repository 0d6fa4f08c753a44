"""dlref: deep learning twice, once derived by hand and once by torch.nn and autograd, and proof that the two agree."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import bench, builtin, data, estimators, experiments, lightning, manual, models
    from .core.modes import definitions
    from .reuse.convert import convert
    from .reuse.mode import manual_mode
    from .step.compile import compile_step
    from .step.products import products
    from .verify.check import Finding, Report, check
    from .verify.compare import Comparison, compare
    from .verify.compare_models import ModelComparison, compare_models
    from .verify.pairs import Pair, pairs

__version__ = "0.1.0"
__all__ = ["Comparison", "Finding", "ModelComparison", "Pair", "Report", "builtin", "check", "compare", "compare_models",
           "compile_step", "convert", "definitions", "manual", "manual_mode", "pairs", "products"]  # fmt: skip

# Name: the file that defines it. All is loaded where it is first used, so that `dlref --help` and pytest's plug-in need not
# wait for torch, nor a model for lightning, scikit-learn or torchvision.
_DEFINED = {"Comparison": "verify.compare", "Finding": "verify.check", "ModelComparison": "verify.compare_models",
            "Pair": "verify.pairs", "Report": "verify.check", "check": "verify.check", "compare": "verify.compare",
            "compare_models": "verify.compare_models", "compile_step": "step.compile", "convert": "reuse.convert",
            "definitions": "core.modes", "manual_mode": "reuse.mode", "pairs": "verify.pairs",
            "products": "step.products"}  # fmt: skip
_MODULES = ("bench", "builtin", "data", "estimators", "experiments", "lightning", "manual", "models", "samples")


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
