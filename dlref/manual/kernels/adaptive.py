"""A cluster of the adaptive softmax for those rows alone whose target is in it."""

from __future__ import annotations

from ..nn.adaptive import cluster_log_prob


@cluster_log_prob.kernel
def cluster_log_prob_forward(input, target, weight, bias=None, projection=None):
    (kept,) = ((target >= 0) & (target < len(weight))).nonzero(as_tuple=True)
    y, saved = cluster_log_prob.forward(input[kept], target[kept], weight, bias, projection)
    return input.new_zeros(len(input)).index_copy(0, kept, y), (*saved, kept)


@cluster_log_prob.kernel_gradient
def cluster_log_prob_gradient(dy, saved, needs, input, target, weight, bias, projection):
    log_p, kept = saved
    dx, *others = cluster_log_prob.pull(dy[kept], (log_p,), needs, input[kept], target[kept], weight, bias, projection)
    return dx.new_zeros(input.shape).index_copy(0, kept, dx) if needs.input else None, *others
