"""The mechanism: hooks, containers, in-place, frozen and shared parameters, and what is refused with a message."""

from __future__ import annotations

import subprocess
import sys

import harness
import pytest
import torch

import dlref
import dlref.manual.functional as F
from dlref.core.flat import flatten
from dlref.core.pair import op
from dlref.manual import nn


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 5), nn.LayerNorm(5), nn.Sigmoid(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()


def both(module, x, dy):
    """(output, input gradient, parameter gradients) under autograd, and by vjp."""
    results = []
    for explicit in (False, True):
        module.zero_grad()
        if explicit:
            output, pullback = module.vjp(x)
            (dx,) = pullback(dy)
        else:
            leaf = x.clone().requires_grad_()
            output = module(leaf)
            output.backward(dy)
            dx = leaf.grad
        results.append(
            [output.detach(), dx, *(None if p.grad is None else p.grad.clone() for p in module.parameters())]
        )
    return results


def assert_same(a, b):
    for p, q in zip(a, b, strict=True):
        assert (p is None) == (q is None)
        if p is not None:
            torch.testing.assert_close(p, q, rtol=0, atol=1e-13)


X = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
DY = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_a_layer_used_twice_gets_both_gradients():
    net = network()
    net.insert(4, net[3])
    assert_same(*both(net, X, DY))


def test_parameters_shared_between_layers():
    net = network()
    net[3].weight = net[3].weight
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).double()
    tied[2].weight = tied[0].weight
    assert_same(*both(tied, X, torch.randn(3, 4).double()))


def test_nested_containers_and_slices():
    net = network()
    nested = nn.Sequential(net[:3], nn.Sequential(), net[3:])
    assert isinstance(net[:3], nn.Sequential)
    assert isinstance(net[:3] + net[3:], nn.Sequential)
    assert isinstance(nn.Sequential(nn.ReLU()) * 2, nn.Sequential)
    assert_same(both(nested, X, DY)[1], both(net, X, DY)[1])


def test_lists_and_dicts_of_modules():
    layers = nn.ModuleList([nn.Linear(4, 4), nn.ReLU()])
    named = nn.ModuleDict({"a": layers[0]})
    assert named["a"].vjp(X.float())[0].shape == (3, 4)
    assert len(list(nn.ParameterList([torch.zeros(2)]))) == len(list(nn.ParameterDict({"p": torch.zeros(2)}))) == 1


@pytest.mark.parametrize("layers", [(0,), (0, 1, 3, 5), (5,), (3,)])
def test_frozen_parameters_cost_nothing_and_get_no_grad(layers):
    net = network()
    for i in layers:
        net[i].requires_grad_(False)
    a, b = both(net, X, DY)
    assert_same(a, b)
    ran = []
    for i, layer in enumerate(net):
        layer.register_full_backward_hook(lambda *_, i=i: ran.append(i))
    net.vjp(X)[1](DY, needs=(False,))
    learning = [i for i in (0, 1, 3, 5) if i not in layers]
    assert ran == ([] if not learning else list(range(5, learning[0] - 1, -1)))  # the chain ends where nothing learns


def test_gradients_accumulate_in_place():
    net = network()
    _, pullback = net.vjp(X)
    pullback(DY)
    held = net[0].weight.grad
    once = held.clone()
    pullback(DY)
    assert net[0].weight.grad is held
    assert torch.equal(held, 2 * once)


def test_the_gradient_is_not_an_alias_of_the_upstream_gradient():
    layer = nn.Linear(2, 2)
    dy = torch.ones(2)
    layer.vjp(torch.ones(2))[1](dy)
    layer.bias.grad.add_(1)
    assert torch.equal(dy, torch.ones(2))


