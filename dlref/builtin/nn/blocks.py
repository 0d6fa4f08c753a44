"""What models are put together from, beside torch's layers: residual branches, tied weights, sequences, autoencoders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import functional as F


class Residual(nn.Module):
    r"""$y = f(x) + s(x)$: a branch beside a shortcut, the identity by default. He et al. 2015, arXiv:1512.03385, eq. 1, 2.

    body, shortcut: modules of one input whose outputs have the same shape.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, input: Tensor) -> Tensor:
        return self.body(input) + (input if self.shortcut is None else self.shortcut(input))


class TiedLinear(nn.Module):
    r"""The decoder of an autoencoder whose encoder is the given Linear: $y = W^\top\! x + c$ with the encoder's W.

    Input (*, out_features of the encoder's layer), output (*, in_features). Bengio et al. 2007 (NIPS 19), section 2.
    """

    def __init__(self, encoder: nn.Linear):
        super().__init__()
        self.weight = encoder.weight
        self.bias = nn.Parameter(torch.zeros_like(encoder.weight[0]))

    def forward(self, input: Tensor) -> Tensor:
        return F.tied_linear(input, self.weight, self.bias)


class GaussianNoise(nn.Module):
    r"""$y = x + \sigma \epsilon$ in training, $y = x$ after it: what makes an autoencoder a denoising one.

    std: $\sigma$, in the units of x. Vincent et al. 2008 (ICML), section 2.3.
    """

    def __init__(self, std: float):
        super().__init__()
        if not std >= 0:
            raise ValueError(f"std must be at least 0, it is {std}")
        self.std = std

    def forward(self, input: Tensor) -> Tensor:
        return input + self.std * torch.randn_like(input) if self.training and self.std else input

    def extra_repr(self) -> str:
        return f"std={self.std}"


class PatchEmbedding(nn.Module):
    r"""Patches of an image as a sequence of vectors with learnt positions: $y_i = W p_i + b + e_i$.

    Input (N, C, H, W), output (N, H W / patch², width); size: H and W, which patch divides. Dosovitskiy et al. 2020,
    arXiv:2010.11929, eq. 1 (without the class token).
    """

    def __init__(self, in_channels: int, width: int, patch: int, size: int):
        super().__init__()
        if size % patch:
            raise ValueError(f"the patch must divide the image's size {size}, it is {patch}")
        self.projection = self.conv(in_channels, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, (size // patch) ** 2, width) * 0.02)

    conv: Callable[..., nn.Module] = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        return self.projection(input).flatten(2).transpose(1, 2) + self.position


class MeanOver(nn.Module):
    r"""The mean over one dimension, which is dropped: $y = \frac{1}{n} \sum_i x_i$."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return input.mean(self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LastStep(nn.Module):
    """The output of a recurrent layer at the last step: (N, T, I) to (N, H); rnn: batch_first, in one direction."""

    def __init__(self, rnn: nn.RNNBase):
        super().__init__()
        if rnn.bidirectional or not rnn.batch_first:
            raise ValueError(
                "the recurrent layer must have batch_first=True and one direction: its last step is the whole's"
            )
        self.rnn = rnn

    def forward(self, input: Tensor) -> Tensor:
        return self.rnn(input)[0][:, -1]


class SequenceModel(nn.Module):
    r"""Logits of the next symbol at each step: $h_t = \mathrm{rnn}(E_{x_t}, h_{t-1}),\ z_t = W h_t + b$.

    embedding: (N, T) symbols to (N, T, I); rnn: batch_first; readout: (*, H) to (*, symbols).
    Input (N, T) integers, output (N, symbols, T): the classes where CrossEntropyLoss wants them.
    `step(input, state)` gives the logits (N, T, symbols) and the state to continue from, for sampling.
    """

    def __init__(self, embedding: nn.Module, rnn: nn.RNNBase, readout: nn.Module):
        super().__init__()
        self.embedding, self.rnn, self.readout = embedding, rnn, readout

    def forward(self, input: Tensor) -> Tensor:
        return self.step(input)[0].transpose(1, 2)

    def step(self, input: Tensor, state=None):
        hidden, state = self.rnn(self.embedding(input), state)
        return self.readout(hidden), state


class VariationalAutoencoder(nn.Module):
    r"""$\mu, \log\sigma^2 = \mathrm{encoder}(x),\ z = \mu + \sigma \odot \epsilon,\ \hat x = \mathrm{decoder}(z)$,
    $\epsilon$ standard normal in training and 0 in evaluation. Kingma & Welling 2014, arXiv:1312.6114, section 2.4.

    encoder: (N, *) to (N, 2 Z), mean beside logarithm of the variance; decoder: (N, Z) to (N, *).
    Output: reconstruction, mean (N, Z), logarithm of the variance (N, Z): what VariationalLoss takes.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    reparametrize: Callable[..., Tensor] = staticmethod(F.reparametrize)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(input).chunk(2, -1)
        code = self.reparametrize(mean, log_variance, self.training)
        return self.decoder(code), mean, log_variance


class VariationalLoss(nn.Module):
    r"""$E = \frac{1}{N} \sum_n \left( \tfrac12 \lVert x_n - \hat x_n \rVert^2
    + \beta\,\mathrm{KL}(\mathcal{N}(\mu_n, \sigma_n^2) \,\|\, \mathcal{N}(0, 1)) \right)$, the negative evidence bound.

    Input: the output of a VariationalAutoencoder; target: the images. Kingma & Welling 2014, arXiv:1312.6114, eq. 10.
    """

    def __init__(self, beta: float = 1.0):
        super().__init__()
        self.beta = beta

    mse_loss: Callable[..., Tensor] = staticmethod(F.mse_loss)
    gaussian_kl: Callable[..., Tensor] = staticmethod(F.gaussian_kl)

    def forward(self, input: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
        reconstruction, mean, log_variance = input
        share = 0.5 / len(target)
        error = self.mse_loss(reconstruction, target, reduction="sum") * share
        return error + self.gaussian_kl(mean, log_variance) * (self.beta / len(target))
