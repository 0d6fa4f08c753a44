"""Reuse: models converted there and back, functions routed, two models compared, per-sample gradients."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from test_manual import ALLOWED
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import dlref
from dlref.core.pair import OPS
from dlref.samples import NAMES, run, samples
from dlref.verify.oracle.care import Trace

VISION = """alexnet densenet121 efficientnet_b0 googlenet mobilenet_v3_small regnet_y_400mf resnet18 shufflenet_v2_x0_5
squeezenet1_0 swin_t""".split()


def vision(name):
    import torchvision

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # googlenet's advice on its initialisation
        model = getattr(torchvision.models, name)(weights=None, num_classes=10).eval()
    size = 64 if name != "alexnet" else 80
    return model, (torch.randn(2, 3, size, size), torch.tensor([3, 8])), nn.functional.cross_entropy


def sequences(name):
    torch.manual_seed(0)
    if name == "Transformer":
        return (
            nn.Transformer(16, 2, 1, 1, 32, 0.0, batch_first=True),
            (torch.randn(2, 5, 16), torch.randn(2, 4, 16)),
            None,
        )
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2, nn.LayerNorm(16)), torch.randn(2, 5, 16), None


@pytest.mark.parametrize("name", [*VISION, "Transformer", "TransformerEncoder"])
def test_there_and_back(name, record_property):
    """Outputs and all gradients are those of the built-in model; back again, so are classes and bits."""
    model, batch, loss = (vision if name in VISION else sequences)(name)
    compared = dlref.compare_models(model, batch, loss)
    assert compared.ok and compared.outputs and compared.parameters, str(compared)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # StochasticDepth and the like have no counterpart, and stay
        twin = dlref.convert(copy.deepcopy(model))
    changed = [n for (n, a), b in zip(twin.named_modules(), model.modules(), strict=True) if type(a) is not type(b)]
    assert len(changed) > 5
    assert twin.state_dict().keys() == model.state_dict().keys()
    again = dlref.convert(twin, "builtin")
    assert [type(m) for m in again.modules()] == [type(m) for m in model.modules()]
    inputs = batch[0] if loss is not None else batch
    call = lambda m: m(*inputs) if isinstance(inputs, tuple) else m(inputs)  # noqa: E731
    with torch.no_grad():
        assert torch.equal(call(again.eval()), call(model.eval()))
    record_property("modules", len(changed))


class Sum(nn.Module):
    """A shared and a tied layer, and functions in the forward."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.first.weight
        self.norm = Named(4)

    def forward(self, x):
        return self.norm(torch.relu(self.again(self.first(x))) + self.tied(x))


class Named(nn.LayerNorm):
    """A subclass that changes nothing that is computed."""

    def __init__(self, n):
        super().__init__(n)
        self.note = "mine"


class Changed(nn.Linear):
    def forward(self, input):
        return super().forward(input) + 1


def test_shared_tied_and_subclassed():
    model, x = Sum(), torch.randn(3, 4)
    optimizer = torch.optim.Adam(model.parameters())
    model(x).square().sum().backward()
    optimizer.step()
    expected = model(x)
    assert dlref.convert(model, strict=True) is model
    assert model.first is model.again and model.tied.weight is model.first.weight
    assert (
        isinstance(model.norm, Named)
        and isinstance(model.norm, dlref.manual.nn.LayerNorm)
        and model.norm.note == "mine"
    )
    assert torch.allclose(model(x), expected, atol=1e-6)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert isinstance(twin.norm, dlref.manual.nn.LayerNorm) and twin.norm.note == "mine"
        assert torch.equal(twin(x), model(x)) and twin.tied.weight is twin.first.weight
    model(x).square().sum().backward()
    optimizer.step()  # its parameters and state are still the model's
    dlref.convert(model, "builtin")
    assert type(model.norm) is Named and type(model.first) is nn.Linear


