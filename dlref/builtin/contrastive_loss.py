"""Contrastive losses of two views of one batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .reduction import check_one_shape


def info_nce(query: Tensor, key: Tensor, temperature: Tensor | float = 0.07) -> Tensor:
    check_views(query=query, key=key)
    check_single(temperature=temperature)
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).t() / temperature
    return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


def siglip_loss(image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    check_views(image=image, text=text)
    check_single(scale=scale, bias=bias)
    logits = scale * (image @ text.t()) + bias
    sign = 2 * torch.eye(len(image), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum() / len(image)


def check_views(**views: Tensor) -> None:
    """ValueError where the two are not (N, D)."""
    check_one_shape(**views)
    first, *_ = views.values()
    if first.dim() != 2:
        raise ValueError(f"{' and '.join(views)} must be (N, D), they are {tuple(first.shape)}")


def check_single(**values: Tensor | float) -> None:
    """ValueError where a number is a tensor of several."""
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{name} must be a number or a tensor of one, it is {tuple(value.shape)}")
