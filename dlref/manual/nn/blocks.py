"""Residual branches, tied weights, sequence models and autoencoders: how their parts' gradients go together."""

from __future__ import annotations

import torch

from ...builtin import functional as builtin
from ...builtin.nn import blocks
from ...core.bridge import ones
from ...core.dtypes import Dtypes
from ...core.in_place import Reread
from ...core.module import Manual, vjp_of
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import outer
from .conv import Conv2d
from .regression_loss import mse_loss


def wanted(needs) -> bool:
    return needs is None or any(needs)


def _identity(dy, needs=None):
    return (dy,)


class Residual(Manual, blocks.Residual):
    r"""A branch beside a shortcut, $y = f(x) + s(x)$; their gradients add up: $dx = J_f^\top dy + J_s^\top dy$.

    body f, shortcut s (None: the identity): modules of one input whose outputs have one shape, (N, *). Where the body works
    in place on its input, the shortcut begins at what it wrote. He et al. 2015, arXiv:1512.03385, eq. 1 and 2.
    """

    forward = blocks.Residual.forward

    def explicit(self, input):
        with Reread(input) as source:
            output, pull_body = vjp_of(self.body)(input)
        with Reread(output) as target:
            shortcut, pull_shortcut = (input, _identity) if self.shortcut is None else vjp_of(self.shortcut)(input)

        def pullback(dy=None, needs=None):
            through = dy
            if target.later is None:
                (past,) = pull_shortcut(dy, needs)
            else:  # the body's output is the shortcut's input, and was written over
                (past,), through = target.pull(pull_shortcut, dy, dy, needs), torch.zeros_like(dy)
            return source.pull(pull_body, through, past if wanted(needs) else None, needs)

        return output + shortcut, made_of(pullback, pull_body, pull_shortcut)


@op(builtin=builtin.tied_linear, autocast="low", dtypes=Dtypes(one=("input", "weight", "bias")))
def tied_linear(input, weight, bias=None):
    r"""$y = W^\top\! x + c$ with the weight of a linear layer that leads the other way.

    input (*, out), weight (out, in), bias (in,); output (*, in). RuntimeError where they do not fit. Vincent et al. 2010
    (Journal of Machine Learning Research 11).
    """
    y = input @ weight
    return y if bias is None else y + bias.expand_as(y)


@tied_linear.gradient
def tied_linear_gradient(dy, needs, input, weight):
    r"""$dx = W dy,\quad dW = \sum x\, dy^\top,\quad dc = \sum dy$."""
    dx = dy @ weight.t().conj() if needs.input else None
    rows, dys = (t.reshape(t.shape[:-1].numel(), t.shape[-1]) for t in (input.conj(), dy))
    return dx, outer(rows, dys) if needs.weight else None, dy


class TiedLinear(Manual, blocks.TiedLinear):
    """The module of `tied_linear`: the weight is the encoder's, which learns from both; the bias is its own."""

    op = tied_linear


class GaussianNoise(Manual, blocks.GaussianNoise):
    r"""In training $y = x + \sigma \epsilon$ with a standard normal $\epsilon$, a constant to the gradient: $dx = dy$.

    Any shape; output as input. std: $\sigma$, in units of x; ValueError where it is negative. Vincent et al. 2008 (ICML),
    section 2.3.
    """

    forward = blocks.GaussianNoise.forward

    def explicit(self, input):
        return self(input), lambda dy=None, needs=None: (dy if wanted(needs) else None,)


