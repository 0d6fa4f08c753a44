"""Recurrent layers against torch's: every combination of options, unequal lengths, each output's gradient alone."""

from __future__ import annotations

import contextlib
import itertools
import pickle

import pytest
import torch
from harness import error
from placed import DEVICE
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils._pytree import tree_flatten, tree_map

import dlref
from dlref.core.modes import definitions
from dlref.manual import nn as manual
from dlref.manual.nn import rnn, rnn_cell
from dlref.manual.nn.rnn import gru_layer, lstm_layer, rnn_layer

LAYERS = (("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("LSTM", {"proj_size": 2}), ("GRU", {}))


def made(kind: str, options: dict, training: bool = True):
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(3, 4, dtype=torch.float64, **options).train(training)
    ours = getattr(manual, kind)(3, 4, dtype=torch.float64, **options).train(training)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tensors(tree) -> list:
    return [t for t in tree_flatten(tree)[0] if isinstance(t, torch.Tensor) and t.is_floating_point()]


def same(ours, theirs, what) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None), what
        assert a is None or error(a, b) <= 1e-12, (what, error(a, b))


def flat(value) -> list:
    """The tensors of an output or a gradient; a packed sequence is its data."""
    if isinstance(value, PackedSequence):
        return [value.data]
    return [t for v in value for t in flat(v)] if isinstance(value, (tuple, list)) else [value]


def compare(theirs, ours, inputs) -> None:
    """Outputs and all gradients, under autograd and by vjp, with all upstream gradients and with each alone."""
    leaves = [t for t in flat(inputs) if t is not None]
    for t in leaves:
        t.requires_grad_()
    expected, output = theirs(*inputs), ours(*inputs)
    same(flat(output), flat(expected), "output")
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in flat(expected)]
    for only in (None, *range(len(draws))):
        chosen = [i for i in range(len(draws)) if only in (None, i)]
        grads = []
        for module, result in ((theirs, expected), (ours, output)):
            values = [*leaves, *module.parameters()]
            grads.append(torch.autograd.grad([flat(result)[i] for i in chosen], values, [draws[i] for i in chosen],
                                             retain_graph=True, allow_unused=True))  # fmt: skip
        same([torch.zeros_like(b) if a is None else a for a, b in zip(grads[1], [*leaves, *ours.parameters()], strict=True)],
             [torch.zeros_like(b) if a is None else a for a, b in zip(grads[0], [*leaves, *ours.parameters()], strict=True)],
             ("autograd", only))  # fmt: skip
        for p in ours.parameters():
            p.grad = None
        explicit, pull = ours.vjp(*inputs)
        same(flat(explicit), flat(expected), "vjp output")
        assert not any(t.requires_grad for t in flat(explicit)), "vjp builds no graph"
        given = [draws[i] if i in chosen else None for i in range(len(draws))]
        if isinstance(expected, tuple) and len(given) > 1:
            head, *rest = given
            if isinstance(expected[0], torch.Tensor) and expected[0].dim() == 2 and "Cell" in type(ours).__name__:
                dy = tuple(given)
            else:
                dy = (head, tuple(rest) if len(rest) > 1 else rest[0])
        else:
            dy = given[0]
        by_hand = flat(pull(dy))
        found = [*by_hand, *(p.grad for p in ours.parameters())]
        zeros = [torch.zeros_like(t) for t in (*leaves, *ours.parameters())]
        same([z if f is None else f for f, z in zip(found, zeros, strict=True)],
             [z if g is None else g for g, z in zip(grads[0], zeros, strict=True)], ("vjp", only))  # fmt: skip


def states(kind: str, options: dict, n: int | None):
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    sizes = [options.get("proj_size") or 4] + ([4] if kind == "LSTM" else [])
    shapes = [(layers, *(() if n is None else (n,)), size) for size in sizes]
    made = tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return made if kind == "LSTM" else made[0]


@pytest.mark.parametrize("layers,bidirectional,batch_first,bias",
                         list(itertools.product((1, 2), (False, True), (False, True), (True, False))))  # fmt: skip
