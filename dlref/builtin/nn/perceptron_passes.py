"""Passes of the perceptron's rule over many samples: what lies between two mistakes is scored at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .perceptron import Perceptron

# Multiply-adds that take as long as the calls of torch about a correction: blocks are cut so that both cost the same.
OVERHEAD = {"cpu": 2**16, "cuda": 2**21}


class Samples:
    """Samples x (N, F); stored (N, F): which of their features count for a penalty, all by default."""

    def __init__(self, x: Tensor, stored: Tensor | None = None):
        self.x, self.stored = x, stored
        self.work = x.shape[1]  # multiply-adds of a score
        self.radius = math.hypot(float(x.norm(dim=1).max()), 1.0)  # no (x, 1) is longer
        self.space = x.new_empty(0, x.shape[1])

    def scores(self, weight: Tensor, chosen: Tensor) -> Tensor:
        """w.x of the samples chosen for each output (K, B): (K, B)."""
        if len(self.space) < chosen.numel():  # one place for all blocks: to get new memory takes longer
            self.space = self.x.new_empty(chosen.numel(), self.work)
        rows = self.space[: chosen.numel()]
        torch.index_select(self.x, 0, chosen.view(-1), out=rows)
        return rows.view(*chosen.shape, -1).mul_(weight.unsqueeze(1)).sum(2)

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The samples chosen (K,): values (K, L), their columns, and which are stored; None for all."""
        return self.x.index_select(0, chosen), None, None if self.stored is None else self.stored[chosen]


