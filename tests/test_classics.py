"""The perceptron's theorem, what it cannot learn, and radial basis functions from data."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

import dlref
from dlref import builtin, data, manual, models

SIDES = pytest.mark.parametrize("ns", [manual, builtin], ids=["manual", "builtin"])
XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0])


def separable(samples: int = 300, features: int = 5, margin: float = 0.05, seed: int = 0):
    """Points at least `margin` from a plane w.x + b = 0 with |(w, b)| = 1, their classes, and R of Novikoff's bound."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.randn(features + 1, generator=generator, dtype=torch.float64)
    plane /= plane.norm()
    x = torch.randn(20 * samples, features, generator=generator, dtype=torch.float64)
    z = x @ plane[:-1] + plane[-1]
    x, z = x[z.abs() >= margin][:samples], z[z.abs() >= margin][:samples]
    return x, (z > 0).long(), (x.square().sum(1) + 1).max().sqrt().item(), z.abs().min().item()


@SIDES
@pytest.mark.parametrize("seed", range(5))
def test_the_mistakes_are_bounded(ns, seed):
    """Novikoff 1962: at most (R / gamma)^2, for every order of the samples and every learning rate."""
    x, y, radius, gamma = separable(seed=seed)
    for lr in (1.0, 0.1):
        network = ns.nn.Perceptron(5).double()
        found = network.fit(x, y, seed=seed, lr=lr)
        assert found.converged and 0 < int(found.mistakes) <= (radius / gamma) ** 2, (found, (radius / gamma) ** 2)
        assert torch.equal(network.predict(x), y)


@SIDES
def test_xor_is_beyond_it(ns):
    network = ns.nn.Perceptron(2)
    with pytest.warns(UserWarning, match="mistakes in the last of 50 passes: no plane may separate the classes"):
        found = network.fit(*XOR, max_iter=50)
    assert not found.converged and found.epochs == 50 and (network.predict(XOR[0]) == XOR[1]).sum() <= 3


@SIDES
def test_xor_by_hidden_units(ns):
    x, y = XOR
    network = models.rbf_network(ns, 2, 4, 2, width=0.5)
    with torch.no_grad():
        network[0].centers.copy_(x)
    assert torch.equal(models.least_squares(network, x, y)(x).argmax(1), y)
    torch.manual_seed(0)
    network = models.mlp(ns, 2, 8, 2, "tanh")
    optimizer = ns.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
    ns.training.fit(network, ns.nn.CrossEntropyLoss(), optimizer, (x, y), epochs=300, batch_size=4, tolerance=None)
    assert torch.equal(network(x).argmax(1), y)


