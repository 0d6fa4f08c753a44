"""What a classifier has learnt, as every training leaves it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .images import draw_first_weights, draw_mistakes
from .training import draw_confusion


def draw_classifier(
    folder: Path, network: torch.nn.Module, x: Tensor, y: Tensor, scores: Tensor, part: str
) -> list[str]:
    """confusion.png, mistakes.png and weights.png of images x, their classes y and the network's scores (N, classes).

    part: the images' name, as "test"; where it has none, the weights alone are drawn. Returns the files' names.
    """
    made = [draw_first_weights(folder / "weights.png", network)]
    if len(x):
        part, classes = f"{part} part:", scores.shape[1]
        made += [
            draw_confusion(folder / "confusion.png", y, scores.argmax(1), classes, part),
            draw_mistakes(folder / "mistakes.png", x, y, scores, part),
        ]
    return sorted(path.name for path in made)
