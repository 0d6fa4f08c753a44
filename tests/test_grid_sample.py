"""grid_sample and affine_grid beyond the harness: ONNX's, torch.func, torch's second derivatives, a grid of no numbers."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from placed import DEVICE

from dlref.core import compat
from dlref.core.compat import TRICUBIC_GRID_SAMPLE
from dlref.manual import functional as M
from dlref.manual.nn.grid_sample import MODES, PADDINGS

NAN, INF = float("nan"), float("inf")
OPTIONS = list(itertools.product(MODES, PADDINGS, (False, True)))
NAMES_OF_ONNX = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


def drawn(*shape: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") * scale


def cases_of_onnx(module: str, operator: str, monkeypatch):
    """Attributes, inputs and outputs of ONNX's node tests of an operator."""
    space = pytest.importorskip(f"onnx.backend.test.case.node.{module}")
    found = []

    def expect(node, inputs, outputs, name, **_):
        found.append(({a.name: a for a in node.attribute}, inputs, outputs, name))

    monkeypatch.setattr(space, "expect", expect)
    for name, export in vars(getattr(space, operator)).items():
        if name.startswith("export"):
            export.__func__()
    return found


def test_grid_sample_of_onnx(monkeypatch):
    cases = cases_of_onnx("gridsample", "GridSample", monkeypatch)
    met = set()
    for attributes, inputs, (expected,), name in cases:
        said = {key: a.s.decode() for key, a in attributes.items() if a.s}
        mode, padding = NAMES_OF_ONNX[said.get("mode", "linear")], said.get("padding_mode", "zeros")
        align = bool(attributes["align_corners"].i) if "align_corners" in attributes else False
        x, grid = map(torch.tensor, inputs)
        y = M.grid_sample(x, grid, mode, padding, align)
        torch.testing.assert_close(
            y, torch.tensor(expected), rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )
        met |= {mode, padding, align, x.dim()}
    assert met >= {*MODES, *PADDINGS, False, True, 4, 5} and len(cases) >= 18


def test_affine_grid_of_onnx(monkeypatch):
    cases = cases_of_onnx("affinegrid", "AffineGrid", monkeypatch)
    met = set()
    for attributes, (theta, size), (expected,), _ in cases:
        align = bool(attributes["align_corners"].i) if "align_corners" in attributes else False
        grid = M.affine_grid(torch.tensor(theta), size.tolist(), align)
        torch.testing.assert_close(grid, torch.tensor(expected), rtol=1e-5, atol=1e-6)
        met |= {align, len(size)}
    assert met == {False, True, 4, 5}


def small(dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (3, 4, 2)[-dims:]
    return drawn(1, 2, *shape), drawn(1, *(1,) * (dims - 1), 2, dims, scale=0.8)


def slopes_of(y, x, dy):
    """The gradients, zeros where y does not depend on x: that of the grid is 0 of "nearest"."""
    if not y.requires_grad:
        return tuple(map(torch.zeros_like, x))
    return torch.autograd.grad(y, x, dy, retain_graph=True, materialize_grads=True)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("mode", "padding", "align"), OPTIONS)
def test_grid_sample_under_transforms(mode, padding, align, dims):
    """jvp, vmap of grad, Jacobian and Hessian are torch's, whose own second derivative is derived apart from its first."""
    if mode == "bicubic" and dims == 3 and not TRICUBIC_GRID_SAMPLE:
        pytest.skip(str(TRICUBIC_GRID_SAMPLE))
    x = small(dims)
    c = drawn(1, 2, *x[1].shape[1:-1])

    def energy(function):
        def value(input, grid):
            y = function(input, grid, mode, padding, align)
            return (c * y).sum() + y.square().sum()

        return value

    ours, theirs = energy(M.grid_sample), energy(F.grid_sample)
    tangents = tuple(map(torch.cos, x))
    slopes = torch.func.grad(theirs, (0, 1))(*x)
    torch.testing.assert_close(
        torch.func.jvp(ours, x, tangents)[1], sum((g * t).sum() for g, t in zip(slopes, tangents, strict=True))
    )
    many = tuple(torch.stack([t, t * 0.7]) for t in x)
    batched = torch.func.vmap(torch.func.grad(ours, (0, 1)))(*many)
    for i, both in enumerate(zip(*many, strict=True)):
        torch.testing.assert_close(tuple(b[i] for b in batched), torch.func.grad(theirs, (0, 1))(*both))
    learning = [t.clone().requires_grad_() for t in x]
    first = torch.autograd.grad(ours(*learning), learning, create_graph=True)
    their_first = torch.autograd.grad(theirs(*learning), learning, create_graph=True)
    torch.testing.assert_close(first, their_first)
    for mine, other in zip(first, their_first, strict=True):
        dy = torch.sin(3 * mine.detach() + 1)
        ours_second = slopes_of(mine, learning, dy)
        try:
            torch.testing.assert_close(ours_second, slopes_of(other, learning, dy))
        except RuntimeError as error:  # an older torch has no second derivative
            assert "is not implemented" in str(error) and compat.TORCH != compat.NEWEST
    hessian = torch.func.jacfwd(torch.func.jacrev(ours, (0, 1)), (0, 1))(*x)
    torch.testing.assert_close(hessian, torch.func.jacrev(torch.func.jacrev(ours, (0, 1)), (0, 1))(*x))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("mode", "padding", "align"), OPTIONS)
def test_a_grid_of_no_numbers(mode, padding, align, dims):
    """NaN is NaN, outside or -1, as the docstring says, infinity NaN or a border. torch, which may crash, is not asked."""
    x = small(dims)[0].to(DEVICE)
    places = torch.zeros(1, *(1,) * (dims - 1), 5, dims, dtype=torch.float64)
    places[..., 0] = torch.tensor([NAN, INF, -INF, 1e300, -1.0])
    learning = [x.clone().requires_grad_(), places.requires_grad_()]
    y = M.grid_sample(*learning, mode, padding, align)
    dx, dgrid = torch.autograd.grad(y.sum(), learning)
    assert dx.shape == x.shape and dgrid.shape == places.shape
    nan, positive, negative, _, first = y.detach().flatten(2).unbind(2)
    if mode == "bicubic" or (mode == "bilinear" and padding == "zeros"):
        assert nan.isnan().all() and positive.isnan().all() and negative.isnan().all()
        return
    assert dx.isfinite().all() and (dgrid[..., :4, 0] == 0).all()
    if padding == "zeros":
        assert (nan == 0).all() and (positive == 0).all() and (negative == 0).all()
    else:
        assert torch.equal(nan, first) and torch.equal(negative, first)
        last = M.grid_sample(x, torch.eye(1, dims, dtype=x.dtype).expand(1, *(1,) * dims, dims), mode, padding, align)
        assert torch.equal(positive, last.flatten(2)[..., 0] if padding == "border" else first)


def test_one_pixel_lies_in_the_middle():
    theta = drawn(2, 2, 3)
    with pytest.warns(UserWarning, match="put at 0"):
        grid = M.affine_grid(theta, (2, 1, 1, 1), True)
    torch.testing.assert_close(grid[:, 0, 0], theta[..., 2])
    for function in (M.affine_grid, F.affine_grid):
        with pytest.warns(UserWarning, match="align_corners"):
            function(theta, (2, 1, 3, 3))
    for function in (M.grid_sample, F.grid_sample):
        with pytest.warns(UserWarning, match="align_corners"):
            function(*small(2))
