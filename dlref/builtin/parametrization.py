"""What torch.nn.utils.parametrizations computes of a weight, as functions."""

from __future__ import annotations

import torch
from torch import Tensor

MAPS = ("matrix_exp", "cayley", "householder")


def weight_norm(weight_g: Tensor, weight_v: Tensor, dim: int | None = 0) -> Tensor:
    if dim is None or dim == -1:
        return weight_v * (weight_g / torch.linalg.vector_norm(weight_v))
    return weight_v * (weight_g / torch.norm_except_dim(weight_v, 2, dim))


def spectral_norm(weight: Tensor, u: Tensor, v: Tensor, dim: int = 0) -> Tensor:
    check_spectral_norm(weight, u, v, dim)
    return weight / torch.vdot(u, torch.mv(weight.movedim(dim, 0).flatten(1), v))


def orthogonal(X: Tensor, base: Tensor | None = None, orthogonal_map: str = "matrix_exp") -> Tensor:
    check_orthogonal(X, base, orthogonal_map)
    if wide := X.size(-2) < X.size(-1):
        X = X.mT
    n, k = X.shape[-2:]
    if orthogonal_map == "householder":
        A = X.tril(-1)
        Q = torch.linalg.householder_product(A, 2 / (1 + (A * A).sum(-2)))
        Q = Q * X.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
    else:
        A = torch.cat([X.tril(), X.new_zeros(*X.shape[:-1], n - k)], -1)
        A = A - A.mH
        one = torch.eye(n, dtype=A.dtype, device=A.device)
        Q = (
            torch.linalg.matrix_exp(A)
            if orthogonal_map == "matrix_exp"
            else torch.linalg.solve(one - A / 2, one + A / 2)
        )
        Q = Q[..., :k]
    Q = Q if base is None else base @ Q
    return Q.mT if wide else Q


# --- errors ---------------------------------------------------------------------------------------------------


def check_spectral_norm(weight: Tensor, u: Tensor, v: Tensor, dim: int) -> None:
    """RuntimeError where the vectors are not those of the weight as a matrix, IndexError where it has no dimension dim."""
    if not -weight.dim() <= dim < weight.dim():
        raise IndexError(f"dim must be one of the weight's {weight.dim()} dimensions, it is {dim}")
    rows = weight.shape[dim]
    columns = weight.movedim(dim, 0).flatten(1).shape[1] if weight.dim() > 1 else 0
    if weight.dim() < 2 or tuple(u.shape) != (rows,) or tuple(v.shape) != (columns,):
        raise RuntimeError(f"the weight must have two dimensions or more, u the size ({rows},) and v ({columns},) for dim="
                           f"{dim}; they are {tuple(weight.shape)}, {tuple(u.shape)} and {tuple(v.shape)}")  # fmt: skip


def check_orthogonal(X: Tensor, base: Tensor | None, orthogonal_map: str) -> None:
    """ValueError where the arguments of orthogonal do not fit together."""
    if orthogonal_map not in MAPS:
        raise ValueError(f"orthogonal_map must be one of {', '.join(MAPS)}, it is {orthogonal_map!r}")
    if X.dim() < 2:
        raise ValueError(f"X must be a matrix or a batch of them, it has {X.dim()} dimensions")
    if X.is_complex() and orthogonal_map == "householder":
        raise ValueError("X must be real for householder, it is complex: take cayley or matrix_exp")
    n = max(X.shape[-2:])
    if base is not None and tuple(base.shape[-2:]) != (n, n):
        raise ValueError(f"base must be (*, {n}, {n}) for X of {tuple(X.shape)}, it is {tuple(base.shape)}")
