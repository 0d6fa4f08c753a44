"""Manual means manual: what ATen's dispatcher sees of an operation, forward and gradient, is tensor algebra."""

from __future__ import annotations

import harness
import pytest
import torch
from harness import FORMS
from torch.utils._python_dispatch import TorchDispatchMode

ALLOWED = set(
    # elementwise arithmetic and elementary functions
    "abs add sub rsub mul div neg reciprocal pow sqrt rsqrt square exp exp2 expm1 log log1p log2 sin cos cosh tanh sigmoid erf "
    "erfc lgamma digamma special_xlogy xlogy sign sgn floor ceil round frac clamp clamp_min clamp_max maximum minimum where "
    "addcmul addcdiv real imag conj_physical _conj resolve_conj isnan isfinite isinf nan_to_num hypot copysign remainder fmod "
    # comparison and logic
    "floor_divide eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not "
    "bitwise_xor "
    # reductions, sorting, scans
    "sum mean amax amin max min argmax argmin any all prod var_mean cumsum sort topk count_nonzero linalg_vector_norm "
    # products of matrices, a matrix's exponential and inverse
    "mm bmm addmm baddbmm mv dot vdot linalg_matrix_exp linalg_lu_factor_ex linalg_lu_solve "
    # views, copies, indexing
    # a look at the data, to check them
    "_local_scalar_dense _linalg_check_errors "
    "promote_types "
    "view _unsafe_view reshape expand permute t transpose squeeze unsqueeze squeeze_ unsqueeze_ select slice split "
    "split_with_sizes unbind as_strided alias detach clone copy copy_ _to_copy contiguous cat stack diagonal flip roll index "
    "gather scatter scatter_reduce scatter_add scatter_ scatter_add_ index_add index_select index_put masked_fill "
    "masked_fill_ fill fill_ nonzero index_copy "
    "index_fill unfold lift_fresh view_as_real view_as_complex _reshape_alias unfold_copy narrow _conj_physical movedim "
    # new tensors, random numbers
    "empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones ones_like new_ones full "
    "full_like new_full arange scalar_tensor eye bernoulli bernoulli_ uniform_ normal_ rand randn rand_like randn_like "
    "exponential_ random_ zero_ div_ mul_ add_ sub_ log_ neg_ exp_ sqrt_ rsqrt_ lerp sum_to_size eq_ clamp_ clamp_min_ "
    "clamp_max_ expm1_ log1p_ sigmoid_ nan_to_num_ bitwise_and_ bitwise_xor_ sgn_ gt_ "
    "triu_indices "
    "tanh_ "
    "abs_ pow_ erfc_ addcmul_ repeat slice_scatter tril".split()
)


class Seen(TorchDispatchMode):
    """Collects the names of the kernels that run inside."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FORMS)
def test_kernels(name):
    op = harness.operation(name)
    if name == "triplet_margin_with_distance_loss":
        pytest.skip("the distance is the caller's own code")
    for sample in harness.pair_samples(name, torch.float32):
        plain = sample.map(lambda t: t.detach().clone())
        with Seen() as seen:
            output, pullback = harness.run(op.vjp, plain)
        dy = tuple(torch.randn(o.shape).to(o.dtype) if o.is_floating_point() else None for o in harness.flat(output))
        if any(d is not None for d in dy):
            with seen:
                pullback(dy if len(dy) > 1 else dy[0])
        assert seen.names <= ALLOWED, (sorted(seen.names - ALLOWED), sample)


def test_a_fused_kernel_is_seen():
    with Seen() as seen:
        torch.softmax(torch.randn(2, 3), 1)
    assert not seen.names <= ALLOWED