def test_hooks_see_and_replace_what_they_do_in_a_call():
    net, seen = network(), []
    net[1].register_forward_hook(lambda m, i, o: o * 2 + i[0])  # its derivative runs through the input too
    net[2].register_forward_hook(lambda m, args, kwargs, o: seen.append(("forward", kwargs)), with_kwargs=True)
    net[0].register_forward_pre_hook(lambda m, i: (i[0] * 3,))
    net[5].register_full_backward_hook(lambda m, gi, go: seen.append(("backward", gi[0].clone(), go[0].clone())))
    net[3].register_full_backward_pre_hook(lambda m, go: (go[0] * 0.5,))
    net[4].register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    net[0].weight.register_hook(lambda g: g * 4)
    net[0].bias.register_post_accumulate_grad_hook(lambda p: seen.append(("accumulated", p.grad.clone())))
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        net.zero_grad()
        seen.clear()
        a, _ = both(net, X, DY)
        called = list(seen)
        net.zero_grad()
        seen.clear()
        with mode():
            output, pullback = net.vjp(X)
            (dx,) = pullback(DY)
        assert_same(a, [output, dx, *(p.grad for p in net.parameters())])
        assert [s[0] for s in seen] == [s[0] for s in called[: len(seen)]]
        for s, c in zip(seen, called, strict=False):
            assert_same(
                [v for v in s[1:] if isinstance(v, torch.Tensor)], [v for v in c[1:] if isinstance(v, torch.Tensor)]
            )


def test_global_hooks_run():
    names = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda m, i, o: names.append(type(m).__name__))
    try:
        network().vjp(X)
    finally:
        handle.remove()
    assert names == ["Linear", "LayerNorm", "Sigmoid", "Linear", "ReLU", "Linear", "Sequential"]


def test_forward_hooks_that_always_run():
    layer, seen = nn.Linear(4, 2), []
    layer.register_forward_hook(lambda *_: seen.append(1), always_call=True)
    with pytest.raises(RuntimeError):
        layer.vjp(torch.zeros(3, 5))
    assert seen == [1]


def test_no_graph_is_built():
    net = network()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        output, pullback = net.vjp(X.clone().requires_grad_())
        grads = pullback(DY)
    assert not saved
    assert not output.requires_grad
    assert not any(g.requires_grad for g in grads)
    assert all(p.grad.grad_fn is None for p in net.parameters())


def test_in_place_is_torchs():
    for function, theirs in ((F.relu, torch.nn.functional.relu),):
        for x in (X, X.t()):
            a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
            p, q = a * 1, b * 1
            assert function(p, inplace=True) is p
            theirs(q, inplace=True)
            assert torch.equal(p, q)
            assert torch.equal(*(torch.autograd.grad(o, i, torch.ones_like(o) * 3)[0] for o, i in ((p, a), (q, b))))
        p = X.clone()
        output, pullback = function.vjp(p, inplace=True)
        assert output is p
        assert torch.equal(pullback(torch.ones_like(p))[0], (X > 0).double())
        with pytest.raises(RuntimeError, match="leaf Variable"):
            function(X.clone().requires_grad_(), inplace=True)


def test_a_saved_tensor_changed_in_place_is_found_as_in_torch():
    x = X.clone().requires_grad_()
    y = F.relu(x)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.ones_like(y))


def test_least_memory():
    """The bridge keeps what the gradient reads: ReLU its output, sigmoid its input, and not both."""
    for function, of in ((F.sigmoid, "input"), (F.relu, "output")):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            y = function(x := X.clone().requires_grad_())
        assert [t.data_ptr() for t in kept] == [(x if of == "input" else y).data_ptr()]


def test_the_four_lines_of_a_step():
    net, criterion = network(), nn.CrossEntropyLoss(label_smoothing=0.1)
    y = torch.tensor([0, 2, 1])
    logits, network_pullback = net.vjp(X)
    error, error_pullback = criterion.vjp(logits, y)
    network_pullback(error_pullback()[0])
    by_hand = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    expected = torch.nn.functional.cross_entropy(net(X), y, label_smoothing=0.1)
    expected.backward()
    assert_same([error, *by_hand], [expected.detach(), *(p.grad for p in net.parameters())])


