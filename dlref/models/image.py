"""Models of images: convolutional, locally connected, residual, and by attention between patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.sizes import within_memory


@within_memory
def cnn(
    ns: Any,
    in_channels: int = 1,
    size: int = 8,
    classes: int = 10,
    channels: Sequence[int] = (32, 64),
    hidden: int = 128,
    dropout: float = 0.0,
) -> Any:
    r"""LeNet style: for each of `channels` two convolutions of 3 x 3 with ReLU and a max pooling of 2, then one hidden layer.

    Input (N, in_channels, size, size), size divisible by 2 for each stage (else ValueError); output (N, classes) logits.
    LeCun et al. 1998 (Proc. IEEE 86), section II, with ReLU and max pooling.
    """
    if size % 2 ** len(channels):
        raise ValueError(f"the size must be divisible by {2 ** len(channels)}, once by 2 a pooling, it is {size}")
    layers: list[Any] = []
    before = in_channels
    for width in channels:
        layers += [ns.nn.Conv2d(before, width, 3, padding=1), ns.nn.ReLU(),
                   ns.nn.Conv2d(width, width, 3, padding=1), ns.nn.ReLU(), ns.nn.MaxPool2d(2)]  # fmt: skip
        before = width
    features = before * (size // 2 ** len(channels)) ** 2
    layers += [ns.nn.Flatten(), ns.nn.Linear(features, hidden), ns.nn.ReLU()]
    if dropout:
        layers.append(ns.nn.Dropout(dropout))
    return ns.nn.Sequential(*layers, ns.nn.Linear(hidden, classes))


@within_memory
def locally_connected(
    ns: Any,
    in_channels: int = 1,
    size: int = 8,
    classes: int = 10,
    channels: Sequence[int] = (16, 16),
    dropout: float = 0.0,
) -> Any:
    r"""Layers of windows of 3 x 3 whose weights are not shared, the first of stride 1 and the next ones of stride 2.

    Input (N, in_channels, size, size), output (N, classes) logits. LeCun 1989, Generalization and network design
    strategies, network 3.
    """
    layers: list[Any] = []
    before = in_channels
    for i, width in enumerate(channels):
        layer = ns.nn.LocallyConnected2d(before, width, size, 3, stride=2 if i else 1, padding=1)
        layers += [layer, ns.nn.ReLU()]
        before, size = width, layer.weight.shape[0]
    layers.append(ns.nn.Flatten())
    if dropout:
        layers.append(ns.nn.Dropout(dropout))
    return ns.nn.Sequential(*layers, ns.nn.Linear(before * size**2, classes))


@within_memory
def residual_network(
    ns: Any, in_channels: int = 1, classes: int = 10, channels: Sequence[int] = (16, 32), depth: int = 1
) -> Any:
    r"""Stages of residual blocks with batch normalisation, halving the image between stages; then the mean over the image.

    depth: blocks a stage. Input (N, in_channels, H, W), output (N, classes) logits. He et al. 2015, arXiv:1512.03385.
    """

    def convolution(before: int, after: int, stride: int) -> list[Any]:
        return [ns.nn.Conv2d(before, after, 3, stride, 1, bias=False), ns.nn.BatchNorm2d(after)]

    def block(before: int, after: int, stride: int) -> list[Any]:
        body = ns.nn.Sequential(*convolution(before, after, stride), ns.nn.ReLU(), *convolution(after, after, 1))
        if before == after and stride == 1:
            shortcut = None
        else:
            shortcut = ns.nn.Sequential(ns.nn.Conv2d(before, after, 1, stride, bias=False), ns.nn.BatchNorm2d(after))
        return [ns.nn.Residual(body, shortcut), ns.nn.ReLU()]

    layers = [*convolution(in_channels, channels[0], 1), ns.nn.ReLU()]
    before = channels[0]
    for stage, width in enumerate(channels):
        for i in range(depth):
            layers += block(before, width, 2 if stage and not i else 1)
            before = width
    return ns.nn.Sequential(*layers, ns.nn.AdaptiveAvgPool2d(1), ns.nn.Flatten(), ns.nn.Linear(before, classes))


@within_memory
def vision_transformer(
    ns: Any,
    in_channels: int = 1,
    size: int = 8,
    classes: int = 10,
    patch: int = 2,
    width: int = 64,
    heads: int = 4,
    depth: int = 2,
    dropout: float = 0.0,
) -> Any:
    r"""Patches as a sequence, `depth` layers of self-attention, the mean over the patches, one affine layer.

    Input (N, in_channels, size, size), output (N, classes) logits. Dosovitskiy et al. 2020, arXiv:2010.11929.
    """
    layer = ns.nn.TransformerEncoderLayer(
        width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    encoder = ns.nn.TransformerEncoder(layer, depth, norm=ns.nn.LayerNorm(width), enable_nested_tensor=False)
    patches = ns.nn.PatchEmbedding(in_channels, width, patch, size)
    return ns.nn.Sequential(patches, encoder, ns.nn.MeanOver(1), ns.nn.Linear(width, classes))
