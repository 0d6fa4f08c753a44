"""Fast forms of the normalisations, in parts that a cache holds: only the result is a fresh tensor of the input's size."""

from __future__ import annotations

import itertools

import torch

from ...core.modes import finest
from ..nn.batchnorm import batch_norm, channels_first
from ..nn.instancenorm import instance_norm
from ..nn.normalization import group_norm, layer_norm
from ..nn.standardise import unit

HELD = 2**18  # numbers of a part: a cache holds them, and they take longer than the calls


def _parts(x, *others):
    """The tensors, and None, by parts: slices of their rows, as many as hold so many numbers of x; and before them one tensor
    to write to, like the part of x."""
    rows = max(1, HELD // x[0].numel())
    buffer = torch.empty_like(x[:rows])
    parts = [itertools.repeat(None) if t is None else t.split(rows) for t in (x, *others)]
    return zip((buffer[: len(part)] for part in x.split(rows)), *parts, strict=False)


def _takes(input, *_):
    return input.dtype in (torch.float32, torch.float64) and input.is_contiguous() and input.numel() > 0


def _normalised(input, eps, weight, bias):
    """y of rows (R, c, p), weight and bias (R, c, 1), and what the definitions save: scale, mean, rest, variance, rho, each
    (R, 1, 1)."""
    scale, small = unit(input, (1, 2), eps)
    result, saved = torch.empty_like(input), (scale, *(torch.empty_like(scale) for _ in range(4)))
    for buffer, x, y, s, mean, rest, variance, rho, least, w, b in _parts(input, result, *saved, small, weight, bias):
        torch.mul(x, s, out=y)
        y.sub_(torch.mean(y, (1, 2), True, out=mean))
        y.sub_(torch.mean(y, (1, 2), True, out=rest))
        torch.mean(torch.square(y, out=buffer), (1, 2), True, out=variance)
        y.mul_(torch.add(variance, least, out=rho).rsqrt_())
        _scaled_shifted(y, w, b)
    return result, saved


def _scaled_shifted(y, weight, bias):
    if weight is not None:
        y.mul_(weight)
    if bias is not None:
        y.add_(bias)
    return y


def _centred(x, scale, mean, rest, out):
    return torch.mul(x, scale, out=out).sub_(mean).sub_(rest)


# --- layer norm -------------------------------------------------------------------------------------------------


@layer_norm.kernel(where=_takes)
def layer_norm_forward(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    x = input.view(-1, torch.Size(normalized_shape).numel(), 1)
    affine = (t if t is None else t.reshape(-1, 1).expand(x.shape) for t in (weight, bias))
    y, saved = _normalised(x, eps, *affine)
    shape = (*input.shape[: -len(normalized_shape)], *(1 for _ in normalized_shape))
    scale, mean, rest, _, rho = (t.view(shape) for t in saved)
    return y.view(input.shape), (scale, mean, rest, rho)


@layer_norm.kernel_gradient
def layer_norm_gradient(dy, saved, needs, input, normalized_shape, weight):
    shape, n = tuple(normalized_shape), torch.Size(normalized_shape).numel()
    rows, dy, saved = input.view(-1, n), dy.reshape(-1, n), [t.view(-1, 1) for t in saved]
    w = None if weight is None else weight.reshape(n)
    result, dweight = torch.empty_like(rows), rows.new_zeros(n) if needs.weight else None
    for x_hat, x, d, dx, scale, mean, rest, rho in _parts(rows, dy, result, *saved):
        product = torch.mul(d, _centred(x, scale, mean, rest, x_hat).mul_(rho), out=dx)
        if dweight is not None:
            dweight += product.sum(0)
        along = (product if w is None else product.mul_(w)).mean(1, True)
        g = d if w is None else torch.mul(d, w, out=dx)
        torch.sub(g, g.mean(1, True), out=dx).addcmul_(x_hat, along, value=-1).mul_(rho * scale)
    dweight = None if dweight is None else dweight.view(shape)
    return result.view(input.shape), None, dweight, dy.sum(0).view(shape) if needs.bias else None


# --- group norm and instance norm -------------------------------------------------------------------------------


def _by_channel(t, input, groups):
    """(C,) as (N G, C / G, 1): for each group of a sample's channels."""
    return None if t is None else t.view(groups, -1, 1).repeat(len(input), 1, 1)


def _group(input, groups, weight, bias, eps):
    """y, and what `_normalised` saves: a group of a sample's channels is a row."""
    x = input.view(len(input) * groups, input.shape[1] // groups, -1)
    y, saved = _normalised(x, eps, *(_by_channel(t, input, groups) for t in (weight, bias)))
    return y.view(input.shape), saved


def _group_gradient(dy, saved, weight, input, groups):
    """Of the input, of weight and bias for each sample (N, C)."""
    rows = input.view(len(input) * groups, input.shape[1] // groups, -1)
    dy, saved, weight = dy.reshape(rows.shape), [t.view(-1, 1, 1) for t in saved], _by_channel(weight, input, groups)
    result, n = torch.empty_like(rows), rows[0].numel()
    dweight, dbias = (rows.new_empty(*rows.shape[:2], 1) for _ in range(2))
    for buffer, x, d, dx, w, dw, db, scale, mean, rest, rho in _parts(rows, dy, result, weight, dweight, dbias, *saved):
        centred = _centred(x, scale, mean, rest, buffer)
        product = torch.mul(d, centred, out=dx)
        across, along = torch.sum(d, 2, True, out=db), torch.sum(product, 2, True, out=dw).mul_(rho)
        across, along = ((t if w is None else t * w).sum(1, True) / n for t in (across, along))
        g = d if w is None else torch.mul(d, w, out=dx)
        torch.sub(g, across, out=dx).addcmul_(centred, along * rho, value=-1).mul_(rho * scale)
    shape = input.shape[:2]
    return result.view(input.shape), dweight.view(shape), dbias.view(shape)


@group_norm.kernel(where=_takes)
def group_norm_forward(input, num_groups, weight, bias, eps):
    y, saved = _group(input, num_groups, weight, bias, eps)
    scale, mean, rest, _, rho = (t.view(len(input), num_groups, 1, 1) for t in saved)
    return y, (scale, mean, rest, rho)


@group_norm.kernel_gradient
def group_norm_gradient(dy, saved, input, num_groups, weight):
    dx, dweight, dbias = _group_gradient(dy, saved, weight, input, num_groups)
    return dx, None, dweight.sum(0), dbias.sum(0)


def _own_statistics(input, running_mean, running_var, weight, bias, own, *_):
    return own and _takes(input)


@instance_norm.kernel(where=_own_statistics)
def instance_norm_forward(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps):
    y, saved = _group(input, input.shape[1], weight, bias, eps)
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
    kind = finest(x.device)
    dweight, dbias = (x.new_zeros(channels, dtype=kind) for _ in range(2))
    for x_hat, part, d in _parts(x, dy):
        _centred(part, scale, mean, rest, x_hat).mul_(rho)
        wide = d.to(kind, copy=True)
        dbias += wide.sum((0, 2))
        dweight += wide.mul_(x_hat).sum((0, 2))
    dweight, dbias = dweight.to(x.dtype), dbias.to(x.dtype)
    if not needs.input:
        return None, None, None, dweight, dbias
    n, result = samples * x.shape[2], torch.empty_like(x)
    across, along = (dbias / n).unsqueeze(1), (dweight / n).unsqueeze(1)
    factor = rho * scale if weight is None else rho * scale * weight.view(channels, 1)
    for x_hat, part, d, dx in _parts(x, dy, result):
        _centred(part, scale, mean, rest, x_hat).mul_(rho)
        torch.sub(d, across, out=dx).addcmul_(x_hat, along, value=-1).mul_(factor)
    return result.view(input.shape), None, None, dweight, dbias
