"""Fast forms of the normalisations, in parts that a cache holds: only the result is a fresh tensor of the input's size."""

from __future__ import annotations

import torch

from ..nn.batchnorm import batch_norm, channels_first
from ..nn.instancenorm import instance_norm
from ..nn.normalization import group_norm, layer_norm
from ..nn.standardise import unit

HELD = 2**16  # numbers of a part


def _parts(number, size):
    """Slices of `number` rows of `size` numbers."""
    rows = max(1, HELD // max(size, 1))
    return [slice(start, start + rows) for start in range(0, number, rows)]


def _takes(input, *_):
    return input.dtype in (torch.float32, torch.float64) and input.is_contiguous() and input.numel() > 0


def _normalised(x, eps):
    """x_hat of rows (R, n), and what the definitions save: scale, mean, rest, variance, rho, each (R, 1)."""
    scale, small = unit(x, (1,), eps)
    x_hat, buffer = torch.empty_like(x), None
    mean, rest, variance, rho = (torch.empty_like(scale) for _ in range(4))
    for rows in _parts(*x.shape):
        part = torch.mul(x[rows], scale[rows], out=x_hat[rows])
        part.sub_(torch.mean(part, 1, True, out=mean[rows]))
        part.sub_(torch.mean(part, 1, True, out=rest[rows]))
        buffer = torch.empty_like(part) if buffer is None else buffer
        torch.mean(torch.square(part, out=buffer[: len(part)]), 1, True, out=variance[rows])
        part.mul_(torch.add(variance[rows], small[rows], out=rho[rows]).rsqrt_())
    return x_hat, (scale, mean, rest, variance, rho)


def _scaled_shifted(y, weight, bias):
    if weight is not None:
        y.mul_(weight)
    if bias is not None:
        y.add_(bias)
    return y


def _x_hat(x, scale, mean, rest, rho, out):
    return torch.mul(x, scale, out=out).sub_(mean).sub_(rest).mul_(rho)


# --- layer norm -------------------------------------------------------------------------------------------------


@layer_norm.kernel(where=_takes)
def layer_norm_forward(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    n = torch.Size(normalized_shape).numel()
    x_hat, (scale, mean, rest, _, rho) = _normalised(input.view(-1, n), eps)
    return _scaled_shifted(x_hat.view(input.shape), weight, bias), (scale, mean, rest, rho)


@layer_norm.kernel_gradient
def layer_norm_gradient(dy, saved, needs, input, normalized_shape, weight):
    n = torch.Size(normalized_shape).numel()
    x, dy_rows = input.view(-1, n), dy.reshape(-1, n)
    w = None if weight is None else weight.reshape(n)
    dx = torch.empty_like(x)
    dweight = x.new_zeros(n) if needs.weight else None
    buffers = None
    for rows in _parts(*x.shape):
        scale, mean, rest, rho = (t[rows] for t in saved)
        part = dx[rows]
        buffers = (torch.empty_like(part), torch.empty_like(part)) if buffers is None else buffers
        x_hat, along = (b[: len(part)] for b in buffers)
        _x_hat(x[rows], scale, mean, rest, rho, x_hat)
        torch.mul(dy_rows[rows], x_hat, out=along)
        if dweight is not None:
            dweight += along.sum(0)
        if w is not None:
            along.mul_(w)
        g = part.copy_(dy_rows[rows]) if w is None else torch.mul(dy_rows[rows], w, out=part)
        g.sub_(g.mean(1, True)).addcmul_(x_hat, along.mean(1, True), value=-1).mul_(rho * scale)
    dweight = None if dweight is None else dweight.view(tuple(normalized_shape))
    dbias = dy_rows.sum(0).view(tuple(normalized_shape)) if needs.bias else None
    return dx.view(input.shape), None, dweight, dbias


# --- group norm and instance norm -------------------------------------------------------------------------------


def _group_gradient(dy, saved, weight, input, groups):
    """Of the input, of weight and bias for each sample (N, C): x_hat of each group of a sample's channels is a row."""
    channels, places = input.shape[1] // groups, input.shape[2:].numel()
    n, saved = channels * places, [t.reshape(-1, 1) for t in saved]
    x, dy = input.view(-1, n), dy.reshape(-1, n)
    dx = torch.empty_like(x)
    w = x.new_ones(len(x), channels) if weight is None else weight.view(groups, channels).repeat(len(input), 1)
    dweight, dbias = x.new_empty(len(x), channels), x.new_empty(len(x), channels)
    buffers = None
    for rows in _parts(*x.shape):
        scale, mean, rest, rho = (t[rows] for t in saved)
        part = dx[rows]
        buffers = (torch.empty_like(part), torch.empty_like(part)) if buffers is None else buffers
        x_hat, product = (b[: len(part)] for b in buffers)
        _x_hat(x[rows], scale, mean, rest, rho, x_hat)
        torch.mul(dy[rows], x_hat, out=product)
        torch.sum(product.view(-1, channels, places), 2, out=dweight[rows])
        torch.sum(dy[rows].view(-1, channels, places), 2, out=dbias[rows])
        across, along = ((t[rows] * w[rows]).sum(1, True) / n for t in (dbias, dweight))
        by_channel = dy[rows].view(-1, channels, places), w[rows].unsqueeze(2)
        torch.mul(*by_channel, out=part.view(-1, channels, places))
        part.sub_(across).addcmul_(x_hat, along, value=-1).mul_(rho * scale)
    shape = (len(input), input.shape[1])
    return dx.view(input.shape), dweight.view(shape), dbias.view(shape)


@group_norm.kernel(where=_takes)
def group_norm_forward(input, num_groups, weight, bias, eps):
    x_hat, (scale, mean, rest, _, rho) = _normalised(input.view(len(input) * num_groups, -1), eps)
    y = _scaled_shifted(x_hat.view(input.shape), *(channels_first(t, input) for t in (weight, bias)))
    shape = (len(input), num_groups, 1, 1)
    return y, tuple(t.view(shape) for t in (scale, mean, rest, rho))


@group_norm.kernel_gradient
def group_norm_gradient(dy, saved, input, num_groups, weight):
    dx, dweight, dbias = _group_gradient(dy, saved, weight, input, num_groups)
    return dx, None, dweight.sum(0), dbias.sum(0)


def _own_statistics(input, running_mean, running_var, weight, bias, own, *_):
    return own and _takes(input)


@instance_norm.kernel(where=_own_statistics)
def instance_norm_forward(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps):
    x_hat, saved = _normalised(input.view(input.shape[0] * input.shape[1], -1), eps)
    y = _scaled_shifted(x_hat.view(input.shape), *(channels_first(t, input) for t in (weight, bias)))
    shape = (*input.shape[:2], *(1 for _ in input.shape[2:]))
    return y, tuple(t.view(shape) for t in saved)


@instance_norm.kernel_gradient
def instance_norm_gradient(dy, saved, input, weight):
    scale, mean, rest, _, rho = saved
    dx, dweight, dbias = _group_gradient(dy, (scale, mean, rest, rho), weight, input, input.shape[1])
    return dx, None, None, dweight.sum(0), dbias.sum(0)


# --- batch norm -------------------------------------------------------------------------------------------------


def _trained(input, running_mean, running_var, weight, bias, training, *_):
    return training and _takes(input)


@batch_norm.kernel(where=_trained)
def batch_norm_forward(input, running_mean, running_var, weight, bias, training, momentum, eps):
    x, dims = input.view(*input.shape[:2], -1), (0, 2)
    scale, small = unit(x, dims, eps)
    y = x * scale
    mean = y.mean(dims, keepdim=True)
    rest = y.sub_(mean).mean(dims, keepdim=True)
    variance = y.sub_(rest).square().mean(dims, keepdim=True)
    rho = (variance + small).rsqrt()
    y = _scaled_shifted(y.mul_(rho).view(input.shape), *(channels_first(t, input) for t in (weight, bias)))
    shape = (1, -1, *(1 for _ in input.shape[2:]))
    return y, tuple(t.view(shape) for t in (scale, mean, rest, variance, rho))


@batch_norm.kernel_gradient
def batch_norm_gradient(dy, saved, needs, input, weight):
    """The sums are of float64, of a few samples at a time."""
    samples, channels = input.shape[:2]
    x, dy = input.view(samples, channels, -1), dy.reshape(samples, channels, -1)
    scale, mean, rest, _, rho = (t.view(channels, 1) for t in saved)
    parts = _parts(samples, x[0].numel())
    kind = torch.float64 if x.device.type != "mps" else torch.float32
    buffer, product = x.new_empty(x[parts[0]].shape), x.new_empty(x[parts[0]].shape, dtype=kind)
    dweight, dbias = (x.new_zeros(channels, dtype=kind) for _ in range(2))
    for part in parts:
        d = dy[part]
        x_hat = _x_hat(x[part], scale, mean, rest, rho, buffer[: len(d)])
        wide = product[: len(d)].copy_(d)
        dbias += wide.sum((0, 2))
        dweight += wide.mul_(x_hat).sum((0, 2))
    dweight, dbias = dweight.to(x.dtype), dbias.to(x.dtype)
    if not needs.input:
        return None, None, None, dweight, dbias
    n, dx = samples * x.shape[2], torch.empty_like(x)
    across, along = (dbias / n).unsqueeze(1), (dweight / n).unsqueeze(1)
    factor = rho * scale if weight is None else rho * scale * weight.view(channels, 1)
    for part in parts:
        x_hat = _x_hat(x[part], scale, mean, rest, rho, buffer[: len(dy[part])])
        torch.sub(dy[part], across, out=dx[part]).sub_(x_hat.mul_(along)).mul_(factor)
    return dx.view(input.shape), None, None, dweight, dbias
