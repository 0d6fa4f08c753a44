"""Recurrent layers: Elman's, LSTM and GRU, and backpropagation through time.

Sequences stand packed: the rows of all sequences at step 1, then those at step 2, ..., the longest sequences first, and
`sizes` says how many rows each step has. Sequences of one length are the case of equal sizes. The input's products for all
steps are one matrix product, and so are the weights' gradients; only what depends on the step before is in the loop, and its
results are written over what it was given where that may be (`own`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils.rnn import PackedSequence

from ...core.module import Manual
from ...core.pair import op
from ...core.pullback import accumulate, made_of
from .common import outer, own, plain
from .dropout import dropout

State = tuple[Tensor, ...]
Sizes = tuple[int, ...]


def scan(step: Callable, first: State, sizes: Sizes, reverse: bool) -> tuple[list, State]:
    """Carry a state through the steps: `step(rows, state)` returns the next state and a record.

    first: the state (N, *) each sequence begins with. Where a step has fewer rows than the one before, the last sequences
    have ended; where it has more, they begin. Returns the records in the order of the rows, and each sequence's last state.
    """
    starts = [0, *itertools.accumulate(sizes)]
    times = range(len(sizes) - 1, -1, -1) if reverse else range(len(sizes))
    state, ended, records = tuple(s[: sizes[times[0]]] for s in first), [], [None] * len(sizes)
    for t in times:
        now, before = sizes[t], len(state[0])
        if now < before:
            ended.append(tuple(s[now:] for s in state))
            state = tuple(s[:now] for s in state)
        elif now > before:
            state = tuple(torch.cat([s, f[before:now]]) for s, f in zip(state, first, strict=True))
        state, records[t] = step(slice(starts[t], starts[t + 1]), state)
    if ended:
        state = tuple(torch.cat([s, *(e[i] for e in reversed(ended))]) for i, s in enumerate(state))
    return records, state


def joined(records: Sequence[Tensor], whole: Tensor) -> Tensor:
    """The rows of all steps: the tensor that the steps wrote them into, or where they did not, the records as one."""
    return whole if plain() else torch.cat(tuple(records))


def before(output: Tensor, h0: Tensor, sizes: Sizes, reverse: bool) -> Tensor:
    """The hidden state that each row started from."""
    records, _ = scan(lambda rows, state: ((output[rows],), state[0]), (h0,), sizes, reverse)
    return torch.cat(records)


def with_before(delta: Tensor, output: Tensor, h0: Tensor, sizes: Sizes, reverse: bool) -> Tensor:
    r"""$\sum_t \delta_t h_{t-1}^\top$, the gradient of the hidden state's weight.

    Where sequences have one length, the rows that follow another step and those that begin: nothing is copied.
    """
    n = sizes[0]
    if len(sizes) == 1:
        return outer(delta, h0)
    if sizes[-1] != n:
        return outer(delta, before(output, h0, sizes, reverse))
    later, earlier = slice(n, None), slice(None, -n)
    if reverse:
        return outer(delta[earlier], output[later]) + outer(delta[-n:], h0)
    return outer(delta[later], output[earlier]) + outer(delta[:n], h0)


def from_input(input: Tensor, w_ih: Tensor, bias: Tensor | None) -> Tensor:
    return input @ w_ih.t() if bias is None else torch.addmm(bias, input, w_ih.t())


def from_delta(delta: Tensor, needs, input: Tensor, w_ih: Tensor) -> tuple:
    """The gradients of input, w_ih and bias from that of the affine map."""
    return (
        delta @ w_ih if needs.input else None,
        outer(delta, input) if needs.w_ih else None,
        delta.sum(0) if needs.b_ih or needs.b_hh else None,
    )


# --- Elman ------------------------------------------------------------------------------------------------------


@op(outputs=("output", "h_n"), autocast={"cuda": "low"})
def rnn_layer(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu):
    r"""$h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})$, $\phi$ the hyperbolic tangent or ReLU.

    input (rows, I), h0 (N, H), w_ih (H, I), w_hh (H, H); output (rows, H), h_n (N, H). Elman 1990 (Cognitive Science 14).
    """
    x, w = from_input(input, w_ih, None if b_ih is None else b_ih + b_hh), w_hh.t()

    def step(rows, state):
        z = x[rows]
        z = torch.addmm(z, state[0], w, out=own(z))
        h = torch.clamp(z, min=0, out=own(z)) if relu else torch.tanh(z, out=own(z))
        return (h,), h

    outputs, (h_n,) = scan(step, (h0,), sizes, reverse)
    return (joined(outputs, x), h_n), ()


@rnn_layer.gradient
def _(dy, output, needs, input, h0, w_ih, w_hh, sizes, reverse, relu):
    r"""Backpropagation through time, $\delta_t = \partial E / \partial z_t$ from the last step to the first:
    $\delta_t = \phi'(z_t) \odot (dy_t + W_{hh}^\top \delta_{t+1})$, $dW_{ih} = \sum_t \delta_t x_t^\top,\
    dW_{hh} = \sum_t \delta_t h_{t-1}^\top,\ dx_t = W_{ih}^\top \delta_t$. Werbos 1990 (Proc. IEEE 78)."""
    doutput, dh_n = dy
    slopes = output.sign() if relu else output.square()
    slopes = slopes if relu else torch.sub(1, slopes, out=own(slopes))

    def step(rows, state):
        slope = slopes[rows]
        delta = torch.mul(state[0] + doutput[rows], slope, out=own(slope))
        return (delta @ w_hh,), delta

    deltas, (dh0,) = scan(step, (dh_n,), sizes, not reverse)
    delta = joined(deltas, slopes)
    dinput, dw_ih, db = from_delta(delta, needs, input, w_ih)
    return dinput, dh0, dw_ih, with_before(delta, output, h0, sizes, reverse) if needs.w_hh else None, db, db


