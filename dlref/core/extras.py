"""What is installed on demand: optional packages, and the extra of pyproject.toml that brings each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

EXTRAS = {
    **dict.fromkeys(("lightning", "torchmetrics", "tensorboard", "torchvision", "matplotlib", "yaml"), "train"),
    **dict.fromkeys(("sklearn", "scipy"), "sklearn"),
    **dict.fromkeys(("jinja2", "latex2mathml", "pygments"), "report"),
    **dict.fromkeys(("onnx", "onnxscript"), "onnx"),
}


@contextlib.contextmanager
def optional() -> Iterator[None]:
    """Say which extra brings a package that is imported inside and not installed; ModuleNotFoundError as Python's own."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (told := lacking(error)) is None:
            raise
        raise ModuleNotFoundError(told, name=error.name) from None


def lacking(error: ImportError) -> str | None:
    """What to install for an import that failed; None where it is no optional package that is missing."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return f'{package} must be installed for this, it is not: pip install "dlref[{EXTRAS[package]}]"'