class PatchEmbedding(Manual, blocks.PatchEmbedding):
    r"""Patches of an image as a sequence with learnt places, $y_i = W p_i + b + e_i$; $de_i = \sum_n dy_{n i}$.

    Input (N, C, H, W), output (N, H W / patch², width); $dW, db$ by the convolution. ValueError where the patch does not divide
    the size. Dosovitskiy et al. 2020, arXiv:2010.11929, eq. 1.
    """

    conv = Conv2d
    forward = blocks.PatchEmbedding.forward

    def explicit(self, input):
        patches, pull = vjp_of(self.projection)(input)
        size = patches.shape[2:]

        def pullback(dy=None, needs=None):
            if self.position.requires_grad:
                accumulate(self.position, dy.sum(0, keepdim=True))
            return pull(dy.transpose(1, 2).unflatten(2, size), needs)

        output = patches.flatten(2).transpose(1, 2) + self.position
        return output, made_of(pullback, pull, trains=self.position.requires_grad)


class MeanOver(Manual, blocks.MeanOver):
    r"""The mean over one dimension, which is dropped: $y = \frac{1}{n} \sum_i x_i,\ dx_i = dy / n$.

    Any shape that has the dimension.
    """

    forward = blocks.MeanOver.forward

    def explicit(self, input):
        shape = input.shape

        def pullback(dy=None, needs=None):
            return ((dy / shape[self.dim]).unsqueeze(self.dim).expand(shape) if wanted(needs) else None,)

        return input.mean(self.dim), pullback


class LastStep(Manual, blocks.LastStep):
    r"""A recurrent layer's output at the last step, $y = h_T$: (N, T, I) to (N, H).

    The gradient enters backpropagation through time there: it is that of the last layer's last state. ValueError where the
    layer has two directions or not batch_first. Graves 2012 (Supervised sequence labelling), section 3.2.
    """

    forward = blocks.LastStep.forward

    def explicit(self, input):
        (outputs, last), pull = vjp_of(self.rnn)(input)
        carries_cell, layers = isinstance(last, tuple), self.rnn.num_layers

        def pullback(dy=None, needs=None):
            dh_n = torch.stack([*(torch.zeros_like(dy) for _ in range(layers - 1)), dy])
            return pull((None, (dh_n, None) if carries_cell else dh_n), needs)

        return outputs[:, -1], made_of(pullback, pull)


class SequenceModel(Manual, blocks.SequenceModel):
    r"""Logits of the next symbol at each step: $h_t = \mathrm{rnn}(E_{x_t}, h_{t-1}),\ z_t = W h_t + b$.

    Input (N, T) integers, output (N, symbols, T). The chain rule goes through readout, time and embedding; the symbols have no
    gradient. Graves 2013, arXiv:1308.0850, section 2.
    """

    forward = blocks.SequenceModel.forward

    def explicit(self, input):
        embedded, pull_embedding = vjp_of(self.embedding)(input)
        (hidden, _), pull_rnn = vjp_of(self.rnn)(embedded)
        logits, pull_readout = vjp_of(self.readout)(hidden)

        def pullback(dy=None, needs=None):
            (dhidden,) = pull_readout(dy.transpose(1, 2))
            (dembedded,) = pull_rnn((dhidden, None))
            pull_embedding(dembedded)
            return (None,)

        return logits.transpose(1, 2), made_of(pullback, pull_embedding, pull_rnn, pull_readout)


@op(builtin=builtin.reparametrize)
def reparametrize(mean, log_variance, noise):
    r"""A draw from $\mathcal{N}(\mu, \sigma^2)$ that is differentiable in both: $z = \mu + \sigma \odot \epsilon$.

    mean and log_variance $= \log \sigma^2$ of one shape, the output's; after training $z = \mu$. Kingma & Welling 2014,
    arXiv:1312.6114, section 2.4.
    """
    spread = torch.exp(log_variance * 0.5) * noise
    return mean + spread, (spread,)


@reparametrize.gradient
def reparametrize_gradient(dy, saved):
    r"""$d\mu = dz,\quad d\log\sigma^2 = \tfrac12\, dz \odot \sigma \odot \epsilon$: only the product is kept."""
    (spread,) = saved
    return dy, dy * spread * 0.5


@reparametrize.prepare
def reparametrize_prepare(mean, log_variance, training=True):
    return (mean, log_variance, torch.randn_like(mean)) if training else None


