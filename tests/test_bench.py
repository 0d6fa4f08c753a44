"""dlref bench: what it measures, what it writes, and that the documentation's figures come from there."""

from __future__ import annotations

import functools
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

import dlref
from dlref import bench, builtin, manual
from dlref.bench.cases import OPERATIONS
from dlref.bench.estimators import OURS, fit
from dlref.bench.memory import kept_by, peak_of, reachable
from dlref.bench.operations import operation_variants
from dlref.bench.steps import SGD, Network, step_variants
from dlref.cli import main
from dlref.samples import flat
from dlref.step import products

ROOT = Path(__file__).parent.parent
BRIEF = ("--rounds", "2", "--seconds", "0.01")
TINY = Network(lambda ns: dlref.models.mlp(ns, 4, 3, 2), (4,), (5,), classes=2)
# Modules that keep more than torch's, beyond the inputs: how many bytes, and why.
MORE = {
    "SyncBatchNorm": (200, "as the other norms below, and how many numbers a channel has in all processes"),
    "CTCLoss": (4352, "the labels with the blanks between them, and where a path may pass over one"),
    "Residual": (64 * 128 * 4, "the input of tanh: of its output, which torch keeps, the gradient is not exact"),
}
# They keep five numbers where torch keeps two: a scale, the mean, what the mean lacks, the variance, and 1 / deviation.
NORMS = ("BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm")


def write(path, *arguments):
    main(["bench", *arguments, *BRIEF, "--json", str(path)])
    return json.loads(path.read_text())


# --- times ------------------------------------------------------------------------------------------------------------


def test_variants_are_measured_in_turn_and_divided_by_the_fastest():
    calls: list[str] = []
    work = {name: functools.partial(lambda n, t: [calls.append(n), t.sum()], name, torch.rand(n))
            for name, n in (("long", 1_000_000), ("short", 200_000), ("shortest", 100))}  # fmt: skip
    times = bench.measure(work, rounds=5)
    assert [len(entries) for entries in times.seconds.values()] == [5, 5, 5]
    runs = [name for name, before in zip(calls, ["", *calls], strict=False) if name != before]
    assert runs[-3:] != runs[-6:-3] and set(runs[-3:]) == set(work)  # the order turns
    ratio = times.ratio("long", ["short", "shortest", "not measured"])
    assert ratio.base == "shortest" and ratio.value > 2 and ratio.low <= ratio.value <= ratio.high
    low, high = times.quartiles("long")
    assert low <= times.median("long") <= high


def test_a_budget_of_seconds_ends_the_rounds():
    assert len(bench.measure({"one": lambda: None}, rounds=1000, seconds=0.0).seconds["one"]) == 3
    with pytest.raises(ValueError, match="rounds must be at least 1, they are 0"):
        bench.measure({}, rounds=0)


def test_every_pair_has_a_case():
    assert set(OPERATIONS) == set(dlref.pairs())


