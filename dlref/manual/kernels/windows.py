"""The fast form of windows added where they overlap."""

from __future__ import annotations

import itertools

from ..windows import overlap_add


@overlap_add.kernel
def overlap_add_forward(w, dim, size, stride, dilation):
    """One strided addition for each element of the kernel, all to one tensor."""
    n = len(size)
    output, kernel = w.shape[dim : dim + n], w.shape[-n:]
    x = w.new_zeros((*w.shape[:dim], *size, *w.shape[dim + n : -n]))
    for offset in itertools.product(*map(range, kernel)):
        at = [slice(k * d, k * d + s * (o - 1) + 1, s) if o else slice(0, 0)
              for k, d, s, o in zip(offset, dilation, stride, output, strict=True)]  # fmt: skip
        of_window = Ellipsis, *offset
        x[(slice(None),) * dim + tuple(at)] += w[of_window]
    return x
