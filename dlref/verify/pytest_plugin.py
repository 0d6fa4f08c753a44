"""The pytest plug-in: one test for each sample on which a kernel is held to the reference.

    @pytest.mark.dlref("layer_norm", dtypes=["float32", "bfloat16"], xfail=["*/large bfloat16"])
    def test_layer_norm(dlref_check):
        dlref_check(my_layer_norm)

Each pattern of `xfail` is matched to "SAMPLE DTYPE"; a sample that passes in spite of it fails the test. Without the mark,
`dlref_check(candidate, "layer_norm")` is one test of all samples. Further arguments are those of `dlref.check`, `where=` too.
A sample that the candidate does not take is skipped; where it takes none, each of them fails.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "dlref(against, dtypes=, xfail=, **options): one test for each sample of a reference"
    )


TRIED: dict[str, bool] = {}  # of each test in which a sample was not tried, whether any other is


@functools.cache
def names(against: str, dtypes: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> list[tuple[str, str]]:
    """(sample, dtype) of every test."""
    from .check import sample_names

    return [(sample, dtype) for dtype in dtypes for sample in sample_names(against, dtype, **dict(options))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("dlref")
    if mark is None or "dlref_check" not in metafunc.fixturenames:
        return
    options = dict(mark.kwargs)
    dtypes, xfail = options.pop("dtypes", ["float32"]), options.pop("xfail", [])
    where = {k: v for k, v in options.items() if k in ("rows", "all", "backward", "where")}
    chosen = tuple(str(d).removeprefix("torch.") for d in ([dtypes] if isinstance(dtypes, str) else dtypes))
    params = []
    every = names(mark.args[0], chosen, tuple(where.items()))
    for sample, dtype in every:
        wrong = any(fnmatch.fnmatch(f"{sample} {dtype}", pattern) for pattern in xfail)
        marks = [pytest.mark.xfail(strict=True, raises=AssertionError)] if wrong else []
        params.append(pytest.param((mark.args[0], sample, dtype, options, every), id=f"{sample}-{dtype}", marks=marks))
    metafunc.parametrize("dlref_check", params, indirect=True)


@pytest.fixture
def dlref_check(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function that holds a candidate to the reference: the mark's on one sample, or the one that it is given."""
    from .check import check

    if getattr(request, "param", None) is None:

        def whole(candidate: Any, against: Any, **options: Any) -> Any:
            (report := check(candidate, against, **options)).assert_ok()
            return report

        return whole
    import torch  # here, so that pytest starts without it where nothing is held to a reference

    against, sample, dtype, options, every = request.param
    if str(options.get("device", "cpu")).startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("this machine has no GPU that torch can use")

    def one(candidate: Any) -> Any:
        report = check(candidate, against, dtypes=[dtype], samples=[sample], **options)
        if report.findings:
            report.assert_ok()
        if report.values:
            return report
        test = request.node.nodeid.partition("[")[0]
        if test not in TRIED:
            TRIED[test] = any(check(candidate, against, dtypes=[d], samples=[s], **options).values for s, d in every)
        reasons = "; ".join(report.skipped) or "nothing was compared"
        if not TRIED[test]:
            pytest.fail(f"no sample of {against} is tried: {reasons}")
        pytest.skip(reasons)

    return one