@op(builtin=builtin.gaussian_kl, dtypes=Dtypes(promote=("mean", "log_variance")))
def gaussian_kl(mean, log_variance):
    r"""$\mathrm{KL}(\mathcal{N}(\mu, \sigma^2) \,\|\, \mathcal{N}(0, 1)) = \tfrac12 \sum (\mu^2 + \sigma^2 - 1 -
    \log \sigma^2)$, a number. Kingma & Welling 2014, arXiv:1312.6114, appendix B."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2


@gaussian_kl.gradient
def gaussian_kl_gradient(dy, mean, log_variance):
    r"""$d\mu = \mu,\quad d\log\sigma^2 = \tfrac12 (\sigma^2 - 1)$, times dy, for each term of the sum."""
    mean, log_variance = torch.broadcast_tensors(mean, log_variance)
    return dy * mean, dy * (log_variance.exp() - 1) * 0.5


class VariationalAutoencoder(Manual, blocks.VariationalAutoencoder):
    r"""$\mu, \log\sigma^2 = \mathrm{encoder}(x),\ z = \mu + \sigma \odot \epsilon,\ \hat x = \mathrm{decoder}(z)$, to be
    trained by `VariationalLoss`.

    Input (N, *), output: reconstruction, mean (N, Z), logarithm of the variance (N, Z). The reconstruction's gradient reaches
    the encoder through the draw, the divergence's directly. Kingma & Welling 2014, arXiv:1312.6114, section 2.4.
    """

    forward = blocks.VariationalAutoencoder.forward
    reparametrize = staticmethod(reparametrize)

    def explicit(self, input):
        encoded, pull_encoder = vjp_of(self.encoder)(input)
        mean, log_variance = encoded.chunk(2, -1)
        code, pull_code = reparametrize.vjp(mean, log_variance, self.training)
        with Reread(mean) as source:  # which the code is, in evaluation
            reconstruction, pull_decoder = vjp_of(self.decoder)(code)
        if source.later is not None:
            source.refuse()

        def pullback(dy=None, needs=None):
            dreconstruction, dmean, dlog_variance = dy
            (dcode,) = pull_decoder(dreconstruction)
            through_mean, through_variance, _ = pull_code(dcode)
            if through_variance is not None:
                dlog_variance = dlog_variance + through_variance
            return pull_encoder(torch.cat([dmean + through_mean, dlog_variance], -1), needs)

        return (reconstruction, mean, log_variance), made_of(pullback, pull_encoder, pull_code, pull_decoder)


class VariationalLoss(Manual, blocks.VariationalLoss):
    r"""$E = \frac{1}{N} \sum_n (\tfrac12 \lVert x_n - \hat x_n \rVert^2 + \beta\,\mathrm{KL}_n)$, the negative evidence bound;
    $d\hat x = (\hat x - x) / N$, and the divergence's gradient times $\beta / N$.

    Input: what a `VariationalAutoencoder` makes; target (N, *), the images; output a number. Kingma & Welling 2014,
    arXiv:1312.6114, eq. 10.
    """

    forward = blocks.VariationalLoss.forward
    mse_loss, gaussian_kl = staticmethod(mse_loss), staticmethod(gaussian_kl)

    def explicit(self, input, target):
        reconstruction, mean, log_variance = input
        share = 1 / len(target)
        error, pull_error = mse_loss.vjp(reconstruction, target, reduction="sum")
        divergence, pull_divergence = gaussian_kl.vjp(mean, log_variance)
        like = error.shape, error.dtype, error.device

        def pullback(dy=None, needs=None):
            dy = ones(like) if dy is None else dy
            dreconstruction, dtarget, _ = pull_error(dy * share / 2)
            return (dreconstruction, *pull_divergence(dy * share * self.beta)), dtarget

        return error * share / 2 + divergence * share * self.beta, pullback
