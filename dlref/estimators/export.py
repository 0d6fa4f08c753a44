"""What an estimator has learnt, for the world without this library: a plain torch module, an ONNX file."""

from __future__ import annotations


class Exports:
    """Mixin of the estimators that are a network."""
