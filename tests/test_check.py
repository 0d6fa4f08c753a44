"""dlref.check: every planted error is found and named, what is right passes, wrong use is told in one line."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from defects import DEFECTS
from defects.sound import SOUND
from placed import DEVICE
from torch import nn

import dlref
from dlref.cli import main
from dlref.core.pair import OPS
from dlref.samples.modules import CALLS, Made
from dlref.verify.check import sample_names
from dlref.verify.oracle.modules import ModuleSamples, infos
from dlref.verify.oracle.report import Finding, Report
from dlref.verify.oracle.steps import Run
from dlref.verify.oracle.subject import Mismatch
from dlref.verify.oracle.trials import Trials

check = functools.partial(dlref.check, device=str(DEVICE))

RIGHT = """gelu layer_norm cross_entropy max_pool2d dropout batch_norm lp_pool1d multilabel_soft_margin_loss tied_linear kl_div
           binary_cross_entropy""".split()


def matching(planted, findings):
    """The findings of the planted kind; and whether one of them says what it looks like."""
    found = [f for f in findings if re.search(planted.kind, f.kind)]
    return found, any(re.search(planted.told, f"{f.what} {f.where} {f.sample} {f.diagnosis}") for f in found)


def unless_told(planted, run, report_of):
    """A trial that is not made any more once the planted error is found and named."""
    return lambda self, *args, **kwargs: (
        None if matching(planted, report_of(self).findings)[1] else run(self, *args, **kwargs)
    )


WHOLE = {planted.kind: planted for planted in reversed(DEFECTS)}.values()  # the first of each kind


@pytest.mark.parametrize("planted", DEFECTS, ids=lambda d: d.name)
def test_planted_errors_are_found(planted, monkeypatch):
    """The finding names the kind, and says what it looks like; of each kind, one check is made to its end."""
    if planted not in WHOLE:
        monkeypatch.setattr(Trials, "run", unless_told(planted, Trials.run, lambda trials: trials.report))
        monkeypatch.setattr(Run, "judge", unless_told(planted, Run.judge, lambda run: run.report))
    for dtypes in (["float32"], None):  # most show in one dtype, which takes a third of the time of all
        options = {"beyond": planted.kind in ("jvp", "double backward"), "dtypes": dtypes, **planted.options}
        report = check(planted.candidate, planted.against, **options)
        found, told = matching(planted, report.findings)
        if told:
            return
    pytest.fail(f"{'told otherwise' if found else 'not found'}: {report}")


def test_there_are_enough_of_them():
    kinds = {f for d in DEFECTS for f in d.kind.split("|")}
    assert len(DEFECTS) >= 30 and len({d.against for d in DEFECTS}) >= 30 and len(kinds) >= 10


@pytest.mark.parametrize("side", ["manual", "builtin"])
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name, side):
    """In float32 and bfloat16; the whole list is compared by `dlref check` on the command line."""
    op = OPS[name]
    report = check(op if side == "manual" else op.builtin, name, dtypes=["float32", "bfloat16"], beyond=name == "gelu")
    assert report.ok and report.values > 100, str(report)
    assert side == "manual" or name in ("dropout", "tied_linear") or any("only calls" in note for note in report.notes)


@pytest.mark.parametrize("module", [
    dlref.manual.nn.LayerNorm, dlref.manual.nn.BatchNorm1d, dlref.manual.nn.Sigmoid, nn.LayerNorm(7),
    nn.Conv2d(4, 6, 3, padding=1), nn.CrossEntropyLoss(label_smoothing=0.1), dlref.manual.nn.RBF, dlref.manual.nn.SigLIPLoss,
    dlref.manual.nn.ZLoss, dlref.manual.nn.CrossMapLRN2d, dlref.manual.nn.GaussianNoise,
], ids=lambda m: repr(m).partition("(")[0][-30:])  # fmt: skip
def test_modules_pass(module):
    name = (module if isinstance(module, type) else type(module)).__name__
    report = check(module, name, dtypes=["float32"], beyond=False)
    assert report.ok and report.values > 20, str(report)


def test_modules_that_the_database_lacks_have_calls():
    """But for those that are made of layers."""
    without = []
    for name, calls in CALLS.items():
        if infos(name):
            continue
        try:
            ModuleSamples(getattr(dlref.manual.nn, name), name, Report("", name)).samples(torch.float32, "cpu")
        except Mismatch:
            made = any(isinstance(a, Made) for args, _, _ in calls for a in args)
            without += [] if made or name.startswith("Lazy") else [name]
    assert not without


@pytest.mark.parametrize("name", ["hardsigmoid", "binary_cross_entropy", "BCELoss"])
def test_beyond_where_torch_is_not_the_truth(name):
    """What is beyond the first derivative is held to the definition's there, as the values are."""
    space = dlref.manual.nn if name == "BCELoss" else dlref.manual.functional
    report = check(getattr(space, name), name, dtypes=["float32"])
    assert report.ok and report.beyond["double backward"] == report.beyond["jvp"] == "right", str(report)


