"""manual_mode takes every call that torch takes, whoever calls, and the library's own steps are not routed."""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from placed import DEVICE
from test_manual import ALLOWED
from torch import Tensor

import dlref
from dlref.core.pair import OPS
from dlref.manual import nn
from dlref.reuse.mode import TABLE
from dlref.samples import NAMES, flat, run, samples
from dlref.verify.oracle.care import Trace

C = {theirs: theirs.__name__ for theirs in TABLE if not inspect.isfunction(theirs)}  # what torch parses by a schema
# The operation's name for what a schema calls otherwise, and its value there.
THEIRS = {"self": "input", "train": "training", "indices": "input", "hx": "h"}
REDUCTION = {"none": 0, "mean": 1, "sum": 2}


def operation(name: str) -> str:
    others = {"log_sigmoid": "logsigmoid", "special_expit": "sigmoid", "native_channel_shuffle": "channel_shuffle"}
    return others.get(name, name.removeprefix("special_")).rstrip("_")


def forms(theirs, name: str, values: dict) -> list[tuple[tuple, dict]]:
    """The ways to write one call: by position, by name, half by each, by numpy's names; what is not said has its default."""
    given, only, left = {}, {}, None
    for argument in torch._C._jit_get_schemas_for_operator(f"aten::{theirs.__name__}")[0].arguments:
        ours = THEIRS.get(argument.name, argument.name)
        ours = next(iter(values)) if ours == "input" and ours not in values else ours
        if ours in values:
            value = values[ours]
        elif argument.name.startswith("cudnn"):
            value = False
        elif argument.has_default_value():
            left = len(given) if left is None else left  # what follows can be given by name alone
            continue
        else:
            value = None
        if ours == "reduction":
            value = REDUCTION.get(value, value)
        if ours == "padding_idx" and value is None:
            value = -1
        (only if argument.kwarg_only else given)["input" if argument.name == "self" else argument.name] = value
    names = list(given)
    method = theirs in vars(torch._C.TensorBase).values()
    most = len(names) if left is None else left
    made = []
    for number in {1, most} if method else {0, 1, most // 2, most}:
        made.append((tuple(given[n] for n in names[:number]), {n: given[n] for n in names[number:]} | only))
    numpys = {{"dim": "axis", "keepdim": "keepdims", "input": "x"}.get(n, n): v for n, v in given.items()}
    if not method and set(numpys) != set(given):
        made.append(((), numpys | only))
    return made


def answer(function, args, kwargs):
    """What a call returns or raises, and what it changes; of clones, so that a call in place changes its own."""
    args = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    kwargs = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in kwargs.items()}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of reductions that divide by another number
        try:
            found = function(*args, **kwargs)
        except Exception as error:
            return type(error), None, ()
    changed = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
    return None, found, tuple(found) if isinstance(found, (tuple, list)) else (found,), changed


def assert_same(ours: Tensor, theirs: Tensor, what) -> None:
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, what
    assert torch.allclose(ours, theirs, 1e-6, 1e-9, equal_nan=True), what


