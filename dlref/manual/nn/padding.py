"""Padding: numbers round the input, by an index map for each dimension, so in one, two and three dimensions alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from .common import channels_last, widened


def _index(mode: str, length: int, before: int, after: int, device: torch.device) -> torch.Tensor:
    """Which element of a dimension stands at each place of the padded one."""
    if mode == "circular":  # what was cut off does not come round again
        start, length = max(-before, 0), length + min(before, 0) + min(after, 0)
        return start + torch.arange(-max(before, 0), length + max(after, 0), device=device).remainder(length)
    place = torch.arange(-before, length + after, device=device)
    if mode == "reflect":
        return length - 1 - (length - 1 - place.abs()).abs()
    return place.clamp(0, length - 1)


def _amounts(pad):
    """(dimension from the back, before, after) of each padded dimension; torch's list begins with the last."""
    return [(-1 - i // 2, pad[i], pad[i + 1]) for i in range(0, len(pad), 2) if pad[i] or pad[i + 1]]


def _inside(shape, pad):
    """Where the input stands in the output, and what of the input stands there (negative amounts cut)."""
    outer, inner = [slice(None)] * len(shape), [slice(None)] * len(shape)
    size = list(shape)
    for dim, before, after in _amounts(pad):
        length = size[dim]
        size[dim] += before + after
        outer[dim] = slice(max(before, 0), max(before, 0) + length + min(before, 0) + min(after, 0))
        inner[dim] = slice(max(-before, 0), length + min(after, 0))
    return tuple(size), tuple(outer), tuple(inner)


def _layout(input, pad, mode, value):
    return torch.contiguous_format if mode == "circular" else channels_last(input)


@op(builtin=F.pad, layout=_layout)
def pad(input, pad, mode, value):
    r"""The input with `pad[0]` places before and `pad[1]` after its last dimension, `pad[2:4]` for the one before it, ...

    $y_p = x_{m(p)}$: mode "constant" fills with value; "reflect" mirrors without the edge, $m(p) = |p|$ at the front;
    "replicate" repeats the edge, $m(p) = \min(\max(p, 0), L - 1)$; "circular" wraps, $m(p) = p \bmod L$. Negative amounts
    cut off. Any shape for "constant"; for the others (N, C, *L) or (C, *L) of the dimensions that are padded. RuntimeError or
    NotImplementedError where torch raises them.
    """
    if mode == "constant":
        size, outer, inner = _inside(input.shape, pad)
        y = input.new_full(size, value)
        y[outer] = input[inner]
        return y
    if not _amounts(pad):
        return input.clone()
    for dim, before, after in _amounts(pad):
        index = _index(mode, input.shape[dim], before, after, input.device)
        if min(before, after) < 0:
            input = input.index_select(dim, index)
        else:
            first, last = (input.index_select(dim, part) for part in (index[:before], index[len(index) - after :]))
            input = torch.cat([first, input, last], dim)
    return input


@pad.gradient
def pad_gradient(dy, shapes, pad, mode):
    r"""$dx_l = \sum_{p : m(p) = l} dy_p$."""
    if mode == "constant":
        _, outer, inner = _inside(shapes.input, pad)
        dx = dy.new_zeros(shapes.input)
        dx[inner] = dy[outer]
        return dx
    dx = widened(dy)
    for dim, before, after in reversed(_amounts(pad)):
        length = shapes.input[dim]
        index = _index(mode, length, before, after, dx.device)
        if min(before, after) < 0:
            shape = list(dx.shape)
            shape[dim] = length
            dx = dx.new_zeros(shape).index_add(dim, index, dx)
        else:  # the middle is the input's own, the ends are added
            first, middle, last = dx.split([before, length, after], dim)
            dx = middle.index_add(dim, index[:before], first).index_add(dim, index[before + length :], last)
    return dx


class Padding(Manual):
    """The module's amounts with the mode that its class stands for."""

    op, attributes, mode = pad, {"pad": "padding"}, "constant"

    def arguments(self):
        return {**super().arguments(), "mode": self.mode}


class Constant(Padding):
    """Padding with the module's value."""

    attributes = {"pad": "padding", "value": "value"}


class Reflection(Padding):
    """Padding with what stands before the edge, mirrored at it; the edge itself is not repeated."""

    mode = "reflect"


class Replication(Padding):
    """Padding with the number at the edge."""

    mode = "replicate"


class Circular(Padding):
    """Padding with what stands at the other edge; as in torch, the input's dimensions are checked."""

    mode = "circular"

    def forward(self, input):
        self._check_input_dim(input)
        return super().forward(input)

    def explicit(self, input):
        self._check_input_dim(input)
        return super().explicit(input)


class ConstantPad1d(Constant, torch.nn.ConstantPad1d):
    """`pad` of the last dimension with a constant value; padding: one number or (left, right)."""


class ConstantPad2d(Constant, torch.nn.ConstantPad2d):
    """`pad` of the last two dimensions with a constant value; padding: one number or (left, right, top, bottom)."""


class ConstantPad3d(Constant, torch.nn.ConstantPad3d):
    """`pad` of the last three dimensions with a constant value; padding: one number or (left, right, ..., back)."""


class ZeroPad1d(Constant, torch.nn.ZeroPad1d):
    """`pad` of the last dimension with noughts; padding: one number or (left, right)."""


class ZeroPad2d(Constant, torch.nn.ZeroPad2d):
    """`pad` of the last two dimensions with noughts; padding: one number or (left, right, top, bottom)."""


class ZeroPad3d(Constant, torch.nn.ZeroPad3d):
    """`pad` of the last three dimensions with noughts; padding: one number or (left, right, ..., back)."""


class ReflectionPad1d(Reflection, torch.nn.ReflectionPad1d):
    """`pad` of input (N, C, L) or (C, L) in mode "reflect"; padding: one number or (left, right)."""


class ReflectionPad2d(Reflection, torch.nn.ReflectionPad2d):
    """`pad` of input (N, C, H, W) or (C, H, W) in mode "reflect"; padding: one number or (left, right, top, bottom)."""


class ReflectionPad3d(Reflection, torch.nn.ReflectionPad3d):
    """`pad` of input (N, C, D, H, W) or (C, D, H, W) in mode "reflect"; padding: one number or (left, right, ..., back)."""


class ReplicationPad1d(Replication, torch.nn.ReplicationPad1d):
    """`pad` of input (N, C, L) or (C, L) in mode "replicate"; padding: one number or (left, right)."""


class ReplicationPad2d(Replication, torch.nn.ReplicationPad2d):
    """`pad` of input (N, C, H, W) or (C, H, W) in mode "replicate"; padding: one number or (left, right, top, bottom)."""


class ReplicationPad3d(Replication, torch.nn.ReplicationPad3d):
    """`pad` of input (N, C, D, H, W) or (C, D, H, W) in mode "replicate"; padding: one number or (left, right, ..., back)."""


class CircularPad1d(Circular, torch.nn.CircularPad1d):
    """`pad` of input (N, C, L) or (C, L) in mode "circular"; padding: one number or (left, right)."""


class CircularPad2d(Circular, torch.nn.CircularPad2d):
    """`pad` of input (N, C, H, W) or (C, H, W) in mode "circular"; padding: one number or (left, right, top, bottom)."""


class CircularPad3d(Circular, torch.nn.CircularPad3d):
    """`pad` of input (N, C, D, H, W) or (C, D, H, W) in mode "circular"; padding: one number or (left, right, ..., back)."""


@pad.prepare
def pad_prepare(input, pad, mode="constant", value=None):
    pad = tuple(pad)
    if len(pad) % 2 or len(pad) > 2 * input.dim():
        raise RuntimeError(f"pad(): pad must hold two numbers for each of at most {input.dim()} dimensions, it holds "
                           f"{len(pad)}")  # fmt: skip
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(
            f"pad(): mode must be 'constant', 'reflect', 'replicate' or 'circular', it is {mode!r}"
        )
    if mode != "constant":
        if value is not None and value != 0:
            raise ValueError(f"pad(): value belongs to mode 'constant', it is {value} with {mode!r}")
        padded = len(pad) // 2
        if padded not in (1, 2, 3) or input.dim() not in (padded + 1, padded + 2):
            raise NotImplementedError(f"pad(): mode {mode!r} pads the last 1, 2 or 3 dimensions of a tensor of one or two "
                                      f"more, not {padded} of {input.dim()}")  # fmt: skip
        if mode != "circular" and 0 in input.shape[input.dim() - padded - 1 :]:
            raise RuntimeError(f"pad(): only the batch may be empty, the input has shape {tuple(input.shape)}")
    for dim, before, after in _amounts(pad):
        length = input.shape[dim]
        most = {"reflect": length - 1, "circular": length}.get(mode)
        if most is not None and max(before, after) > most:
            raise RuntimeError(f"pad(): mode {mode!r} can pad a dimension of {length} by at most {most}, not by "
                               f"{before} and {after}")  # fmt: skip
        if mode == "constant" and length + min(before, 0) + min(after, 0) < 0:
            raise RuntimeError(f"pad(): what is cut off must be there, {before} and {after} cut more than {length}")
        if length + before + after < (0 if mode == "constant" else 1):
            raise RuntimeError(f"pad(): the output must not have a negative size, {before} and {after} leave "
                               f"{length + before + after} of {length}")  # fmt: skip
    return input, pad, mode, 0 if value is None else value
