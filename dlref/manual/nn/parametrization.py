"""Weights that are computed of others: of a length and a direction, of spectral norm 1, orthogonal."""

from __future__ import annotations

import torch

from ...builtin import parametrization as builtin
from ...core.dtypes import Dtypes
from ...core.pair import op
from .common import wide, widened
from .distance import norm, normalize

# --- weight normalisation ---------------------------------------------------------------------------------------


@op(builtin=builtin.weight_norm, dtypes=Dtypes(promote=("weight_g", "weight_v")))
def weight_norm(weight_g, weight_v, dims):
    r"""A weight of length g in the direction of v: $w = g\, v / \lVert v \rVert$, the norm over all dimensions but dim.

    weight_v of any shape, weight_g its norm's, size 1 but in dim; for dim=None, or -1, one norm of all, a number. Output as
    weight_v. IndexError where there is no dimension dim. Salimans & Kingma 2016, arXiv:1602.07868, eq. 2.
    """
    v = wide(weight_v)
    length = norm(v.unsqueeze(-1), 2, (*dims, -1)).squeeze(-1)  # a sum over no dimension would be one over all
    unit = v / length
    return (wide(weight_g) * unit).to(weight_v.dtype), (unit, length)


@weight_norm.gradient
def weight_norm_gradient(dy, saved, weight_g, dims):
    r"""With $e = v / \lVert v \rVert$: $dg = \sum dy\, e,\quad dv = (g\, dy - e \sum g\, dy\, e) / \lVert v \rVert$: what
    lies along v changes no direction (eq. 3)."""
    unit, length = saved
    dunit = dy * widened(weight_g).conj()
    along = (dunit * unit.conj()).real.unsqueeze(-1).sum((*dims, -1), keepdim=True).squeeze(-1)
    return dy * unit.conj(), (dunit - unit * along) / length


@weight_norm.prepare
def weight_norm_prepare(weight_g, weight_v, dim=0):
    n = weight_v.dim()
    if dim is None or dim == -1:
        return weight_g, weight_v, tuple(range(n))
    if not -n <= dim < n:
        raise IndexError(f"dim must be one of the {n} dimensions of weight_v, or None, it is {dim}")
    return weight_g, weight_v, tuple(d for d in range(n) if d != dim % n)


# --- spectral normalisation -------------------------------------------------------------------------------------


def as_matrix(weight, dim):
    """The weight as a matrix with a row to each place of dim."""
    return weight.movedim(dim, 0).flatten(1)


@torch.no_grad()
def power_iteration(W, u, v, times, eps):
    r"""The vectors of the largest singular value of W, in place: $v = W^\top u / \lVert W^\top u \rVert$, then
    $u = W v / \lVert W v \rVert$."""
    for _ in range(times):
        v.copy_(normalize(W.mH @ u, 2.0, 0, eps))
        u.copy_(normalize(W @ v, 2.0, 0, eps))


@op(builtin=builtin.spectral_norm)
def spectral_norm(weight, u, v, dim):
    r"""A weight over its largest singular value: $w = W / \sigma,\ \sigma = u^\top W v$ with its vectors u and v.

    weight of any shape of two dimensions or more, W a row for each place of dim, u (rows,), v (columns,); output as weight.
    RuntimeError and IndexError where they do not fit. Miyato et al. 2018, arXiv:1802.05957, eq. 8 and algorithm 1.
    """
    W = as_matrix(wide(weight), dim)
    sigma = torch.vdot(wide(u), W @ wide(v))
    return (wide(weight) / sigma).to(weight.dtype), (sigma,)


@spectral_norm.gradient
def spectral_norm_gradient(dy, saved, needs, weight, u, v, dim):
    r"""$d\sigma = -\sum dy\, W / \sigma^2,\quad dW = dy / \sigma + d\sigma\, u v^\top,\quad du = d\sigma\, W v,\quad
    dv = d\sigma\, W^\top u$."""
    (sigma,) = saved
    weight, u, v, dy = widened(weight), widened(u), widened(v), widened(dy)
    W, dsigma = as_matrix(weight, dim), -(dy * (weight / sigma / sigma).conj()).sum()
    others = [size for i, size in enumerate(weight.shape) if i != dim % weight.dim()]
    dW = ((dsigma * u).unsqueeze(1) * v.conj()).unflatten(1, others).movedim(0, dim)
    du = dsigma.conj() * (W @ v) if needs.u else None
    return dy / sigma.conj() + dW, du, W.mH @ (dsigma * u) if needs.v else None


@spectral_norm.prepare
def spectral_norm_prepare(weight, u, v, dim=0):
    builtin.check_spectral_norm(weight, u, v, dim)
    return weight, u, v, dim


# --- orthogonal -------------------------------------------------------------------------------------------------


def skew(X):
    r"""$A = L - L^\top$ (*, n, n) of the lower triangle L of X (*, n, k), the columns that it has not 0."""
    L = torch.cat([X.tril(), X.new_zeros(*X.shape[:-1], X.shape[-2] - X.shape[-1])], -1)
    return L - L.mH


def skew_gradient(dA, k):
    r"""$dX = $ the lower triangle of $dA - dA^\top$, of its first k columns."""
    return (dA - dA.mH)[..., :k].tril()


def exponential(X):
    r"""$\exp(A) = \sum_i A^i / i!$, the first columns; orthogonal, as A is skew-symmetric."""
    return torch.linalg.matrix_exp(skew(X))[..., : X.shape[-1]]