@pytest.mark.parametrize("variant", ["last", "averaged", "voted"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.filterwarnings("ignore:the perceptron still made")
def test_the_rule_is_the_gradient_of_the_loss(variant, classes):
    """By hand, by autograd, and by SGD on one sample after the other: the same weights."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, classes, (40,), generator=generator)
    networks = [ns.nn.Perceptron(3, classes, variant).double() for ns in (manual, builtin)]
    found = [network.fit(x, y, max_iter=3, lr=0.5) for network in networks]
    assert torch.equal(found[0].mistakes, found[1].mistakes) and found[0].epochs == found[1].epochs == 3
    for key, value in networks[0].state_dict().items():
        torch.testing.assert_close(value, networks[1].state_dict()[key], rtol=0, atol=1e-13)
    assert torch.equal(*(network.predict(x) for network in networks))
    twin = manual.nn.Perceptron(3, classes, variant).double()
    twin.load_state_dict(networks[1].state_dict())
    assert torch.equal(twin.decide(x), networks[1].decide(x))
    assert torch.equal(copy.deepcopy(twin).predict(x), networks[0].predict(x))
    if variant == "last":
        targets = torch.where(y[:, None] == (1 if classes == 2 else torch.arange(classes)), 1.0, -1.0).double()
        plain = manual.nn.Perceptron(3, classes).double()
        criterion, optimizer = manual.nn.PerceptronLoss("sum"), manual.optim.SGD(plain.parameters(), lr=0.5)
        order = torch.Generator().manual_seed(0)
        for _ in range(3):
            for i in torch.randperm(40, generator=order):
                dlref.manual.training.step(plain, criterion, optimizer, x[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(plain.weight, networks[0].weight, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore:the perceptron still made")
def test_averaged_and_voted_weights():
    """Both as their definition has it, from the weights after each step."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 2, (30,), generator=generator)
    w, history = torch.zeros(3, dtype=torch.float64), []
    for _ in range(2):
        for row, label in zip(x, y, strict=True):
            t, extended = 2 * label - 1, torch.cat([row, row.new_ones(1)])
            if t * (w @ extended) <= 0:
                w = w + t * extended
            history.append(w)
    history, rows = torch.stack(history), torch.cat([x, x.new_ones(30, 1)], 1)
    averaged, voted = (manual.nn.Perceptron(2, 2, variant).double() for variant in ("averaged", "voted"))
    for network in (averaged, voted):
        network.fit(x, y, max_iter=2, shuffle=False)
    torch.testing.assert_close(torch.cat([averaged.weight[0], averaged.bias]).detach(), history.mean(0))
    torch.testing.assert_close(voted.decide(x)[:, 0], (rows @ history.t()).sign().sum(1))
    assert voted.votes.sum() == 60


@SIDES
def test_wrong_use_of_the_perceptron(ns):
    x, y = XOR
    for wrong in ({"max_iter": 0}, {"lr": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ns.nn.Perceptron(2).fit(x, y, **wrong)
    for arguments in ((x[:, :1], y), (x, y[:3]), (x, y + 1), (x, y.float()), (x[:0], y[:0])):
        with pytest.raises(ValueError, match=r"x must be|y must hold"):
            ns.nn.Perceptron(2).fit(*arguments)
    for arguments in ((2, 1), (2, 2, "best")):
        with pytest.raises(ValueError, match="must be"):
            ns.nn.Perceptron(*arguments)


@SIDES
def test_centres_from_data(ns):
    """The centres are KMeans's, the widths the distances to the nearest other centres."""
    from sklearn.cluster import KMeans

    x = data.moons(200).train.tensors[0]
    layer = ns.nn.RBF(2, 5).fit_centers(x, neighbours=1, scale=2.0, seed=3)
    expected = KMeans(5, n_init=1, random_state=3).fit(x.double().numpy()).cluster_centers_
    np.testing.assert_allclose(layer.centers.detach().numpy(), expected, rtol=1e-6)
    for j in range(5):
        others = np.delete(np.linalg.norm(expected - expected[j], axis=1), j)
        assert math.isclose(layer.widths[j].item(), 2 * others.min(), rel_tol=1e-5)
    for wrong in ({"x": x[:4]}, {"x": x[:, :1]}, {"neighbours": 0}, {"scale": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            layer.fit_centers(**{"x": x, **wrong})
    with pytest.raises(ValueError, match="kernel must be one of gaussian"):
        ns.nn.RBF(2, 5, "cubic")


@SIDES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_least_squares(ns, ridge, weighted):
    """The gradient of the error vanishes where least_squares ends."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, n, generator=generator, dtype=torch.float64) for n in (3, 2))
    network = models.rbf_network(ns, 3, 8, 2).double()
    w = torch.randint(0, 4, (50,), generator=generator).double() if weighted else None
    weight = torch.ones(50, dtype=torch.float64) if w is None else w
    models.least_squares(network, x, y, ridge, w)
    last = network[1]
    error = (weight @ (network(x) - y).square()).sum() + ridge * weight.sum() * last.weight.square().sum()
    for gradient in torch.autograd.grad(error, (last.weight, last.bias)):
        assert gradient.abs().max() < 1e-10
    copies = weight.long()
    again = models.least_squares(network, x.repeat_interleave(copies, 0), y.repeat_interleave(copies, 0), ridge)(x)
    torch.testing.assert_close(models.least_squares(network, x, y, ridge, w)(x), again)
    one_hot = torch.nn.functional.one_hot(torch.arange(50) % 2).double()
    a = models.least_squares(network, x, torch.arange(50) % 2, ridge)(x)
    torch.testing.assert_close(a, models.least_squares(network, x, one_hot, ridge)(x))
    with pytest.raises(ValueError, match="must end in a Linear"):
        models.least_squares(network[:1], x, y)
    with pytest.raises(ValueError, match=r"y must be \(50, 2\)"):
        models.least_squares(network, x, y[:, :1])
    with pytest.raises(ValueError, match="ridge"):
        models.least_squares(network, x, y, -1.0)
    for wrong in (-weight, 0 * weight, weight[1:]):
        with pytest.raises(ValueError, match="weight must be 50 numbers"):
            models.least_squares(network, x, y, weight=wrong)
