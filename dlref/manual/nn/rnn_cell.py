"""Recurrent cells: one step of Elman's network, of LSTM and of GRU. The layers (rnn.py) carry them through time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from ...builtin import functional as builtin
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import outer
from .recurrence import affine, affine_gradient


def step_gradient(delta: Tensor, needs, input: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor) -> tuple:
    r"""Of $\delta$, the gradient of $W_{ih} x + b_{ih} + W_{hh} h + b_{hh}$, those of x, h, the weights and the biases."""
    dinput, dw_ih, db = affine_gradient(delta, needs, input, w_ih)
    dh, dw_hh = delta @ w_hh if needs.h else None, outer(delta, h) if needs.w_hh else None
    return dinput, dh, dw_ih, dw_hh, db, db


def check_cell(name, gates, input, states, w_ih, w_hh):
    size = w_hh.shape[-1]
    if input.dim() != 2:
        raise RuntimeError(f"{name}(): the input must have 2 dimensions, it has {input.dim()}")
    if tuple(w_ih.shape) != (gates * size, input.shape[1]) or tuple(w_hh.shape) != (gates * size, size):
        raise RuntimeError(f"{name}(): of inputs (N, {input.shape[1]}) w_ih and w_hh must have shapes "
                           f"{(gates * size, input.shape[1])} and {(gates * size, size)}, they have {tuple(w_ih.shape)} and "
                           f"{tuple(w_hh.shape)}")  # fmt: skip
    for s in states:
        if tuple(s.shape) != (len(input), size):
            raise RuntimeError(
                f"{name}(): the hidden state must have shape {(len(input), size)}, it has {tuple(s.shape)}"
            )


class RNNCellBase(Manual, torch.nn.RNNCellBase):
    """The parameters of a cell, num_chunks parts of them: what `RNNCell`, `LSTMCell` and `GRUCell` compute with.

    Called, or asked for its `vjp`, it raises NotImplementedError, as torch's.
    """

    forward = explicit = torch.nn.RNNCellBase.forward


class Cell(Manual):
    """What the cells share: a state of one tensor or two, zeros where none is given; rows, or one without a batch."""

    attributes: dict[str, str] = {}
    _carries_cell = False

    def _opened(self, input, hx):
        """The operation's arguments, and whether they have a batch."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}(): the input must have 1 or 2 dimensions, it has {input.dim()}")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if hx is None:
            h = x.new_zeros(len(x), self.hidden_size)
            states = (h, h) if self._carries_cell else (h,)
        else:
            states = tuple(hx) if self._carries_cell else (hx,)
            for s in states:
                if s.dim() not in (1, 2):
                    raise ValueError(f"{name}(): the hidden state must have 1 or 2 dimensions, it has {s.dim()}")
            states = states if batched else tuple(s.unsqueeze(0) for s in states)
        return (x, *states, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh), batched

    def _operation(self):
        return self.__op__

    def _given(self, outputs, batched):
        outputs = [o if batched else o.squeeze(0) for o in (outputs if self._carries_cell else (outputs,))]
        return tuple(outputs) if self._carries_cell else outputs[0]

    def forward(self, input, hx=None):
        args, batched = self._opened(input, hx)
        return self._given(self._operation()(*args), batched)

    def explicit(self, input, hx=None):
        args, batched = self._opened(input, hx)
        outputs, pull = self._operation().vjp(*args)
        learns = [a.requires_grad if isinstance(a, Parameter) else isinstance(a, Tensor) for a in args]

        def pullback(dy=None, needs=None):
            dy = [d if d is None or batched else d.unsqueeze(0) for d in (dy if self._carries_cell else (dy,))]
            grads = pull(tuple(dy) if self._carries_cell else dy[0], learns)
            for arg, grad in zip(args, grads, strict=True):
                if isinstance(arg, Parameter) and grad is not None:
                    accumulate(arg, grad)
            dinput, *dstates = [g if g is None or batched else g.squeeze(0) for g in grads[: 1 + len(dy)]]
            return (dinput,) if hx is None else (dinput, tuple(dstates) if self._carries_cell else dstates[0])

        trains = any(isinstance(a, Parameter) and a.requires_grad for a in args)
        return self._given(outputs, batched), made_of(pullback, pull, trains=trains)


# --- Elman ------------------------------------------------------------------------------------------------------


@op(
    builtin=builtin.rnn_relu_cell,
    autocast={"cuda": "low"},
    dtypes=Dtypes(one=("input", "h", "w_ih", "w_hh", "b_ih", "b_hh")),
)
def rnn_relu_cell(input, h, w_ih, w_hh, b_ih=None, b_hh=None):
    r"""$h' = \max(0, W_{ih} x + b_{ih} + W_{hh} h + b_{hh})$: `rnn_tanh_cell` with ReLU. Le et al. 2015, arXiv:1504.00941."""
    return torch.clamp(affine(input, w_ih, b_ih) + affine(h, w_hh, b_hh), min=0)