def test_keyword_arguments_in_the_order_of_the_call():
    w, b = torch.randn(5, 4).double(), torch.randn(5).double()
    output, pullback = F.linear.vjp(X, bias=b, weight=w)
    dx, db, dw = pullback(torch.ones_like(output))
    assert (dx.shape, db.shape, dw.shape) == (X.shape, b.shape, w.shape)


def test_messages():
    _, pullback = F.sigmoid.vjp(X)
    with pytest.raises(RuntimeError, match="single number"):
        pullback()
    with pytest.raises(ValueError, match="one bool for each of the 1 arguments"):
        pullback(DY, needs=(True, False))
    with pytest.raises(TypeError, match=r"has no vjp: build the network of dlref\.manual\.nn"):
        nn.Sequential(torch.nn.ReLU()).vjp(X)
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 2).double())
    with pytest.raises(RuntimeError, match="computed from other parameters"):
        layer.vjp(X)
    with pytest.raises(TypeError, match="must name arguments of its forward"):

        @op()
        def wrong(input):
            return input

        try:

            @wrong.gradient
            def _(dy, inputs):
                return dy

        finally:
            from dlref.core.pair import OPS

            del OPS["wrong"]


def test_pairs():
    found = dlref.pairs()
    assert found["layer_norm"].builtin is torch.nn.functional.layer_norm
    assert found["layer_norm"].manual_modules == (nn.LayerNorm,)
    assert found["layer_norm"].builtin_modules == (torch.nn.LayerNorm,)
    assert "$" in found["layer_norm"].equation and "$" in found["layer_norm"].gradient


def test_import_is_light():
    """import dlref loads torch, and none of the libraries that take seconds."""
    program = (
        "import sys, dlref; heavy = {'lightning', 'torchvision', 'sklearn', 'matplotlib', 'torchmetrics', 'scipy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("namespace", ["nn", "functional", "init", "optim"])
def test_builtin_is_torchs(namespace):
    """Where torch has a thing, dlref.builtin's is torch's, and every manual name exists on the other side."""
    theirs = {"nn": torch.nn, "functional": torch.nn.functional, "init": torch.nn.init, "optim": torch.optim}[namespace]
    ours, builtin = getattr(dlref.manual, namespace), getattr(dlref.builtin, namespace)
    for name in dir(ours):
        own = getattr(getattr(theirs, name, None), "__module__", "").startswith(theirs.__name__)
        if not name.startswith("_") and own:
            assert getattr(builtin, name) is getattr(theirs, name), name


@pytest.mark.parametrize("name", ["relu", "hardtanh", "leaky_relu", "gelu", "elu", "softmax", "layer_norm", "linear",
                                  "huber_loss", "scaled_dot_product_attention"])  # fmt: skip
def test_gradients_in_a_batch(name):
    """torch.autograd.grad(is_grads_batched=True), as of jacobian(vectorize=True): each upstream gradient by itself."""
    sample = next(s for s in harness.smooth_samples(name) if s.learning() and all(t.numel() for t in s.tensors()))
    output = harness.floating(harness.run(harness.operation(name), sample))
    dy = torch.randn(3, *output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(0))
    together = torch.autograd.grad(output, sample.learning(), dy, retain_graph=True, is_grads_batched=True)
    for i, d in enumerate(dy):
        alone = torch.autograd.grad(output, sample.learning(), d, retain_graph=True)
        for several, one in zip(together, alone, strict=True):
            torch.testing.assert_close(several[i], one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("flat", [False, True])
def test_a_parameter_that_is_two_arguments(flat):
    """It gets the sum of both gradients, wherever they are written."""
    layer = nn.LayerNorm(4).double()
    layer.bias = layer.weight
    if flat:
        flatten(layer)
    x, dy = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad(layer(x), layer.weight, dy)
    layer.vjp(x)[1](dy)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_wrong_needs_of_a_module():
    with pytest.raises(ValueError, match="needs must hold one bool"):
        nn.Linear(2, 3).vjp(torch.ones(1, 2))[1](torch.ones(1, 3), needs=(True, False))