def test_what_is_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), Changed(3, 3), torch.jit.script(nn.ReLU()))
    with pytest.raises(ValueError, match=r"strict=True; 2 modules .*: 1 \(Changed\), 2"):
        dlref.convert(model, strict=True)
    assert type(model[0]) is nn.Linear
    with pytest.warns(UserWarning, match="1 \\(Changed\\), 2"):
        dlref.convert(model)
    assert type(model[0]) is dlref.manual.nn.Linear and type(model[1]) is Changed
    with pytest.raises(ValueError, match="manual"):
        dlref.convert(model, "manuel")


def test_hooks_parametrizations_and_lazy_modules():
    seen = []
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.LazyLinear(2))
    model[1].register_forward_hook(lambda *a: seen.append("forward"))
    model[1].register_full_backward_hook(lambda *a: seen.append("backward"))
    twin, x = dlref.convert(copy.deepcopy(model), strict=True), torch.randn(5, 3)
    twin(x).sum().backward()
    model.load_state_dict(twin.state_dict())
    assert torch.allclose(twin(x), model(x), atol=1e-6) and seen.count("forward") == 3 and "backward" in seen
    assert type(twin[2]) is dlref.manual.nn.Linear
    parametrize.remove_parametrizations(twin[0], "weight")
    assert type(twin[0]) is dlref.manual.nn.Linear
    dlref.convert(twin, "builtin")
    assert [type(m) for m in twin] == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_lightning_module():
    from dlref.lightning import Classifier

    task = Classifier(backend="builtin")
    before = [type(m) for m in task.modules()]
    dlref.convert(task)
    assert any(type(m).__module__.startswith("dlref.manual") for m in task.modules())
    assert [type(m) for m in dlref.convert(task, "builtin").modules()] == before


# What the other side of a pair is composed of where torch has no such function.
ALGEBRA = set(
    "logsumexp linalg_vector_norm norm logaddexp linalg_solve_ex _linalg_solve_ex linalg_householder_product".split()
)


@pytest.mark.parametrize("name", NAMES)
def test_manual_mode(name):
    """torch's function inside is the manual one: the dispatcher sees tensor algebra alone, and the value is the same."""
    if name == "triplet_margin_with_distance_loss":
        pytest.skip("the distance is the caller's own code")
    composed = OPS[name].builtin.__module__.startswith(
        "dlref"
    )  # of what is routed and of torch's algebra, in another order
    for sample in samples(name, torch.float32)[:30]:
        plain = sample.map(lambda t: t.detach().clone())
        with dlref.manual_mode(), Trace() as trace:
            inside = run(OPS[name].builtin, plain)
        others = set(trace.names) - ALLOWED - (ALGEBRA if composed else set())
        assert not others, (sorted(others), sample)
        direct = run(OPS[name], sample.map(lambda t: t.detach().clone()))
        for a, b in zip(*(o if isinstance(o, tuple) else (o,) for o in (inside, direct)), strict=True):
            if composed:
                torch.testing.assert_close(a, b, equal_nan=True)
            else:
                assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)), sample


def test_torch_and_tensor_functions_are_routed():
    x, weight = torch.randn(4, 6), torch.randn(6)
    calls = [
        lambda: torch.softmax(x, 1), lambda: x.softmax(-1), lambda: x.log_softmax(0, torch.float64), lambda: torch.relu(x),
        lambda: x.sigmoid(), lambda: x.clone().relu_(), lambda: torch.sigmoid_(x.clone()), lambda: x.clone().tanh_(),
        lambda: torch.layer_norm(x, (6,), weight), lambda: torch.group_norm(x, 2, weight),
        lambda: torch.batch_norm(x, weight, None, None, None, True, 0.1, 1e-5, False),
        lambda: torch.embedding(x, torch.tensor([1, 3])), lambda: torch.dropout(x, 0.0, True),
        lambda: nn.functional.max_pool1d(x, 2, return_indices=True)[1].double(), lambda: nn.functional.relu_(x.clone()),
    ]  # fmt: skip
    for call in calls:
        with dlref.manual_mode(), Trace() as trace:
            inside = call()
        assert set(trace.names) <= ALLOWED, trace.names
        assert torch.allclose(inside, call(), atol=1e-6)
    layer = nn.Linear(6, 2)
    with dlref.manual_mode():
        layer(x).sum().backward()
    assert torch.allclose(layer.weight.grad, x.sum(0).expand(2, 6))


