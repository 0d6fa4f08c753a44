"""minimize_lbfgs and the search of Moré and Thuente against scipy's L-BFGS-B: the path, the end, what is not finite."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.optimize import _check_optimize_result

from dlref import data
from dlref.manual import nn
from dlref.manual.lbfgs import minimize_lbfgs
from dlref.manual.line_search import Point, more_thuente

STRICT = {"gtol": 1e-9, "ftol": 0.0}


def rosenbrock(x: np.ndarray):
    a, b = x[:-1], x[1:]
    g = np.zeros_like(x)
    g[:-1] = -400 * a * (b - a**2) - 2 * (1 - a)
    g[1:] += 200 * (b - a**2)
    return float(np.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)), g


def start(n: int) -> np.ndarray:
    return np.tile([-1.2, 1.0], n)[:n]


def beale(x: np.ndarray):
    (a, b), c = x, [1.5, 2.25, 2.625]
    r = [c[k] - a * (1 - b ** (k + 1)) for k in range(3)]
    return sum(v * v for v in r), np.array([
        sum(-2 * r[k] * (1 - b ** (k + 1)) for k in range(3)), sum(2 * r[k] * a * (k + 1) * b**k for k in range(3)),
    ])  # fmt: skip


def parabola(condition: float):
    c = np.logspace(0, math.log10(condition), 30)
    return lambda x: (float(0.5 * (c * x * x).sum()), c * x)


def network(*sizes: int, decay: float = 1e-4):
    """Cross entropy of a network of these sizes on the digits, by vjp, as a function of its parameters; and a start."""
    torch.manual_seed(0)
    x, y = data.digits(dtype=torch.float64).train.tensors
    layers = [layer for a, b in itertools.pairwise(sizes)
              for layer in (nn.Linear(a, b, dtype=torch.float64), nn.Tanh())]  # fmt: skip
    model, criterion = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    params = list(model.parameters())

    def function(vector: np.ndarray):
        w = torch.tensor(vector)
        model.zero_grad()
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(w, params)
            output, pullback = model.vjp(x)
            error, error_pullback = criterion.vjp(output, y)
            pullback(error_pullback()[0])
            g = torch.cat([p.grad.reshape(-1) for p in params])
        return float(error + 0.5 * decay * w.dot(w)), (g + decay * w).cpu().numpy()

    return function, torch.nn.utils.parameters_to_vector(params).detach().cpu().numpy().copy()


class Run:
    """A minimization: its result, the values after each iteration, the points evaluated."""

    def __init__(self, function, x0, by: str, **options):
        self.values: list[float] = []
        self.points: list[np.ndarray] = []
        self.function = function
        x0 = np.array(x0, dtype=np.float64)
        if by == "ours":
            self.result = minimize_lbfgs(self.ours, torch.tensor(x0), callback=self.note, **options)
        else:
            names = {"max_iter": "maxiter", "max_fun": "maxfun", "memory": "maxcor"}
            options = {names.get(k, k): v for k, v in options.items()}
            with np.errstate(all="ignore"):
                self.result = minimize(
                    self.scipys, x0, jac=True, method="L-BFGS-B", callback=self.note, options=options
                )

    def note(self, intermediate_result):
        self.values.append(float(intermediate_result.fun))

    def scipys(self, x):
        self.points.append(np.array(x))
        return self.function(self.points[-1])

    def ours(self, x):
        value, g = self.scipys(x.cpu().numpy())
        return value, torch.as_tensor(g)


def both(function, x0, **options):
    return Run(function, x0, "ours", **options), Run(function, x0, "scipy", **options)


def end(run: Run):
    return run.result.nit, run.result.nfev, run.result.status, run.result.message


PROBLEMS = {
    **{f"rosenbrock {n}": (lambda n=n: (rosenbrock, start(n)), {}, n <= 10) for n in (2, 3, 4, 5, 8, 10, 20, 50, 100)},
    "rosenbrock 10, strict": (lambda: (rosenbrock, start(10)), STRICT, True),
    "rosenbrock 6, one pair": (lambda: (rosenbrock, start(6)), {"memory": 1}, True),
    "rosenbrock 6, three pairs": (lambda: (rosenbrock, start(6)), {"memory": 3}, True),
    "beale": (lambda: (beale, np.array([1.0, 1.0])), {}, True),
    "beale from afar": (lambda: (beale, np.array([4.0, -3.0])), {}, True),
    "parabola": (lambda: (parabola(10), np.ones(30)), {}, True),
    "parabola, narrow": (lambda: (parabola(1e3), np.ones(30)), {}, False),
    "exponential": (lambda: (lambda x: (float(np.exp(x).sum()), np.exp(x)), np.array([50.0, 3.0])), {}, True),
    "kinks": (lambda: (lambda x: (float(abs(x).sum()), np.sign(x)), np.array([1.3, -0.7, 2.0])), {}, True),
    "flat at the minimum": (lambda: (lambda x: (float((x**4).sum()), 4 * x**3), np.array([1.3, -0.7])), STRICT, True),
    "logistic regression": (lambda: network(64, 10), {"gtol": 1e-4, "ftol": 64 * 2.0**-52}, True),
    "network": (lambda: network(64, 12, 10), {"gtol": 3e-3}, True),
    "network, to the end": (lambda: network(64, 12, 10), {"gtol": 1e-4}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_path_is_that_of_scipy(name):
    """The first evaluations are of the same points, and the end is the same where rounding does not grow too far before."""
    make, options, to_the_end = PROBLEMS[name]
    function, x0 = make()
    ours, theirs = both(function, x0, **options)
    tens = min(25, len(theirs.values))
    assert ours.values[:tens] == pytest.approx(theirs.values[:tens], rel=1e-8, abs=1e-20)
    for p, q in zip(ours.points[:15], theirs.points[:15], strict=False):
        assert p == pytest.approx(q, rel=1e-8, abs=1e-8)
    a, b = ours.result, theirs.result
    assert (a.status, a.message, a.success) == (b.status, b.message, True)
    if to_the_end:
        assert end(ours) == end(theirs)
        assert a.fun == pytest.approx(b.fun, rel=1e-6, abs=1e-10)
    else:
        assert a.nit == pytest.approx(b.nit, rel=0.1)
        assert a.fun == pytest.approx(b.fun, abs=1e-6)
    value, g = function(a.x.cpu().numpy())
    assert a.fun == value
    assert a.jac.cpu().numpy() == pytest.approx(g, abs=1e-14)
    assert (a.nit, a.nfev) == (len(ours.values), len(ours.points))


@pytest.mark.parametrize("slope", [math.nan, 0.0, 1.0, -1.0, 1e300])
@pytest.mark.parametrize("value", [math.inf, math.nan, -math.inf, 1e308])
def test_beyond_a_wall(value, slope):
    """Where the first step leaves the domain, ours ends as scipy's does, after evaluations of the same points."""

    def function(x):
        if not x[0] > 0:
            return value, np.array([slope])
        return float(x[0] - 1e-3 * np.log(x[0])), np.array([1 - 1e-3 / x[0]])

    ours, theirs = both(function, [0.5])
    assert end(ours) == end(theirs)
    assert np.concatenate(ours.points) == pytest.approx(np.concatenate(theirs.points), rel=1e-9, nan_ok=True)
    assert ours.result.x.cpu().numpy() == pytest.approx(theirs.result.x, rel=1e-9)
    # After an abnormal end scipy's fun is that of the last point tried; ours is that of x.
    assert ours.result.fun == function(ours.result.x.cpu().numpy())[0]


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0])
@pytest.mark.parametrize("slope", [math.nan, math.inf, -math.inf, 1e200])
def test_a_gradient_that_is_not_finite_ends_it(value, slope):
    ours, theirs = both(lambda x: (value, np.full(2, slope)), [0.5, 0.2])
    assert (ours.result.nit, *end(ours)[2:]) == (theirs.result.nit, *end(theirs)[2:]) == (0, 2, "ABNORMAL: ")
    assert ours.result.x.tolist() == [0.5, 0.2]
    assert ours.result.nfev == 1  # scipy evaluates twenty points that are not numbers


