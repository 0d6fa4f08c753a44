"""Weights that are computed from others: torch.nn.utils' parametrizations and older hooks, by hand against torch's."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch.nn.utils import parametrize, prune

import dlref
from dlref.manual import nn, training

LAYERS = {
    "linear": (lambda ns: ns.Linear(4, 3), (5, 4)),
    "wide": (lambda ns: ns.Linear(3, 4), (5, 3)),
    "square": (lambda ns: ns.Linear(4, 4), (5, 4)),
    "conv": (lambda ns: ns.Conv2d(2, 3, 3, bias=False), (2, 2, 5, 5)),
    "transposed": (lambda ns: ns.ConvTranspose1d(2, 3, 3), (2, 2, 5)),
    "lstm": (lambda ns: ns.LSTM(4, 3, batch_first=True), (2, 5, 4)),
}
NAMES = {"lstm": "weight_hh_l0"}
WAYS = {
    "weight_norm": lambda u, m, n: u.parametrizations.weight_norm(m, n),
    "weight_norm-None": lambda u, m, n: u.parametrizations.weight_norm(m, n, None),
    "weight_norm-1": lambda u, m, n: u.parametrizations.weight_norm(m, n, 1),
    "spectral_norm": lambda u, m, n: u.parametrizations.spectral_norm(m, n),
    "spectral_norm-2": lambda u, m, n: u.parametrizations.spectral_norm(m, n, 2, dim=1),
    "orthogonal": lambda u, m, n: u.parametrizations.orthogonal(m, n),
    "orthogonal-cayley": lambda u, m, n: u.parametrizations.orthogonal(m, n, "cayley"),
    "orthogonal-exp": lambda u, m, n: u.parametrizations.orthogonal(m, n, "matrix_exp", use_trivialization=False),
    "orthogonal-reflections": lambda u, m, n: u.parametrizations.orthogonal(
        m, n, "householder", use_trivialization=False
    ),
    "old weight_norm": lambda u, m, n: u.weight_norm(m, n),
    "old weight_norm-None": lambda u, m, n: u.weight_norm(m, n, None),
    "old spectral_norm": lambda u, m, n: u.spectral_norm(m, n),
    "old spectral_norm-2": lambda u, m, n: u.spectral_norm(m, n, 2, dim=1),
}
CASES = [(way, layer) for way in WAYS for layer in LAYERS]


def made(ns, way, layer):
    """The layer in float64, its weight computed; the same in both namespaces."""
    build, shape = LAYERS[layer]
    torch.manual_seed(0)
    module = build(ns).double()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.nn.utils.weight_norm` is deprecated", category=FutureWarning)
        module = WAYS[way](ns.utils, module, NAMES.get(layer, "weight"))
    return module, torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def first(output):
    return output[0] if isinstance(output, tuple) else output


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, check_device=False)


def same_gradients(a, b):
    for (name, p), (other, q) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert name == other and (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            close(p.grad, q.grad)


@pytest.mark.parametrize("way, layer", CASES, ids=[f"{w}-{m}" for w, m in CASES])
def test_against_torch(way, layer):
    """Keys, outputs, gradients by vjp and by autograd, and the state that power iteration leaves, over three steps.

    torch's side computes on the CPU: on CUDA its weight_norm takes float32's roots, and its LSTM has no gradient in evaluation.
    """
    theirs, x = made(torch.nn, way, layer)
    theirs.cpu()
    by_vjp, _ = made(nn, way, layer)
    bridged, _ = made(nn, way, layer)
    assert list(theirs.state_dict()) == list(by_vjp.state_dict())
    for step in range(3):
        for module in (theirs, by_vjp, bridged):
            module.train(step < 2)
            module.zero_grad()
        if layer == "lstm" and "spectral" in way:  # torch computes an LSTM's weights more than once a forward
            theirs.load_state_dict(by_vjp.state_dict())
            for module in (theirs, by_vjp, bridged):
                module.eval()
        expected = first(theirs(x.cpu()))
        dy = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        expected.backward(dy.cpu())
        output, pullback = by_vjp.vjp(x)
        pullback((dy, None) if layer == "lstm" else dy)
        close(first(output), expected)
        same_gradients(by_vjp, theirs)
        output = first(bridged(x))
        output.backward(dy)
        close(output, expected)
        same_gradients(bridged, theirs)
        for module in (theirs, by_vjp, bridged):
            with torch.no_grad():
                for p in module.parameters():
                    p -= 0.1 * p.grad
    close(dict(by_vjp.state_dict()), dict(theirs.state_dict()))
    theirs.load_state_dict(by_vjp.state_dict())


@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "orthogonal"])
def test_complex(way):
    """Of complex weights too, under autograd."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, dtype=torch.complex128, generator=generator).requires_grad_()  # noqa: E731
    args = {"weight_norm": lambda: (draw(3, 1), draw(3, 4)), "spectral_norm": lambda: (draw(3, 4), draw(3), draw(4)),
            "orthogonal": lambda: (draw(4, 3),)}[way]()  # fmt: skip
    manual, builtin = getattr(dlref.manual.functional, way), getattr(dlref.builtin.functional, way)
    for more in ({"orthogonal_map": "cayley"}, {"orthogonal_map": "matrix_exp"}) if way == "orthogonal" else ({},):
        ours, theirs = manual(*args, **more), builtin(*args, **more)
        close(ours, theirs)
        dy = torch.randn(ours.shape, dtype=torch.complex128, generator=generator)
        close(torch.autograd.grad(ours, args, dy), torch.autograd.grad(theirs, args, dy))
        assert torch.autograd.gradgradcheck(lambda *a, more=more: manual(*a, **more), args)


