"""The adaptive softmax: frequent classes in a head, rare ones in clusters that the head knows as one class each."""

from __future__ import annotations

import math

import torch
from torch.nn.modules.adaptive import _ASMoutput

from ...builtin import adaptive as builtin
from ...core.counterpart import adopt
from ...core.dtypes import Dtypes
from ...core.modes import concrete
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import outer, wide
from .softmax import log_normalized, log_softmax


def _inside(target, classes):
    """Whether the target is one of these classes, and its number, 0 where it is not, (N, 1) both."""
    t = target.unsqueeze(1)
    inside = (t >= 0) & (t < classes)
    return inside, torch.where(inside, t, 0)


def _hidden(input, projection):
    return wide(input) if projection is None else wide(input) @ wide(projection).t()


@op(builtin=builtin.cluster_log_prob, autocast="float32", dtypes=Dtypes(one=("input", "weight", "bias", "projection")))
def cluster_log_prob(input, target, weight, bias=None, projection=None):
    r"""The log-probability of each row's target among the classes of a cluster: $y_n = \log \mathrm{softmax}(z_n)_{t_n}$,
    $z = W P x + b$, and 0 where $t_n$ is not one of them.

    input (N, D), target (N) int64, weight W (classes, D), or behind a projection P (width, D) (classes, width), bias (classes);
    output (N). RuntimeError where they do not fit. Grave et al. 2017, arXiv:1609.04309, section 4.
    """
    z = _hidden(input, projection) @ wide(weight).t()
    log_p = log_normalized(z if bias is None else z + wide(bias), 1)
    inside, t = _inside(target, len(weight))
    return torch.where(inside, log_p.gather(1, t), 0).squeeze(1).to(input.dtype), (log_p,)


@cluster_log_prob.gradient
def cluster_log_prob_gradient(dy, saved, needs, input, target, weight, bias, projection):
    r"""$dz_{nc} = dy_n\,([c = t_n] - p_{nc})$, 0 where $t_n$ is of another cluster; $dW = dz^\top P x,\ db = \sum_n dz_n$,
    $dh = dz\,W,\ dP = dh^\top x,\ dx = dh\,P$. $1 - p$ is $-(e^{\log p} - 1)$, which does not cancel."""
    (log_p,), x, h = saved, wide(input), _hidden(input, projection)
    inside, t = _inside(target, len(weight))
    own = torch.arange(len(weight), device=t.device) == t
    dz = torch.where(inside, wide(dy).unsqueeze(1), 0) * torch.where(own, -log_p.expm1(), -log_p.exp())
    dh = dz @ wide(weight)
    dx = dh if projection is None else dh @ wide(projection)
    return dx, None, outer(dz, h), dz.sum(0), None if projection is None else outer(dh, x)


class AdaptiveLogSoftmaxWithLoss(Manual, torch.nn.AdaptiveLogSoftmaxWithLoss):
    r"""Log-probabilities of targets, and the mean loss $-\frac{1}{N} \sum_n y_n$, by clusters of classes.

    $y = \log p_{head}(t)$ of one of the first classes, $\log p_{head}(c) + \log p_c(t)$ of one of cluster c, each a
    `cluster_log_prob`. Input (N, D) with target (N), or (D) with a number; a named tuple (output, loss), output as the target.
    `vjp`'s pullback takes the pair of their gradients, None for what nobody used. `log_prob` (N, D) to (N, classes), `predict`
    to (N). ValueError where the cutoffs are no increasing classes, RuntimeError where arguments do not fit or a target is out
    of range. Grave et al. 2017, arXiv:1609.04309.
    """

    op = cluster_log_prob
    attributes: dict[str, str] = {}
    _reads_layers = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        adopt(self)

    def _clusters(self, input, target):
        """The arguments of `cluster_log_prob` for the head and for each cluster."""
        name = "AdaptiveLogSoftmaxWithLoss()"
        if target.dim() > 1 or input.dim() != target.dim() + 1 or input.shape[:-1] != target.shape:
            raise RuntimeError(f"{name}: input and target must be (N, {self.in_features}) and (N), or ({self.in_features}) and "
                               f"(), they have shapes {tuple(input.shape)} and {tuple(target.shape)}")  # fmt: skip
        if concrete(target) and target.numel():
            low, high = target.min(), target.max()
            if low < 0 or high >= self.n_classes:
                raise RuntimeError(f"{name}: targets must lie in [0, {self.n_classes}), they lie in [{low}, {high}]")
        x, t = (input, target) if target.dim() else (input.unsqueeze(0), target.unsqueeze(0))
        beyond = sum((t >= c).to(t.dtype) for c in self.cutoffs[:-1])  # the number of the cluster, 0 of the head
        known = torch.where(beyond == 0, t, self.shortlist_size + beyond - 1)
        calls = [(x, known, self.head.weight, self.head.bias, None)]
        for first, cluster in zip(self.cutoffs[:-1], self.tail, strict=True):
            calls.append((x, t - first, cluster[1].weight, cluster[1].bias, cluster[0].weight))
        return calls

    def _joined(self, parts, target):
        """What is returned of the clusters' log-probabilities."""
        output = sum(parts[1:], parts[0])
        if not concrete(target):  # where nobody could be told
            t = target.reshape(output.shape)
            output = output.masked_fill((t < 0) | (t >= self.n_classes), math.nan)
        return _ASMoutput(output.view(target.shape), -output.mean())

    def forward(self, input_, target_):
        return self._joined([self.__op__(*args) for args in self._clusters(input_, target_)], target_)

    def explicit(self, input_, target_):
        calls = self._clusters(input_, target_)
        parts, pulls = zip(*(self.__op__.vjp(*args) for args in calls), strict=True)

        def pullback(dy=None, needs=None):
            """dy: the gradients of output and loss."""
            if type(dy) not in (tuple, list, _ASMoutput) or len(dy) != 2:
                raise RuntimeError(
                    "the pullback must be given the gradients of output and loss, None for one that is not used"
                )
            doutput, dloss = dy
            wanted = needs is None or needs[0]
            d = torch.zeros_like(parts[0]) if doutput is None else doutput.reshape(parts[0].shape)
            d = d if dloss is None else d - dloss / len(d)
            found = []
            for args, pull in zip(calls, pulls, strict=True):
                grads = pull(d, (wanted, False, *(w is not None and w.requires_grad for w in args[2:])))
                for weight, grad in zip(args[2:], grads[2:], strict=True):
                    if grad is not None:
                        accumulate(weight, grad)
                found.append(grads[0])
            return sum(found[1:], found[0]).view(input_.shape) if wanted else None, None

        made_of(pullback, *pulls, trains=any(w is not None and w.requires_grad for args in calls for w in args[2:]))
        return self._joined(parts, target_), pullback

    def _get_full_log_prob(self, input, head_output):
        """The log-probability of every class (N, classes), of which torch's `log_prob` and `predict` ask."""
        head = log_softmax(head_output, 1)
        of_clusters = head[:, self.shortlist_size :].unsqueeze(2).unbind(1)  # (N, 1) each
        inside = [log_softmax(part(input), 1) for part in self.tail]
        return torch.cat(
            [head[:, : self.shortlist_size], *(a + b for a, b in zip(of_clusters, inside, strict=True))], 1
        )


@cluster_log_prob.prepare
def cluster_log_prob_prepare(input, target, weight, bias=None, projection=None):
    builtin.check_cluster(input, target, weight, bias, projection)
    return input, target, weight, bias, projection