@pytest.mark.parametrize("kind,more", LAYERS, ids=lambda v: str(v))
def test_options(kind, more, layers, bidirectional, batch_first, bias):
    options = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": batch_first, "bias": bias, **more}
    theirs, ours = made(kind, options)
    assert repr(theirs) == repr(ours)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    n = 5 if batch_first else 2
    compare(theirs, ours, (x,))
    compare(theirs, ours, (x, states(kind, options, n)))
    compare(theirs, ours, (x[0], states(kind, options, None)))
    with definitions():  # without the kernels
        compare(theirs, ours, (x, states(kind, options, n)))
    sequences = [torch.randn(length, 3, dtype=torch.float64) for length in (2, 4, 1, 4)]
    for enforce in (True, False):
        parts = sorted(sequences, key=len, reverse=True) if enforce else sequences
        packed = pack_sequence(parts, enforce_sorted=enforce)
        packed = PackedSequence(packed.data.detach(), *packed[1:])
        with definitions() if enforce else contextlib.nullcontext():
            compare(theirs, ours, (packed, states(kind, options, 4)))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dropout_between_layers(kind):
    if DEVICE.type != "cpu":
        pytest.skip("torch's kernels draw other numbers than ours there")
    theirs, ours = made(kind, {"num_layers": 3, "dropout": 0.4})
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    outputs = []
    for function in (theirs, ours, lambda x: ours.vjp(x)[0]):
        torch.manual_seed(3)
        outputs.append(function(x)[0])
    assert error(outputs[1], outputs[0]) <= 1e-12 and error(outputs[2], outputs[0]) <= 1e-12
    same([ours.eval()(x)[0]], [theirs.eval()(x)[0]], "evaluation")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind,more", [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}),
                                       ("GRUCell", {})], ids=str)  # fmt: skip
def test_cells(kind, more, bias):
    theirs, ours = made(kind, {"bias": bias, **more})
    assert getattr(rnn, kind) is type(ours), "modules that were pickled name it there"
    h = [torch.randn(2, 4, dtype=torch.float64) for _ in range(2)]
    hx = tuple(h) if kind == "LSTMCell" else h[0]
    x = torch.randn(2, 3, dtype=torch.float64)
    compare(theirs, ours, (x,))
    compare(theirs, ours, (x, hx))
    compare(theirs, ours, (x[0].detach(), tree_map(lambda t: t[0].detach(), hx)))


@pytest.mark.parametrize("biases", ["both", "one", "none"])
@pytest.mark.parametrize("name", ["rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell"])
def test_operations_of_cells(name, biases):
    """torch's functions of their names, first and second derivatives."""
    ours, theirs, lstm = getattr(rnn_cell, name), getattr(torch, name), name == "lstm_cell"
    gates, generator = {"lstm_cell": 4, "gru_cell": 3}.get(name, 1), torch.Generator().manual_seed(0)
    shapes = [(3, 2), *[(3, 4)] * (1 + lstm), (4 * gates, 2), (4 * gates, 4), (4 * gates,), (4 * gates,)]
    values = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    values = values[: len(values) - {"both": 0, "one": 1, "none": 2}[biases]]

    def call(*v):  # torch's take both biases or none
        b_ih, b_hh = (*v[4 + lstm :], None, None)[:2]
        b_hh = torch.zeros_like(b_ih) if biases == "one" else b_hh
        return theirs(v[0], v[1:3] if lstm else v[1], *v[2 + lstm : 4 + lstm], b_ih, b_hh)

    outputs, expected = flat(ours(*values)), flat(call(*values))
    same(outputs, expected, "value")
    dys = [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs]
    grads = torch.autograd.grad(expected, values, dys)
    same(torch.autograd.grad(outputs, values, dys), grads, "autograd")
    same(ours.vjp(*values)[1](tuple(dys) if lstm else dys[0]), grads, "vjp")
    assert torch.autograd.gradcheck(ours, values, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, values, fast_mode=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 2, 1)])
@pytest.mark.parametrize("layer", [rnn_layer, lstm_layer, gru_layer], ids=lambda o: o.__name__)
def test_second_derivatives(layer, sizes, reverse):
    gates = {"rnn_layer": 1, "lstm_layer": 4, "gru_layer": 3}[layer.__name__]
    n, generator = sizes[0], torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    shapes = [(sum(sizes), 2), (n, 2), (2 * gates, 2), (2 * gates, 2), (2 * gates,), (2 * gates,)]
    values = [draw(*shape) for shape in shapes]
    if gates == 4:
        values = [*values[:2], draw(n, 3), draw(12, 2), draw(12, 2), draw(12), draw(12), draw(2, 3)]
    rest = (sizes, reverse, False) if gates == 1 else (sizes, reverse)
    options = {"fast_mode": True, "nondet_tol": 0.0}
    assert torch.autograd.gradcheck(lambda *v: layer(*v, *rest), values, check_forward_ad=True, **options)
    assert torch.autograd.gradgradcheck(lambda *v: layer(*v, *rest), values, **options)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_errors(kind):
    theirs, ours = made(kind, {})
    x, h = torch.randn(4, 2, 3, dtype=torch.float64), states(kind, {}, 2)
    wrong = tree_map(lambda t: t[:, :1], h)
    for inputs in ((x[..., :2],), (x[None],), (x, wrong), (x, tree_map(lambda t: t[0], h)), (x[:0],)):
        for function in (theirs, ours, ours.vjp):
            with pytest.raises((RuntimeError, ValueError)) as caught:
                function(*inputs)
            if function is theirs:
                kind_of_error = caught.type
        assert caught.type is kind_of_error, inputs