class Failing:
    """Rosenbrock's function, of which some evaluations in the midst of the way are no numbers."""

    def __init__(self, first: int, number: int):
        self.count, self.failing = 0, range(first, first + number)

    def __call__(self, x):
        value, g = rosenbrock(x)
        self.count += 1
        return (math.nan, np.full_like(g, math.nan)) if self.count in self.failing else (value, g)


@pytest.mark.parametrize(("first", "number"), [(6, 20), (13, 20), (6, 3), (13, 40)])
def test_a_search_that_fails_begins_again_down_the_gradient(first, number):
    """The pairs are forgotten; where that search fails too, the end is abnormal."""
    ours, theirs = (Run(Failing(first, number), start(4), by) for by in ("ours", "scipy"))
    assert end(ours) == end(theirs)
    assert ours.result.status == (2 if number == 40 else 0)
    assert ours.result.nfev > first + number - 1 or number == 40
    assert ours.values[:20] == pytest.approx(theirs.values[:20], rel=1e-8)
    assert ours.result.x.cpu().numpy() == pytest.approx(theirs.result.x, rel=1e-6)


def test_a_wrong_gradient_and_a_function_without_a_minimum():
    ours, theirs = both(lambda x: (float((x**2).sum()), -2 * x), [1.0, 2.0])
    assert end(ours) == end(theirs)
    ours, theirs = both(lambda x: (0.0, np.ones(2)), [0.5, 0.2])
    assert end(ours) == end(theirs) == (0, 21, 2, "ABNORMAL: ")
    ours, theirs = both(lambda x: (-float(x.sum()), -np.ones_like(x)), np.zeros(3), max_iter=50)
    assert end(ours) == end(theirs)
    assert ours.result.fun == pytest.approx(theirs.result.fun, rel=1e-12) and ours.result.fun < -1e11


