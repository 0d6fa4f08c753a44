"""The modules of the contrastive losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import functional as F


class InfoNCELoss(nn.Module):
    """The cross entropy of each query's own key against all keys."""

    def __init__(self, temperature: float = 0.07):
        super().__init__()
        self.temperature = temperature

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return F.info_nce(query, key, self.temperature)


class SigLIPLoss(nn.Module):
    """The sigmoid loss of pairs, with the logarithm of the scale and the bias as parameters; at first the paper's."""

    def __init__(self, scale: float = 10.0, bias: float = -10.0, device=None, dtype=None):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale), device=device, dtype=dtype))
        self.logit_bias = nn.Parameter(torch.tensor(float(bias), device=device, dtype=dtype))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return F.siglip_loss(image, text, self.logit_scale.exp(), self.logit_bias)
