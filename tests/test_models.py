"""Every model twice: twenty steps of training by hand and by autograd, from one start over the same batches, in float64."""

from __future__ import annotations

import pytest
import torch
from harness import error
from placed import DEVICE

import dlref
from dlref import models

IMAGES, FLAT = (6, 1, 8, 8), (6, 64)
CLASSIFIERS = {
    "mlp": (lambda ns: models.mlp(ns, 64, (16,), 10, "tanh"), FLAT),
    "cnn": (lambda ns: models.cnn(ns, channels=(4, 6), hidden=16), IMAGES),
    "locally_connected": (lambda ns: models.locally_connected(ns, channels=(3, 4)), IMAGES),
    "rbf_network": (lambda ns: models.rbf_network(ns, units=7, width=8.0), FLAT),
    "rbf_network thin_plate": (lambda ns: models.rbf_network(ns, units=7, kernel="thin_plate", width=8.0), FLAT),
    "residual_network": (lambda ns: models.residual_network(ns, channels=(4, 6)), IMAGES),
    "vision_transformer": (lambda ns: models.vision_transformer(ns, width=8, heads=2, depth=2), IMAGES),
    "row_classifier RNN": (lambda ns: models.row_classifier(ns, "RNN", hidden=8), IMAGES),
    "row_classifier LSTM": (lambda ns: models.row_classifier(ns, "LSTM", hidden=8, layers=2), IMAGES),
    "row_classifier GRU": (lambda ns: models.row_classifier(ns, "GRU", hidden=8), IMAGES),
}
AUTOENCODERS = {
    "autoencoder": (lambda ns: models.autoencoder(ns, hidden=16, code=4), FLAT),
    "tied autoencoder": (lambda ns: models.autoencoder(ns, hidden=16, code=4, tied=True), FLAT),
    "denoising autoencoder": (lambda ns: models.autoencoder(ns, hidden=16, code=4, noise=0.3), FLAT),
    "convolutional autoencoder": (lambda ns: models.convolutional_autoencoder(ns, code=4, channels=3), IMAGES),
}


def data(shape: tuple, target: str):
    """Twenty batches."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        if target == "next":
            x = torch.randint(0, 5, (shape[0], 9), generator=generator)
            yield x[:, :-1], x[:, 1:]
        else:
            x = torch.randn(shape, generator=generator, dtype=torch.float64)
            classes = torch.randint(0, 10, shape[:1], generator=generator)
            signs = torch.where(classes[:, None] == torch.arange(10), 1.0, -1.0).double()
            yield x, {"class": classes, "same": x, "signs": signs}[target]


def train(make, shape, target: str, loss: str, step, ns) -> torch.nn.Module:
    torch.manual_seed(0)
    network = make(ns).double()
    criterion, optimizer = getattr(ns.nn, loss)(), ns.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for i, (x, y) in enumerate(data(shape, target)):
        torch.manual_seed(i)  # for the noise that a network draws
        step(network, criterion, optimizer, x, y)
    return network


CASES = [
    *((name, make, shape, "class", "CrossEntropyLoss") for name, (make, shape) in CLASSIFIERS.items()),
    *((name, make, shape, "same", "MSELoss") for name, (make, shape) in AUTOENCODERS.items()),
    ("variational autoencoder", lambda ns: models.variational_autoencoder(ns, hidden=16, code=4), FLAT, "same",
     "VariationalLoss"),
    ("perceptron", models.perceptron, FLAT, "signs", "PerceptronLoss"),
    *((f"language_model {kind}", lambda ns, kind=kind: models.language_model(ns, 5, kind, 4, 8), (3,), "next",
       "CrossEntropyLoss") for kind in ("RNN", "LSTM", "GRU")),
]  # fmt: skip


@pytest.mark.parametrize("name,make,shape,target,loss", CASES, ids=[case[0] for case in CASES])
def test_twenty_steps(name, make, shape, target, loss):
    theirs = train(make, shape, target, loss, dlref.builtin.training.step, dlref.builtin)
    bridged = train(make, shape, target, loss, dlref.builtin.training.step, dlref.manual)
    with torch.no_grad():
        start = make(dlref.manual).state_dict()
    seen = []

    def step(network, criterion, optimizer, x, y):
        hook = torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t)
        with hook:
            dlref.manual.training.step(network, criterion, optimizer, x, y)

    ours = train(make, shape, target, loss, step, dlref.manual)
    assert not seen, "the explicit step saves nothing for autograd: there is no graph"
    a, b, c = (network.state_dict() for network in (ours, theirs, bridged))
    assert list(a) == list(b) == list(c) == list(start)
    for key in a:  # parameters and running statistics
        assert error(a[key].double(), b[key].double()) <= 1e-9, (name, key)
        assert error(c[key].double(), b[key].double()) <= 1e-9, (name, key, "bridged")


@pytest.mark.parametrize("ns", [dlref.manual, dlref.builtin], ids=["manual", "builtin"])
def test_sampling(ns):
    """At a low temperature the likeliest symbol follows; the same generator gives the same text."""
    torch.manual_seed(0)
    model = models.language_model(ns, 6, "GRU", 4, 8)
    prompt = torch.tensor([[1, 2], [3, 4]])
    likeliest = models.sample(model, prompt, 5, temperature=1e-6)
    text = prompt
    for _ in range(5):
        text = torch.cat([text, model(text)[:, :, -1].argmax(1, keepdim=True)], 1)
    assert torch.equal(likeliest, text[:, 2:])
    assert torch.equal(models.sample(model, prompt, 5, top_k=1), text[:, 2:])
    drawn = [models.sample(model, prompt, 20, generator=torch.Generator(DEVICE).manual_seed(1)) for _ in range(2)]
    assert torch.equal(*drawn) and drawn[0].shape == (2, 20) and drawn[0].unique().numel() > 2
    for wrong in ({"temperature": 0.0}, {"top_k": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            models.sample(model, prompt, 5, **wrong)
    with pytest.raises(ValueError, match="prompt"):
        models.sample(model, prompt[:, :0], 5)


def test_errors():
    for make in (
        lambda: models.cnn(dlref.manual, size=6),
        lambda: models.convolutional_autoencoder(dlref.manual, size=6),
        lambda: models.vision_transformer(dlref.manual, patch=3),
        lambda: models.row_classifier(dlref.manual, "Lstm"),
        lambda: models.autoencoder(dlref.manual, noise=-1.0),
        lambda: dlref.manual.nn.LastStep(torch.nn.LSTM(2, 2)),
    ):
        with pytest.raises(ValueError, match=r"\d|must"):
            make()