LIMITS = [
    {"max_iter": 5},
    {"max_iter": 0},
    {"max_iter": 1},
    {"max_fun": 10},
    {"max_fun": 0},
    {"max_iter": 7, "max_fun": 7},
]


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_limits(limits):
    ours, theirs = both(rosenbrock, start(10), **limits)
    assert end(ours) == end(theirs)
    assert ours.result.status == 1
    for run in (ours, theirs):
        with pytest.warns(ConvergenceWarning, match=r"failed to converge after \d+ iteration.*\n?STOP: TOTAL NO"):
            assert _check_optimize_result("lbfgs", run.result, 7) == min(run.result.nit, 7)
    converged = minimize_lbfgs(lambda x: (x.dot(x), 2 * x), torch.ones(3))
    assert _check_optimize_result("lbfgs", converged, 100) == converged.nit  # without a warning


def test_limits_come_before_convergence():
    """The iteration that reaches the minimum is the last one allowed: scipy, and so this, says that it is the limit."""
    number = Run(rosenbrock, start(2), "scipy").result.nit
    ours, theirs = both(rosenbrock, start(2), max_iter=number)
    assert end(ours) == end(theirs)
    assert ours.result.status == 1


def test_at_the_minimum_and_halted():
    ours, theirs = both(rosenbrock, np.ones(4))
    assert end(ours) == end(theirs) == (0, 1, 0, "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL")

    def three(intermediate_result):
        if intermediate_result.fun < 4.05:
            raise StopIteration

    a = minimize_lbfgs(lambda x: (lambda v, g: (v, torch.as_tensor(g)))(*rosenbrock(x.cpu().numpy())),
                       torch.tensor(start(2)), callback=three)  # fmt: skip
    b = minimize(rosenbrock, start(2), jac=True, method="L-BFGS-B", callback=three)
    assert (a.nit, a.nfev, a.status, a.message) == (b.nit, b.nfev, 2, b.message)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dtypes(dtype):
    """The function sees x0's dtype and so does the result; x0 is not changed. Some steps are taken in the narrow ones too."""
    x0 = torch.tensor(start(6), dtype=dtype)
    seen = set()

    def function(x):
        seen.add((x.dtype, x.requires_grad))
        a, b = x[:-1].double(), x[1:].double()
        g = torch.zeros(6, dtype=torch.float64)
        g[:-1] = -2 * a * (b - a**2) - 2 * (1 - a)
        g[1:] += b - a**2
        return (0.5 * (b - a**2) ** 2 + (1 - a) ** 2).sum(), g.to(dtype)

    result = minimize_lbfgs(function, x0, gtol=1e-3)
    assert seen == {(dtype, False)}
    assert x0.tolist() == torch.tensor(start(6), dtype=dtype).tolist()
    assert result.x.dtype == result.jac.dtype == dtype
    assert result.fun < 1e-3
    assert (result.x - 1).abs().max() < 0.1


def test_by_autograd():
    def function(x):
        w = x.detach().requires_grad_()
        error = (torch.arange(1.0, 4.0, dtype=x.dtype) * (w - 1) ** 2).sum()
        return error.detach(), *torch.autograd.grad(error, w)

    x0 = torch.zeros(3, dtype=torch.float64)
    result = minimize_lbfgs(function, x0)
    assert result.success and (result.x - 1).abs().max() < 1e-5
    assert not x0.any()


def test_what_must_hold():
    for x0 in (
        torch.zeros(2, 2),
        torch.zeros(0),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(3, dtype=torch.complex64),
    ):
        with pytest.raises(ValueError, match="x0 must be a vector of floating dtype"):
            minimize_lbfgs(lambda x: (0.0, x), x0)
    with pytest.raises(ValueError, match="the gradient must have x's shape"):
        minimize_lbfgs(lambda x: (0.0, x[:1]), torch.ones(3))
    with pytest.raises(ValueError, match="memory must be at least 1"):
        minimize_lbfgs(lambda x: (0.0, x), torch.ones(3), memory=0)


