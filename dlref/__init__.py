"""dlref: deep learning twice, once derived by hand and once by torch.nn and autograd, and proof that the two agree."""

from __future__ import annotations

import importlib

from . import builtin, manual
from .check import Finding, Report, check
from .compare import Comparison, compare
from .compare_models import ModelComparison, compare_models
from .compile_step import compile_step
from .convert import convert
from .mode import manual_mode
from .pairs import Pair, pairs

__version__ = "0.1.0"
__all__ = ["Comparison", "Finding", "ModelComparison", "Pair", "Report", "builtin", "check", "compare", "compare_models",
           "compile_step", "convert", "manual", "manual_mode", "pairs"]  # fmt: skip

# Loaded where they are used: they need lightning, scikit-learn or torchvision, which take seconds to import.
_LAZY = ("bench", "data", "lightning", "models")


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