class Wrong(nn.Module):
    """A layer norm whose gradient lacks a term."""

    def __init__(self, n):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))

    def forward(self, x):
        mean = x.mean(-1, keepdim=True).detach()
        return (x - mean) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


def test_compare_two_models():
    torch.manual_seed(0)
    make = lambda norm: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), norm(6), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))  # noqa: E731
    model, other = make(nn.LayerNorm), make(Wrong)
    other.load_state_dict(model.state_dict())
    batch = (torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1]))
    found = dlref.compare_models(model, batch, nn.functional.cross_entropy, other)
    assert found.first is None and found.last == "1" and not found.ok, str(found)
    assert "that of 1" in str(found) and "0.weight" in str(found)
    other[3].forward = lambda x: 1.01 * nn.functional.linear(x, other[3].weight, other[3].bias)
    assert dlref.compare_models(model, batch, nn.functional.cross_entropy, copy.deepcopy(other)).ok is False
    broken = copy.deepcopy(model)
    broken[4] = nn.LeakyReLU(0.1)
    assert dlref.compare_models(model, batch, nn.functional.cross_entropy, broken).first == "4"
    with torch.no_grad():
        broken[0].weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"0\.weight is another one"):
        dlref.compare_models(model, batch, nn.functional.cross_entropy, broken)


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "embedding", "transformer"])
def test_per_sample_gradients(name):
    torch.manual_seed(0)
    ns = dlref.manual.nn
    model, x = {
        "mlp": lambda: (ns.Sequential(ns.Linear(4, 5), ns.LayerNorm(5), ns.GELU(), ns.Linear(5, 3)), torch.randn(6, 4)),
        "cnn": lambda: (ns.Sequential(ns.Conv2d(1, 2, 3), ns.ReLU(), ns.MaxPool2d(2), ns.Flatten(), ns.Linear(8, 3)),
                        torch.randn(6, 1, 6, 6)),
        "lstm": lambda: (ns.LastStep(ns.LSTM(3, 4, batch_first=True)), torch.randn(6, 5, 3)),
        "embedding": lambda: (ns.Sequential(ns.Embedding(7, 3), ns.Flatten(), ns.Linear(6, 2)), torch.randint(0, 7, (6, 2))),
        "transformer": lambda: (ns.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), torch.randn(6, 5, 8)),
    }[name]()  # fmt: skip
    model.double()
    x = x.double() if x.is_floating_point() else x
    output, pullback = model.vjp(x, per_sample=True)
    dy = torch.randn_like(output)
    (dx, *_) = pullback(dy)
    assert all(p.grad is None for p in model.parameters())
    for i in range(len(x)):
        alone, pull = model.vjp(x[i : i + 1])
        (dxi, *_) = pull(dy[i : i + 1])
        assert torch.allclose(alone, output[i : i + 1], atol=1e-12)
        assert dx is None or torch.allclose(dxi, dx[i : i + 1], atol=1e-12)
        for p in model.parameters():
            assert torch.allclose(p.grad_sample[i], p.grad, atol=1e-12)
            p.grad = None


def test_per_sample_refuses():
    ns = dlref.manual.nn
    with pytest.raises(ValueError, match="first dimensions count the samples"):
        ns.CrossEntropyLoss().vjp(torch.randn(4, 3), torch.zeros(4, dtype=torch.long), per_sample=True)
    output, pullback = ns.Sequential(ns.Linear(3, 2), ns.Dropout(0.5)).vjp(torch.randn(4, 3), per_sample=True)
    with pytest.raises(ValueError, match="eval"):
        pullback(torch.randn_like(output))
    with pytest.raises(ValueError, match="shape"):
        pullback()