# --- the search alone ---------------------------------------------------------------------------------------------

# Moré and Thuente's first three functions, with their slopes; phi(0) does not matter.
LINES = {
    "one minimum": lambda t: (-t / (t * t + 2), (t * t - 2) / (t * t + 2) ** 2),
    "a far one": lambda t: ((t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3),
    "many": lambda t: (
        (1 - t if t <= 0.99 else t - 1 if t >= 1.01 else 50 * (t - 1) ** 2 + 0.005)
        + 0.99 / 19.5 / math.pi * math.sin(19.5 * math.pi * t),
        (-1 if t <= 0.99 else 1 if t >= 1.01 else 100 * (t - 1)) + 0.99 * math.cos(19.5 * math.pi * t),
    ),
}  # fmt: skip


@pytest.mark.parametrize("first", [1e-3, 0.1, 10.0, 1e3])
@pytest.mark.parametrize("c", [(1e-3, 0.1), (0.1, 0.1), (1e-3, 1e-3)], ids=str)
@pytest.mark.parametrize("name", LINES)
def test_the_search_against_scipys(name, c, first):
    """Step for step the points that scipy's own translation of dcsrch visits, and the conditions at the last."""
    from scipy.optimize._dcsrch import DCSRCH

    ours: list[float] = []
    theirs: list[float] = []

    def phi(t):
        ours.append(t)
        return Point(t, *LINES[name](t))

    def value(t):
        theirs.append(float(t))
        return LINES[name](float(t))[0]

    zero = Point(0.0, *LINES[name](0.0))
    found, count = more_thuente(phi, zero, first, ftol=c[0], gtol=c[1], xtol=1e-10)
    search = DCSRCH(value, lambda t: LINES[name](float(t))[1], c[0], c[1], 1e-10, 0.0, 1e10)
    step, *_ = search(first, phi0=zero.value, derphi0=zero.slope, maxiter=100)
    assert found is not None and step is not None
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert (found.t, count) == (ours[-1], len(ours))
    assert found.value <= zero.value + c[0] * found.t * zero.slope
    assert abs(found.slope) <= c[1] * abs(zero.slope)


def wave(seed: int):
    """A falling line with waves: many minima, some of which lie above the line of sufficient decrease."""
    a, b, c = np.random.default_rng(seed).uniform([0.1, 1, 0], [2, 8, 6]).tolist()
    return lambda t: (
        -0.3 * t + 0.01 * t * t + a * (math.sin(b * t + c) - math.sin(c)) / b,
        -0.3 + 0.02 * t + a * math.cos(b * t + c),
    )


def test_the_search_among_waves():
    """As above, with constants that make sufficient decrease scarce; where scipy's finds nothing, ours finds nothing."""
    from scipy.optimize._dcsrch import DCSRCH

    ends = []
    for seed in range(300):
        line = wave(seed)
        zero = Point(0.0, *line(0.0))
        if zero.slope >= 0:
            continue
        first, ftol, gtol = [0.05, 0.5, 3.0, 20.0][seed % 4], [0.5, 0.1, 1e-3][seed % 3], [0.6, 0.1][seed % 2]
        theirs: list[float] = []

        def value(t, line=line, theirs=theirs):
            theirs.append(float(t))
            return line(float(t))[0]

        ours: list[float] = []

        def phi(t, line=line, ours=ours):
            ours.append(t)
            return Point(t, *line(t))

        found, _ = more_thuente(phi, zero, first, ftol=ftol, gtol=gtol, xtol=0.1, limit=30)
        search = DCSRCH(value, lambda t, line=line: line(float(t))[1], ftol, gtol, 0.1, 0.0, 1e10)
        *_, told = search(first, phi0=zero.value, derphi0=zero.slope, maxiter=31)
        assert ours == pytest.approx(theirs, rel=1e-6), seed
        assert (found is None) == (told[:4] == b"WARN" and b"max iterations" in told), (seed, told)
        ends.append(told[:12])
    assert {b"CONVERGENCE", b"WARNING: XTO"} <= set(ends)


def test_the_search_gives_up():
    rising = Point(0.0, 1.0, 1.0)
    assert more_thuente(lambda t: pytest.fail("it asks"), rising, 1.0) == (None, 0)
    point, count = more_thuente(lambda t: Point(t, 1 + t, -1.0), Point(0.0, 1.0, -1.0), 1.0, limit=3)
    assert (point, count) == (None, 3)