class SparseSamples(Samples):
    """Samples of which only some features are stored, as a CSR matrix has them: starts (N + 1,), columns and values (nnz,)."""

    def __init__(self, starts: Tensor, columns: Tensor, values: Tensor):
        self.starts, self.lengths = starts[:-1].contiguous(), starts.diff()
        self.columns, self.values = columns, values
        self.work = max(1, len(values) // len(self.starts))
        squares = values.new_zeros(len(self.starts)).index_add_(
            0, torch.arange(len(self.starts), device=values.device).repeat_interleave(self.lengths), values.square()
        )
        self.radius = math.hypot(float(squares.max().sqrt()), 1.0)
        self.widest = int(self.lengths.max())
        if not len(values):  # something to point to
            self.columns, self.values = columns.new_zeros(1), values.new_zeros(1)

    def scores(self, weight: Tensor, chosen: Tensor) -> Tensor:
        values, columns, _ = self.take(chosen.view(-1))
        taken = weight.gather(1, columns.view(len(weight), -1)).view(values.shape)
        return (taken * values).sum(1).view(chosen.shape)

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As that of Samples. A short row is filled up by its last column with a value of 0, which changes nothing."""
        length = self.lengths[chosen].unsqueeze(1)
        # Elsewhere than on the CPU, to ask for the longest of them would mean to wait.
        width = int(length.max()) if length.device.type == "cpu" else self.widest
        step = torch.arange(max(1, width), device=length.device)
        stored = step < length
        place = (self.starts[chosen].unsqueeze(1) + step.minimum(length - 1)).clamp(min=0, max=len(self.values) - 1)
        values, columns = (t.index_select(0, place.view(-1)).view(place.shape) for t in (self.values, self.columns))
        return values * stored, columns, stored


class PerceptronPasses:
    r"""The rule of a Perceptron, sample after sample, for each output in an order of its own.

    Without a penalty the weights change at a mistake only, and with the L2 penalty they shrink by a known factor in between:
    so each output scores a block of its samples, and `network.correct` is called for the first that may be a mistake.

    network: what learns, by hand or by autograd. x: Samples of in_features; targets (N, outputs) of 1 and -1; lr: $\eta$;
    weights: of the samples in each output, (N, outputs), they multiply $\eta$ in a correction; bias_rate: the bias learns at
    $\beta\,\eta$, not at all for 0; l2 and l1: factors of the penalty $\lambda_2 |w|^2 / 2 + \lambda_1 |w|_1$, whose step is
    made at each sample: $w \leftarrow \max(0, 1 - \eta\lambda_2)\,w$ before a correction, and after it the truncation of
    `_truncate`, which looks at the features that the sample has. Tsuruoka, Tsujii & Ananiadou 2009, ACL-IJCNLP, 477-485.
    """

    def __init__(
        self,
        network: Perceptron,
        x: Samples,
        targets: Tensor,
        lr: float = 1.0,
        weights: Tensor | None = None,
        bias_rate: float = 1.0,
        l2: float = 0.0,
        l1: float = 0.0,
    ):
        self.network, self.x = network, x
        self.targets = targets.t().contiguous()  # (K, N), as all that is asked for by output and sample
        self.rates = None if weights is None else lr * weights.t().contiguous()
        self.lr, self.bias_rate, self.l2, self.l1 = lr, bias_rate, l2, l1
        self.fastest = lr if self.rates is None else float(self.rates.max())
        self.decay = max(0.0, 1.0 - lr * l2)
        self.total = 0.0  # by how much truncation may have moved a weight so far
        self.moved = torch.zeros_like(network.weight) if l1 else None  # by how much it has
        self.penalised = bool(l2 or l1)
        with torch.no_grad():
            self.norms = self._norms(None, None)
        self.gap = 8.0  # samples from one mistake to the next

    @torch.no_grad()
    def sweep(self, order: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One pass: (outputs,) the sums of the loss, and of the penalty, as each sample met them.

        order (outputs, n): indices of the samples; active (outputs,): which outputs take part, all by default.
        """
        network, x, shrinks = self.network, self.x, self.decay != 1
        outputs, n = order.shape
        block = self._block(outputs, n)
        ahead = torch.arange(block, device=order.device)
        powers = self.decay ** torch.arange(block + 1, device=order.device, dtype=network.weight.dtype)
        # Behind the end each output finds a sample of target 0, which corrects nothing: it may wait there for the others.
        pad = lambda values: torch.cat([values, values.new_zeros(outputs, block)], 1)  # noqa: E731
        targets = pad(self.targets.gather(1, order))
        rates = None if self.rates is None else pad(self.rates.gather(1, order))
        order = pad(order)
        weight, bias = network.weight, network.bias.unsqueeze(1)
        at = torch.zeros(outputs, 1, dtype=torch.long, device=order.device)
        if active is not None:
            at.masked_fill_(~active.unsqueeze(1), n)
        skipped, margins, norms, visited = torch.zeros_like(at), [], [], []
        lr: float | Tensor = self.lr
        decay: float | Tensor = 1.0
        while (left := n - int(at.min())) > 0:
            again = -(-left // block)  # no output can be ready before
            slack = self._slack(again).expand(-1, block).clone()
            slack[:, -1] = math.inf  # where nothing else is, the last is looked at
            for _ in range(again):
                if block > 1:
                    place = at + ahead
                    z = x.scores(weight, order.gather(1, place))
                    if shrinks:
                        z *= powers[:-1]
                    z += bias
                    z *= targets.gather(1, place)
                    skipped = (z <= slack).view(torch.uint8).argmax(1, keepdim=True)  # the first of them
                place = at + skipped
                chosen, target = order.gather(1, place).view(-1), targets.gather(1, place).view(-1)
                if rates is not None:
                    lr = rates.gather(1, place).view(-1)
                if self.penalised:
                    steps = (skipped + 1).clamp(max=n - at)  # samples until and with this one, none behind the end
                    visited.append(steps)
                    norms.append(self.norms)
                if shrinks:
                    before = skipped.minimum(steps)
                    weight *= powers[before]
                    decay = powers[steps - before]
                    self.norms = self.norms * powers[steps]
                sample, columns, stored = x.take(chosen)
                margin = network.correct(sample, target, lr, self.bias_rate, decay, columns)
                margins.append(margin)
                if self.penalised:
                    self._penalise((margin <= 0) & (target * lr != 0), columns, stored, place < n)
                torch.clamp(place + 1, max=n, out=at)
        self.gap = n / max(1.0, len(margins) - n / block)
        loss = in_order(-torch.stack(margins).clamp(max=0))
        return loss, self._penalties(norms, visited, powers) if norms else torch.zeros_like(loss)

    def _block(self, outputs: int, n: int) -> int:
        """How many samples are scored at a time: 1 where truncation may move the weights at each."""
        if self.l1:
            return 1
        overhead = OVERHEAD.get(self.targets.device.type, OVERHEAD["cuda"])
        return min(max(4, math.isqrt(int(self.gap * overhead / (outputs * self.x.work)))), n)

    def _slack(self, corrections: int) -> Tensor:
        """By how much rounding may lift t z in the next so many corrections, (outputs, 1): `correct` decides about less."""
        network, eps = self.network, torch.finfo(self.network.weight.dtype).eps
        size = network.weight.norm(dim=1).hypot(network.bias) + corrections * self.fastest * self.x.radius
        return (4 * eps * (network.in_features + 2) * self.x.radius * size).unsqueeze(1)

    def _norms(self, columns: Tensor | None, stored: Tensor | None) -> Tensor:
        """$|w|_2$ and $|w|_1$ over the features that a sample stores, (2, outputs, 1): scikit-learn keeps no others."""
        weight = self.network.weight if columns is None else self.network.weight.gather(1, columns)
        if stored is not None:
            weight = weight * stored
        return torch.stack([weight.norm(dim=1, keepdim=True), weight.norm(1, dim=1, keepdim=True)])

    def _penalise(self, added: Tensor, columns: Tensor | None, stored: Tensor | None, real: Tensor) -> None:
        """What a penalty asks for after a correction: the norms where the weights were added to, and truncation."""
        self.norms = torch.where(added.unsqueeze(1), self._norms(columns, stored), self.norms)
        if self.moved is not None:
            self.total += self.lr * self.l1
            if stored is not None:  # what fills up a short row goes with the column that it repeats
                real = real & (stored if columns is None else stored.any(1, keepdim=True))
            self._truncate(columns, real)

    def _truncate(self, columns: Tensor | None, where: Tensor) -> None:
        r"""Move weights towards 0, not beyond, by what they might have been moved so far and were not.

        With the total u of $\eta\lambda_1$, what a weight was moved by, q, and its sign s:
        $w' = s\,\max(0, |w| - (u + s q)),\ q' = q + w' - w$. columns (outputs, L): of which features, all by default, one
        may come several times; where (outputs, L) or (outputs, 1): which of them.
        """
        weight, moved = self.network.weight, self.moved
        assert moved is not None
        w, q = (weight, moved) if columns is None else (weight.gather(1, columns), moved.gather(1, columns))
        sign = w.sign()
        new = torch.where(where, sign * (w.abs() - (sign * q + self.total)).clamp(min=0), w)
        if columns is None:
            moved += new - w
            weight.copy_(new)
        else:
            moved.scatter_(1, columns, q + (new - w))
            weight.scatter_(1, columns, new)

    def _penalties(self, norms: list[Tensor], visited: list[Tensor], powers: Tensor) -> Tensor:
        """The sum of the penalty over all samples, (outputs,).

        Between two corrections the squares shrink by powers; with truncation there is no sample in between.
        """
        twos, ones = torch.stack(norms, 1)
        steps = torch.stack(visited)
        shrunk = torch.cat([powers.new_zeros(1), powers.square().cumsum(0)])[steps]
        return in_order((self.l2 / 2 * twos.square() * shrunk + self.l1 * ones * steps).squeeze(2))


def in_order(values: Tensor) -> Tensor:
    """The sum over the first dimension, added one after the other."""
    return values.cumsum(0)[-1]
