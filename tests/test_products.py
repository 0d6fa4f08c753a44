"""Float32 products by oneDNN: round the step alone, counted, exact, and torch's setting as it was found."""

from __future__ import annotations

import sys
import threading

import pytest
import torch
from torch import nn

import dlref

products = sys.modules[dlref.products.__module__]
SETTING = torch.backends.mkldnn.matmul

pytestmark = pytest.mark.skipif(
    not products.onednn_rounds_as_float32(), reason="oneDNN's products are rounded on this CPU, or there is no oneDNN"
)


@pytest.fixture(autouse=True)
def faster(monkeypatch):
    monkeypatch.setattr(products, "faster", lambda: True)
    before = SETTING.fp32_precision
    yield
    assert SETTING.fp32_precision == before


def test_overlapping_users_leave_the_setting_as_the_first_found_it():
    before = SETTING.fp32_precision
    first, second = products.by_onednn(), products.by_onednn()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert SETTING.fp32_precision == "bf16"
    second.__exit__(None, None, None)
    assert SETTING.fp32_precision == before
    with pytest.raises(ZeroDivisionError), products.by_onednn(), products.by_onednn():
        raise ZeroDivisionError


def test_threads():
    seen = []

    def work() -> None:
        for _ in range(200):
            with products.by_onednn():
                seen.append(SETTING.fp32_precision)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {"bf16"}


class Seen(nn.Linear):
    """A layer that notes torch's setting when it is called."""

    def __init__(self, *sizes: int):
        super().__init__(*sizes)
        self.found: list[str] = []

    def forward(self, input):
        self.found.append(SETTING.fp32_precision)
        return super().forward(input)


def trained(rows: int, **options) -> tuple[list[str], list[str]]:
    """What the network and what the callback saw."""
    network, told = Seen(64, 256), []
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    data = torch.rand(rows, 64), torch.rand(rows, 256)

    def callback(record) -> None:
        told.append(SETTING.fp32_precision)
        torch.get_float32_matmul_precision()  # which raises where the setting is another
        torch.rand(4, 4) @ torch.rand(4, 4)

    dlref.builtin.training.fit(
        network, nn.MSELoss(), optimizer, data, epochs=2, batch_size=rows, callback=callback, **options
    )
    return network.found, told


def test_round_the_step_alone_and_by_the_shapes():
    before = SETTING.fp32_precision
    assert trained(512) == (["bf16"] * 2, [before] * 2)  # 512 * 64 * 256 multiplications
    assert trained(16) == ([before] * 2, [before] * 2)
    with dlref.products("default"):
        assert trained(512) == ([before] * 2, [before] * 2)
    with dlref.products("onednn"):
        assert trained(16) == (["bf16"] * 2, [before] * 2)
    chosen = dlref.products("default")
    assert trained(512)[0] == [before] * 2
    chosen.__exit__()
    assert trained(512)[0] == ["bf16"] * 2


@pytest.mark.parametrize("backend", ["eager", None])
def test_by_hand_too(backend):
    from dlref.manual import nn as by_hand
    from dlref.manual import optim

    found = []
    for which in ("default", "auto"):
        torch.manual_seed(0)
        network = by_hand.Sequential(by_hand.Linear(64, 256), by_hand.Tanh(), by_hand.Linear(256, 256))
        optimizer = optim.SGD(network.parameters(), 0.1)
        data = torch.rand(512, 64), torch.rand(512, 256)
        with dlref.products(which):
            history = dlref.manual.training.fit(network, by_hand.MSELoss(), optimizer, data, epochs=4, batch_size=256,
                                                compile=backend or False)  # fmt: skip
        found.append([record["loss"] for record in history])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_rule():
    large, cpu = products.LARGE, torch.device("cpu")
    assert products.pay(large, torch.float32, cpu) and not products.pay(large - 1, torch.float32, cpu)
    assert not products.pay(large, torch.float64, cpu) and not products.pay(large, torch.float32, torch.device("cuda"))
    by = products.Products(nn.Sequential(nn.Conv2d(32, 64, 3)))
    with by(torch.rand(200, 32, 8, 8)):
        assert by.taken == "onednn"
    with by(torch.rand(1, 32, 2, 2)):
        assert by.taken == "default"
    with pytest.raises(ValueError, match="near it"):
        dlref.products("mkl")


def test_a_checkpoint_notes_the_products():
    from dlref.lightning import Classifier

    model, found = Classifier(backend="builtin"), {}
    model.on_save_checkpoint(found)
    assert found["products"] == "default"
