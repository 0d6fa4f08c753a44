"""Passes of the perceptron's rule over many samples, with a penalty on the weights: what lies between two mistakes goes at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .perceptron import Perceptron

# Multiply-adds that take as long as the calls of torch about a correction: blocks are cut so that both cost the same.
OVERHEAD = {"cpu": 2**15, "cuda": 2**21}


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
        self.norms = self._norms(None)
        self.radius = math.hypot(float(x.norm(dim=1).max()), 1.0)
        self.gap = 8.0  # samples from one mistake to the next

    @torch.no_grad()
    def sweep(self, order: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One pass: (outputs,) the sums of the loss, and of the penalty, as each sample met them.

        order (outputs, n): indices of the samples; active (outputs,): which outputs take part, all by default.
        """
        network, x, penalised = self.network, self.x, self.l2 > 0 or self.l1 > 0
        outputs, n = order.shape
        block = self._block(outputs, n)
        ahead = torch.arange(block, device=x.device)
        powers = self.decay ** torch.arange(block + 1, device=x.device, dtype=x.dtype)
        visited = [
            torch.cat([p.new_zeros(1), p.cumsum(0)]) for p in (powers.square(), powers)
        ]  # sums of the first j powers
        # Behind the end each output finds a sample of target 0, which corrects nothing: it may wait there for the others.
        pad = lambda values: torch.cat([values, values.new_zeros(outputs, block)], 1)  # noqa: E731
        targets = pad(self.targets.gather(1, order))
        rates = None if self.rates is None else pad(self.rates.gather(1, order))
        order = pad(order)
        lr: float | Tensor = self.lr
        at = torch.zeros(outputs, 1, dtype=torch.long, device=x.device)
        if active is not None:
            at.masked_fill_(~active.unsqueeze(1), n)
        margins, penalty, decay, calls = [], x.new_zeros(outputs), 1.0, 0
        while (left := n - int(at.min())) > 0:
            again = -(-left // block)  # no output can be ready before
            calls += again
            slack = self._slack(again)
            for _ in range(again):
                if block > 1:
                    place = at + ahead
                    samples = x.index_select(0, order.gather(1, place).view(-1)).view(outputs, block, -1)
                    z = torch.bmm(samples, network.weight.unsqueeze(2)).squeeze(2)
                    if self.decay != 1:
                        z *= powers[:-1]
                    z += network.bias.unsqueeze(1)
                    z *= targets.gather(1, place)
                    skipped = torch.where(z <= slack, ahead, block - 1).amin(1, keepdim=True)
                else:
                    skipped = torch.zeros_like(at)
                place = at + skipped
                if penalised:
                    steps = (skipped + 1).clamp(max=n - at)  # real samples until and with this one
                    before = skipped.minimum(steps)
                    squares, absolutes = self.norms
                    penalty += (self.l2 / 2 * squares * visited[0][steps] + self.l1 * absolutes * visited[1][steps])[
                        :, 0
                    ]
                    self.norms = squares * powers[steps].square(), absolutes * powers[steps]
                    network.weight *= powers[before]
                    decay = powers[steps - before]
                chosen = order.gather(1, place).view(-1)
                target = targets.gather(1, place).view(-1)
                if rates is not None:
                    lr = rates.gather(1, place).view(-1)
                margin = network.correct(x.index_select(0, chosen), target, lr, self.bias_rate, decay)
                margins.append(margin)
                if penalised:
                    self._penalise(chosen, (margin <= 0) & (target * lr != 0), place < n)
                torch.clamp(place + 1, max=n, out=at)
        self.gap = n / max(1.0, calls - n / block)
        return -torch.stack(margins).clamp(max=0).cumsum(0)[-1], penalty  # added in the order of the samples

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
        size = network.weight.norm(dim=1).hypot(network.bias) + corrections * rate * self.radius * max(
            1.0, self.bias_rate
        )
        return (4 * eps * (network.in_features + 2) * self.radius * size).unsqueeze(1)

    def _penalise(self, samples: Tensor, added: Tensor, real: Tensor) -> None:
        """What a penalty asks for after a correction: the norms where the weights changed, and truncation."""
        support = None if self.support is None else self.support[samples]
        squares, absolutes = self._norms(support)
        added = added.unsqueeze(1)
        self.norms = torch.where(added, squares, self.norms[0]), torch.where(added, absolutes, self.norms[1])
        if self.moved is not None:
            self.total += self.lr * self.l1
            self._truncate(real if support is None else real & support)

    def _norms(self, support: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squares and absolute values of the weights, summed over the features of a sample, (outputs, 1) each.

        scikit-learn keeps no others: of a sparse sample the features that it has count, not those of the weights.
        """
        weight = self.network.weight.detach()
        if support is not None:
            weight = weight * support
        return weight.square().sum(1, keepdim=True), weight.abs().sum(1, keepdim=True)

    def _truncate(self, where: Tensor) -> None:
        r"""Move weights towards 0, not beyond, by what they might have been moved so far and were not.

        With the total $u$ of $\eta\lambda_1$ and what a weight was moved by, q: $w > 0$ becomes $\max(0, w - (u + q))$,
        $w < 0$ becomes $\min(0, w + (u - q))$; q takes the difference. where (outputs, in_features): which weights.
        """
        w, q, u = self.network.weight, self.moved, self.total
        assert q is not None
        moved = torch.where(w > 0, (w - (u + q)).clamp(min=0), torch.where(w < 0, (w + (u - q)).clamp(max=0), w))
        moved = torch.where(where, moved, w)
        q += moved - w
        w.copy_(moved)
