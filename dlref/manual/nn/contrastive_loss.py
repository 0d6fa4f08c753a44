"""Contrastive losses: of N pairs, each of two views that belong together, the others of the batch do not."""

from __future__ import annotations

import torch

from ...builtin import functional as builtin
from ...builtin.contrastive_loss import check_single, check_views
from ...builtin.nn import contrastive_loss as builtin_nn
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import log1p_exp, logistic, wide
from .distance import normalize, normalize_gradient
from .softmax import log_normalized

UNIT = {"p": 2.0, "dim": 1, "eps": 1e-12}


def _unit(x):
    return normalize.forward(wide(x), **UNIT)


def _held(value):
    """A number, or a tensor's as a single number in the precision that is computed in."""
    return wide(value).reshape(()) if isinstance(value, torch.Tensor) else value


def _diagonal(x):
    return torch.eye(len(x), dtype=torch.bool, device=x.device)


@op(builtin=builtin.info_nce, dtypes=Dtypes(one=("query", "key")))
def info_nce(query, key, temperature=0.07):
    r"""InfoNCE: $l = -\frac1N \sum_i \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}},\quad z_{ij} = \hat q_i \cdot \hat k_j /
    \tau$, the cross entropy of each query's own key against all keys.

    query and key (N, D), normalised here as by `normalize`; temperature $\tau$ a number or a tensor of one; output a number.
    Queries against keys only: for the symmetric loss take the mean of both orders. ValueError where the shapes do not fit. van
    den Oord et al. 2018, arXiv:1807.03748, eq. 4; so normalised: Chen et al. 2020, arXiv:2002.05709, eq. 1.
    """
    z = _unit(query) @ _unit(key).mT / _held(temperature)
    return -log_normalized(z, 1).diagonal().mean().to(query.dtype)


@info_nce.gradient
def info_nce_gradient(dy, needs, query, key, temperature):
    r"""$dz = \frac{dy}{N} (P - I),\quad d\hat q = dz\,\hat k / \tau,\quad d\hat k = dz^\top \hat q / \tau,\quad
    d\tau = -\sum dz \odot z / \tau$, P the softmax of z's rows, and through the norms as in `normalize`; $p_{ii} - 1$ is
    $e^{\log p_{ii}} - 1$, which does not cancel. Only the vectors are kept, and the N by N scores made again.
    """
    q, k, tau = _unit(query), _unit(key), _held(temperature)
    z = q @ k.mT / tau
    log_p = log_normalized(z, 1)
    dz = wide(dy) / max(len(q), 1) * torch.where(_diagonal(z), log_p.expm1(), log_p.exp())
    dquery = normalize_gradient(dz @ k / tau, wide(query), **UNIT) if needs.query else None
    dkey = normalize_gradient(dz.mT @ q / tau, wide(key), **UNIT) if needs.key else None
    return dquery, dkey, -((dz * z).sum() / tau).reshape(temperature.shape) if needs.temperature else None


class InfoNCELoss(Manual, builtin_nn.InfoNCELoss):
    """The module of `info_nce`."""

    op = info_nce


@info_nce.prepare
def info_nce_prepare(query, key, temperature):
    check_views(query=query, key=key)
    check_single(temperature=temperature)
    return query, key, temperature


def _sign(z):
    """1 of pairs that belong together, -1 of the others."""
    return torch.where(_diagonal(z), 1, -1)


@op(builtin=builtin.siglip_loss, dtypes=Dtypes(one=("image", "text")))
def siglip_loss(image, text, scale, bias):
    r"""The sigmoid loss of pairs: $l = \frac1N \sum_{ij} \zeta(-s_{ij} z_{ij}),\quad z_{ij} = a\,x_i \cdot y_j + b$, $s_{ij}$
    1 for i = j, else -1, $\zeta(z) = \log(1 + e^z)$: every pair by itself belongs together or does not.

    image x and text y (N, D), unit vectors; scale a and bias b numbers, or tensors of one; output a number, the sum over the
    pairs divided by N. ValueError where the shapes do not fit. Zhai et al. 2023, arXiv:2303.15343, section 3.2.
    """
    z = _held(scale) * (wide(image) @ wide(text).mT) + _held(bias)
    return (log1p_exp(-_sign(z) * z).sum() / len(image)).to(image.dtype)


@siglip_loss.gradient
def siglip_loss_gradient(dy, needs, image, text, scale, bias):
    r"""$dz = -\frac{dy}{N} s\,\sigma(-s z),\quad dx = a\,dz\,y,\quad dy = a\,dz^\top x,\quad da = \sum dz \odot x y^\top,\quad
    db = \sum dz$. Only the vectors are kept, and the N by N scores made again."""
    x, y, a = wide(image), wide(text), _held(scale)
    dots = x @ y.mT
    z = a * dots + _held(bias)
    sign = _sign(z)
    dz = -wide(dy) / max(len(x), 1) * sign * logistic(-sign * z)
    dscale = (dz * dots).sum().reshape(scale.shape) if needs.scale else None
    dbias = dz.sum().reshape(bias.shape) if needs.bias else None
    return a * (dz @ y), a * (dz.mT @ x), dscale, dbias


class SigLIPLoss(Manual, builtin_nn.SigLIPLoss):
    """The module of `siglip_loss`, with $a = e^{t'}$ (logit_scale is t') and b (logit_bias) as parameters."""

    op = siglip_loss
    attributes = {"scale": "logit_scale", "bias": "logit_bias"}

    def arguments(self):
        return {"scale": self.logit_scale.exp(), "bias": self.logit_bias}

    def explicit(self, image, text):
        r"""$dt' = a\,da$."""
        scale, parameters = self.logit_scale.exp(), (self.logit_scale, self.logit_bias)
        output, pull = self.__op__.vjp(image, text, scale, self.logit_bias)
        trained = tuple(p.requires_grad for p in parameters)

        def pullback(dy=None, needs=None):
            dimage, dtext, dscale, dbias = pull(dy, (*((True, True) if needs is None else needs), *trained))
            if dscale is not None:
                accumulate(self.logit_scale, dscale * scale)
            if dbias is not None:
                accumulate(self.logit_bias, dbias)
            return dimage, dtext

        return output, made_of(pullback, pull, trains=any(trained))


@siglip_loss.prepare
def siglip_loss_prepare(image, text, scale, bias):
    check_views(image=image, text=text)
    check_single(scale=scale, bias=bias)
    return image, text, scale, bias