@rnn_relu_cell.gradient
def rnn_relu_cell_gradient(dy, output, needs, input, h, w_ih, w_hh):
    r"""$\delta = dy\,[h' > 0]$, and $dx = W_{ih}^\top \delta,\ dh = W_{hh}^\top \delta,\ dW_{ih} = \sum \delta x^\top,\
    dW_{hh} = \sum \delta h^\top,\ db = \sum \delta$."""
    return step_gradient(torch.where(output != 0, dy, 0), needs, input, h, w_ih, w_hh)


@op(
    builtin=builtin.rnn_tanh_cell,
    autocast={"cuda": "low"},
    dtypes=Dtypes(one=("input", "h", "w_ih", "w_hh", "b_ih", "b_hh")),
)
def rnn_tanh_cell(input, h, w_ih, w_hh, b_ih=None, b_hh=None):
    r"""Elman's step: $h' = \tanh(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})$.

    input (N, I), h (N, H), w_ih (H, I), w_hh (H, H), b_ih and b_hh (H,); output (N, H). RuntimeError where they do not fit.
    Elman 1990 (Cognitive Science 14).
    """
    return torch.tanh(affine(input, w_ih, b_ih) + affine(h, w_hh, b_hh))


@rnn_tanh_cell.gradient
def rnn_tanh_cell_gradient(dy, output, needs, input, h, w_ih, w_hh):
    r"""$\delta = dy\,(1 - h'^2)$, and $dx = W_{ih}^\top \delta,\ dh = W_{hh}^\top \delta,\ dW_{ih} = \sum \delta x^\top,\
    dW_{hh} = \sum \delta h^\top,\ db = \sum \delta$."""
    return step_gradient(dy * (1 - output.square()), needs, input, h, w_ih, w_hh)


class RNNCell(Cell, RNNCellBase, torch.nn.RNNCell):
    """The module of `rnn_tanh_cell`, or of `rnn_relu_cell` where nonlinearity is "relu": input (N, I) or (I,)."""

    op = rnn_tanh_cell

    def _operation(self):
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"RNNCell(): nonlinearity must be 'tanh' or 'relu', it is {self.nonlinearity!r}")
        return rnn_relu_cell if self.nonlinearity == "relu" else rnn_tanh_cell


@rnn_relu_cell.prepare
def rnn_relu_cell_prepare(input, h, w_ih, w_hh, b_ih, b_hh):
    check_cell("rnn_relu_cell", 1, input, (h,), w_ih, w_hh)
    return input, h, w_ih, w_hh, b_ih, b_hh


@rnn_tanh_cell.prepare
def rnn_tanh_cell_prepare(input, h, w_ih, w_hh, b_ih, b_hh):
    check_cell("rnn_tanh_cell", 1, input, (h,), w_ih, w_hh)
    return input, h, w_ih, w_hh, b_ih, b_hh


# --- LSTM -------------------------------------------------------------------------------------------------------


