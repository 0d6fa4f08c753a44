"""Attention without a softmax: a matrix that each step writes to and reads from."""

from __future__ import annotations

import torch

from ...builtin import linear_attention as builtin
from ...core.dtypes import Dtypes
from ...core.pair import op
from .common import wide


def steps(*sequences):
    """The vectors of each step, of sequences (*, T, n)."""
    return list(zip(*(wide(t).unbind(-2) for t in sequences), strict=True))


def sequence(vectors, like):
    """(*, T, n) of the vectors of the steps; like: what has this shape where there are none."""
    return torch.stack(vectors, -2) if vectors else wide(like) * 0


def empty(k, v):
    """The state before the first step: S (*, D, D_v) = 0."""
    return wide(k).new_zeros(()).expand(*k.shape[:-2], k.shape[-1], v.shape[-1])


def outer(a, b):
    r"""$a b^\top$."""
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def times(a, S):
    r"""$S^\top a$, the row $a^\top S$."""
    return (a.unsqueeze(-2) @ S).squeeze(-2)


def dot(a, b):
    r"""$a^\top b$, as a column of one."""
    return (a * b).sum(-1, keepdim=True)


# --- linear attention -------------------------------------------------------------------------------------------


@op(builtin=builtin.linear_attention, dtypes=Dtypes(promote=("q", "k", "v")))
def linear_attention(q, k, v, scale):
    r"""Causal linear attention, without a feature map and a normaliser: $S_t = S_{t-1} + k_t v_t^\top,\quad
    o_t = s\,S_t^\top q_t$, with $S_0 = 0$.

    q, k (*, T, D), v (*, T, D_v); output as v. scale: s, $D^{-1/2}$ by default. RuntimeError where they do not fit.
    Katharopoulos et al. 2020, arXiv:2006.16236, eq. 18 to 20, without $\phi$ and without z.
    """
    S, o = empty(k, v), []
    for q_t, k_t, v_t in steps(q, k, v):
        S = S + outer(k_t, v_t)
        o.append(scale * times(q_t, S))
    return sequence(o, v).to(q.dtype)


@linear_attention.gradient
def linear_attention_gradient(dy, q, k, v, scale):
    r"""With $dS_t = dS_{t+1} + s\,q_t do_t^\top$: $dq_t = s\,S_t do_t,\quad dk_t = dS_t v_t,\quad dv_t = dS_t^\top k_t$."""
    do = scale * wide(dy)
    S, dq = empty(k, v), []
    for k_t, v_t, do_t in steps(k, v, do):
        S = S + outer(k_t, v_t)
        dq.append(times(do_t, S.mT))
    dS, dk, dv = empty(k, v), [], []
    for q_t, k_t, v_t, do_t in reversed(steps(q, k, v, do)):
        dS = dS + outer(q_t, do_t)
        dk.append(times(v_t, dS.mT))
        dv.append(times(k_t, dS))
    return sequence(dq, q), sequence(dk[::-1], k), sequence(dv[::-1], v)


@linear_attention.prepare
def linear_attention_prepare(q, k, v, scale=None):
    builtin.check_linear_attention("linear_attention", q, k, v)
    return q, k, v, builtin.of_size(q, scale)


# --- the gated delta rule ---------------------------------------------------------------------------------------


def _step(S, k_t, v_t, b_t, g_t):
    r"""The state as it fades $A_t = e^{g_t} S_{t-1}$, what it has of the key, $v_t - A_t^\top k_t$, and $S_t$."""
    A = g_t.exp().unsqueeze(-1) * S
    e = v_t - times(k_t, A)
    return A, e, A + outer(k_t, b_t * e)


@op(builtin=builtin.gated_delta_rule, dtypes=Dtypes(promote=("q", "k", "v", "beta", "g")))
def gated_delta_rule(q, k, v, beta, g, scale):
    r"""Linear attention that forgets, and replaces what it has at a key:
    $S_t = e^{g_t} (I - \beta_t k_t k_t^\top) S_{t-1} + \beta_t k_t v_t^\top,\quad o_t = s\,S_t^\top q_t$, with $S_0 = 0$.

    q, k (*, T, D), not normalised here, v (*, T, D_v), beta $\beta$ and g, the logarithm of the decay, (*, T); output as v.
    scale: s, $D^{-1/2}$ by default. RuntimeError where they do not fit. It is $A_t = e^{g_t} S_{t-1},\quad
    S_t = A_t + \beta_t k_t (v_t - A_t^\top k_t)^\top$: a step of rate $\beta_t$ down $\tfrac12 \|A^\top k_t - v_t\|^2$.
    Yang et al. 2024, arXiv:2412.06464, eq. 10.
    """
    S, o = empty(k, v), []
    for q_t, *now in steps(q, k, v, beta.unsqueeze(-1), g.unsqueeze(-1)):
        _, _, S = _step(S, *now)
        o.append(scale * times(q_t, S))
    return sequence(o, v).to(q.dtype)


@gated_delta_rule.gradient
def gated_delta_rule_gradient(dy, q, k, v, beta, g, scale):
    r"""With $e_t = v_t - A_t^\top k_t$ and, from the last step on, $dS_t$ with $s\,q_t do_t^\top$ added to it:
    $dq_t = s\,S_t do_t$, $de_t = \beta_t\,dS_t^\top k_t = dv_t$, $d\beta_t = e_t^\top dS_t^\top k_t$,
    $dk_t = \beta_t\,dS_t e_t - A_t de_t$, $dA_t = dS_t - k_t de_t^\top$, $dg_t = \langle dA_t, A_t \rangle$ and
    $dS_{t-1} = e^{g_t} dA_t$, as $S_t = A_t + \beta_t k_t e_t^\top$ and $A_t = e^{g_t} S_{t-1}$.
    """
    S, dq, kept = empty(k, v), [], []
    every = steps(q, k, v, beta.unsqueeze(-1), g.unsqueeze(-1), scale * wide(dy))
    for _, k_t, v_t, b_t, g_t, do_t in every:
        A, e, S = _step(S, k_t, v_t, b_t, g_t)
        dq.append(times(do_t, S.mT))
        kept.append((A, e))
    dS, dk, dv, dbeta, dg = empty(k, v), [], [], [], []
    for (q_t, k_t, _, b_t, g_t, do_t), (A, e) in zip(reversed(every), reversed(kept), strict=True):
        dS = dS + outer(q_t, do_t)
        du = times(k_t, dS)  # of what is written, u = b e
        de = b_t * du
        dA = dS - outer(k_t, de)
        dk.append(times(b_t * e, dS.mT) - times(de, A.mT))
        dv.append(de)
        dbeta.append(dot(e, du))
        dg.append((dA * A).sum((-2, -1)).unsqueeze(-1))
        dS = g_t.exp().unsqueeze(-1) * dA
    dbeta, dg = (sequence(d[::-1], t.unsqueeze(-1)).squeeze(-1) for d, t in ((dbeta, beta), (dg, g)))
    return sequence(dq, q), sequence(dk[::-1], k), sequence(dv[::-1], v), dbeta, dg


@gated_delta_rule.prepare
def gated_delta_rule_prepare(q, k, v, beta, g, scale=None):
    builtin.check_linear_attention("gated_delta_rule", q, k, v, beta=beta, g=g)
    return q, k, v, beta, g, builtin.of_size(q, scale)