# --- LSTM -------------------------------------------------------------------------------------------------------


@op(outputs=("output", "h_n", "c_n"), autocast={"cuda": "low"})
def lstm_layer(input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes, reverse):
    r"""$i, f, g, o = \sigma, \sigma, \tanh, \sigma$ of $W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}$,
    $c_t = f \odot c_{t-1} + i \odot g$, $m_t = o \odot \tanh c_t$, $h_t = m_t$ or $W_{hr} m_t$.

    input (rows, I), h0 (N, P), c0 (N, H), w_ih (4 H, I), w_hh (4 H, P), w_hr (P, H); output (rows, P), h_n, c_n.
    Hochreiter & Schmidhuber 1997; Gers et al. 2000 (forget gate); Sak et al. 2014, arXiv:1402.1128 (projection).
    """
    x, w = from_input(input, w_ih, None if b_ih is None else b_ih + b_hh), w_hh.t()
    size = w_hh.shape[0] // 4
    cells, tanhs, outputs = (x.new_empty(len(x), n) for n in (size, size, w_hh.shape[1]))

    def step(rows, state):
        h, c = state
        z, cell, tanh_c, output = x[rows], cells[rows], tanhs[rows], outputs[rows]
        z = torch.addmm(z, h, w, out=own(z))
        i_f, g, o = z[:, : 2 * size], z[:, 2 * size : 3 * size], z[:, 3 * size :]
        i_f, g, o = torch.sigmoid(i_f, out=own(i_f)), torch.tanh(g, out=own(g)), torch.sigmoid(o, out=own(o))
        c = torch.mul(i_f[:, size:], c, out=own(cell))
        c = torch.addcmul(c, i_f[:, :size], g, out=own(cell))
        tanh_c = torch.tanh(c, out=own(tanh_c))
        h = torch.mul(o, tanh_c, out=own(output)) if w_hr is None else torch.mm(o * tanh_c, w_hr.t(), out=own(output))
        return (h, c), (h, c, z if plain() else torch.cat([i_f, g, o], 1), tanh_c)

    records, (h_n, c_n) = scan(step, (h0, c0), sizes, reverse)
    output, *saved = map(joined, zip(*records, strict=True), (outputs, cells, x, tanhs))
    return (output, h_n, c_n), tuple(saved)


@lstm_layer.gradient
def _(dy, output, saved, needs, input, h0, c0, w_ih, w_hh, w_hr, sizes, reverse):
    r"""Backpropagation through time, from the last step to the first, with $dh_t$ and $dc_t$ from the step after:
    $dm_t = dy_t + dh_t$ (or $W_{hr}^\top$ of it), $dc_t \mathrel{+}= dm_t \odot o\,(1 - \tanh^2 c_t)$,
    $\delta_t = (dc_t\, g\, i(1-i),\ dc_t\, c_{t-1} f(1-f),\ dc_t\, i\,(1-g^2),\ dm_t \tanh c_t\, o(1-o))$,
    $dc_{t-1} = dc_t \odot f$, $dh_{t-1} = W_{hh}^\top \delta_t$. What does not depend on dh and dc is computed for all steps
    at once; the weights' gradients are sums over t, one matrix product each."""
    doutput, dh_n, dc_n = dy
    c, gates, tanh_c = saved
    i, f, g, o = gates.chunk(4, 1)
    before_c = before(c, c0, sizes, reverse)
    slopes = torch.stack(
        [g * i * (1 - i), before_c * f * (1 - f), i * (1 - g.square()), tanh_c * o * (1 - o)], 1
    )  # (rows, 4, H)
    through_h = o * (1 - tanh_c.square())

    def step(rows, state):
        dh, dc = state
        dh = dh + doutput[rows]
        dm = dh if w_hr is None else dh @ w_hr
        dc = torch.addcmul(dc, dm, through_h[rows])
        slope = slopes[rows]
        of_c, of_m = slope[:, :3], slope[:, 3]
        of_c, of_m = torch.mul(dc.unsqueeze(1), of_c, out=own(of_c)), torch.mul(dm, of_m, out=own(of_m))
        delta = slope.flatten(1) if plain() else torch.cat([of_c.flatten(1), of_m], 1)
        return (delta @ w_hh, dc * f[rows]), (delta, dh)

    records, (dh0, dc0) = scan(step, (dh_n, dc_n), sizes, not reverse)
    deltas, dhs = zip(*records, strict=True)
    delta = joined(deltas, slopes.flatten(1))
    dinput, dw_ih, db = from_delta(delta, needs, input, w_ih)
    dw_hh = with_before(delta, output, h0, sizes, reverse) if needs.w_hh else None
    return dinput, dh0, dc0, dw_ih, dw_hh, db, db, outer(torch.cat(dhs), o * tanh_c) if needs.w_hr else None