def exponential_gradient(dQ, X):
    r"""The adjoint of the exponential at A is its derivative at $A^\top$, the block above the diagonal of
    $\exp \begin{pmatrix} A^\top & dQ \\ 0 & A^\top \end{pmatrix}$ (Najfeld & Havel 1995, theorem 4.13)."""
    A, (n, k) = skew(X), X.shape[-2:]
    dQ = torch.cat([dQ, dQ.new_zeros(*dQ.shape[:-1], n - k)], -1)
    blocks = torch.cat([torch.cat([A.mH, dQ], -1), torch.cat([torch.zeros_like(A), A.mH], -1)], -2)
    return skew_gradient(torch.linalg.matrix_exp(blocks)[..., :n, n:], k)


def halves(X):
    r"""$I - A / 2$ as its factors L, U and their pivots, and the first columns of I and of $I + A / 2$."""
    A, k = skew(X), X.shape[-1]
    one = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return torch.linalg.lu_factor(one - A / 2), one[:, :k], (one + A / 2)[..., :k]


def cayley(X):
    r"""$Q = (I - A / 2)^{-1} (I + A / 2)$, the first columns."""  # not by linalg.solve: compat.SECOND_TANGENTS_OF_SOLVE
    factors, _, right = halves(X)
    return torch.linalg.lu_solve(*factors, right)


def cayley_gradient(dQ, X):
    r"""Of $(I - A / 2)\, Q = I + A / 2$: $dA = \tfrac12 M\, (I + Q^\top)$ with $(I - A / 2)^\top M = dQ$."""
    factors, one, right = halves(X)
    Q = torch.linalg.lu_solve(*factors, right)
    M = torch.linalg.lu_solve(*factors, dQ, adjoint=True)  # (*, n, k)
    return skew_gradient(M @ (one + Q).mH / 2, X.shape[-1])


def reflectors(X):
    r"""The directions $u_j = v_j / \lVert v_j \rVert$, (*, n, 1) each, and lengths of $v_j = e_j + $ what lies below the
    diagonal of column j."""
    V = X.tril(-1) + torch.eye(*X.shape[-2:], dtype=X.dtype, device=X.device)
    length = norm(V, 2, -2)
    return zip((V / length).split(1, -1), length.split(1, -1), strict=True)


def householder(X):
    r"""$Q = H_1 \cdots H_k\, S$ with reflections $H_j = I - 2 u_j u_j^\top$, S the first columns of I with the integers on the
    diagonal of X for ones."""
    Q = torch.eye(*X.shape[-2:], dtype=X.dtype, device=X.device) * X.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
    for u, _ in reversed(list(reflectors(X))):
        Q = Q - 2 * u @ (u.mT @ Q)
    return Q


def householder_gradient(dQ, X):
    r"""From the first reflection to the last, $Q = H R$, so $R = H Q$, $dR = H\, dQ$,
    $du = -2\, (dQ\, R^\top u + R\, dQ^\top u)$ and $dv = (du - u\, u^\top du) / \lVert v \rVert$."""
    Q, columns = householder(X), []
    for u, length in reflectors(X):
        R = Q - 2 * u @ (u.mT @ Q)
        du = -2 * (dQ @ (R.mT @ u) + R @ (dQ.mT @ u))
        columns.append((du - u * (u * du).sum(-2, keepdim=True)) / length)
        Q, dQ = R, dQ - 2 * u @ (u.mT @ dQ)
    return torch.cat(columns, -1).tril(-1)


ORTHOGONAL = {
    "matrix_exp": (exponential, exponential_gradient),
    "cayley": (cayley, cayley_gradient),
    "householder": (householder, householder_gradient),
}


@op(builtin=builtin.orthogonal)
def orthogonal(X, base, orthogonal_map):
    r"""A matrix of orthonormal columns, or rows where it is wide, of any matrix: $Q = B\, f(X),\ Q^\top Q = I$.

    f: with $A = L - L^\top$, L the lower triangle of X, "matrix_exp" $\exp(A)$ or "cayley" $(I - A/2)^{-1} (I + A/2)$; or
    "householder", the reflections at what lies below the diagonal of each column. X (*, n, k), base B (n, n) or None for I, n
    the larger size; output as X. ValueError where they do not fit, and for complex reflections. Lezcano-Casado 2019,
    arXiv:1909.09501; Golub & Van Loan 2013, section 5.1.
    """
    f, _ = ORTHOGONAL[orthogonal_map]
    x = wide(X)
    Q = f(x.mT).mT if is_wide(X) else f(x)
    if base is not None:
        B = wide(base)
        Q = (B @ Q.mT).mT if is_wide(X) else B @ Q
    return Q.to(X.dtype)


@orthogonal.gradient
def orthogonal_gradient(dy, needs, X, base, orthogonal_map):
    r"""$dB = dQ\, f(X)^\top,\quad df = B^\top dQ$, and dX by the gradient of f."""
    f, gradient = ORTHOGONAL[orthogonal_map]
    x, dQ = (widened(X).mT, widened(dy).mT) if is_wide(X) else (widened(X), widened(dy))
    dbase = dQ @ f(x).mH if needs.base else None
    if not needs.X:
        return None, dbase
    dx = gradient(dQ if base is None else widened(base).mH @ dQ, x)
    return dx.mT if is_wide(X) else dx, dbase


def is_wide(X):
    return X.shape[-2] < X.shape[-1]


@orthogonal.prepare
def orthogonal_prepare(X, base=None, orthogonal_map="matrix_exp"):
    builtin.check_orthogonal(X, base, orthogonal_map)
    return X, base, orthogonal_map