@op(
    builtin=builtin.lstm_cell,
    outputs=("h_next", "c_next"),
    autocast={"cuda": "low"},
    dtypes=Dtypes(one=("input", "h", "c", "w_ih", "w_hh", "b_ih", "b_hh")),
)
def lstm_cell(input, h, c, w_ih, w_hh, b_ih=None, b_hh=None):
    r"""One step of LSTM: $i, f, g, o = \sigma, \sigma, \tanh, \sigma$ of $W_{ih} x + b_{ih} + W_{hh} h + b_{hh}$,
    $c' = f \odot c + i \odot g$, $h' = o \odot \tanh c'$.

    input (N, I), h and c (N, H), w_ih (4 H, I), w_hh (4 H, H), b_ih and b_hh (4 H,), the rows in the order i, f, g, o;
    outputs h' and c' (N, H). RuntimeError where they do not fit. Hochreiter & Schmidhuber 1997; Gers et al. 2000 (forget
    gate).
    """
    i, f, g, o = (affine(input, w_ih, b_ih) + affine(h, w_hh, b_hh)).chunk(4, 1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c_next = f * c + i * g
    return (o * torch.tanh(c_next), c_next), (i, f, g, o)


@lstm_cell.gradient
def lstm_cell_gradient(dy, c_next, saved, needs, input, h, c, w_ih, w_hh):
    r"""Of $dh'$ and what came for $c'$: $dc' = dy_c + dh' \odot o\,(1 - \tanh^2 c')$,
    $\delta = (dc'\, g\, i(1-i),\ dc'\, c\, f(1-f),\ dc'\, i\,(1-g^2),\ dh' \tanh c'\, o(1-o))$,
    $dc = dc' \odot f$, $dh = W_{hh}^\top \delta$, and $dx = W_{ih}^\top \delta,\ dW_{ih} = \sum \delta x^\top,\
    dW_{hh} = \sum \delta h^\top,\ db = \sum \delta$."""
    dh_next, dc_next = dy
    i, f, g, o = saved
    tanh_c = torch.tanh(c_next)
    dc_next = dc_next + dh_next * o * (1 - tanh_c.square())
    di, df, dg = dc_next * g * i * (1 - i), dc_next * c * f * (1 - f), dc_next * i * (1 - g.square())
    delta = torch.cat([di, df, dg, dh_next * tanh_c * o * (1 - o)], 1)
    dinput, dh, *dparameters = step_gradient(delta, needs, input, h, w_ih, w_hh)
    return dinput, dh, dc_next * f, *dparameters


class LSTMCell(Cell, RNNCellBase, torch.nn.LSTMCell):
    """The module of `lstm_cell`: input (N, I) or (I,), the state a pair (h, c)."""

    op, _carries_cell = lstm_cell, True


@lstm_cell.prepare
def lstm_cell_prepare(input, h, c, w_ih, w_hh, b_ih, b_hh):
    check_cell("lstm_cell", 4, input, (h, c), w_ih, w_hh)
    return input, h, c, w_ih, w_hh, b_ih, b_hh


# --- GRU --------------------------------------------------------------------------------------------------------


@op(
    builtin=builtin.gru_cell,
    autocast={"cuda": "low"},
    dtypes=Dtypes(one=("input", "h", "w_ih", "w_hh", "b_ih", "b_hh")),
)
def gru_cell(input, h, w_ih, w_hh, b_ih=None, b_hh=None):
    r"""One step of GRU: $r, z = \sigma(W_i x + b_i + W_h h + b_h)$,
    $n = \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn}))$, $h' = (1 - z) \odot n + z \odot h$.

    input (N, I), h (N, H), w_ih (3 H, I), w_hh (3 H, H), b_ih and b_hh (3 H,), the rows in the order r, z, n;
    output (N, H). RuntimeError where they do not fit. Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8, with the reset gate
    after the product.
    """
    x_r, x_z, x_n = affine(input, w_ih, b_ih).chunk(3, 1)
    h_r, h_z, h_n = affine(h, w_hh, b_hh).chunk(3, 1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    p = r * h_n
    n = torch.tanh(x_n + p)
    return n + z * (h - n), (r, z, n, p)


@gru_cell.gradient
def gru_cell_gradient(dy, saved, needs, input, h, w_ih, w_hh):
    r"""With $p = r \odot (W_{hn} h + b_{hn})$: $\delta_n = dy (1 - z)(1 - n^2)$, $\delta_z = dy (h - n)\, z (1 - z)$,
    $\delta_r = \delta_n\, p\, (1 - r)$; the map of x gets $\delta = (\delta_r, \delta_z, \delta_n)$, that of h gets
    $\epsilon = (\delta_r, \delta_z, \delta_n r)$, and $dx = W_{ih}^\top \delta$, $dh = dy \odot z + W_{hh}^\top \epsilon$,
    $dW_{ih} = \sum \delta x^\top,\ dW_{hh} = \sum \epsilon h^\top$."""
    r, z, n, p = saved
    delta_n = dy * (1 - z) * (1 - n.square())
    delta_z = dy * (h - n) * z * (1 - z)
    delta_r = delta_n * p * (1 - r)
    dinput, dw_ih, db_ih = affine_gradient(torch.cat([delta_r, delta_z, delta_n], 1), needs, input, w_ih)
    epsilon = torch.cat([delta_r, delta_z, delta_n * r], 1)
    dh, dw_hh = torch.addcmul(epsilon @ w_hh, dy, z), outer(epsilon, h) if needs.w_hh else None
    return dinput, dh, dw_ih, dw_hh, db_ih, epsilon.sum(0) if needs.b_hh else None


class GRUCell(Cell, RNNCellBase, torch.nn.GRUCell):
    """The module of `gru_cell`: input (N, I) or (I,)."""

    op = gru_cell


@gru_cell.prepare
def gru_cell_prepare(input, h, w_ih, w_hh, b_ih, b_hh):
    check_cell("gru_cell", 3, input, (h,), w_ih, w_hh)
    return input, h, w_ih, w_hh, b_ih, b_hh
