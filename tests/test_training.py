"""Training: both namespaces from one start over the same batches, data, models, and the loop."""

from __future__ import annotations

import copy

import pytest
import torch
from placed import DEVICE, moved

import dlref
from dlref import data, models

DROPOUT = 0.1 if DEVICE.type == "cpu" else 0.0  # elsewhere torch draws other numbers than ours
SETTINGS = {
    "SGD Nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "SGD weight decay": ("SGD", {"lr": 0.1, "weight_decay": 1e-3}),
    "Adagrad": ("Adagrad", {"lr": 0.02}),
    "RMSprop centered": ("RMSprop", {"lr": 1e-3, "centered": True}),
    "Adam amsgrad": ("Adam", {"lr": 2e-3, "amsgrad": True}),
    "AdamW": ("AdamW", {"lr": 2e-3, "weight_decay": 0.01}),
}


def twins(make, seed=0):
    """The same model of both namespaces, with the same weights."""
    torch.manual_seed(seed)
    ours = make(dlref.manual)
    theirs = make(dlref.builtin)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    return ours, theirs


@torch.no_grad()
def largest_difference(a, b) -> float:
    return max(float((p - q).abs().max()) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", SETTINGS)
def test_thirty_epochs_of_digits(name):
    """Explicit gradients against autograd, float64: no parameter differs by more than 1e-10 after 30 epochs."""
    optimizer, options = SETTINGS[name]
    train = moved(data.digits(dtype=torch.float64).train.tensors)
    ours, theirs = twins(lambda ns: _net(ns).double())
    histories = []
    for ns, network in ((dlref.manual, ours), (dlref.builtin, theirs)):
        chosen = getattr(ns.optim, optimizer)(network.parameters(), **options)
        criterion = ns.nn.CrossEntropyLoss(label_smoothing=0.1)
        histories.append(ns.training.fit(network, criterion, chosen, train, epochs=30, batch_size=128, tolerance=None))
    assert largest_difference(ours, theirs) <= 1e-10
    assert histories[0][-1]["loss"] < 0.75 * histories[0][0]["loss"]
    assert abs(histories[0][-1]["loss"] - histories[1][-1]["loss"]) <= 1e-6  # float32 sums of the records


def _net(ns):
    nn = ns.nn
    return nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 32), nn.GELU(), nn.Linear(32, 10))


@pytest.mark.parametrize(
    ("load", "model", "criterion"),
    [
        (data.noisy_line, lambda ns: models.linear_regression(ns, 1), "MSELoss"),
        (data.diabetes, lambda ns: models.linear_regression(ns, 10), "SmoothL1Loss"),
        (data.iris, lambda ns: models.softmax_regression(ns, 4, 3), "CrossEntropyLoss"),
        (data.wine, lambda ns: models.mlp(ns, 13, 16, 3, "SiLU"), "CrossEntropyLoss"),
        (data.moons, lambda ns: models.mlp(ns, 2, (16, 8), 2, "leaky_relu", dropout=DROPOUT), "CrossEntropyLoss"),
    ],
)
def test_models_agree_and_learn(load, model, criterion):
    parts = load(dtype=torch.float64)
    ours, theirs = twins(lambda ns: model(ns).double())
    for ns, network in ((dlref.manual, ours), (dlref.builtin, theirs)):
        torch.manual_seed(0)
        optimizer = ns.optim.Adam(network.parameters(), lr=0.01)
        history = ns.training.fit(network, getattr(ns.nn, criterion)(), optimizer, moved(parts.train.tensors),
                                  moved(parts.validation.tensors), epochs=5, batch_size=32)  # fmt: skip
        assert history[-1]["loss"] < history[0]["loss"]
        assert {"epoch", "loss", "seconds", "validation_loss"} <= set(history[-1])
    assert largest_difference(ours, theirs) <= 1e-10


def test_logistic_regression():
    parts = data.breast_cancer(dtype=torch.float64)
    x, y = moved(parts.train.tensors)
    ours, theirs = twins(lambda ns: models.logistic_regression(ns, 30).double())
    for ns, network in ((dlref.manual, ours), (dlref.builtin, theirs)):
        optimizer = ns.optim.SGD(network.parameters(), lr=0.1)
        ns.training.fit(
            network, ns.nn.BCEWithLogitsLoss(), optimizer, (x, y.double()[:, None]), epochs=30, batch_size=64
        )
    assert largest_difference(ours, theirs) <= 1e-12
    assert ((ours(x)[:, 0] > 0) == (y == 1)).double().mean() > 0.97


def test_linear_regression_finds_the_line():
    parts = data.noisy_line(noise=0.0, dtype=torch.float64)
    network = models.linear_regression(dlref.manual, 1).double()
    optimizer = dlref.manual.optim.SGD(network.parameters(), lr=0.1)
    fit = dlref.manual.training.fit
    fit(
        network,
        dlref.manual.nn.MSELoss(),
        optimizer,
        moved(parts.train.tensors),
        epochs=100,
        batch_size=20,
        tolerance=1e-12,
    )
    x, y = moved(parts.test.tensors)
    assert float((network(x) - y).detach().abs().max()) < 1e-4