@pytest.mark.parametrize("name", sorted({operation(n) for n in C.values()}))
def test_every_form_of_a_call(name, record_property):
    """Each way to write each sample, for every function and method of the name: torch's answer."""
    tried = 0
    op = OPS.get(name)
    found = samples(name, torch.float64)[:12]
    for theirs in [t for t, n in C.items() if operation(n) == name]:
        known = {a.name for a in torch._C._jit_get_schemas_for_operator(f"aten::{theirs.__name__}")[0].arguments}
        known |= {THEIRS.get(n, n) for n in known}
        for sample in found:
            bound = inspect.signature(op).bind(*sample.args, **sample.kwargs).arguments
            defaults = {n: p.default for n, p in inspect.signature(op).parameters.items()}
            values = {
                n: v
                for n, v in bound.items()
                if n not in ("inplace", "return_indices", "_stacklevel", "size_average", "reduce")
            }
            if name == "lstm_cell":
                values["h"] = [values["h"], values.pop("c")]
            if any(n not in known and n != next(iter(defaults)) and v is not defaults[n] for n, v in values.items()):
                continue  # torch's schema lacks the option
            values = {n: v for n, v in values.items() if v is not None or n in ("bias",)}
            for args, kwargs in forms(theirs, name, values):
                what = (theirs, args, kwargs)
                error, _, expected, *changed = answer(theirs, args, kwargs)
                with dlref.manual_mode(), Trace() as trace:
                    ours_error, _, got, *ours_changed = answer(theirs, args, kwargs)
                if error is not None:
                    continue  # that torch does not take
                assert ours_error is None, (what, ours_error)
                tried += 1
                assert set(trace.names) <= ALLOWED, (what, set(trace.names) - ALLOWED)
                assert len(got) == len(expected)
                for a, b in zip((*got, *ours_changed[0]), (*expected, *changed[0]), strict=True):
                    assert_same(a, b, what)
    record_property("calls", tried)
    assert tried


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_out(dtype):
    """What takes `out` in torch takes it here: the same tensor, resized, of another dtype, and refused where it learns."""
    torch.manual_seed(0)  # torch's GELU cancels in the tail: of other numbers it may be further from ours than this
    x, w = torch.randn(2, 3, 8), torch.randn(4, 8)
    calls = [
        lambda x, **o: torch.sigmoid(x, **o), lambda x, **o: torch.tanh(x, **o), lambda x, **o: torch.special.expit(x, **o),
        lambda x, **o: torch.hardshrink(x, 0.2, **o), lambda x, **o: F.gelu(x, approximate="tanh", **o),
        lambda x, **o: F.softplus(x, **o), lambda x, **o: F.softshrink(x, 0.1, **o), lambda x, **o: F.logsigmoid(x, **o),
        lambda x, **o: torch.softmax(x, 1, **o), lambda x, **o: torch.log_softmax(x, dim=-1, **o),
        lambda x, **o: F.linear(x, w.to(x.dtype), **o), lambda x, **o: F.avg_pool2d(x, 2, **o),
    ]  # fmt: skip
    for call in calls:
        expected = call(x.to(dtype))
        given = torch.empty(0, dtype=dtype)
        with dlref.manual_mode(), torch.no_grad(), Trace() as trace:
            assert call(x.to(dtype), out=given) is given
        assert set(trace.names) <= ALLOWED | {"resize_"}
        assert_same(given, expected, call)
        with dlref.manual_mode(), pytest.raises(RuntimeError, match="automatic differentiation"):
            call(x.to(dtype).clone().requires_grad_(), out=given)
    same = x.clone()
    with dlref.manual_mode():
        torch.sigmoid(same, out=same)
        wider = torch.sigmoid(x, out=torch.empty(x.shape, dtype=torch.float64))
        with pytest.raises(TypeError):
            torch.relu(x, out=same)
    assert_same(same, torch.sigmoid(x), "over itself") and wider.dtype == torch.float64


def test_what_falls_to_torch():
    """Tensors and options with which only torch can compute, and calls that it refuses."""
    x = torch.randn(3, 4)
    sparse = x.relu().to_sparse()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantised tensors will go
        quantised = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
    nested = torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged)

    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return "loud"

    class Quiet(torch.Tensor):
        pass

    generator = lambda: torch.Generator(DEVICE).manual_seed(1)  # noqa: E731
    with dlref.manual_mode():
        assert torch.relu(sparse).is_sparse and torch.relu(quantised).is_quantized and torch.relu(nested).is_nested
        assert F.relu(x.as_subclass(Loud)) == "loud" and torch.sigmoid(x.as_subclass(Loud)) == "loud"
        assert type(F.relu(x.as_subclass(Quiet))) is Quiet and type(torch.sigmoid(x.as_subclass(Quiet))) is Quiet
        drawn = torch.rrelu(x, training=True, generator=generator())
        for wrong in (lambda: torch.sigmoid(), lambda: torch.softmax(x), lambda: torch.relu(x, 1, 2), lambda: x.relu(y=1),
                      lambda: torch.celu_(x, beta=2.0), lambda: torch.softmax(x, 0, dim=0)):  # fmt: skip
            with pytest.raises(TypeError, match=r"\w+\(\)"):
                wrong()
    assert torch.equal(drawn, torch.rrelu(x, training=True, generator=generator()))


def routed(monkeypatch) -> list:
    """The functions that are routed from here on."""
    seen = []
    for theirs, ours in list(TABLE.items()):
        name = getattr(theirs, "__name__", "")
        monkeypatch.setitem(TABLE, theirs, lambda *a, ours=ours, name=name, **k: (seen.append(name), ours(*a, **k))[1])
    return seen


def test_the_librarys_own_steps_are_not_seen(monkeypatch):
    """By whatever entry: modules, operations, pullbacks, autograd and its derivatives, optimizers, init, a training."""
    seen = routed(monkeypatch)
    x = torch.randn(5, 2, 6)
    rows = torch.randn(5, 6)
    layers = [nn.RNN(6, 6, nonlinearity="relu"), nn.LSTM(6, 6, 2, bidirectional=True, dropout=0.1), nn.GRU(6, 6)]
    layers += [nn.MultiheadAttention(6, 2), nn.TransformerEncoderLayer(6, 2, 8)]
    tried = [s for name in NAMES if "with_distance" not in name  # which calls the caller's own distance
             for s in samples(name, torch.float32)[:2]]  # fmt: skip
    cells = [nn.RNNCell(6, 6), nn.LSTMCell(6, 6), nn.GRUCell(6, 6)]
    with dlref.manual_mode():
        for layer in layers:
            inputs = (x, x, x) if isinstance(layer, nn.MultiheadAttention) else (x,)
            output = layer(*inputs)
            (output if isinstance(output, Tensor) else output[0]).square().sum().backward()
            output, pullback = layer.vjp(*inputs)
            single = isinstance(output, Tensor)
            pullback(torch.randn_like(output) if single else (torch.randn_like(output[0]), None))
        for cell in cells:
            output = cell(rows)
            (output if isinstance(output, Tensor) else output[0]).square().sum().backward()
        for sample in tried:
            outputs = [o for o in flat(run(OPS[sample.name], sample)) if o.requires_grad]
            if outputs:
                torch.autograd.backward(outputs, [torch.randn_like(o) for o in outputs])
        torch.func.jvp(torch.func.grad(lambda t: dlref.manual.functional.gelu(t).square().sum()), (rows,), (rows,))
        network = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
        dlref.manual.init.xavier_uniform_(network[0].weight)
        y = torch.tensor([0, 1, 2, 0, 1])
        dlref.manual.training.fit(
            network, nn.CrossEntropyLoss(), dlref.manual.optim.Adam(network.parameters()), (rows, y), epochs=2
        )
    assert not seen, seen