def network(ns):
    torch.manual_seed(0)
    u = ns.utils.parametrizations
    return ns.Sequential(
        u.weight_norm(ns.Linear(4, 6)), ns.Tanh(), u.spectral_norm(ns.Linear(6, 6)), ns.Tanh(), u.orthogonal(ns.Linear(6, 6)),
        ns.Tanh(), u.weight_norm(ns.Linear(6, 3)),
    ).double()  # fmt: skip


def test_fit():
    """training.fit by hand gives the losses and the parameters of autograd's."""
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(12, 4, dtype=torch.float64, generator=generator), torch.randint(3, (12,), generator=generator)
    losses = []
    for side in (dlref.manual, dlref.builtin):
        model = network(side.nn)
        if side is dlref.builtin:  # on CUDA its weight_norm takes float32's roots
            model, x, y = model.cpu(), x.cpu(), y.cpu()
        optimizer = side.optim.Adam(model.parameters(), lr=0.01)
        errors = [
            float(side.training.step(model, side.nn.CrossEntropyLoss(), optimizer, x, y).detach()) for _ in range(5)
        ]
        losses.append((errors, model.state_dict()))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-12)
    close(dict(losses[0][1]), dict(losses[1][1]))
    assert training.step is dlref.manual.training.step


def test_per_sample():
    model, x = made(nn, "weight_norm", "linear")
    output, pullback = model.vjp(x, per_sample=True)
    dy = torch.randn_like(output)
    pullback(dy)
    total = [p.grad_sample.sum(0) for p in model.parameters()]
    model.vjp(x)[1](dy)
    close(total, [p.grad for p in model.parameters()])


def test_frozen_and_first():
    """Who is frozen gets no gradient, and who asks for none of the input gets none."""
    model, x = made(nn, "weight_norm", "linear")
    model.parametrizations.weight.original0.requires_grad_(False)
    output, pullback = model.vjp(x)
    assert pullback(torch.ones_like(output), needs=(False,)) == (None,)
    assert (
        model.parametrizations.weight.original0.grad is None
        and model.parametrizations.weight.original1.grad is not None
    )


@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "orthogonal", "old weight_norm", "old spectral_norm"])
def test_kept(way):
    """Copied, pickled, saved and removed as torch's."""
    model, x = made(nn, way, "linear")
    model.eval()
    with torch.no_grad():  # what the older forms leave behind has no graph then, and can be copied
        expected = model(x)
    close(copy.deepcopy(model)(x), expected)
    if way.startswith("old"):
        close(pickle.loads(pickle.dumps(model))(x), expected)
        getattr(nn.utils, f"remove_{way[4:]}")(model)
    else:
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        other, _ = made(nn, way, "linear")
        other.eval().load_state_dict(torch.load(file))
        close(other(x), expected)
        parametrize.remove_parametrizations(model, "weight")
        assert type(model) is nn.Linear
    close(model(x), expected)
    assert sorted(model.state_dict()) == ["bias", "weight"]


def test_the_older_form_loads_into_the_newer():
    old, x = made(nn, "old weight_norm", "linear")
    new, _ = made(nn, "weight_norm", "linear")
    new.load_state_dict(old.state_dict())
    close(new(x), old(x))


def test_hooks_of_users():
    """They see the layer itself, once; the computed weight's own hook does not run a second time."""
    model, x = made(nn, "old spectral_norm", "linear")
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(module is model))
    before = model.weight_u.clone()
    output, pullback = model.vjp(x)
    once = model.weight_u.clone()
    twin, _ = made(torch.nn, "old spectral_norm", "linear")
    twin(x)
    assert seen == [True] and not torch.equal(before, once)
    close(once, twin.weight_u)
    pullback(torch.ones_like(output))
    assert model.weight_orig.grad is not None


