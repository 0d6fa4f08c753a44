"""What users call, on the device of `pytest --device`: compare, check, convert, one graph, estimators."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest
import torch
from placed import DEVICE
from torch._dynamo.utils import counters

import dlref
from dlref import manual
from dlref.core import modes
from dlref.core.modes import finest
from dlref.samples import exactly, lifted, supported
from dlref.verify.oracle import care

NAME = str(DEVICE)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "conv2d"])
def test_compare_and_check(name):
    found = dlref.compare(name, NAME)
    assert found.ok, str(found)
    report = dlref.check(getattr(manual.functional, name), name, device=NAME, dtypes=["float32"], beyond=False)
    assert report.ok, str(report)


def test_a_planted_error_is_found():
    def silu(input, inplace=False):
        return input * torch.sigmoid(1.001 * input)

    assert dlref.check(silu, "silu", device=NAME, dtypes=["float32"], beyond=False).verdict == "wrong"


def start(ns) -> tuple:
    torch.manual_seed(0)
    model = ns.nn.Sequential(ns.nn.Linear(6, 8), ns.nn.Tanh(), ns.nn.Linear(8, 3)).to("cpu").to(DEVICE, finest(DEVICE))
    # torch's own counts its steps in float32 where it is capturable, and subtracts from 1 what it makes of them
    optimizer = ns.optim.Adam(model.parameters(), lr=0.01, capturable=ns is manual and DEVICE.type == "cuda")
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 6, generator=generator, device="cpu").to(DEVICE, finest(DEVICE))
    y = torch.randint(0, 3, (7,), generator=generator, device="cpu").to(DEVICE)
    return model, ns.nn.CrossEntropyLoss(), optimizer, x, y


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # torch's own, when it begins its pool of memory
@pytest.mark.parametrize("way", [{"backend": "eager"}, {"backend": "aot_eager"}, {"mode": "reduce-overhead"}], ids=str)
def test_one_graph(way):
    """Six steps as one graph; on CUDA captured as one of its own."""
    if "mode" in way and DEVICE.type != "cuda":
        pytest.skip("a CUDA graph is captured on CUDA")
    torch._dynamo.reset()
    counters["inductor"].clear()
    errors = []
    for ns in (manual, dlref.builtin):
        *made, x, y = start(ns)
        graph = dlref.compile_step(*made, **way) if ns is manual else functools.partial(ns.training.step, *made)
        # what a step returned stays as it was
        errors.append(torch.stack([graph(x, y).detach() for _ in range(6)]).cpu())
        assert ns is not manual or not graph.ordinary
    torch.testing.assert_close(*errors)
    assert not counters["inductor"]["cudagraph_skips"]


def test_convert():
    model, _, _, x, _ = start(dlref.builtin)
    torch.testing.assert_close(dlref.convert(model, "manual")(x), model(x))


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_estimators():
    pytest.importorskip("sklearn")
    from dlref.estimators import MLPClassifier

    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), device="cpu").numpy()
    y = (x[:, 0] > 0).astype(int)
    losses = [
        MLPClassifier((5,), random_state=0, max_iter=5, n_iter_no_change=9, backend=backend, device=NAME, solver="lbfgs")
        .fit(x, y).loss_
        for backend in ("manual", "builtin")
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# --- a device that is not there, one without float64, its allocator ---------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize("name", ["cuda", "cuda:1", "nothing"])
def test_a_device_that_is_not_there_is_one_line(name):
    done = subprocess.run([sys.executable, "-m", "pytest", "-n", "0", "--device", name, "-k", "nothing"], capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert done.returncode != 0
    assert re.match(f"ERROR: device must be one that this machine has, as cpu or auto; it is '{name}': .", line)


def test_without_float64(monkeypatch):
    """The truth is computed on the CPU, as everywhere, and no sample is of float64."""
    assert {torch.float64, torch.complex128} & supported("linear", backward=True, device="cpu")
    t = torch.ones(3, dtype=torch.float32, device="meta", requires_grad=True)
    moved = []
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda t: moved.append(t) or torch.zeros(t.shape, dtype=t.dtype, device="cpu")
    )
    monkeypatch.setattr(modes, "WITHOUT_FLOAT64", {"cpu", "meta"})
    assert not {torch.float64, torch.complex128} & supported("linear", backward=True, device="cpu")
    assert exactly(t).device.type == "cpu" and exactly(t).dtype == torch.float64 and moved
    assert lifted(t).device.type == "cpu" and lifted(t).requires_grad
    assert lifted(torch.ones(2, dtype=torch.long, device="meta")).device.type == "cpu"
    assert finest(torch.device("meta")) == torch.float32 and finest(torch.device("cuda")) == torch.float64


def test_free_memory_is_poisoned(monkeypatch):
    """Of what the allocator keeps, the free blocks of this device, this stream and the common pool, the largest first."""
    stream = type("Stream", (), {"device_index": 0, "cuda_stream": 5})()
    block = lambda size, state="inactive": {"size": size, "state": state}  # noqa: E731
    small = {"device": 0, "stream": 5, "segment_pool_id": (0, 0), "segment_type": "small"}
    segments = [
        {**small, "blocks": [block(512), block(9, "active"), block(2048)]},
        {
            **small,
            "segment_type": "large",
            "blocks": [block(4096), block(3 << 20)],
        },  # asked for 4096, it answers elsewhere
        {**small, "stream": 6, "blocks": [block(1)]},
        {**small, "device": 1, "blocks": [block(2)]},
        {**small, "segment_pool_id": (0, 7), "blocks": [block(3)]},
    ]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    filled, empty = [], torch.empty

    def allocated(size, dtype, device):
        filled.append(made := empty(size, dtype=dtype, device="cpu"))
        assert device == torch.device("cuda")
        return made

    monkeypatch.setattr(torch, "empty", allocated)
    care.poison("cuda")
    assert [len(t) for t in filled[len(care.SEGMENTS) :]] == [3 << 20, 2048, 512]
    assert all(t.view(dtype).isnan().all() for t in filled[-3:] for dtype in (torch.float32, torch.bfloat16))
    care.poison("cpu")
    assert len(filled) == len(care.SEGMENTS) + 3


# --- torch's default device is not asked for what has a place of its own ----------------------------------------------


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge", "ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("backend", ["manual", "builtin"])
@pytest.mark.parametrize("name, options", [
    ("MLPClassifier", {"solver": "adam"}), ("MLPClassifier", {"solver": "lbfgs"}), ("MLPRegressor", {"solver": "sgd"}),
    ("RBFNetworkClassifier", {"centers": "kmeans"}), ("RBFNetworkRegressor", {"solver": "lbfgs"}), ("Perceptron", {}),
    ("AutoencoderTransformer", {}),
])  # fmt: skip
def test_estimators_have_a_device_of_their_own(name, options, backend):
    pytest.importorskip("sklearn")
    from dlref import estimators

    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), device="cpu").numpy()
    y = (x[:, 0] > 0).astype(float if name.endswith("Regressor") else int)
    found = []
    for default in ("cpu", "meta"):
        with torch.device(default):
            options = options | {"max_iter": 2, "random_state": 0, "device": "cpu", "backend": backend}
            model = getattr(estimators, name)(**options).fit(x, y)
            found.append((model.transform if name == "AutoencoderTransformer" else model.predict)(x))
            if name != "AutoencoderTransformer":
                assert {str(p.device) for p in model.export_torch().parameters()} <= {"cpu"}
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("name", ["digits", "moons", "noisy_line"])
def test_data_are_made_on_the_cpu(name):
    with torch.device("meta"):
        split = getattr(dlref.data, name)()
    assert {t.device.type for part in (split.train, split.test) for t in (*part.tensors, split.mean)} == {"cpu"}


def test_optimizers_are_checked_on_the_device():
    """And what is wrong on it alone is found."""
    if DEVICE.type == "cpu":
        pytest.skip("it is where they are checked without a device")
    seen = set()

    class Watched(manual.optim.SGD):
        def step(self, closure=None):
            seen.update(p.device.type for group in self.param_groups for p in group["params"])
            return super().step(closure)

    assert dlref.check(Watched, "SGD", device=NAME).ok and seen == {DEVICE.type}
