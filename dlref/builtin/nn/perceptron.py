"""The perceptron: Rosenblatt's error-correction rule, and the loss whose gradient it is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import functional as F

VARIANTS = ("last", "averaged", "voted")


class PerceptronLoss(nn.Module):
    r"""The perceptron criterion $l = \max(0, -t z)$ of a score z and a target t of 1 or -1.

    Its gradient is $-t$ where $t z \le 0$, at a score of 0 too, so that a step of SGD on a single sample is the perceptron
    rule. Input and target of one shape; output a number, or elementwise. Bishop 2006, eq. 4.54.
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.perceptron_loss(input, target, self.reduction)


@dataclass(frozen=True)
class PerceptronFit:
    """What `Perceptron.fit` did: whether a whole pass went without a mistake, the passes, the mistakes of each output."""

    converged: bool
    epochs: int
    mistakes: Tensor


class Perceptron(nn.Linear):
    r"""Rosenblatt's perceptron: the class is told by the sign of $z = w \cdot x + b$, for several classes by the largest z.

    classes: two have one output (class 1 where z > 0), more have one each, which is held against the rest.
    variant: what `fit` leaves and `predict` uses: the "last" weights, their average over all steps ("averaged"), or a vote
        of all weights that there were, each with as many votes as samples it survived ("voted").
    Input (*, in_features), output (*, 1) or (*, classes) scores of the weights; all weights are 0 at first.
    Rosenblatt 1958 (Psychological Review 65); voted and averaged: Freund & Schapire 1999 (Machine Learning 37).
    """

    voters: Tensor
    votes: Tensor
    voter_of: Tensor

    def __init__(self, in_features: int, classes: int = 2, variant: str = "last", device=None, dtype=None):
        if classes < 2:
            raise ValueError(f"classes must be at least 2, it is {classes}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, it is {variant!r}")
        self.classes, self.variant = classes, variant
        super().__init__(in_features, 1 if classes == 2 else classes, device=device, dtype=dtype)
        if variant == "voted":
            self.register_buffer("voters", self.weight.new_zeros(0, in_features + 1))  # w and b, a row each
            self.register_buffer("votes", self.weight.new_zeros(0))
            self.register_buffer("voter_of", torch.zeros(0, dtype=torch.long, device=device))  # the output it votes for

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def score(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """z of a sample, (in_features,), or of one for each output, (outputs, in_features): (outputs,).

        columns: as for `correct`. The products are added in the order of the features, so that a z that rounding alone puts
        above or below 0 does not depend on how a matrix product is cut up.
        """
        weight = self.weight if columns is None else self.weight.gather(1, columns)
        return (weight * x).cumsum(-1)[..., -1] + self.bias

    def correct(
        self,
        x: Tensor,
        target: Tensor,
        lr: float | Tensor = 1.0,
        bias_rate: float = 1.0,
        decay: float | Tensor = 1.0,
        columns: Tensor | None = None,
    ) -> Tensor:
        r"""The rule for one sample: $w \leftarrow d w$, and where $t z \le 0$, w and b go on by $\eta t x$ and $\beta \eta t$.

        x (in_features,), or (outputs, in_features), a sample for each output; target (outputs,) of 1 and -1, or 0 for one
        that shall stay; lr $\eta$, a number or (outputs,); bias_rate $\beta$; decay d, a number or (outputs, 1); columns
        (outputs, L): the features that x (outputs, L) has, where it is sparse. z is of the weights before the decay.
        Returns $t z$ (outputs,): those not above 0 were mistaken.
        """
        with torch.enable_grad():
            z = self.score(x, columns)
            loss = (lr * F.perceptron_loss(z, target, "none")).sum()
            dweight, dbias = torch.autograd.grad(loss, (self.weight, self.bias))
        with torch.no_grad():
            self.weight.mul_(decay).sub_(dweight)
            self.bias.sub_(dbias * bias_rate)
            return z * target

    @torch.no_grad()
    def fit(
        self, x: Tensor, y: Tensor, max_iter: int = 1000, lr: float = 1.0, shuffle: bool = True, seed: int = 0
    ) -> PerceptronFit:
        r"""Go through the samples, correcting, until a whole pass is without a mistake.

        x (N, in_features), y (N,) class indices; lr: $\eta$; shuffle: a new order each pass, of the seed. Where the classes
        can be separated by a margin $\gamma$ and no $(x, 1)$ is longer than R, each output errs at most $(R / \gamma)^2$
        times (Novikoff 1962); where they cannot, it never stops, and a UserWarning tells so after max_iter passes.
        ValueError where shapes, classes or a number do not fit.
        """
        self._check(x, y, max_iter, lr)
        targets = self._targets(y)
        outputs = self.out_features
        mistakes = torch.zeros(outputs, dtype=torch.long, device=x.device)
        rows = lambda: torch.cat([self.weight, self.bias.unsqueeze(1)], 1)  # noqa: E731
        total, survived, former = torch.zeros_like(rows()), torch.zeros_like(self.bias), []
        generator = torch.Generator().manual_seed(seed)
        converged, epoch = False, 0
        while not converged and epoch < max_iter:
            epoch += 1
            before = mistakes.clone()
            order = torch.randperm(len(x), generator=generator) if shuffle else torch.arange(len(x))
            for i in order.tolist():
                was = rows() if self.variant == "voted" else None
                wrong = self.correct(x[i], targets[i], lr) <= 0
                mistakes += wrong
                if self.variant == "averaged":
                    total += rows()
                elif was is not None:
                    if wrong.any():
                        former.append((was[wrong], survived[wrong], wrong.nonzero()[:, 0]))
                    survived = torch.where(wrong, 1, survived + 1)
            converged = bool((mistakes == before).all())
        if self.variant == "averaged":
            mean = total / (epoch * len(x))
            self.weight.copy_(mean[:, :-1])
            self.bias.copy_(mean[:, -1])
        elif self.variant == "voted":
            former.append((rows(), survived, torch.arange(outputs, device=x.device)))
            self.voters, self.votes, self.voter_of = (torch.cat(parts) for parts in zip(*former, strict=True))
        if not converged:
            warnings.warn(f"the perceptron still made {int((mistakes - before).sum())} mistakes in the last of {max_iter} "
                          "passes: no plane may separate the classes; raise max_iter, or take a network with a hidden "
                          "layer", stacklevel=2)  # fmt: skip
        return PerceptronFit(converged, epoch, mistakes)

    @torch.no_grad()
    def decide(self, x: Tensor) -> Tensor:
        """What `predict` decides by, (N, outputs): the scores, or the sum of the votes for each output."""
        if self.variant != "voted" or not len(self.votes):
            return self(x)
        ballots = (x @ self.voters[:, :-1].t() + self.voters[:, -1]).sign() * self.votes
        return x.new_zeros(len(x), self.out_features).index_add_(1, self.voter_of, ballots)

    def predict(self, x: Tensor) -> Tensor:
        """The class of each row of x, (N,)."""
        scores = self.decide(x)
        return (scores[:, 0] > 0).long() if self.classes == 2 else scores.argmax(1)

    def _targets(self, y: Tensor) -> Tensor:
        """Class indices as (N, outputs) of 1 and -1."""
        one = y.unsqueeze(1) == (1 if self.classes == 2 else torch.arange(self.classes, device=y.device))
        return torch.where(one, 1, -1).to(self.weight.dtype)

    def _check(self, x: Tensor, y: Tensor, max_iter: int, lr: float) -> None:
        if x.dim() != 2 or x.shape[1] != self.in_features or tuple(y.shape) != (len(x),) or not len(x):
            raise ValueError(f"x must be (N, {self.in_features}) and y (N,), N at least 1; they are {tuple(x.shape)} and "
                             f"{tuple(y.shape)}")  # fmt: skip
        if y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= self.classes:
            raise ValueError(f"y must hold class indices from 0 to {self.classes - 1}, it holds {y.unique().tolist()}")
        if max_iter < 1 or not lr > 0:
            raise ValueError(f"max_iter must be at least 1 and lr greater than 0, they are {max_iter} and {lr}")

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        if self.variant == "voted":  # as many voters as there were
            for name in ("voters", "votes", "voter_of"):
                if (theirs := state_dict.get(prefix + name)) is not None:
                    ours = getattr(self, name)
                    setattr(self, name, ours.new_empty(theirs.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        return f"{self.in_features}, classes={self.classes}, variant={self.variant!r}"
