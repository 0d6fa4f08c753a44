"""One thread a worker, small files of torchvision's data sets, and how many samples each kind of test compared."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers run side by side: threads of several would wait for each other

import gc
import hashlib
import pickle
import struct
from collections import Counter
from pathlib import Path

import pytest
import torch


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not go through a million objects of PyTorch's database."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def form(request):
    """No kernel runs where a test is given the name of an operation whose definition it is to try."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    if type(name).__name__ != "Alone":
        yield
        return
    from dlref.core.modes import definitions

    with definitions():
        yield


def pytest_terminal_summary(terminalreporter):
    counts: Counter = Counter()
    for report in terminalreporter.getreports("passed"):
        if report.when == "call":
            counts.update({f"{report.nodeid.split('::')[1].split('[')[0]}: {k}": v for k, v in report.user_properties})
    if counts:
        terminalreporter.section("compared")
        for what, number in sorted(counts.items()):
            terminalreporter.line(f"{number:7d}  {what.removeprefix('test_')}")


def idx(path: Path, values: torch.Tensor) -> None:
    """An IDX file as MNIST's are: magic number, sizes, bytes."""
    header = struct.pack(f">{1 + values.dim()}i", 0x0800 + values.dim(), *values.shape)
    path.write_bytes(header + values.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Small files of torchvision's data sets, in their own formats."""
    import torchvision

    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randint(0, 256, shape, generator=generator)  # noqa: E731
    for name in ("MNIST", "FashionMNIST"):
        (folder := tmp_path / name / "raw").mkdir(parents=True)
        for part, number in (("train", 200), ("t10k", 10)):
            idx(folder / f"{part}-images-idx3-ubyte", draw(number, 28, 28))
            idx(folder / f"{part}-labels-idx1-ubyte", torch.arange(number) % 10)
    (folder := tmp_path / "cifar-10-batches-py").mkdir()
    lists = {"train_list": [f"data_batch_{i}" for i in range(1, 6)], "test_list": ["test_batch"]}
    for attribute, names in lists.items():
        for name in names:
            content = {"data": draw(50, 3072).to(torch.uint8).numpy(), "labels": list(range(10)) * 5}
            (folder / name).write_bytes(pickle.dumps(content))
        sums = [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in names]
        monkeypatch.setattr(torchvision.datasets.CIFAR10, attribute, sums)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    meta = {"filename": "batches.meta", "key": "label_names",
            "md5": hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()}  # fmt: skip
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    return tmp_path
