"""The comparison of pairs as users run it: what is right passes, what is wrong departs, wrong use is told in one line."""

from __future__ import annotations

import json

import pytest
import torch

import dlref
from dlref.cli import main
from dlref.samples import NAMES, samples
from dlref.verify.compare import Comparison, compare_sample

HALF = torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, HALF], ids=str)
@pytest.mark.parametrize(
    "name", ["layer_norm", "rbf", "scaled_dot_product_attention", "one_hot", "max_pool1d", "dropout"]
)
def test_pairs_agree(name, dtype):
    if name == "one_hot":
        with pytest.raises(ValueError, match="dtype must be one that torch's one_hot has a gradient in"):
            dlref.compare(name, dtype=dtype)
        return
    found = dlref.compare(name, dtype=dtype)
    assert found.ok and found.samples == len(samples(name, dtype)) and found.values > found.samples, str(found)
    assert found.as_dict()["ok"] and json.dumps(found.as_dict()) and f"{found.values} values" in str(found)


class Wrong:
    """An operation whose output or gradient is changed."""

    def __init__(self, op, output=lambda y: y, gradient=lambda g: g):
        self.op, self.output, self.gradient = op, output, gradient

    def __call__(self, *args, **kwargs):
        return self.output(self.op(*args, **kwargs))

    def vjp(self, *args, **kwargs):
        output, pullback = self.op.vjp(*args, **kwargs)
        return self.output(output), lambda dy: tuple(None if g is None else self.gradient(g) for g in pullback(dy))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, HALF], ids=str)
@pytest.mark.parametrize(("fault", "told"), [
    ({"output": lambda y: y * 1.05}, "output"),
    ({"output": lambda y: y.detach() + y - y.detach() + 0.1}, "output by vjp"),
    ({"gradient": lambda g: g * 1.05}, "gradient 0 (vjp"),
    ({"gradient": torch.zeros_like}, "gradient 1 (vjp"),
], ids=["scaled", "shifted", "gradient scaled", "gradient zero"])  # fmt: skip
def test_what_is_wrong_departs(fault, told, dtype):
    found = Comparison("linear", "cpu", dtype)
    for sample in samples("linear", dtype):
        compare_sample(found, Wrong(dlref.manual.functional.linear, **fault), sample)
    assert not found.ok and any(told in str(d) for d in found.departures)
    assert all(d.manual > d.bound for d in found.departures)


def test_list_and_show(capfd):
    main(["list", "--section", "3.5.2"])
    assert "RBF" in (output := capfd.readouterr().out) and "linear" not in output
    for section in ("3.2", "3.4", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "5"):
        main(["list", "--section", section])
        assert section in capfd.readouterr().out
    for name in ("layer_norm", "sigmoid", "interpolate", "RELU6", "Softmax2d"):
        main(["show", name])
        output = capfd.readouterr().out
        assert "gradient" in output and "samples" in output and "built-in" in output and ".py:" in output
    for name, told in (("lstm", "class LSTM"), ("adam", "def update"), ("steplr", "def multiplier"),
                       ("MultiheadAttention", "class MultiheadAttention"), ("lstm_cell", "torch.lstm_cell"),
                       ("fit", "network_pullback"), ("Backpropagation", "error.backward()")):  # fmt: skip
        main(["show", name])
        assert told in capfd.readouterr().out
    for name, told in (
        (
            "adam",
            (
                "def average_square",
                "def root",
                "def descend",
                "built-in: torch.optim.adam.Adam, ",
                "torch/optim/adam.py:",
            ),
        ),
        ("lion", ("built-in: dlref.builtin.optim.lion.Lion, dlref/builtin/optim/lion.py:",)),
        ("CyclicLR", ("def set_momentum", "built-in: torch.optim.lr_scheduler.CyclicLR, ")),
        ("Sequential", ("def explicit", "built-in: torch.nn.modules.container.Sequential, ")),
    ):
        main(["show", name])
        output = capfd.readouterr().out
        assert all(word in output for word in told), (name, output)
    main(["show", "relu6", "--kernel"])
    assert "dlref/manual/kernels/activation.py:" in capfd.readouterr().out


def test_the_whole_list_in_80_columns(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["list"])
    output = capfd.readouterr().out
    assert "…" not in output
    for name in (
        "LSTM",
        "AdamW",
        "StepLR",
        "TransformerEncoderLayer",
        "binary_cross_entropy_with_logits",
        "backpropagation",
    ):
        assert name in output

    assert {pair.section for pair in dlref.pairs().values()} >= {"2.1", "3.3", "3.5.1", "3.5.2", "3.5.3", "4.7"}


def test_compare_on_the_command_line(capfd, tmp_path, monkeypatch):
    path = tmp_path / "found.json"
    main(["compare", "linear", "relu", "--dtype", "float64", "--json", str(path)])
    assert [pair["ok"] for pair in json.loads(path.read_text())] == [True, True]
    output = capfd.readouterr().out
    assert "linear" in output and "…" not in output and output.count("built-in") > 2
    relu = dlref.manual.functional.relu
    right = relu.fast.pull
    monkeypatch.setattr(relu.fast, "pull", lambda *arguments: right(*arguments) + 1)
    with pytest.raises(SystemExit) as ended:
        main(["compare", "relu"])
    assert ended.value.code == 1 and "units from the truth" in capfd.readouterr().out


@pytest.mark.parametrize(("arguments", "told"), [
    (("compare", "lineer"), "near it: linear"), (("compare", "--dtype", "float33"), "float32"),
    (("compare", "linear", "--json", __file__), "nothing is overwritten"), (("show", "softmaxx"), "softmax"),
    (("show", "adam", "--kernel"), "operation"),
    (("list", "--family", "convv"), "conv"), (("compare", "--nonsense"), "nonsense"), (("show",), "name"),
], ids=str)  # fmt: skip
def test_wrong_use(arguments, told, capfd):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and told in errors, errors


def test_every_pair_is_known():
    assert set(dlref.pairs()) == set(NAMES)