def test_frozen_weights_get_no_gradient():
    _, ours = made("LSTM", {})
    ours.weight_hh_l0.requires_grad_(False)
    output, pull = ours.vjp(torch.randn(4, 2, 3, dtype=torch.float64))
    pull(torch.randn_like(output[0]))
    assert ours.weight_hh_l0.grad is None and ours.weight_ih_l0.grad is not None


class Net(nn.Module):
    """A recurrent layer among others: Dynamo stops before a torch.nn.LSTM, and before ours."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = (
            layer,
            manual.Linear(2 * layer.hidden_size if layer.bidirectional else layer.hidden_size, 2),
        )

    def forward(self, x):
        return self.head(self.layer(x)[0]).tanh()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # Dynamo's own, behind every break of a graph
@pytest.mark.parametrize("kind,options,training", [
    *(("LSTM", {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "batch_first": True}, t) for t in (True, False)),
    ("LSTM", {"proj_size": 2}, True), ("GRU", {"num_layers": 2, "bias": False}, False),
    ("RNN", {"nonlinearity": "relu", "bidirectional": True}, True),
])  # fmt: skip
def test_compiled(kind, options, training):
    """Alone in one graph; in a network with the break that torch's own layer makes; packed sequences; all gradients."""
    _, layer = made(kind, options, training)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    packed = pack_sequence([torch.randn(n, 3, dtype=torch.float64) for n in (4, 2)])
    for module, fullgraph, inputs in ((layer, True, x), (layer, False, packed), (Net(layer).double(), False, x)):
        if isinstance(module, Net) and options.get("proj_size"):
            continue
        torch._dynamo.reset()
        results = []
        for run in (module, torch.compile(module, backend="eager", fullgraph=fullgraph)):
            torch.manual_seed(1)
            outputs = flat(run(inputs))
            dys = [torch.randn(o.shape, generator=torch.Generator().manual_seed(3), dtype=o.dtype) for o in outputs]
            results.append([*outputs, *torch.autograd.grad(outputs, list(module.parameters()), dys, allow_unused=True)])
        same(results[1], results[0], (kind, options))
    assert not torch._dynamo.config.allow_rnn, "a user's setting stays"


BASES = {
    "RNNBase": [("LSTM", 3, 4, 2, True, False, 0.1, True), ("LSTM", 3, 4, 1, True, False, 0.0, False, 2), ("GRU", 3, 4),
                ("RNN_TANH", 3, 4), ("RNN_RELU", 3, 4, 2, False)],
    "RNNCellBase": [(3, 4, True, 4), (3, 4, False, 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_bases(name):
    """Made, written and loaded as torch's; what computes is one of them, here and there; themselves they compute nothing."""
    cls, theirs = getattr(manual, name), getattr(torch.nn, name)
    for args in BASES[name]:
        sides = []
        for space in (manual, torch.nn):
            torch.manual_seed(0)
            sides.append(getattr(space, name)(*args))
        ours, expected = sides
        assert repr(ours) == repr(expected) and list(ours.state_dict()) == list(expected.state_dict())
        for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
            assert torch.equal(a, b)
        assert type(pickle.loads(pickle.dumps(ours))) is cls
        assert type(dlref.convert(expected)) is cls and type(dlref.convert(ours, "builtin")) is theirs
        for call in (cls(*args), cls(*args).vjp):
            with pytest.raises(NotImplementedError):
                call(torch.zeros(2, 1, 3))
    for kind in ("RNN", "LSTM", "GRU"):
        kind += "Cell" if name == "RNNCellBase" else ""
        assert issubclass(getattr(manual, kind), cls) and issubclass(cls, theirs)
        assert not issubclass(getattr(torch.nn, kind), cls)
    if name == "RNNBase":
        with pytest.raises(ValueError):
            manual.RNNBase("QRNN", 3, 4)