@pytest.mark.parametrize("name", ["layer_norm", "max_pool2d", "embedding", "nll_loss", "bilinear"])
def test_the_ways_that_are_timed_give_the_same_gradients(name):
    variants = operation_variants(name)
    _, grads = variants["manual vjp"]()
    for way in ("manual autograd", "builtin"):
        expected = variants[way]()
        for ours, theirs in zip([g for g in grads if g is not None], expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(*(flat(variants[f"{side} forward"]()) for side in ("manual", "builtin")), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_steps_that_are_timed_take_the_same_step():
    variants = step_variants(TINY, 5, SGD, "cpu", compile=False)
    assert {"manual", "manual played back", "builtin", "builtin foreach", "builtin fused", "products"} == set(variants)
    del variants["products"]
    errors = [[step().item() for _ in range(3)] for step in variants.values()]
    for found in errors:
        assert found == pytest.approx(errors[0], rel=1e-5) and found[2] < found[0]


def test_the_fit_recovers_an_exponent():
    sizes = [2**i for i in range(10)]
    assert bench.exponent(sizes, [3.0 * n**1.7 for n in sizes]) == pytest.approx(1.7)
    # What does not grow rules the small sizes, which are left out.
    assert bench.exponent(sizes, [max(50.0, n**2 / 10) for n in sizes]) == pytest.approx(2.0)


def test_growth_is_measured_and_drawn(tmp_path):
    record = bench.time_growth("depth", (1, 2, 4), rounds=1)
    assert all(len(record[side]) == 3 and min(record[side]) > 0 for side in ("manual", "builtin"))
    assert bench.draw_growth(tmp_path / "growth.png", [record]).read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="three or more"):
        bench.time_growth("depth", (1, 2))


def test_products_by_onednn_are_set_for_a_while_and_refused_with_amx(monkeypatch):
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    monkeypatch.setattr(products, "is_amx_tile_supported", lambda: False)
    with bench.by_onednn():
        assert setting.fp32_precision == "bf16"
        a = torch.rand(64, 64)
        torch.testing.assert_close(a @ a, (a.double() @ a.double()).float(), rtol=1e-5, atol=1e-4)  # not rounded
    assert setting.fp32_precision == before
    monkeypatch.setattr(products, "is_amx_tile_supported", lambda: True)
    with pytest.raises(ValueError, match="AMX"), bench.by_onednn():
        pass


# --- estimators -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """The small task, smaller."""
    make, settings = bench.ESTIMATORS["mlp_classifier"]
    few = (lambda: tuple(a[:300] for a in make()), settings | {"max_iter": 30})
    monkeypatch.setitem(bench.ESTIMATORS, "mlp_classifier", few)


def test_estimators_are_fitted_to_the_same_losses_and_compared_with_scikit_learns(tmp_path, tiny, capfd):
    found = write(tmp_path / "found.json", "mlp_classifier")
    assert set(found) == {"estimators", "environment"}
    records = {bench.label(record).removeprefix("mlp_classifier, "): record for record in found["estimators"]}
    assert set(records) == {"fit, sgd", "fit, adam", "predict"}
    for solver in ("sgd", "adam"):
        record = records[f"fit, {solver}"]
        assert set(record["ratios"]) == set(OURS) - {"manual compiled"} == set(record["times"]) - {"scikit-learn"}
        assert record["loss difference"] < 1e-4  # numpy's products may round differently
    for ratio in (ratio for record in records.values() for ratio in record["ratios"].values()):
        assert ratio["base"] == "scikit-learn" and ratio["value"] > 0
    header, *rows = bench.rows("estimators", found["estimators"])
    assert len(rows) == 3 and {len(row) for row in rows} == {len(header)}
    output = capfd.readouterr().out
    assert all(cell in output for row in rows for cell in row)


def test_an_estimator_that_learns_something_else_is_not_timed(monkeypatch, tiny):
    monkeypatch.setitem(OURS, "builtin", OURS["builtin"] | {"beta_2": 0.9989})
    with pytest.raises(ValueError, match=r"same losses in float64.*builtin"):
        bench.time_estimator("mlp_classifier", rounds=1)
    with pytest.raises(ValueError, match="near it: mlp_classifier"):
        bench.time_estimator("mlp_clasifier")


def test_compilation_is_told_apart_from_a_fit(monkeypatch):
    class Compiled:
        compile, max_iter = True, 4

        def set_params(self, callbacks):
            self.callback = callbacks
            return self

        def fit(self, X, y):
            for _ in range(4):
                self.callback(self)

    clock = iter([100.0, 120.0, 121.0, 122.0, 123.0, 123.5])  # the start, four epochs, the end
    monkeypatch.setattr("dlref.bench.estimators.time.perf_counter", clock.__next__)
    assert fit(Compiled(), None, None, apart := []) == 4.5 and apart == [19.0]


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [manual, builtin])
def test_bytes_that_one_can_count_by_hand(space):
    x = torch.randn(7, 5, requires_grad=True)
    assert kept_by(space, space.nn.Linear(5, 3), (x,), {}) == {"input": 7 * 5 * 4, "output": 0, "own": 0}
    by_hand = space is manual  # whose sigmoids keep their input, as no gradient is exact of an output that rounds to 1
    kept = {"input": 7 * 5 * 4 * by_hand, "output": 7 * 5 * 4 * (not by_hand), "own": 0}
    assert kept_by(space, space.nn.Sigmoid(), (x,), {}) == kept
    two = space.nn.Sequential(space.nn.Linear(5, 3), space.nn.Tanh(), space.nn.Linear(3, 2))
    assert kept_by(space, two, (x,), {}) == {"input": 7 * 5 * 4, "output": 0, "own": 7 * 3 * 4 * (1 + by_hand)}


