"""Fast forms of the recurrent layers: the steps write over the input's products, and their gradients over the slopes, so that
nothing is joined of parts."""

from __future__ import annotations

import torch

from ..nn.common import outer
from ..nn.recurrence import affine, affine_gradient, before, joined, outer_before, scan
from ..nn.rnn import gru_layer, lstm_layer, rnn_layer


@rnn_layer.kernel
def rnn_layer_forward(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu):
    U, output = w_hh.t(), affine(input, w_ih, None if b_ih is None else b_ih + b_hh)

    def step(h, z):
        torch.addmm(z, h, U, out=z)
        return (z.clamp_(min=0) if relu else z.tanh_(),), ()

    _, (h_n,) = scan(step, (h0,), (output,), sizes, reverse)
    return (output, h_n.clone()), ()


@rnn_layer.kernel_gradient
def rnn_layer_gradient(dy, output, needs, input, h0, w_ih, w_hh, sizes, reverse, relu):
    doutput, dh_n = dy
    delta = (output != 0).to(output.dtype) if relu else output.square().neg_().add_(1)

    def step(dh, dy, slope):
        return (torch.mul(dh + dy, slope, out=slope) @ w_hh,), ()

    _, (dh0,) = scan(step, (dh_n,), (doutput, delta), sizes, not reverse)
    dinput, dw_ih, db = affine_gradient(delta, needs, input, w_ih)
    dw_hh = outer_before(delta, output, h0, sizes, reverse) if needs.w_hh else None
    return dinput, dh0, dw_ih, dw_hh, db, db


@lstm_layer.kernel
def lstm_layer_forward(input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes, reverse):
    U, gates = w_hh.t(), affine(input, w_ih, None if b_ih is None else b_ih + b_hh)
    size = w_hh.shape[0] // 4
    cells, tanhs, output = (gates.new_empty(len(gates), n) for n in (size, size, w_hh.shape[1]))

    def step(h, c, z, c_next, tanh_c, h_next):
        i_f, g, o = torch.addmm(z, h, U, out=z).split((2 * size, size, size), 1)
        i, f = i_f.sigmoid_().chunk(2, 1)
        torch.mul(f, c, out=c_next).addcmul_(i, g.tanh_())
        m = torch.mul(o.sigmoid_(), torch.tanh(c_next, out=tanh_c), out=h_next if w_hr is None else None)
        return (m if w_hr is None else torch.mm(m, w_hr.t(), out=h_next), c_next), ()

    _, (h_n, c_n) = scan(step, (h0, c0), (gates, cells, tanhs, output), sizes, reverse)
    return (output, h_n.clone(), c_n.clone()), (cells, gates, tanhs)


@lstm_layer.kernel_gradient
def lstm_layer_gradient(dy, output, saved, needs, input, h0, c0, w_ih, w_hh, w_hr, sizes, reverse):
    doutput, dh_n, dc_n = dy
    c, gates, tanh_c = saved
    i, f, g, o = gates.chunk(4, 1)
    slopes = torch.empty_like(gates).unflatten(1, (4, -1))  # (rows, 4, H)
    torch.mul(g * i, 1 - i, out=slopes[:, 0])
    torch.mul(before(c, c0, sizes, reverse).mul_(f), 1 - f, out=slopes[:, 1])
    torch.mul(g.square().neg_().add_(1), i, out=slopes[:, 2])
    torch.mul(tanh_c * o, 1 - o, out=slopes[:, 3])
    slope_c = tanh_c.square().neg_().add_(1).mul_(o)

    def step(dh, dc, dy, slope, slope_c, f):
        dh = dh + dy
        dm = dh if w_hr is None else dh @ w_hr
        dc = torch.addcmul(dc, dm, slope_c)
        slope[:, :3].mul_(dc.unsqueeze(1))
        slope[:, 3].mul_(dm)
        return (slope.flatten(1) @ w_hh, dc * f), () if w_hr is None else (dh,)

    records, (dh0, dc0) = scan(step, (dh_n, dc_n), (doutput, slopes, slope_c, f), sizes, not reverse)
    delta = slopes.flatten(1)
    dinput, dw_ih, db = affine_gradient(delta, needs, input, w_ih)
    dw_hh = outer_before(delta, output, h0, sizes, reverse) if needs.w_hh else None
    dw_hr = outer(joined(records)[0], o * tanh_c) if needs.w_hr else None
    return dinput, dh0, dc0, dw_ih, dw_hh, db, db, dw_hr


@gru_layer.kernel
def gru_layer_forward(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse):
    size = w_hh.shape[1]
    rz, last = slice(2 * size), slice(2 * size, None)  # the rows of r and z, of n
    U_rz, w_n, b_n = w_hh[rz].t(), w_hh[last], None if b_hh is None else b_hh[last]
    b_rz, b_in = (None, None) if b_ih is None else (b_ih[rz] + b_hh[rz], b_ih[last])
    gates, candidates = affine(input, w_ih[rz], b_rz), affine(input, w_ih[last], b_in)
    resets, output = torch.empty_like(candidates), torch.empty_like(candidates)

    def step(h, r_z, n, p, h_next):
        r, z = torch.addmm(r_z, h, U_rz, out=r_z).sigmoid_().chunk(2, 1)
        torch.mul(r, affine(h, w_n, b_n), out=p)
        n.add_(p).tanh_()
        torch.addcmul(n, z, h - n, out=h_next)
        return (h_next,), ()

    _, (h_n,) = scan(step, (h0,), (gates, candidates, resets, output), sizes, reverse)
    return (output, h_n.clone()), (gates, candidates, resets)


@gru_layer.kernel_gradient
def gru_layer_gradient(dy, output, saved, needs, input, h0, w_ih, w_hh, sizes, reverse):
    doutput, dh_n = dy
    rz, n, p = saved
    (r, z), size = rz.chunk(2, 1), n.shape[1]
    slope_n = n.square().neg_().add_(1).mul_(1 - z)
    slope_z = before(output, h0, sizes, reverse).sub_(n).mul_(z).mul_(1 - z)
    slope_r = (slope_n * p).mul_(1 - r)
    slopes = torch.stack([slope_r, slope_z, slope_n], 1)  # (rows, 3, H)
    del slope_r, slope_z, slope_n

    def step(dh, dy, slope, r, z):
        dh = dh + dy
        epsilon = slope.mul_(dh.unsqueeze(1)).flatten(1).clone()
        epsilon[:, 2 * size :].mul_(r)
        return ((epsilon @ w_hh).addcmul_(dh, z),), ()

    _, (dh0,) = scan(step, (dh_n,), (doutput, slopes, r, z), sizes, not reverse)
    delta = slopes.flatten(1)
    dinput, dw_ih, db_ih = affine_gradient(delta, needs, input, w_ih)
    delta[:, 2 * size :].mul_(r)  # it is epsilon now
    dw_hh = outer_before(delta, output, h0, sizes, reverse) if needs.w_hh else None
    return dinput, dh0, dw_ih, dw_hh, db_ih, delta.sum(0) if needs.b_hh else None
