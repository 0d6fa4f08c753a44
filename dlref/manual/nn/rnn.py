"""Recurrent layers: Elman's, LSTM and GRU, in one direction or two, of sequences of any lengths.

The operations take the rows of all sequences as recurrence.py has them, and carry the cells (rnn_cell.py) through time; the
gradients are backpropagation through time, from the last step to the first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils.rnn import PackedSequence

from ...core.compat import recurrence_allowed, unseen_by_dynamo
from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import outer
from .dropout import dropout
from .recurrence import affine, affine_gradient, before, joined, outer_before, scan
from .rnn_cell import GRUCell as GRUCell  # modules that were pickled name the cells here
from .rnn_cell import LSTMCell as LSTMCell
from .rnn_cell import RNNCell as RNNCell


class Packing:
    """How a call's tensors stand: packed or not, the batch first or second or absent, the sequences sorted or not."""

    def __init__(self, packed: PackedSequence | None, steps: int, batch_first: bool, batched: bool):
        self.packed, self.steps, self.batch_first, self.batched = packed, steps, batch_first, batched

    def rows(self, x):
        """Rows of a tensor of the call."""
        if self.packed is not None:
            return x.data if isinstance(x, PackedSequence) else x
        if not self.batched:
            return x
        return (x.transpose(0, 1) if self.batch_first else x).flatten(0, 1)

    def sequences(self, rows):
        """The call's tensor of rows."""
        if self.packed is not None:
            return PackedSequence(rows, *self.packed[1:])
        if not self.batched:
            return rows
        x = rows.unflatten(0, (self.steps, rows.shape[0] // self.steps))
        return x.transpose(0, 1) if self.batch_first else x

    def sort(self, state, back=False):
        """A state (layers, N, *) of the call in the order of the rows, or back."""
        if not self.batched:
            return state.squeeze(1) if back else state.unsqueeze(1)
        order = None if self.packed is None else self.packed.unsorted_indices if back else self.packed.sorted_indices
        return state if order is None else state.index_select(1, order)


class RNNBase(Manual, torch.nn.RNNBase):
    """The parameters of an `RNN`, `LSTM` or `GRU`, of layers in one direction or two: what those classes compute with.

    Called, or asked for its `vjp`, it raises NotImplementedError, as torch's.
    """

    forward = explicit = torch.nn.RNNBase.forward


class Recurrent(Manual):
    """What RNN, LSTM and GRU share: layers and directions, packing, dropout between layers."""

    attributes: dict[str, str] = {}
    _carries_cell = False

    def _layer(self, rows, state, names, sizes, reverse):
        """The arguments of the operation for one layer in one direction."""
        w_ih, w_hh, *rest = [getattr(self, name) for name in names]
        biases, projection = (rest[:2], rest[2:]) if self.bias else ((None, None), rest)
        if self._carries_cell:
            return rows, *state, w_ih, w_hh, *biases, *(projection or (None,)), sizes, reverse
        return rows, *state, w_ih, w_hh, *biases, sizes, reverse, *self._options()

    def _options(self):
        """What the operation gets beside those."""
        return ()

    def _opened(self, input, hx):
        """Rows, sizes and the initial states in the rows' order, and how the call's tensors stand."""
        name = type(self).__name__
        if isinstance(input, PackedSequence):
            packing, n = Packing(input, len(input.batch_sizes), self.batch_first, True), int(input.batch_sizes[0])
            rows, sizes = input.data, tuple(input.batch_sizes.tolist())
            states = self._zeros(rows, n) if hx is None else hx
            self.check_forward_args(rows, states, input.batch_sizes)
        else:
            if input.dim() not in (2, 3):
                raise ValueError(f"{name}(): the input must have 2 or 3 dimensions, it has {input.dim()}")
            for state in () if hx is None else self._as_tuple(hx):
                if state.dim() != input.dim():
                    raise RuntimeError(f"{name}(): the initial state must have {input.dim()} dimensions as the input has, it "
                                       f"has {state.dim()}")  # fmt: skip
            batched = input.dim() == 3
            steps, n = (input.shape[1], input.shape[0]) if batched and self.batch_first else (*input.shape[:2],)
            n = n if batched else 1
            steps = steps if batched else input.shape[0]
            if not steps:
                raise RuntimeError(
                    f"{name}(): a sequence must have at least one step, the input has {tuple(input.shape)}"
                )
            packing, sizes = Packing(None, steps, self.batch_first, batched), (n,) * steps
            states = self._zeros(input, n) if hx is None else hx
            if hx is not None and not batched:
                states = self._as_given([s.unsqueeze(1) for s in self._as_tuple(hx)])
            x = input if batched else input.unsqueeze(0 if self.batch_first else 1)
            self.check_forward_args(x, states, None)
            rows = packing.rows(input)
        states = self._as_tuple(states)
        if hx is not None and packing.batched:
            states = tuple(packing.sort(s) for s in states)
        return rows, sizes, states, packing

    def _zeros(self, input, n):
        layers = self.num_layers * (2 if self.bidirectional else 1)
        h = input.new_zeros(layers, n, self.proj_size or self.hidden_size)
        return (h, input.new_zeros(layers, n, self.hidden_size)) if self._carries_cell else h

    def _as_tuple(self, hx):
        return tuple(hx) if self._carries_cell else (hx,)

    def _as_given(self, states):
        return tuple(states) if self._carries_cell else states[0]

    def _through(self, rows, sizes, states, run):
        """The layers from the first to the last: `run(op, *args)` returns the outputs of an operation."""
        directions, last = 2 if self.bidirectional else 1, []
        for k in range(0, self.num_layers * directions, directions):
            if k and self.dropout and self.training:
                rows = run(dropout, rows, self.dropout)
            outputs = []
            for d in range(directions):
                state = [s[k + d] for s in states]
                output, *final = run(self.__op__, *self._layer(rows, state, self._all_weights[k + d], sizes, bool(d)))
                outputs.append(output)
                last.append(final)
            rows = torch.cat(outputs, 1) if directions == 2 else outputs[0]
        return rows, [torch.stack(s) for s in zip(*last, strict=True)]

    def forward(self, input, hx=None):
        # Dynamo refuses to look into a torch.nn.RNN, LSTM or GRU, whose kernels it does not know; these are made of steps it
        # knows. It passes over this frame (see below), and traces the next.
        with recurrence_allowed():
            return self._layers(input, hx)

    def _layers(self, input, hx):
        rows, sizes, states, packing = self._opened(input, hx)
        output, last = self._through(rows, sizes, states, lambda op, *args: op(*args))
        return packing.sequences(output), self._as_given([packing.sort(s, back=True) for s in last])

    def explicit(self, input, hx=None):
        rows, sizes, states, packing = self._opened(input, hx)
        calls = []

        def run(op, *args):
            output, pull = op.vjp(*args)
            calls.append((args, pull))
            return output

        output, last = self._through(rows, sizes, states, run)
        directions = 2 if self.bidirectional else 1

        def pullback(dy=None, needs=None):
            """dy: the output's gradient, or (output's, last states'), None for what nobody used."""
            doutput, dlast = dy if type(dy) is tuple else (dy, None)
            drows = None if doutput is None else packing.rows(doutput)
            dlast = (None,) * len(states) if dlast is None else self._as_tuple(dlast)
            dlast = [None if d is None else packing.sort(d) for d in dlast]
            left, dfirst = list(calls), []
            for k in range(self.num_layers * directions - directions, -1, -directions):
                parts = (None,) * directions if drows is None else drows.chunk(directions, 1)
                dinputs = []
                for d in range(directions - 1, -1, -1):
                    args, pull = left.pop()
                    learns = [a.requires_grad if isinstance(a, Parameter) else isinstance(a, Tensor) for a in args]
                    grads = pull((parts[d], *(None if s is None else s[k + d] for s in dlast)), learns)
                    for arg, grad in zip(args, grads, strict=True):
                        if isinstance(arg, Parameter) and grad is not None:
                            accumulate(arg, grad)
                    dinputs.append(grads[0])
                    dfirst.append(grads[1 : 1 + len(states)])
                found = [g for g in dinputs if g is not None]
                drows = sum(found[1:], found[0]) if found else None
                if drows is not None and k and self.dropout and self.training:
                    drows = left.pop()[1](drows)[0]
            dinput = None if drows is None else packing.sequences(drows)
            if hx is None:
                return (dinput,)
            parts = [group[::-1] for group in zip(*dfirst, strict=True)]
            dstates = [None if p[0] is None else torch.stack(p) for p in parts]
            return dinput, self._as_given([None if d is None else packing.sort(d, back=True) for d in dstates])

        trains = any(isinstance(a, Parameter) and a.requires_grad for args, _ in calls for a in args)
        made_of(pullback, *(pull for _, pull in calls), trains=trains)
        return (packing.sequences(output), self._as_given([packing.sort(s, back=True) for s in last])), pullback


unseen_by_dynamo(Recurrent.forward)


# --- Elman ------------------------------------------------------------------------------------------------------


@op(outputs=("output", "h_n"), autocast={"cuda": "low"})
def rnn_layer(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu):
    r"""$h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})$, $\phi$ the hyperbolic tangent or ReLU.

    input (rows, I), h0 (N, H), w_ih (H, I), w_hh (H, H); output (rows, H), h_n (N, H). Elman 1990 (Cognitive Science 14).
    """
    U, b = w_hh.t(), None if b_ih is None else b_ih + b_hh

    def step(h, x):
        z = torch.addmm(x, h, U)
        h = torch.clamp(z, min=0) if relu else torch.tanh(z)
        return (h,), (h,)

    records, (h_n,) = scan(step, (h0,), (affine(input, w_ih, b),), sizes, reverse)
    (output,) = joined(records)
    return (output, h_n), ()


@rnn_layer.gradient
def rnn_layer_gradient(dy, output, needs, input, h0, w_ih, w_hh, sizes, reverse, relu):
    r"""Backpropagation through time, $\delta_t = \partial E / \partial z_t$ from the last step to the first:
    $\delta_t = \phi'(z_t) \odot (dy_t + W_{hh}^\top \delta_{t+1})$, $dW_{ih} = \sum_t \delta_t x_t^\top,\
    dW_{hh} = \sum_t \delta_t h_{t-1}^\top,\ dx_t = W_{ih}^\top \delta_t$. Werbos 1990 (Proc. IEEE 78)."""
    doutput, dh_n = dy

    def step(dh, dy, slope):
        delta = (dh + dy) * slope
        return (delta @ w_hh,), (delta,)

    slope = (output != 0).to(output.dtype) if relu else 1 - output.square()
    records, (dh0,) = scan(step, (dh_n,), (doutput, slope), sizes, not reverse)
    del slope
    (delta,) = joined(records)
    dinput, dw_ih, db = affine_gradient(delta, needs, input, w_ih)
    dw_hh = outer_before(delta, output, h0, sizes, reverse) if needs.w_hh else None
    return dinput, dh0, dw_ih, dw_hh, db, db


class RNN(Recurrent, RNNBase, torch.nn.RNN):
    """Layers of `rnn_tanh_cell` or `rnn_relu_cell` over the steps of a sequence, in one direction or two, D.

    Input (T, N, I), (N, T, I) with batch_first, (T, I) or packed; output (T, N, D H) likewise; the state is (D layers, N, H).
    RuntimeError where shapes do not fit; ValueError for other options than torch's.
    """

    op = rnn_layer

    def _options(self):
        return (self.nonlinearity == "relu",)


# --- LSTM -------------------------------------------------------------------------------------------------------


@op(outputs=("output", "h_n", "c_n"), autocast={"cuda": "low"})
def lstm_layer(input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes, reverse):
    r"""$i, f, g, o = \sigma, \sigma, \tanh, \sigma$ of $W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}$,
    $c_t = f \odot c_{t-1} + i \odot g$, $m_t = o \odot \tanh c_t$, $h_t = m_t$ or $W_{hr} m_t$.

    input (rows, I), h0 (N, P), c0 (N, H), w_ih (4 H, I), w_hh (4 H, P), w_hr (P, H); output (rows, P), h_n, c_n.
    Hochreiter & Schmidhuber 1997; Gers et al. 2000 (forget gate); Sak et al. 2014, arXiv:1402.1128 (projection).
    """
    U, b = w_hh.t(), None if b_ih is None else b_ih + b_hh

    def step(h, c, x):
        i, f, g, o = torch.addmm(x, h, U).chunk(4, 1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c = f * c + i * g
        tanh_c = torch.tanh(c)
        m = o * tanh_c
        h = m if w_hr is None else m @ w_hr.t()
        return (h, c), (h, c, i, f, g, o, tanh_c)

    records, (h_n, c_n) = scan(step, (h0, c0), (affine(input, w_ih, b),), sizes, reverse)
    output, *saved = joined(records)
    return (output, h_n, c_n), tuple(saved)


@lstm_layer.gradient
def lstm_layer_gradient(dy, output, saved, needs, input, h0, c0, w_ih, w_hh, w_hr, sizes, reverse):
    r"""Backpropagation through time, from the last step to the first, with $dh_t$ and $dc_t$ from the step after:
    $dm_t = dy_t + dh_t$ (or $W_{hr}^\top$ of it), $dc_t \mathrel{+}= dm_t \odot o\,(1 - \tanh^2 c_t)$,
    $\delta_t = (dc_t\, g\, i(1-i),\ dc_t\, c_{t-1} f(1-f),\ dc_t\, i\,(1-g^2),\ dm_t \tanh c_t\, o(1-o))$,
    $dc_{t-1} = dc_t \odot f$, $dh_{t-1} = W_{hh}^\top \delta_t$. What does not depend on dh and dc is computed for all steps
    at once. $dW_{ih} = \sum_t \delta_t x_t^\top,\ dW_{hh} = \sum_t \delta_t h_{t-1}^\top,\ db = \sum_t \delta_t$ of both
    biases, $dW_{hr} = \sum_t dh_t (o \tanh c)_t^\top$."""
    doutput, dh_n, dc_n = dy
    c, i, f, g, o, tanh_c = saved

    def step(dh, dc, dy, slope_i, slope_f, slope_g, slope_o, slope_c, f):
        dh = dh + dy
        dm = dh if w_hr is None else dh @ w_hr
        dc = dc + dm * slope_c
        delta = torch.cat([dc * slope_i, dc * slope_f, dc * slope_g, dm * slope_o], 1)
        return (delta @ w_hh, dc * f), (delta,) if w_hr is None else (delta, dh)

    slopes = (
        g * i * (1 - i),
        before(c, c0, sizes, reverse) * f * (1 - f),
        i * (1 - g.square()),
        tanh_c * o * (1 - o),
        o * (1 - tanh_c.square()),
    )
    records, (dh0, dc0) = scan(step, (dh_n, dc_n), (doutput, *slopes, f), sizes, not reverse)
    del slopes
    delta, *dh = joined(records)
    dinput, dw_ih, db = affine_gradient(delta, needs, input, w_ih)
    dw_hh = outer_before(delta, output, h0, sizes, reverse) if needs.w_hh else None
    return dinput, dh0, dc0, dw_ih, dw_hh, db, db, outer(dh[0], o * tanh_c) if needs.w_hr else None


class LSTM(Recurrent, RNNBase, torch.nn.LSTM):
    """Layers of `lstm_cell` over the steps of a sequence, in one direction or two, D.

    Input (T, N, I), (N, T, I) with batch_first, (T, I) or packed; output (T, N, D H) likewise; the state is a pair (h, c), (D
    layers, N, H) each. RuntimeError where shapes do not fit; ValueError for other options than torch's.
    """

    op, _carries_cell = lstm_layer, True


# --- GRU --------------------------------------------------------------------------------------------------------


@op(outputs=("output", "h_n"), autocast={"cuda": "low"})
def gru_layer(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse):
    r"""$r, z = \sigma(W_i x_t + b_i + W_h h_{t-1} + b_h)$,
    $n = \tanh(W_{in} x_t + b_{in} + r \odot (W_{hn} h_{t-1} + b_{hn}))$,
    $h_t = (1 - z) \odot n + z \odot h_{t-1}$.

    input (rows, I), h0 (N, H), w_ih (3 H, I), w_hh (3 H, H), the rows in the order r, z, n; output (rows, H), h_n (N, H).
    Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8, with the reset gate after the product.
    """
    rz, last = slice(2 * w_hh.shape[1]), slice(2 * w_hh.shape[1], None)  # the rows of r and z, of n
    U_rz, w_n, b_n = w_hh[rz].t(), w_hh[last], None if b_hh is None else b_hh[last]
    b_rz, b_in = (None, None) if b_ih is None else (b_ih[rz] + b_hh[rz], b_ih[last])

    def step(h, x_rz, x_n):
        rz = torch.sigmoid(torch.addmm(x_rz, h, U_rz))
        r, z = rz.chunk(2, 1)
        p = r * affine(h, w_n, b_n)
        n = torch.tanh(x_n + p)
        h = n + z * (h - n)
        return (h,), (h, rz, n, p)

    x = affine(input, w_ih[rz], b_rz), affine(input, w_ih[last], b_in)
    records, (h_n,) = scan(step, (h0,), x, sizes, reverse)
    del x
    output, *saved = joined(records)
    return (output, h_n), tuple(saved)


@gru_layer.gradient
def gru_layer_gradient(dy, output, saved, needs, input, h0, w_ih, w_hh, sizes, reverse):
    r"""Backpropagation through time with $p = r \odot (W_{hn} h_{t-1} + b_{hn})$ and $dh_t$ the whole gradient of $h_t$:
    $\delta_n = dh_t (1 - z)(1 - n^2)$, $\delta_z = dh_t (h_{t-1} - n)\, z (1 - z)$, $\delta_r = \delta_n\, p\, (1 - r)$;
    the input's map gets $\delta = (\delta_r, \delta_z, \delta_n)$, the hidden state's
    $\epsilon = (\delta_r, \delta_z, \delta_n r)$, and $dh_{t-1} = dh_t \odot z + W_{hh}^\top \epsilon$."""
    doutput, dh_n = dy
    rz, n, p = saved
    r, z = rz.chunk(2, 1)

    def step(dh, dy, slope_r, slope_z, slope_n, r, z):
        dh = dh + dy
        delta_r, delta_z, delta_n = dh * slope_r, dh * slope_z, dh * slope_n
        epsilon = torch.cat([delta_r, delta_z, delta_n * r], 1)
        return (dh * z + epsilon @ w_hh,), (torch.cat([delta_r, delta_z, delta_n], 1),)

    slope_n = (1 - z) * (1 - n.square())
    slope_z = (before(output, h0, sizes, reverse) - n) * z * (1 - z)
    slope_r = slope_n * p * (1 - r)
    records, (dh0,) = scan(step, (dh_n,), (doutput, slope_r, slope_z, slope_n, r, z), sizes, not reverse)
    del slope_r, slope_z, slope_n
    (delta,) = joined(records)
    dinput, dw_ih, db_ih = affine_gradient(delta, needs, input, w_ih)
    size = n.shape[1]
    epsilon = delta[:, : 2 * size], delta[:, 2 * size :] * r
    dw_hh = torch.cat([outer_before(e, output, h0, sizes, reverse) for e in epsilon]) if needs.w_hh else None
    return dinput, dh0, dw_ih, dw_hh, db_ih, torch.cat([e.sum(0) for e in epsilon]) if needs.b_hh else None


class GRU(Recurrent, RNNBase, torch.nn.GRU):
    """Layers of `gru_cell` over the steps of a sequence, in one direction or two, D.

    Input (T, N, I), (N, T, I) with batch_first, (T, I) or packed; output (T, N, D H) likewise; the state is (D layers, N, H).
    RuntimeError where shapes do not fit; ValueError for other options than torch's.
    """

    op = gru_layer
