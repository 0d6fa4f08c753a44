"""Fast forms of softmax: one fresh tensor, written over, in each direction."""

from __future__ import annotations

from ..nn.common import wide
from ..nn.softmax import shifted, softmax, softmin


def _some(input, *_):
    return input.numel() > 0


@softmax.kernel(where=_some)
def softmax_forward(input, dim, dtype):
    e = shifted(input, dim, dtype).exp_()
    return e.div_(e.sum(dim, keepdim=True)).to(dtype or input.dtype)


@softmax.kernel_gradient
def softmax_gradient(dy, output, dim):
    y, dy = wide(output), wide(dy)
    d = dy - dy.gather(dim, y.argmax(dim, keepdim=True))
    return d.sub_((d * y).sum(dim, keepdim=True)).mul_(y)


@softmin.kernel(where=_some)
def softmin_forward(input, dim, dtype):
    return softmax_forward(-input, dim, dtype)


@softmin.kernel_gradient
def softmin_gradient(dy, output, dim):
    return softmax_gradient(dy, output, dim).neg_()