def test_what_a_pullback_holds_is_found():
    kept, dropped = torch.rand(3), torch.rand(3)
    held = functools.partial(lambda t, *, more: lambda: (t, more), [kept], more={"a": (kept, 1)})()
    assert [t is kept for t in reachable(held)] == [True]
    assert not any(t is dropped for t in reachable(held))


def test_the_peak_of_what_one_can_count_by_hand():
    x = torch.rand(1000, 1000)  # 4 MB
    assert 8e6 <= peak_of(lambda: (x.square(), x + 1), torch.device("cpu")) < 8.01e6
    assert 4e6 <= peak_of(lambda: [x.square() is None, x + 1 is None], torch.device("cpu")) < 4.01e6


def test_every_module_has_an_instance():
    classes = {
        n for n, value in vars(manual.nn).items() if isinstance(value, type) and issubclass(value, torch.nn.Module)
    }
    containers = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"}
    lazy = {name for name in classes if name.startswith("Lazy")}  # after its first call it is the other class
    assert set(bench.MODULES) == classes - containers - lazy - {"RNNBase", "RNNCellBase"}


@pytest.mark.parametrize("name", bench.MODULES)
def test_no_more_is_kept_for_the_gradient_than_by_torch(name):
    found = bench.saved_bytes(name)
    ours, theirs = (found[side]["output"] + found[side]["own"] for side in ("manual", "builtin"))
    # An output in the place of an input is no more: in a network it is the next layer's input.
    same = sum(found["manual"].values()) <= sum(found["builtin"].values())
    more = 1.5 * theirs if name.startswith(NORMS) else MORE.get(name, (0,))[0]
    assert same or ours <= theirs + more, found


def test_kernels_of_a_step_are_counted():
    record = bench.estimate_step("mlp", bench.GPU(launch=1.0, bandwidth=1e30, flops=1e30))
    for side in ("manual", "builtin"):
        assert record[side]["seconds"] == record[side]["kernels"] > 10
        # Five products of the two layers, none for the input's gradient, 2 operations an element of the sum.
        assert record[side]["flops"] == 2 * 200 * (2 * 64 * 128 + 3 * 128 * 10)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_measured(tmp_path, capfd):
    found = write(tmp_path / "found.json", "relu", "one_hot", "Adagrad", "autoencoder")
    assert set(found) == {"operations", "optimizers", "steps", "environment"}
    assert {"machine", "threads", "torch", "date", "products"} <= set(found["environment"])
    names = {
        section: {record["name"] for record in found[section]} for section in ("operations", "optimizers", "steps")
    }
    assert names == {"operations": {"relu", "one_hot"}, "optimizers": {"Adagrad"}, "steps": {"autoencoder"}}
    for record in (*found["operations"], *found["optimizers"], *found["steps"]):
        assert record["ratios"] and all(
            times["seconds"] > 0 and times["rounds"] >= 2 for times in record["times"].values()
        )
        for ratio in record["ratios"].values():
            assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
            assert ratio["base"] == "products" or ratio["base"].startswith("builtin")
    assert "one_hot" in capfd.readouterr().out
    found = write(tmp_path / "kernels.json", "relu", "--kernels")["kernels"]
    assert "…" not in capfd.readouterr().out
    assert [record["name"] for record in found] == ["relu"] and found[0]["ratios"]["kernel"]["value"] > 0
    assert 0 < found[0]["peak"]["kernel"] <= found[0]["peak"]["definition"]
    found = write(tmp_path / "memory.json", "ReLU", "autoencoder", "--memory")
    assert set(found) == {"saved", "peak", "environment"}
    assert found["peak"][0]["manual"] > 0 and found["peak"][0]["builtin"] > 0
    assert "estimate" in write(tmp_path / "estimate.json", "autoencoder", "--estimate")


