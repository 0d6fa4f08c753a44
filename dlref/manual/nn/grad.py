"""The gradients of convolutions by themselves: torch.nn.grad by hand."""

from __future__ import annotations

import functools

from .conv import _conv_prepare, correlated_size, outer, spread, with_batch


def _fitting(name, input, weight, grad_output, stride, padding, dilation, groups):
    """The options, a number for each dimension; RuntimeError where the output's gradient is not that of this convolution."""
    n = int(name[4])
    _, _, _, *options = _conv_prepare(name, n, input, weight, None, stride, padding, dilation, groups)
    stride, pads, dilation, _ = options
    x = with_batch(input, stride)
    size = len(x), weight.shape[0], *correlated_size(x, weight, stride, pads, dilation)
    if with_batch(grad_output, stride).shape != size:
        raise RuntimeError(f"{name}: grad_output must have the shape of the convolution's output, "
                           f"{size if x is input else size[1:]}, it has {tuple(grad_output.shape)}")  # fmt: skip
    return options


def _of_input(name, input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1):
    r"""The gradient of a convolution's input: $dx_l = \sum_{o s + k d - p = l} W_k^\top dy_o$.

    weight (out, C / groups, *K), grad_output (N, out, *O); input_size and output (N, C, *L). RuntimeError where shapes or
    options do not fit. LeCun et al. 1998 (Proc. IEEE 86), section II.
    """
    input = grad_output.new_empty(1).expand(input_size)
    options = _fitting(name, input, weight, grad_output, stride, padding, dilation, groups)
    size = tuple(input.shape[2 - weight.dim() :])
    dx = spread(with_batch(grad_output, options[0]), weight.conj(), size, *options)
    return dx if input.dim() == weight.dim() else dx.squeeze(0)


def _of_weight(name, input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1):
    r"""The gradient of a convolution's weight: $dW_k = \sum_o dy_o\, x_{o s + k d - p}^\top$.

    input (N, C, *L), grad_output (N, out, *O); weight_size and output (out, C / groups, *K). RuntimeError where shapes or
    options do not fit. LeCun et al. 1998 (Proc. IEEE 86), section II.
    """
    weight = grad_output.new_empty(1).expand(weight_size)
    options = _fitting(name, input, weight, grad_output, stride, padding, dilation, groups)
    x, dy = with_batch(input, options[0]), with_batch(grad_output, options[0])
    return outer(x.conj(), dy, tuple(weight.shape[2:]), *options)


def _made(gradient, name):
    made = functools.partial(gradient, name)
    made.__name__, made.__doc__ = name, gradient.__doc__
    return made


conv1d_input, conv2d_input, conv3d_input = (_made(_of_input, f"conv{n}d_input") for n in (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = (_made(_of_weight, f"conv{n}d_weight") for n in (1, 2, 3))
