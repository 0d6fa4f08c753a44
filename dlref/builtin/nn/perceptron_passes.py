"""Passes of the perceptron's rule over many samples: what lies between two mistakes is scored at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .perceptron import Perceptron

# Multiply-adds that take as long as the calls of torch about a correction: blocks are cut so that both cost the same.
OVERHEAD = {"cpu": 2**16, "cuda": 2**21}


class PerceptronPasses:
    r"""The rule of a Perceptron, sample after sample, for each output in an order of its own.

    Without a penalty the weights change at a mistake only, and with the L2 penalty they shrink by a known factor in between:
    so each output scores a block of its samples, and `network.correct` is called for the first that may be a mistake.

    network: what learns, by hand or by autograd. x (N, in_features); targets (N, outputs) of 1 and -1; lr: $\eta$;
    weights: of the samples in each output, (N, outputs), they multiply $\eta$ in a correction; bias_rate: the bias learns at
    $\beta\,\eta$, not at all for 0; l2 and l1: factors of the penalty $\lambda_2 |w|^2 / 2 + \lambda_1 |w|_1$, whose step is
    made at each sample: $w \leftarrow \max(0, 1 - \eta\lambda_2)\,w$ before a correction, and after it the truncation of
    `_truncate`, which looks at the features of the sample; support (N, in_features): which features a sample has, all by
    default. Tsuruoka, Tsujii & Ananiadou 2009 (ACL, "Stochastic gradient descent training for L1-regularized ... models").
    """

    def __init__(
        self,
        network: Perceptron,
        x: Tensor,
        targets: Tensor,
        lr: float = 1.0,
        weights: Tensor | None = None,
        bias_rate: float = 1.0,
        l2: float = 0.0,
        l1: float = 0.0,
        support: Tensor | None = None,
    ):
        self.network, self.x, self.support = network, x, support
        self.targets = targets.t().contiguous()  # (K, N), as all that is asked for by output and sample
        self.rates = None if weights is None else lr * weights.t().contiguous()
        self.lr, self.bias_rate, self.l2, self.l1 = lr, bias_rate, l2, l1
        self.decay = max(0.0, 1.0 - lr * l2)
        self.total = 0.0  # by how much truncation may have moved a weight so far
        self.moved = torch.zeros_like(network.weight) if l1 else None  # by how much it has
        with torch.no_grad():
            self.norms = self._norms(None) if l2 or l1 else None
        self.radius = math.hypot(float(x.norm(dim=1).max()), 1.0)
        self.gap = 8.0  # samples from one mistake to the next

    @torch.no_grad()
    def sweep(self, order: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One pass: (outputs,) the sums of the loss, and of the penalty, as each sample met them.

        order (outputs, n): indices of the samples; active (outputs,): which outputs take part, all by default.
        """
        network, x, shrinks = self.network, self.x, self.decay != 1
        outputs, n = order.shape
        block = self._block(outputs, n)
        ahead = torch.arange(block, device=x.device)
        powers = self.decay ** torch.arange(block + 1, device=x.device, dtype=x.dtype)
        # Behind the end each output finds a sample of target 0, which corrects nothing: it may wait there for the others.
        pad = lambda values: torch.cat([values, values.new_zeros(outputs, block)], 1)  # noqa: E731
        targets = pad(self.targets.gather(1, order))
        rates = None if self.rates is None else pad(self.rates.gather(1, order))
        order = pad(order)
        rows = x.new_empty(outputs * block, x.shape[1])  # one place for all blocks: to get new memory takes longer
        samples, weight, bias = rows.view(outputs, block, -1), network.weight.unsqueeze(1), network.bias.unsqueeze(1)
        at = torch.zeros(outputs, 1, dtype=torch.long, device=x.device)
        if active is not None:
            at.masked_fill_(~active.unsqueeze(1), n)
        skipped, margins, norms, visited = torch.zeros_like(at), [], [], []
        lr: float | Tensor = self.lr
        decay: float | Tensor = 1.0
        while (left := n - int(at.min())) > 0:
            again = -(-left // block)  # no output can be ready before
            slack = self._slack(again).repeat(1, block)
            slack[:, -1] = math.inf  # where nothing else is, the last is looked at
            for _ in range(again):
                if block > 1:
                    place = at + ahead
                    torch.index_select(x, 0, order.gather(1, place).view(-1), out=rows)
                    z = samples.mul_(weight).sum(2)
                    if shrinks:
                        z *= powers[:-1]
                    z += bias
                    z *= targets.gather(1, place)
                    skipped = (z <= slack).view(torch.uint8).argmax(1, keepdim=True)  # the first of them
                place = at + skipped
                chosen, target = order.gather(1, place).view(-1), targets.gather(1, place).view(-1)
                if rates is not None:
                    lr = rates.gather(1, place).view(-1)
                if self.norms is not None:
                    steps = (skipped + 1).clamp(
                        max=n - at
                    )  # samples until and with this one, without those behind the end
                    visited.append(steps)
                    norms.append(self.norms)
                if shrinks:
                    before = skipped.minimum(steps)
                    network.weight *= powers[before]
                    decay = powers[steps - before]
                    self.norms = self.norms * powers[steps]
                margin = network.correct(x.index_select(0, chosen), target, lr, self.bias_rate, decay)
                margins.append(margin)
                if self.norms is not None:
                    self._penalise(chosen, (margin <= 0) & (target * lr != 0), place < n)
                torch.clamp(place + 1, max=n, out=at)
        self.gap = n / max(1.0, len(margins) - n / block)
        loss = in_order(-torch.stack(margins).clamp(max=0))
        return loss, self._penalties(norms, visited, powers) if norms else torch.zeros_like(loss)

    def _block(self, outputs: int, n: int) -> int:
        """How many samples are scored at a time: 1 where truncation may move the weights at each."""
        if self.l1:
            return 1
        overhead = OVERHEAD.get(self.x.device.type, OVERHEAD["cuda"])
        return min(max(4, math.isqrt(int(self.gap * overhead / (outputs * self.x.shape[1])))), n)

    def _slack(self, corrections: int) -> Tensor:
        """By how much rounding may lift t z in the next so many corrections, (outputs, 1): `correct` decides about less."""
        network, eps = self.network, torch.finfo(self.x.dtype).eps
        rate = self.lr if self.rates is None else self.rates.max()
        size = network.weight.norm(dim=1).hypot(network.bias) + corrections * rate * self.radius
        return (4 * eps * (network.in_features + 2) * self.radius * size).unsqueeze(1)

    def _norms(self, support: Tensor | None) -> Tensor:
        """$|w|_2$ and $|w|_1$ over the features of a sample, (2, outputs, 1).

        scikit-learn keeps no others: of a sparse sample the features that it has count, not those of the weights.
        """
        weight = self.network.weight if support is None else self.network.weight * support
        return torch.stack([weight.norm(dim=1, keepdim=True), weight.norm(1, dim=1, keepdim=True)])

    def _penalise(self, samples: Tensor, added: Tensor, real: Tensor) -> None:
        """What a penalty asks for after a correction: the norms where the weights were added to, and truncation."""
        support = None if self.support is None else self.support[samples]
        self.norms = torch.where(added.unsqueeze(1), self._norms(support), self.norms)
        if self.moved is not None:
            self.total += self.lr * self.l1
            self._truncate(real if support is None else real & support)

    def _truncate(self, where: Tensor) -> None:
        r"""Move weights towards 0, not beyond, by what they might have been moved so far and were not.

        With the total u of $\eta\lambda_1$, what a weight was moved by, q, and its sign s:
        $w' = s\,\max(0, |w| - (u + s q)),\ q' = q + w' - w$. where (outputs, in_features): which weights.
        """
        w, q = self.network.weight, self.moved
        assert q is not None
        sign = w.sign()
        moved = torch.where(where, sign * (w.abs() - (sign * q + self.total)).clamp(min=0), w)
        q += moved - w
        w.copy_(moved)

    def _penalties(self, norms: list[Tensor], visited: list[Tensor], powers: Tensor) -> Tensor:
        """The sum of the penalty over all samples, (outputs,): from one correction to the next the weights only shrink."""
        squares, absolutes = torch.stack(norms, 1)
        steps = torch.stack(visited)
        sums = lambda terms: torch.cat([terms.new_zeros(1), terms.cumsum(0)])[steps]  # noqa: E731
        each = self.l2 / 2 * squares.square() * sums(powers.square()) + self.l1 * absolutes * sums(powers)
        return in_order(each.squeeze(2))


def in_order(values: Tensor) -> Tensor:
    """The sum over the first dimension, added one after the other."""
    return values.cumsum(0)[-1]