# --- GRU --------------------------------------------------------------------------------------------------------


@op(outputs=("output", "h_n"), autocast={"cuda": "low"})
def gru_layer(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse):
    r"""$r, z = \sigma(W_i x_t + b_i + W_h h_{t-1} + b_h)$,
    $n = \tanh(W_{in} x_t + b_{in} + r \odot (W_{hn} h_{t-1} + b_{hn}))$,
    $h_t = (1 - z) \odot n + z \odot h_{t-1}$.

    input (rows, I), h0 (N, H), w_ih (3 H, I), w_hh (3 H, H), the rows in the order r, z, n; output (rows, H), h_n (N, H).
    Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8, with the reset gate after the product.
    """
    size = w_hh.shape[1]
    rz, last = slice(2 * size), slice(2 * size, None)  # the rows of the gates, of n
    u_rz, u_n, b_n = w_hh[rz].t(), w_hh[last].t(), None if b_hh is None else b_hh[last]
    x_rz = from_input(input, w_ih[rz], None if b_ih is None else b_ih[rz] + b_hh[rz])
    x_n = from_input(input, w_ih[last], None if b_ih is None else b_ih[last])
    products, outputs = (x_n.new_empty(x_n.shape) for _ in range(2))

    def step(rows, state):
        (h,) = state
        r_z, n, q, output = x_rz[rows], x_n[rows], products[rows], outputs[rows]
        r_z = torch.addmm(r_z, h, u_rz, out=own(r_z))
        r_z = torch.sigmoid(r_z, out=own(r_z))
        q = torch.mm(h, u_n, out=own(q)) if b_n is None else torch.addmm(b_n, h, u_n, out=own(q))
        n = torch.addcmul(n, r_z[:, :size], q, out=own(n))
        n = torch.tanh(n, out=own(n))
        h = torch.sub(h, n, out=own(output))
        h = torch.addcmul(n, r_z[:, size:], h, out=own(output))
        return (h,), (h, r_z, n, q)

    records, (h_n,) = scan(step, (h0,), sizes, reverse)
    output, *saved = map(joined, zip(*records, strict=True), (outputs, x_rz, x_n, products))
    return (output, h_n), tuple(saved)


@gru_layer.gradient
def _(dy, output, saved, needs, input, h0, w_ih, w_hh, sizes, reverse):
    r"""Backpropagation through time with $q = W_{hn} h_{t-1} + b_{hn}$ and $dh_t$ the whole gradient of $h_t$:
    $\delta_n = dh_t (1 - z)(1 - n^2)$, $\delta_z = dh_t (h_{t-1} - n)\, z (1 - z)$, $\delta_r = \delta_n\, q\, r (1 - r)$;
    the input's map gets $(\delta_r, \delta_z, \delta_n)$, the hidden state's $\delta = (\delta_r, \delta_z, \delta_n r)$, and
    $dh_{t-1} = dh_t \odot z + W_{hh}^\top \delta$."""
    doutput, dh_n = dy
    r_z, n, q = saved
    size = n.shape[1]
    r, z, slope_z = r_z[:, :size], r_z[:, size:], before(output, h0, sizes, reverse)
    slope_z = torch.sub(slope_z, n, out=own(slope_z))
    slope_z = torch.mul(slope_z, z * (1 - z), out=own(slope_z))
    slope_n = (1 - z) * (1 - n.square())
    slope_r = slope_n * q * r * (1 - r)
    # Of dh to (delta_r, delta_z, delta_n): all three are dh times what the forward decided.
    slopes = torch.stack([slope_r, slope_z, slope_n], 1)  # (rows, 3, H)
    del slope_r, slope_z, slope_n

    def step(rows, state):
        dh, slope = state[0] + doutput[rows], slopes[rows]
        delta = torch.mul(dh.unsqueeze(1), slope, out=own(slope)).flatten(1)
        through = torch.cat([delta[:, : 2 * size], delta[:, 2 * size :] * r[rows]], 1)
        return (torch.addcmul(through @ w_hh, dh, z[rows]),), delta

    records, (dh0,) = scan(step, (dh_n,), sizes, not reverse)
    delta = joined(records, slopes.flatten(1))
    dinput, dw_ih, db_ih = from_delta(delta, needs, input, w_ih)
    delta_n = delta[:, 2 * size :]
    delta_n = torch.mul(delta_n, r, out=own(delta_n))
    through = delta if plain() else torch.cat([delta[:, : 2 * size], delta_n], 1)
    dw_hh = with_before(through, output, h0, sizes, reverse) if needs.w_hh else None
    return dinput, dh0, dw_ih, dw_hh, db_ih, through.sum(0) if needs.b_hh else None