def test_a_hook_is_the_users_code(monkeypatch):
    seen = routed(monkeypatch)
    layer = nn.Linear(3, 3)
    layer.register_forward_hook(lambda m, i, o: torch.tanh(o))
    x = torch.randn(2, 3)
    with dlref.manual_mode():
        layer(x)
        layer.vjp(x)
    assert seen == ["tanh", "tanh"]


def test_backward_inside_and_outside():
    x = torch.randn(3, 4, requires_grad=True)
    dy = torch.randn(3, 4)
    expected = torch.autograd.grad(torch.softmax(torch.celu(x, 0.5), 1), x, dy)[0]
    with dlref.manual_mode():
        y = torch.softmax(torch.celu(x, 0.5), 1)
        inside = torch.autograd.grad(y, x, dy, retain_graph=True)[0]
    assert "Bridge" in type(y.grad_fn).__name__
    assert torch.allclose(inside, expected, atol=1e-6)
    assert torch.allclose(torch.autograd.grad(y, x, dy)[0], expected, atol=1e-6)


def test_decorator_nesting_and_threads(monkeypatch):
    seen = routed(monkeypatch)
    x = torch.randn(3)
    mode = dlref.manual_mode()

    @dlref.manual_mode()
    def twice(depth):
        """Calls itself."""
        return torch.sigmoid(x if depth == 0 else twice(depth - 1))

    @mode
    def steps():
        received = yield torch.tanh(x)
        yield torch.relu(received)

    class Model(torch.nn.Module):
        @dlref.manual_mode()
        def forward(self, x):
            return F.elu(x)

    assert twice.__name__ == "twice" and twice.__doc__
    twice(2), twice(1)
    assert seen == ["sigmoid"] * 5
    seen.clear()
    generator = steps()
    first = next(generator)
    torch.sigmoid(x)  # between the steps of a generator the mode is off
    assert torch.equal(generator.send(first), first.relu()) and seen == ["tanh", "relu"]
    Model()(x)
    assert seen.pop() == "elu"
    seen.clear()
    with mode, mode, dlref.manual_mode():
        torch.sigmoid(x)
    with mode:
        torch.sigmoid(x)
        thread = threading.Thread(target=torch.tanh, args=(x,))
        thread.start(), thread.join()
        with pytest.raises(ZeroDivisionError), mode:
            1 / 0  # noqa: B018
        torch.sigmoid(x)
    torch.sigmoid(x)
    assert seen == ["sigmoid"] * 3
    with pytest.raises(RuntimeError, match="class"):
        dlref.manual_mode()(Model)


def test_compiled():
    layer = torch.nn.Linear(4, 4)

    def model(x):
        return torch.softmax(F.layer_norm(torch.relu(layer(x)), (4,)), -1)

    @dlref.manual_mode()
    def inside(x):
        return model(x)

    x = torch.randn(3, 4)
    expected = model(x)
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(inside, fullgraph=True, backend="aot_eager")(x), expected, atol=1e-6)
    with dlref.manual_mode():
        assert torch.allclose(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected, atol=1e-6)


def test_the_weight_of_l1_loss_reaches_every_mode():
    """torch hands a mode all of its arguments but that one."""
    from dlref.step.playback import Recorder
    from dlref.verify.compare_models import Widened

    x, t, w = (torch.rand(3, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    expected = torch.nn.functional.l1_loss(x, t, weight=w)
    for modes in ((dlref.manual_mode(),), (Widened(),), (Recorder([x, t, w], []),), (Widened(), dlref.manual_mode())):
        with contextlib.ExitStack() as inside:
            for mode in modes:
                inside.enter_context(mode)
            weighed = torch.nn.functional.l1_loss(x, t, weight=w)
            plain = torch.nn.functional.l1_loss(x, t, reduction="sum")
        torch.testing.assert_close(weighed.float(), expected)
        torch.testing.assert_close(plain.float(), (x - t).abs().sum())
