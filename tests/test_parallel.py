"""Several processes learn what one learns from their batches together: by hand, under autograd, by torch, under Lightning."""

from __future__ import annotations

from pathlib import Path

import pytest
import ranks
import torch

from dlref.bench.scaling import ETHERNET, Link, Work, efficiency, ring, step, tables, tree, wire


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*logging interval")
@pytest.mark.parametrize("size, which", [
    (2, "CASES"), (2, "SYNC"), pytest.param(4, "SYNC", marks=pytest.mark.slow),
    pytest.param(2, "LIGHTNING", marks=pytest.mark.slow), pytest.param(4, "CASES", marks=pytest.mark.slow),
    pytest.param(4, "LIGHTNING", marks=pytest.mark.slow),
])  # fmt: skip
def test_equal_to_one_process(size, which, tmp_path):
    compared(size, which, tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NCCL is of GPUs")
def test_nccl(tmp_path):
    compared(torch.cuda.device_count(), "NCCL", tmp_path)


def compared(size, which, tmp_path):
    found = ranks.together(size, which, tmp_path)
    wrong = []
    for name, function in ranks.cases(which).items():
        for side in ranks.SIDES:
            alone = function(
                "builtin" if which == "SYNC" and function(side) else side
            )  # torch's own speaks on GPUs alone
            for rank, several in enumerate(found):
                case = several[f"{name}: {side}"]
                assert case.keys() == alone.keys(), name
                for key, want in alone.items():
                    got = case[key]
                    # torchmetrics and Lightning add up in float32.
                    close = 1e-6 if "accuracy" in key else 1e-10
                    if (got is None) != (want is None) or (
                        want is not None and not torch.allclose(got, want, 0, close)
                    ):
                        wrong.append(f"{name}, {side}, rank {rank}, {key}: {got} instead of {want}")
    assert not wrong, "\n".join(wrong)


def test_the_tables_of_the_docs_are_those_calculated():
    text = (Path(__file__).parents[1] / "docs/scaling.md").read_text()
    for name, lines in tables().items():
        assert "\n".join(lines) in text, f"write {name} anew: python -m dlref.bench.scaling"


def test_what_is_calculated():
    """Ring and trees send the same for many, a step takes no longer than what it computes where all is hidden."""
    assert wire(1.0, 1) == ring(1.0, 1, ETHERNET) == tree(1.0, 1, ETHERNET) == 0
    assert wire(8.0, 4) == 12.0
    assert ring(8e9, 4, Link("", 1e9, 0.0)) == pytest.approx(12.0)
    assert step(Work("", 0, 2.0, 1), 4096, Link("", 1e9, 0.0)) == 2.0
    assert efficiency(Work("", 250_000_000, 0.3, 1), 2, Link("", 1e9, 0.0)) == pytest.approx(0.3 / (0.3 + 1.0 - 0.2))
