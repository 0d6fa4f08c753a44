"""The experiments: the list, wrong names, what a run leaves, that both sides agree, and that a verdict can be each of three."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dlref.cli import main
from dlref.cli.experiment import shown
from dlref.experiments import NAMES, experiment
from dlref.experiments.base import AGREEMENT, FAILS, HOLDS, IN_PART, Experiment, Found, Rule, apart
from dlref.experiments.common import CEILING, bounded, descend, steps_to

ROOT = Path(__file__).parent.parent
ROOM = ROOT / "dlref/experiments"
SECTIONS = "2.1 2.2 3.1 3.2 3.3 3.4 3.5.1 3.5.2 3.5.3 4.1 4.2 4.4 4.5 4.6 4.7 5.2 5.3".split()


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def test_every_file_is_an_experiment_of_the_list():
    files = {file.stem for file in ROOM.glob("*.py")} - {"__init__", "base", "common"}
    assert files == set(NAMES) and len(NAMES) == len(files)


def test_every_section_is_tried():
    assert {experiment(name).section for name in NAMES} == set(SECTIONS)


def test_list(capfd):
    main(["experiment", "list"])
    told = capfd.readouterr().out
    assert all(name in told for name in NAMES) and max(map(len, told.splitlines())) <= 80
    main(["experiment", "list", "--section", "4.5"])
    told = capfd.readouterr().out
    assert "learning_rate" in told and "momentum" not in told


@pytest.mark.parametrize("arguments, told", [
    (["run", "lerning_rate"], "near it: learning_rate"),
    (["run", "momentum", "nothing_of_the_kind"], "'nothing_of_the_kind'"),
    (["run", "momentum", "--seeds", "0"], "seeds"),
    (["run", "momentum", "--out", "/proc/x"], "/proc/x"),
    (["list", "--section", "9"], "'9'"),
    (["run"], "names"),
    (["walk"], "walk"),
    ([], "action"),
], ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "")  # fmt: skip
def test_wrong_use_is_told_in_one_line(arguments, told, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["experiment", *arguments])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and "error:" in errors and told in errors, errors


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_and_both_sides_agree(name, tmp_path):
    """With one seed and one epoch: the numbers are finite, those of the rules among them, and the picture is one."""
    found = experiment(name)
    result = found.run(tmp_path, seeds=1, epochs=1)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert all(math.isfinite(value) for number in result["numbers"].values() for value in number["values"])
    assert {rule["number"] for rule in result["rules"]} <= result["numbers"].keys()
    assert result["built-in differs by"] <= AGREEMENT
    assert result["verdict"] in (HOLDS, IN_PART, FAILS)


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_is_told_and_the_verdict_can_be_each_of_three(name):
    found = experiment(name)
    assert found.claim.endswith(".") and found.setup and re.fullmatch(r"\d(\.\d)*", found.section)
    inside, outside = {}, {}
    for rule in found.rules:
        bound, beyond = (rule.at_least, -math.inf) if math.isfinite(rule.at_least) else (rule.at_most, math.inf)
        inside[rule.number], outside[rule.number] = bound, math.nextafter(bound, beyond)
    assert len(inside) == len(found.rules) >= 2  # a claim of one number could never hold in part
    assert found.verdict(inside) == HOLDS and found.verdict(outside) == FAILS
    for rule in found.rules:
        assert found.verdict(inside | {rule.number: outside[rule.number]}) == IN_PART
        assert rule.bounds


def test_a_number_that_is_none_meets_no_rule():
    assert not Rule("x", at_least=0)(math.nan) and not Rule("x", at_most=0)(math.nan)


@pytest.mark.parametrize("name", ["gradients_through_time", "valley", "perceptron"])
def test_a_seed_gives_the_same_numbers_again(name):
    from dlref import manual

    first, second = (experiment(name).measure(manual, 3, 2) for _ in range(2))
    assert first.numbers == second.numbers and first.curves == second.curves
    assert experiment(name).measure(manual, 4, 2).curves != first.curves


class Broken(Experiment):
    """A number that is none."""

    section, setup = "1", "Nothing."
    rules = (Rule("x", at_least=0), Rule("x", at_least=1))

    def measure(self, ns, seed, epochs):
        return Found({"x": math.nan})


def test_what_is_not_finite_is_no_result(tmp_path):
    with pytest.raises(ArithmeticError, match="broken: x must be finite"):
        Broken("broken").run(tmp_path, seeds=1)
    assert not list(tmp_path.iterdir())


def test_sides_that_differ_are_told_apart():
    one = Found({"a": 2.0}, {"line": [1.0, 4.0]})
    assert apart(one, one) == 0
    assert apart(one, Found({"a": 2.0}, {"line": [1.0, 5.0]})) == 0.2
    assert apart(one, Found({"a": 4.0}, {"line": [1.0, 4.0]})) == 0.5


class TooLarge(torch.nn.CrossEntropyLoss):
    """Cross entropy, and its gradient, too large by a thousandth."""

    def forward(self, input, target):
        return 1.001 * super().forward(input, target)


@pytest.mark.parametrize("name", ["depth", "training_size", "leakage", "losses", "standardisation", "backpropagation"])
def test_a_side_that_is_wrong_by_a_thousandth_is_told_apart(name):
    from dlref import builtin, manual

    nn = SimpleNamespace(**{**vars(builtin.nn), "CrossEntropyLoss": TooLarge})
    wrong = SimpleNamespace(nn=nn, optim=builtin.optim, training=builtin.training)
    by_hand, right, other = (experiment(name).measure(ns, 0, 1) for ns in (manual, builtin, wrong))
    assert apart(by_hand, right) < 1e-12 and apart(by_hand, other) > 100 * AGREEMENT


def test_a_run_leaves_folders_and_overwrites_none(tmp_path, capfd):
    arguments = [
        "experiment",
        "run",
        "steepest_descent",
        "gradients_through_time",
        "--seeds",
        "2",
        "--out",
        str(tmp_path),
    ]
    main(arguments)
    told = capfd.readouterr().out
    lines = [line for line in told.splitlines() if not line.startswith("wrote")]
    assert max(map(len, lines)) <= 80 and "holds in part" in told and "†" in told and "…" not in told
    assert {file.name for file in (tmp_path / "steepest_descent").iterdir()} == {"result.json", "steepest_descent.png"}
    rule = json.loads((tmp_path / "steepest_descent/result.json").read_text())["rules"][0]
    assert rule["met"] and rule["seeds that meet it"] == 2 and "met, 2 of 2 seeds" in " ".join(told.split())
    before = (tmp_path / "steepest_descent/result.json").read_text()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "nothing is overwritten" in capfd.readouterr().err
    assert (tmp_path / "steepest_descent/result.json").read_text() == before


def test_without_out_a_run_gets_a_new_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    main(["experiment", "run", "steepest_descent", "--seeds", "1"])
    assert (tmp_path / "runs/001-experiment/steepest_descent/result.json").exists()
    told = "wrote runs/001-experiment/: steepest_descent/result.json, steepest_descent/steepest_descent.png\n"
    assert told in capfd.readouterr().out


@pytest.mark.parametrize("mean, deviation, told", [
    (629.4123, 251.2, "629.4 ± 250"), (0.97123, 0.0021, "0.9712 ± 0.0021"), (11010.2, 0, "1.101e+04 ± 0.0e+00"),
    (0.249, 9.6e-17, "2.490e-01 ± 9.6e-17"), (0, 0, "0 ± 0"),
])  # fmt: skip
def test_mean_and_deviation_have_one_form(mean, deviation, told):
    assert shown({"mean": mean, "deviation": deviation}) == told


def test_helpers():
    assert bounded(math.nan) == bounded(math.inf) == bounded(2 * CEILING) == CEILING and bounded(1.5) == 1.5
    assert (
        steps_to([3.0, 0.5, 2.0, 0.5, 0.1], 1.0) == 3 and steps_to([0.1], 1.0) == 0 and steps_to([2.0, 2.0], 1.0) == 2
    )


def test_a_walk_is_that_of_autograd():
    from dlref import builtin, manual

    def f(p):
        return (p**4).sum()

    paths = [descend(ns, f, lambda p: 4 * p**3, (1.0, -0.5), 20, "Adam", lr=0.1) for ns in (manual, builtin)]
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-12)
    assert paths[0].shape == (21, 2) and not torch.equal(paths[0][0], paths[0][-1])


def test_what_the_corrections_name_is_there():
    """docs/corrections.md: every line names what shows it, and that exists."""
    rows = (ROOT / "docs/corrections.md").read_text().split("| --- |")[-1].splitlines()[1:]
    assert len(rows) > 30
    for row in rows:
        section, _, _, shown = (cell.strip() for cell in row.strip("|").split("|"))
        names = re.findall(r"`(.*?)`", shown)
        assert re.fullmatch(r"\d(\.\d)+", section) and names, row
        for name in names:
            assert name in NAMES or name.startswith("dlref show ") or (ROOT / name).exists(), name


def test_the_digits_are_as_many_as_the_corrections_say():
    from sklearn.datasets import load_digits

    counts = torch.bincount(torch.as_tensor(load_digits().target))
    assert (int(counts.sum()), int(counts.min()), int(counts.max())) == (1797, 174, 183)


def test_the_published_score_is_of_no_number_of_these_images():
    published = 0.9633912052234828
    assert all(round(published * n) / n != published for n in range(1, 1798))


def test_sides_that_do_not_agree_end_in_an_error(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("dlref.experiments.base.AGREEMENT", -1.0)
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "run", "steepest_descent", "--seeds", "1", "--out", str(tmp_path)])
    assert ended.value.code == 2 and "both sides must agree" in capfd.readouterr().err
    assert (tmp_path / "steepest_descent/result.json").exists()  # what was found is kept


def test_the_legend_of_the_valley_covers_no_curve(tmp_path, figures):
    experiment("rosenbrock").run(tmp_path, seeds=1, epochs=20)
    (figure,) = figures
    axis = figure.subfigs[0].axes[0]
    assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1
    assert "Rosenbrock's valley: the claim" in figure.get_suptitle()