def test_optimizers_and_schedules_pass():
    for optim in (torch.optim, dlref.manual.optim):
        for name in ("Adam", "SGD", "RMSprop", "Adafactor", "Muon", "SparseAdam", "LBFGS"):
            if name == "LBFGS" and optim is torch.optim:
                continue
            report = check(getattr(optim, name), name, dtypes=["float64" if name == "LBFGS" else "float32"])
            assert report.ok and report.samples > 20, str(report)
        for name in ("StepLR", "OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts", "ReduceLROnPlateau"):
            assert check(getattr(optim.lr_scheduler, name), name).ok


@pytest.mark.parametrize("name", SOUND)
def test_other_styles_are_not_accused(name):
    """What is right is right under any names; what was guessed, or may be changed, is said."""
    candidate, against, note, options = SOUND[name]
    report = check(candidate, against, **options)
    assert report.ok and report.evidence and note in "\n".join(report.notes), str(report)


class TakesNothing(nn.Module):
    def forward(self, input):
        return input.sigmoid()


class DifferentSlope(nn.Module):
    def __init__(self, slope_of_mine=0.3):
        super().__init__()

    def forward(self, input):
        return input


@pytest.mark.parametrize(("candidate", "against", "options"), [
    (F.relu, "relu", {"samples": []}),
    (torch.optim.Adam, "Adam", {"samples": []}),
    (torch.optim.lr_scheduler.StepLR, "StepLR", {"samples": []}),
    (DifferentSlope, "Threshold", {}),  # it takes none of the samples' options
    (lambda opt, period: None, "StepLR", {"samples": ["plain-1"]}),  # of which only that with gamma is asked for
    (lambda params, lr=1e-3: torch.optim.SGD(params, lr), "SGD", {"where": "momentum != 0"}),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_no_verdict_without_evidence(candidate, against, options):
    try:
        report = check(candidate, against, **{"beyond": False, "dtypes": ["float32"], **options})
    except ValueError as refused:  # nothing can be called
        assert "must take" in str(refused)
        return
    assert not report.ok and not report.findings and report.verdict == "unproven", str(report)
    assert "no number was compared" in report.headline() and json.loads(report.json())["verdict"] == "unproven"
    assert int(ElementTree.fromstring(report.junit()).get("failures", 0)) == 1
    with pytest.raises(AssertionError, match="unproven"):
        report.assert_ok()


def test_what_was_not_tried_is_said():
    report = check(TakesNothing, "Softmax", dtypes=["float32"], beyond=False)
    assert sum(report.skipped.values()) > 20 and "not tried" in report.headline()
    assert "does not take dim" in " ".join(report.skipped), str(report)


def test_without_the_database_the_verdict_says_so(monkeypatch):
    monkeypatch.setattr("dlref.samples.opinfos", lambda name: [])
    monkeypatch.setattr("dlref.verify.oracle.checked.database", list)
    # What options meet in is made of the database's samples, and kept for the next check.
    monkeypatch.setattr("dlref.verify.oracle.calls.crossed_samples", lambda *_: [])
    report = check(F.softplus, "softplus", dtypes=["float32"], beyond=False)
    assert report.ok and "without PyTorch's database of samples" in report.headline()


@pytest.mark.parametrize("against", ["LinearLR", "CosineAnnealingLR", "OneCycleLR", "StepLR"])
def test_steps_are_not_taken_for_factors(against):
    with pytest.raises(ValueError, match=r"num_training_steps.* unknown|num_warmup_steps.* unknown"):
        check(lambda optimizer, num_warmup_steps, num_training_steps, last_epoch=-1: None, against)


def test_a_change_is_one_finding_and_hides_none():
    """Said once, and values and gradients are judged all the same."""
    candidate, _, _, options = SOUND["cross_entropy-into_its_logits"]
    right = check(candidate, "cross_entropy", **options)
    report = check(candidate, "cross_entropy", dtypes=["float32", "float64"], beyond=False)
    (finding,) = report.findings
    assert finding.kind == "input changed" and finding.times > 10 and report.values >= 2 * right.values > 60, str(
        report
    )
    wrong = check(lambda input, target: 1.37 * candidate(input, target), "cross_entropy", **options)
    kinds = {f.kind for f in wrong.findings}
    assert kinds == {"value", "gradient"} and "constant factor, 1.37" in str(wrong), str(wrong)
    with pytest.raises(ValueError, match="may_change"):
        check(F.relu, "relu", may_change=("inputs",))


def test_one_wrong_line_is_one_finding():
    """What is beyond the first derivative is held to the candidate's own answer, too."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, input):
            ctx.save_for_backward(input)
            return F.silu(input)

        @staticmethod
        def backward(ctx, dy):
            return 1.5 * dy * torch.sigmoid(ctx.saved_tensors[0])

    report = check(Wrong.apply, "silu", dtypes=["float32"], isolate=DEVICE.type == "cpu")
    assert {f.kind for f in report.findings} == {"gradient"}, str(report)
    assert report.beyond["torch.compile"] == report.beyond["autocast"] == "right"


def test_a_replaced_reference_is_held_and_left_as_it_was(monkeypatch):
    """Before the check, in a call, by torch.library: a finding each time, and the values are held to torch's own."""
    mine = lambda input, inplace=False: 2 * input  # noqa: E731
    monkeypatch.setattr(F, "silu", mine)
    report = check(lambda x: 2 * x, "silu", dtypes=["float32"], beyond=False)
    assert F.silu is mine and {"reference replaced", "value"} <= {f.kind for f in report.findings}, str(report)
    monkeypatch.undo()
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.impl("silu", lambda x: 2 * x, "CPU")
    try:
        report = check(lambda x: 2 * x, "silu", dtypes=["float32"], beyond=False)
    finally:
        library._destroy()
    assert "aten::silu" in {f.what for f in report.findings}, str(report)
    assert check(F.silu, "silu", dtypes=["float32"], beyond=False).ok


def test_the_surroundings_are_the_usual_ones():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            report = check(F.silu, "silu", dtypes=["float32"], beyond=False)
        assert report.ok and report.gradients and torch.get_default_dtype() == torch.float64, str(report)
    finally:
        torch.set_default_dtype(torch.float32)


def test_every_finding_has_a_word_and_large_numbers_are_explained():
    report = check(lambda input: F.silu(input.half()).to(input.dtype) * 1.01, "silu", dtypes=["float32"], beyond=False)
    assert report.findings and all(f.diagnosis for f in report.findings), str(report)
    large = [f for f in report.findings if f.ours > 1000]
    assert large and all(re.search(r"units \(.*the (true )?value", str(f)) for f in large if f.ours < 1e12), str(report)


@torch.library.custom_op("dlreftest::scaled", mutates_args=())
def scaled(x: torch.Tensor, negative_slope: float = 0.01) -> torch.Tensor:
    return torch.where(x > 0, x, x * negative_slope)


@scaled.register_fake
def _(x, negative_slope=0.01):
    return torch.empty_like(x)


scaled.register_autograd(
    lambda ctx, dy: (torch.where(ctx.x > 0, dy, dy * ctx.slope), None),
    setup_context=lambda ctx, inputs, output: keep(ctx, inputs),
)


def keep(ctx, inputs):
    ctx.x, ctx.slope = inputs


def test_a_custom_operator():
    report = check(scaled, "leaky_relu", dtypes=["float32"])
    assert report.beyond["opcheck"] == "right" and report.beyond["torch.compile"] == "right", str(report)
    # Forward mode drops the tangent of an operator that registers none: torch gives zeros without a word.
    assert {f.kind for f in report.findings} == {"jvp"}, str(report)


def test_other_names_and_fewer_options():
    """Arguments are found by other names; what is not taken is not tried, and said."""
    report = check(lambda x, w, b=None: F.linear(x, w, b), F.linear, dtypes=["float32"], beyond=False)
    assert report.ok and report.against == "linear"
    report = check(
        lambda logits, labels: F.cross_entropy(logits, labels), "cross_entropy", dtypes=["float32"], beyond=False
    )
    assert report.ok and any("does not take weight" in reason for reason in report.skipped), str(report)


def test_a_report_is_json_junit_and_an_assertion():
    report = check(lambda input: F.relu(input) * 1.5, "relu", dtypes=["float32"], beyond=False)
    content = json.loads(report.json())
    assert not content["ok"] and content["findings"][0]["diagnosis"].startswith("off by a constant factor, 1.5")
    suite = ElementTree.fromstring(report.junit())
    assert int(suite.get("failures", 0)) == len(report.findings) == len(suite.findall("testcase/failure"))
    with pytest.raises(AssertionError, match="constant factor"):
        report.assert_ok()
    replay = next(f for f in report.findings if f.kind == "gradient")
    again = check(lambda input: F.relu(input) * 1.5, "relu", dtypes=[replay.dtype], samples=[replay.sample])
    assert any(f.what == replay.what and f.ours == replay.ours for f in again.findings)


def test_rows_beyond_sixteen_bits():
    def sixteen(input):
        y = torch.relu(input)
        return torch.where((torch.arange(len(y)) < 65536).view(-1, *(1,) * (y.dim() - 1)), y, 0) if y.dim() else y

    assert check(sixteen, "relu", dtypes=["float32"], beyond=False).ok
    report = check(sixteen, "relu", dtypes=["float32"], beyond=False, rows=True)
    assert any("from index 65536 of dimension 0" in f.diagnosis for f in report.findings), str(report)


KERNELS = """
import os, sys
import torch
import torch.nn.functional as F
def right(input, dim=None, dtype=None): return F.softmax(input, dim, dtype=dtype)
def wrong(input, dim=None, dtype=None): return F.softmax(input, dim, dtype=dtype) * 1.01
def signature(a, b, c, d, e, f, g): return a
def raises(input, dim=None): raise RuntimeError("no kernel for this")
def none(input, dim=None): return None
def listed(input, dim=None): return [F.softmax(input, dim)]
def shape(input, dim=None): return F.softmax(input, dim)[None]
def prints(input, dim=None, dtype=None):
    print("hello")
    return F.softmax(input, dim, dtype=dtype)
def exits(input, dim=None): sys.exit(0)
def changes(input, dim=None, dtype=None):
    y = F.softmax(input, dim, dtype=dtype)
    input.data.zero_()
    return y
def few(input, dim=None): raise NotImplementedError("not on this machine")
def ends(input, dim=None): os._exit(0)
number = 3
"""


@pytest.mark.parametrize(("name", "status", "told"), [
    ("right", 0, "right ("), ("wrong", 1, "off by a constant factor, 1.01"), ("raises", 1, "RuntimeError: no kernel for this"),
    ("none", 1, "it must be a tensor, it is None"), ("listed", 1, "a list of 1"), ("shape", 1, "shape: the output; it must be"),
    ("prints", 0, "the candidate prints: 'hello'"), ("exits", 1, "exits the process: the call; SystemExit(0)"),
    ("ends", 1, "exits the process: the process; status 0"), ("changes", 1, "input changed: input; by the forward"),
    ("changes --may-change input", 0, "input is changed by the forward, as it may be"),
    ("few", 3, "unproven (0 values of 0 samples"),
])  # fmt: skip
def test_the_command(name, status, told, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kernels.py").write_text(KERNELS)
    name, *more = name.split()
    arguments = ["check", f"kernels.py:{name}", "--against", "softmax", "--dtype", "float32", "--no-beyond", *more]
    if status:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json", "found.json"])
        assert ended.value.code == status and bool(json.loads(Path("found.json").read_text())["findings"]) == (
            status == 1
        )
    else:
        main([*arguments, "--junit", "found.xml"])
        assert int(ElementTree.parse("found.xml").getroot().get("tests", 0)) > 10
    output = capfd.readouterr().out
    assert told in output and ("Traceback" not in output), output


@pytest.mark.parametrize(("arguments", "told"), [
    (("kernels.py:signature", "--against", "softmax"), "the candidate must take what softmax(input, dim=None"),
    (("kernels.py:right", "--against", "softmaxx"), "near it: softmax"),
    (("kernels.py:rigth", "--against", "softmax"), "near it: right"),
    (("nowhere:right", "--against", "softmax"), "No module named 'nowhere'"),
    (("broken.py:right", "--against", "softmax"), "SyntaxError"),
    (("nowhere.py:right", "--against", "softmax"), "must exist"),
    (("kernels.py", "--against", "softmax"), "MODULE:NAME"),
    (("kernels.py:number", "--against", "softmax"), "must be callable, it is int"),
    (("kernels.py:right", "--against", "softmax", "--dtype", "float31"), "float32"),
    (("kernels.py:right", "--against", "softmax", "--sample", "database-99"), "the sample must be"),
    (("kernels.py:right", "--against", "softmax", "--device", "cuda:7"), "device must be"),
    (("kernels.py:right", "--against", "softmax", "--json", "kernels.py"), "nothing is overwritten"),
    (("kernels.py:right",), "against"),
], ids=str)  # fmt: skip
def test_wrong_use(arguments, told, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kernels.py").write_text(KERNELS)
    Path("broken.py").write_text("def right(:")
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and told in errors and errors.count("\n") == 1, errors


INSTALLED = any(e.name == "dlref" for e in importlib.metadata.entry_points(group="pytest11"))
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    *([] if INSTALLED else ["-p", "dlref.verify.pytest_plugin"]),
]
PLUGIN = """
import pytest
import torch
import torch.nn.functional as F

@pytest.mark.dlref("softplus", dtypes=["float32"], xfail=["database-0 *"])
def test_kernel(dlref_check):
    dlref_check(lambda input, beta=1.0, threshold=20.0: F.softplus(input, beta, threshold) * FACTOR)

def test_whole(dlref_check):
    dlref_check(torch.relu, "relu", dtypes=["float32"], beyond=False)
"""


NOT_TRIED = """
import pytest
import torch
import torch.nn.functional as F

@pytest.mark.dlref("softplus")
def test_some(dlref_check):
    dlref_check(lambda input: F.softplus(input))

class Nothing(torch.nn.Module):
    def __init__(self, mine=1):
        super().__init__()

@pytest.mark.dlref("Threshold")
def test_none(dlref_check):
    dlref_check(Nothing)
"""


def written(tmp_path):
    """The kernels.py and test_kernels.py of docs/check.md."""
    page = (Path(__file__).parents[1] / "docs/check.md").read_text()
    blocks = re.findall(r"```python\n(.+?)```", page, flags=re.DOTALL)
    (tmp_path / "kernels.py").write_text(blocks[0])
    (tmp_path / "test_kernels.py").write_text(blocks[1])
    return blocks


def test_the_pytest_plug_in_and_the_page_as_pasted(tmp_path):
    """One test a sample; one that is expected to fail must fail, one that is not taken is skipped, of none the test fails."""
    written(tmp_path)
    (tmp_path / "test_wrong.py").write_text(PLUGIN.replace("FACTOR", "1.1"))
    (tmp_path / "test_right.py").write_text(PLUGIN.replace("FACTOR", "1.0"))
    (tmp_path / "test_some.py").write_text(NOT_TRIED)
    done = subprocess.run([*PYTEST, "--junit-xml=found.xml"], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    cases: dict[str, list] = {}
    for case in ElementTree.parse(tmp_path / "found.xml").iter("testcase"):
        found = next((part for part in case if part.tag in ("failure", "skipped", "error")), None)
        said = "" if found is None else f"{found.get('type')} {found.get('message')} {found.text}"
        outcome = "xfailed" if "pytest.xfail" in said else "passed" if found is None else found.tag
        cases.setdefault(case.get("classname", ""), []).append((outcome, said, case.get("name")))
    assert set(cases) == {"test_wrong", "test_right", "test_some", "test_kernels"}, done.stdout
    number = {name: Counter(outcome for outcome, _, _ in found) for name, found in cases.items()}
    text = {name: "\n".join(said for _, said, _ in found) for name, found in cases.items()}

    assert number["test_wrong"]["xfailed"] == 1, done.stdout
    assert "off by a constant factor, 1.1" in text["test_wrong"] and "samples=['hard-0']" in text["test_wrong"]
    assert number["test_right"] == {"failure": 1, "passed": len(sample_names("softplus", "float32"))}, done.stdout
    assert sum("XPASS(strict)" in said for _, said, _ in cases["test_right"]) == 1

    assert number["test_some"]["passed"] and number["test_some"]["skipped"], done.stdout
    failed = {name.partition("[")[0] for outcome, _, name in cases["test_some"] if outcome == "failure"}
    assert failed == {"test_none"} and "Threshold" in text["test_some"], done.stdout

    assert number["test_kernels"]["passed"] > 100 and not number["test_kernels"]["failure"], done.stdout
    assert torch.cuda.is_available() or number["test_kernels"]["skipped"], done.stdout


def test_the_pages_kernel_without_a_term(tmp_path, capfd, monkeypatch):
    blocks = written(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text(
        blocks[0].replace("rho * (g - x_hat * (g * x_hat).mean(ctx.dims, keepdim=True))", "rho * g")
    )
    with pytest.raises(SystemExit) as ended:
        main("check wrong.py:rms_norm --against rms_norm --dtype float32 --no-beyond".split())
    output = capfd.readouterr().out
    assert ended.value.code == 1 and "a term is missing or added that is proportional to argument input" in output, (
        output
    )


def test_the_report(tmp_path, capfd):
    main(["report", "linear", "softmax", "--dtype", "float32", "--epochs", "2", "--out", str(tmp_path)])
    page = (tmp_path / "index.html").read_text()
    assert page.count("<tbody") == 2 and "<math" in page and page.count("<svg") == 3 and "0</b>depart" in page
    assert not re.search(r"(src|href)=\"https?:", page), "the page must need no network"
    for arguments, told in (([], "nothing is overwritten"), (["--site", "nowhere"], "sphinx")):
        folder = tmp_path / "other" if arguments else tmp_path
        with pytest.raises(SystemExit) as ended:
            main(["report", "linear", "--out", str(folder), *arguments])
        assert ended.value.code == 2 and told in capfd.readouterr().err
    (tmp_path / "site/generated/pairs").mkdir(parents=True)
    linked = ["--out", str(tmp_path / "linked"), "--site", str(tmp_path / "site")]
    main(["report", "linear", "log_softmax", "--dtype", "float64", "float32", "--epochs", "0", *linked])
    page = (tmp_path / "linked/index.html").read_text()
    links = re.findall(r'<a href="(.*?)">', page)
    assert links == ["../site/generated/pairs/linear.html#linear", "../site/generated/pairs/softmax.html#log_softmax"]
    assert ">log_<wbr>softmax<" in page and page.count("<small>reference</small>") == 2 == len(
        re.findall(r"<small>\d", page)
    )
    assert "In float64 the built-in is itself" in page


def test_what_else_it_looks_like_is_told_by_an_example():
    report = Report("mine", "relu")
    for name, told in enumerate(
        ("NaN where x", "off by a constant factor, 1.5", "off by a constant factor, 2.5", "a sum")
    ):
        report.findings.append(Finding("value", "output", "", str(name), "float32", diagnosis=told))
    also = next(line for line in str(report).splitlines() if "also:" in line)
    assert also.strip() == "also: a sum (1 of 4); NaN where x (1 of 4)"
    report.findings[0].diagnosis = report.findings[-1].diagnosis = "a loss"
    report.findings.append(Finding("value", "output", "", "5", "float32", diagnosis="a loss"))
    assert "also: e.g. off by a constant factor, 1.5 (2 of 5)" in str(report)