def output_and_gradients(layer, x, by_hand: bool) -> list:
    """Of a layer: by vjp, or under autograd."""
    if by_hand:
        output, pullback = layer.vjp(x)
        pullback(torch.cos(output))
    else:
        output = layer(x)
        output.backward(torch.cos(output.detach()))
    return [output, *(p.grad for p in layer.parameters())]


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_parametrizations_of_users():
    """A manual module is one; what has no vjp is refused in one line."""
    x = torch.randn(5, 4, dtype=torch.float64)
    grads = []
    for ns in (nn, torch.nn):
        torch.manual_seed(0)
        layer = ns.Linear(4, 3).double()
        parametrize.register_parametrization(layer, "weight", ns.Tanh())
        parametrize.register_parametrization(layer, "weight", ns.Sequential(ns.Sigmoid(), ns.Softplus()))
        grads.append(output_and_gradients(layer, x, ns is nn))
    close(*grads)
    layer = nn.Linear(4, 3).double()
    parametrize.register_parametrization(layer, "weight", Doubled())
    with pytest.raises(RuntimeError, match=r"^weight of ParametrizedLinear is computed from other parameters by .*Doubled, "
                                           r"which has no vjp: .* train under autograd$"):  # fmt: skip
        layer.vjp(x)


HOLDERS = {
    "loss": (lambda: nn.LinearCrossEntropyLoss(3, 4), "linear", lambda x: (x, torch.tensor([0, 3, 1, 2, 1]))),
    "clusters": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(3, 9, [2, 4], 1.5), "tail.0.1", lambda x: (x, torch.tensor([8, 1, 3, 2, 0]))
    ),
    "attention": (lambda: nn.MultiheadAttention(3, 1), "out_proj", lambda x: (x, x, x)),
}  # fmt: skip


@pytest.mark.parametrize("way", ["weight_norm", "old weight_norm"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_weights_of_layers_that_a_module_reads(holder, way):
    """Of layers that are not called, but whose weights are read, the computed ones get their gradients too."""
    make, layer, arguments = HOLDERS[holder]
    found = []
    for by_hand in (True, False):
        torch.manual_seed(0)
        model = make().double()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.nn.utils.weight_norm`", category=FutureWarning)
            WAYS[way](nn.utils, model.get_submodule(layer), "weight")
        given = arguments(torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
        result, pullback = model.vjp(*given) if by_hand else (model(*given), None)
        results = result if isinstance(result, tuple) else (result,)
        dys = tuple(torch.cos(o.detach()) for o in results)
        if pullback is None:
            torch.autograd.backward(results, dys)
        else:
            pullback(dys if isinstance(result, tuple) else dys[0])
        found.append([p.grad for p in model.parameters()])
        assert all(g is not None for g in found[-1])
    close(*found)


def test_converted():
    """torch's own parametrizations are refused, and by hand once the model is converted."""
    model, x = made(torch.nn, "weight_norm", "linear")
    model, x = model.cpu(), x.cpu()  # on CUDA torch's takes float32's roots
    expected = model(x)
    expected.backward(torch.ones_like(expected))
    wanted = [p.grad for p in model.parameters()]
    dlref.convert(model, strict=True)
    model.zero_grad()
    output, pullback = model.vjp(x)
    pullback(torch.ones_like(output))
    close([output, *(p.grad for p in model.parameters())], [expected, *wanted])
    dlref.convert(model, "builtin")
    assert type(model.parametrizations.weight[0]) is torch.nn.utils.parametrizations._WeightNorm


def test_pruned():
    """Pruning, whose mask is a constant, by vjp."""
    grads, x = [], torch.randn(5, 4, dtype=torch.float64)
    for ns in (nn, torch.nn):
        torch.manual_seed(0)
        layer = prune.l1_unstructured(ns.Linear(4, 3).double(), "weight", 0.5)
        grads.append(output_and_gradients(layer, x, ns is nn))
    close(*grads)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradients_of_convolutions(n):
    """torch.nn.grad by hand: strides, paddings, dilations, groups; and what does not fit."""
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(2, 4, *(7,) * n, dtype=torch.float64, generator=generator)
    w = torch.randn(6, 2, *(3,) * n, dtype=torch.float64, generator=generator)
    for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 0, 2)):
        options = stride, padding, dilation, 2
        y = getattr(torch.nn.functional, f"conv{n}d")(x, w, None, *options)
        dy = torch.randn(y.shape, dtype=torch.float64, generator=generator)
        for what, args in (("input", (x.shape, w, dy)), ("weight", (x, w.shape, dy))):
            ours, theirs = (getattr(space, f"conv{n}d_{what}")(*args, *options) for space in (nn.grad, torch.nn.grad))
            close(ours, theirs)
        with pytest.raises(RuntimeError, match="grad_output must have the shape of the convolution's output"):
            getattr(nn.grad, f"conv{n}d_input")(x.shape, w, dy[..., :-1], *options)
