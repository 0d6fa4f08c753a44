"""Several processes learn what one learns from their batches together: by hand, under autograd, by torch, under Lightning."""

from __future__ import annotations

import pytest
import ranks
import torch


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*logging interval")
@pytest.mark.parametrize("size, which", [
    (2, "CASES"), pytest.param(2, "LIGHTNING", marks=pytest.mark.slow), pytest.param(4, "CASES", marks=pytest.mark.slow),
    pytest.param(4, "LIGHTNING", marks=pytest.mark.slow),
])  # fmt: skip
def test_equal_to_one_process(size, which, tmp_path):
    found = ranks.together(size, which, tmp_path)
    wrong = []
    for name, function in getattr(ranks, which).items():
        for side in ranks.SIDES:
            alone = function(side)
            for rank, several in enumerate(found):
                case = several[f"{name}: {side}"]
                assert case.keys() == alone.keys(), name
                for key, want in alone.items():
                    got = case[key]
                    # torchmetrics and Lightning add up in float32.
                    close = 1e-6 if "accuracy" in key else 1e-10
                    if (got is None) != (want is None) or (want is not None and not torch.allclose(got, want, 0, close)):
                        wrong.append(f"{name}, {side}, rank {rank}, {key}: {got} instead of {want}")
    assert not wrong, "\n".join(wrong)