WRONG = {
    "pair": (("lyer_norm",), "near it: layer_norm"),
    "optimizer": (("Adamm",), "near it: Adam"),
    "network": (("transfomer",), "near it: transformer"),
    "module": (("LayerNrom", "--memory"), "near it: LayerNorm"),
    "module without --memory": (("LSTMCell",), "known name"),
    "rounds": (("relu", "--rounds", "0"), "rounds"),
    "products": (("relu", "--products", "mkl"), "near it:"),
    "plot": (("relu", "--plot", "growth.png"), "--growth"),
    "folder": (("relu", "--json", "/proc/nowhere/found.json"), "/proc/nowhere/found.json"),
    "estimate": (("cnm", "--estimate"), "near it: cnn"),
    "no estimate": (("lstm", "--estimate"), "--estimate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_one_line(case, capfd):
    arguments, told = WRONG[case]
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and "error:" in errors and told in errors, errors


def test_nothing_is_overwritten(tmp_path, capfd):
    for option in ("--json", "--plot"):
        (tmp_path / "there").write_text("mine")
        with pytest.raises(SystemExit) as ended:
            main(["bench", "relu", "--growth", option, str(tmp_path / "there")])
        assert ended.value.code == 2 and "overwritten" in capfd.readouterr().err
        assert (tmp_path / "there").read_text() == "mine"


# --- the documentation's figures --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "found.json"
    write(path, "relu", "sigmoid")
    return path


@pytest.fixture
def update(monkeypatch, capfd):
    """Run scripts/update_figures.py in this process; its status and errors."""

    def update(results: Path, *files: Path) -> tuple[int, str]:
        path = str(ROOT / "scripts/update_figures.py")
        arguments = ("--results", json.dumps([str(results)]), "--files", json.dumps(list(map(str, files))))
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ended:
            return ended.code, capfd.readouterr().err
        return 0, ""

    return update


def test_only_the_blocks_that_were_measured_are_rewritten(tmp_path, results, update):
    block = "<!-- bench: {} -->\nold {}\n<!-- end -->"
    text = f"before\n{block.format('operations', 1)}\nbetween\n{block.format('peak', 2)}\nafter\n"
    (file := tmp_path / "file.md").write_text(text)
    assert update(results, file) == (0, "")
    found = file.read_text()
    start, end = text.index("old 1"), text.index("old 1") + len("old 1")
    assert found.startswith(text[:start]) and found.endswith(text[end:]) and "old 1" not in found
    ratio = json.loads(results.read_text())["operations"][0]["ratios"]["vjp"]["value"]
    assert "| relu | default | " in found and f"{ratio:.2f}" in found
    assert torch.__version__ in found and "1 thread," in found


@pytest.mark.parametrize(
    "text", ["no marker", "<!-- bench: operations -->\nwithout an end", "<!-- bench: operation -->\n<!-- end -->"]
)
def test_a_file_without_proper_markers_is_refused(text, tmp_path, results, update):
    (proper := tmp_path / "proper.md").write_text("<!-- bench: operations -->\n<!-- end -->")
    (file := tmp_path / "file.md").write_text(text)
    status, errors = update(results, proper, file)
    assert status == 2 and errors.count("\n") == 1 and ("<!-- end -->" in errors or "near it: operations" in errors)
    assert file.read_text() == text and proper.read_text() == "<!-- bench: operations -->\n<!-- end -->"


def test_results_of_something_else_are_refused(tmp_path, update):
    (tmp_path / "other.json").write_text("[1]")
    status, errors = update(tmp_path / "other.json", ROOT / "README.md")
    assert status == 2 and "dlref bench --json" in errors