def settings(**options):
    network = models.mlp(dlref.manual, 4, 8, 3)
    optimizer = dlref.manual.optim.SGD(network.parameters(), lr=options.pop("lr", 0.1))
    train = options.pop("train", moved(data.iris().train.tensors))
    return (network, dlref.manual.nn.CrossEntropyLoss(), optimizer, train), options


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"patience": 0},
                                     {"train": (torch.zeros(0, 4), torch.zeros(0).long())},
                                     {"train": (torch.zeros(3, 4), torch.zeros(2).long())}])  # fmt: skip
def test_wrong_use_of_fit(options):
    args, options = settings(**options)
    with pytest.raises(ValueError, match="must"):
        dlref.manual.training.fit(*args, **options)


def test_fit_stops():
    args, _ = settings(lr=1e-9)
    assert len(dlref.manual.training.fit(*args, epochs=50, patience=3)) == 4  # converged: nothing moves
    args, _ = settings()
    assert len(dlref.manual.training.fit(*args, epochs=50, callback=lambda record: record["epoch"] == 2)) == 2

    def interrupt(record):
        raise KeyboardInterrupt

    args, _ = settings()
    assert len(dlref.manual.training.fit(*args, callback=interrupt)) == 1
    args, _ = settings(lr=1e30)
    with pytest.raises(ArithmeticError, match=r"in epoch 2, batch 1: lower the learning rate"):
        dlref.manual.training.fit(*args, epochs=50)


def test_schedule_and_clipping_agree():
    train = moved(data.iris(dtype=torch.float64).train.tensors)
    ours, theirs = twins(lambda ns: models.mlp(ns, 4, 8, 3).double())
    for ns, network in ((dlref.manual, ours), (dlref.builtin, theirs)):
        optimizer = ns.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
        schedule = ns.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        ns.training.fit(network, ns.nn.CrossEntropyLoss(), optimizer, train, epochs=6, batch_size=16, schedule=schedule,
                        max_norm=0.5)  # fmt: skip
        assert optimizer.param_groups[0]["lr"] == 0.5 * 0.5**3
    assert largest_difference(ours, theirs) <= 1e-12


# --- data and models --------------------------------------------------------------------------------------------


def test_digits():
    """1,797 images in all, about 180 a class, in three parts that share none."""
    parts = data.digits()
    counts = [len(part) for part in (parts.train, parts.validation, parts.test)]
    assert sum(counts) == 1797
    assert counts == [1257, 180, 360]
    labels = torch.cat([part.tensors[1] for part in (parts.train, parts.validation, parts.test)])
    assert (labels.bincount() >= 174).all() and (labels.bincount() <= 183).all()
    for part in (parts.train, parts.validation, parts.test):
        share = part.tensors[1].bincount() / len(part)
        assert (share - 0.1).abs().max() < 0.012  # stratified
    x = parts.train.tensors[0]
    assert abs(float(x.mean())) < 1e-5 and abs(float(x.std(correction=0)) - 1) < 1e-5
    assert parts.mean.dim() == 0  # one global mean, as opposed to one a row or one a feature
    assert torch.equal(data.digits(seed=3).test.tensors[1], data.digits(seed=3).test.tensors[1])
    assert not torch.equal(data.digits(seed=3).test.tensors[1], data.digits(seed=4).test.tensors[1])


def test_standardisation_is_fitted_on_the_training_part():
    parts = data.digits(scale="feature", dtype=torch.float64)
    x = parts.train.tensors[0]
    assert float(x.mean(0).abs().max()) < 1e-12
    std = x.std(0, correction=0)
    assert torch.logical_or((std - 1).abs() < 1e-12, std == 0).all()  # a pixel that is always blank stays 0
    assert float(parts.test.tensors[0].mean(0).abs().max()) > 1e-3
    assert torch.isfinite(parts.test.tensors[0]).all()
    assert float(data.digits(scale=None).train.tensors[0].max()) == 16


@pytest.mark.parametrize("options", [{"validation": 0.5, "test": 0.5}, {"test": -0.1}, {"scale": "row"}])
def test_wrong_splits(options):
    with pytest.raises(ValueError, match="must be"):
        data.iris(**options)
    assert len(data.iris(validation=0, test=0).test) == 0


@pytest.mark.parametrize(("arguments", "message"), [
    ((0, 4, 3), "positive"), ((4, (8, -1), 3), "positive"), ((4, 8.5, 3), "positive"),
    ((4, 8, 3, "rellu"), "near it: ReLU"), ((4, 8, 3, "relu", 1.0), r"\[0, 1\)"),
])  # fmt: skip
def test_wrong_models(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        models.mlp(dlref.manual, *arguments)


def test_a_model_exists_twice():
    ours, theirs = models.mlp(dlref.manual, 4, (8, 8), 3, "prelu"), models.mlp(dlref.builtin, 4, (8, 8), 3, "prelu")
    assert repr(ours) == repr(theirs)
    assert type(theirs) is torch.nn.Sequential and type(ours) is dlref.manual.nn.Sequential