class Stubborn(nn.Module):
    """Plain tensors as attributes and dtypes that are asked for inside: as it stands it does not run in float64."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.linear = nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 3)
        self.scale = torch.rand(4)

    def forward(self, *, input_ids, mask=None):
        x = self.norm(self.embed(input_ids) * self.scale).float() @ torch.eye(
            4, dtype=torch.float32, device=input_ids.device
        )
        return {"logits": self.linear(x), "mask": mask}


class Single(nn.Linear):
    """A layer whose kernel knows no float64."""

    def forward(self, input):
        if input.dtype == torch.float64:
            raise NotImplementedError("no kernel for float64")
        return super().forward(input)


def test_compare_models_as_they_are():
    torch.manual_seed(0)
    ids, classes = torch.randint(0, 7, (2, 5)), torch.randint(0, 3, (2, 5))
    model = Stubborn()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model).double()(input_ids=ids)
    for batch, loss in (
        ({"input_ids": ids}, None),
        ({"input_ids": ids, "mask": None}, lambda output: output["logits"].square().mean()),
        (
            ({"input_ids": ids}, classes),
            lambda o, y: nn.functional.cross_entropy(o["logits"].flatten(0, 1), y.flatten()),
        ),
    ):
        found = dlref.compare_models(model, batch, loss)
        assert found.ok and not found.note and set(found.outputs) >= {"embed", "norm", "linear"}, str(found)
        assert set(found.parameters) == {n for n, _ in model.named_parameters()}
        assert max(e.theirs for e in found.parameters.values()) > 0, "the truth is more exact than the model"
    other = copy.deepcopy(model)
    other.scale = other.scale * torch.tensor([1.0, 1.001, 1.0, 1.0])
    assert dlref.compare_models(model, {"input_ids": ids}, None, other).first == "norm"
    assert torch.get_default_dtype() == torch.float32

    model, x = nn.Sequential(Single(4, 4), nn.Tanh()), torch.randn(3, 4)
    twin = nn.Sequential(Single(4, 4), nn.Tanh())
    twin.load_state_dict(model.state_dict())
    found = dlref.compare_models(model, x, None, twin)
    assert found.ok and "no kernel for float64" in str(found)
    twin[1].forward = lambda x: torch.tanh(x) * (1 + 1e-4)
    assert dlref.compare_models(model, x, None, twin).first == "1"


class Backwards(nn.PReLU):
    """The same layer, whose weight's gradient is summed from the other end."""

    def forward(self, input):
        x = input.flatten().flip(0)
        return torch.where(x > 0, x, self.weight * x).flip(0).view_as(input)


def test_what_cancels_is_no_departure():
    """A gradient that its terms leave of each other, or that is 0 in mathematics, is measured by the size of its terms."""
    torch.manual_seed(0)
    for seed in range(5):
        x = torch.randn(64, 256, generator=torch.Generator().manual_seed(seed))
        found = dlref.compare_models(nn.PReLU(), x, None, Backwards())
        assert found.ok, str(found)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(), nn.Conv2d(8, 4, 3))
    found = dlref.compare_models(model, torch.randn(4, 3, 16, 16))
    assert found.ok and max(e.ours for e in found.parameters.values()) < 100, str(
        found
    )  # the first bias has no gradient
    twin = copy.deepcopy(model)
    twin[1].eps = 1e-3
    assert dlref.compare_models(model, torch.randn(4, 3, 16, 16), None, twin).first == "1"


class Op(nn.Linear):
    """A user's layer that has names of ours, as attributes of its class."""

    op, attributes = "mine", ["a"]