# --- modules ----------------------------------------------------------------------------------------------------


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
        kind = (self.nonlinearity == "relu",) if self.__op__ is rnn_layer else ()
        return rows, *state, w_ih, w_hh, *biases, sizes, reverse, *kind

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
        if not torch.compiler.is_compiling() and torch._C._dynamo.eval_frame.get_eval_frame_callback():
            with torch._dynamo.config.patch(allow_rnn=True):
                return self._layers(input, hx)
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


_dynamo = torch._C._dynamo.eval_frame
_dynamo.set_code_exec_strategy(
    Recurrent.forward.__code__, _dynamo._FrameExecStrategy(_dynamo._FrameAction.SKIP, _dynamo._FrameAction.DEFAULT)
)


class RNN(Recurrent, torch.nn.RNN):
    op = rnn_layer


class LSTM(Recurrent, torch.nn.LSTM):
    op, _carries_cell = lstm_layer, True


class GRU(Recurrent, torch.nn.GRU):
    op = gru_layer


class Cell(Manual):
    """What the cells share: one step of the layer's operation."""

    attributes: dict[str, str] = {}
    _carries_cell = False

    def _opened(self, input, hx):
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
        if x.shape[1] != self.input_size:
            raise RuntimeError(f"{name}(): the input must have {self.input_size} features, it has {x.shape[1]}")
        for s in states:
            if tuple(s.shape) != (len(x), self.hidden_size):
                raise RuntimeError(f"{name}(): the hidden state must have shape {(len(x), self.hidden_size)}, it has "
                                   f"{tuple(s.shape)}")  # fmt: skip
        args = (x, *states, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, *self._options(len(x)))
        return args, batched

    def _options(self, n):
        return (n,), False

    def _given(self, final, batched):
        final = [f if batched else f.squeeze(0) for f in final]
        return tuple(final) if self._carries_cell else final[0]

    def forward(self, input, hx=None):
        args, batched = self._opened(input, hx)
        return self._given(self.__op__(*args)[1:], batched)

    def explicit(self, input, hx=None):
        args, batched = self._opened(input, hx)
        (_, *final), pull = self.__op__.vjp(*args)
        states = len(final)
        learns = [a.requires_grad if isinstance(a, Parameter) else isinstance(a, Tensor) for a in args]

        def pullback(dy=None, needs=None):
            dfinal = dy if self._carries_cell else (dy,)
            grads = pull((None, *(d if d is None or batched else d.unsqueeze(0) for d in dfinal)), learns)
            for arg, grad in zip(args, grads, strict=True):
                if isinstance(arg, Parameter) and grad is not None:
                    accumulate(arg, grad)
            dinput, *dstates = [g if g is None or batched else g.squeeze(0) for g in grads[: 1 + states]]
            return (dinput,) if hx is None else (dinput, tuple(dstates) if self._carries_cell else dstates[0])

        trains = any(isinstance(a, Parameter) and a.requires_grad for a in args)
        return self._given(final, batched), made_of(pullback, pull, trains=trains)


class RNNCell(Cell, torch.nn.RNNCell):
    op = rnn_layer

    def _options(self, n):
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"RNNCell(): nonlinearity must be 'tanh' or 'relu', it is {self.nonlinearity!r}")
        return (n,), False, self.nonlinearity == "relu"


class LSTMCell(Cell, torch.nn.LSTMCell):
    op, _carries_cell = lstm_layer, True

    def _options(self, n):
        return None, (n,), False


class GRUCell(Cell, torch.nn.GRUCell):
    op = gru_layer