class Part(nn.Linear):
    """... as a submodule, a parameter and a plain attribute."""

    def __init__(self, *args):
        super().__init__(*args)
        self.op = nn.ReLU()
        self.attributes = nn.Parameter(torch.ones(2))
        self.layer = self.options = 3


class Steps(nn.LSTM):
    def __init__(self, *args):
        super().__init__(*args)
        self.op, self.layer, self.options, self.zeros, self.opened = nn.ReLU(), nn.Linear(2, 2), 1, 2, 3


class Clash(nn.Linear):
    """A name that a manual module needs: it is left alone, and named."""

    def __init__(self, *args):
        super().__init__(*args)
        self.vjp = "mine"


def test_names_of_the_users_own():
    x = torch.randn(2, 3)
    for cls in (Op, Part, Steps):
        model = cls(3, 3)
        twin = dlref.convert(copy.deepcopy(model), strict=True)
        assert isinstance(twin, (dlref.manual.nn.Linear, dlref.manual.nn.LSTM)) and isinstance(twin, cls)
        for name in ("op", "attributes", "layer", "options", "zeros", "opened"):
            assert hasattr(twin, name) == hasattr(model, name)
            assert repr(getattr(twin, name, None)) == repr(getattr(model, name, None)), name
        for m in (twin, pickle.loads(pickle.dumps(twin)), copy.deepcopy(twin)):
            for a, b in zip(
                torch.utils._pytree.tree_leaves(m(x)), torch.utils._pytree.tree_leaves(model(x)), strict=True
            ):
                assert torch.allclose(a, b, atol=1e-6)
            m.vjp(x)
        assert type(dlref.convert(twin, "builtin")) is cls
    with pytest.raises(ValueError, match="Clash, which has vjp of its own"):
        dlref.convert(nn.Sequential(Clash(3, 3)), strict=True)

    class Mine(dlref.manual.nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.op, self.attributes = nn.ReLU(), {"mine": 1}

    module = Mine()
    assert isinstance(module.op, nn.ReLU) and module.attributes == {"mine": 1}
    assert torch.equal(module(x), nn.functional.linear(x, module.weight, module.bias)) or module(x).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "swin_t"])
def test_symbolic_tracing(name):
    """torch.fx sees the graph of the built-in model, and its value; so does torchvision's feature extractor."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    model, (images, _), _ = vision(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what has no counterpart stays
        twin = dlref.convert(copy.deepcopy(model))
    assert get_graph_node_names(twin) == get_graph_node_names(model)
    chosen = get_graph_node_names(model)[1][5::20]
    theirs, ours = (create_feature_extractor(m, chosen)(images) for m in (model, twin))
    for key in theirs:
        assert torch.allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-4), key
    if name != "swin_t":  # whose forward torch.fx cannot trace by itself
        theirs, ours = torch.fx.symbolic_trace(model), torch.fx.symbolic_trace(twin)
        assert str(theirs.graph) == str(ours.graph)
        assert torch.allclose(ours(images), theirs(images), rtol=1e-3, atol=1e-4)
        assert any(type(m).__module__.startswith("dlref.manual") for m in ours.modules())


def test_symbolic_tracing_of_functions():
    from dlref.manual import functional as F

    def function(x, weight):
        return F.softmax(F.layer_norm(F.relu(input=x), (4,), weight=weight), dim=-1)

    graph = torch.fx.symbolic_trace(function)
    assert [n.target for n in graph.graph.nodes if n.op == "call_function"] == [F.relu, F.layer_norm, F.softmax]
    x, weight = torch.randn(3, 4), torch.randn(4)
    assert torch.equal(graph(x, weight), function(x, weight))
    module = type("Mine", (dlref.manual.nn.Linear,), {})(4, 2)  # a subclass is looked into, as torch's is
    assert {n.op for n in torch.fx.symbolic_trace(nn.Sequential(module)).graph.nodes} >= {"call_function", "get_attr"}
