"""The Classifier under Lightning: its three backends agree, clipping and accumulation are those of the plain loop."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
import yaml
from placed import DEVICE

from dlref import builtin, data
from dlref import lightning as dl
from dlref.data import text
from dlref.lightning import Autoencoder, Classifier, DigitsDataModule, ImagesDataModule, LanguageModel, TextDataModule

CONFIGS = Path(__file__).parent.parent / "configs"
ARGUMENTS = {"optimizer_args": {"momentum": 0.9, "nesterov": True}, "hidden": (16,), "lr": 0.1}


def fitted(module, datamodule, epochs: int = 1, **options) -> lightning.Trainer:
    trainer = lightning.Trainer(**{
        "max_epochs": epochs, "accelerator": DEVICE.type, "devices": 1, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "precision": "64-true", **options,
    })  # fmt: skip
    trainer.fit(module, datamodule)
    return trainer


def trained(backend: str, epochs: int = 2, **arguments) -> tuple[Classifier, lightning.Trainer]:
    torch.manual_seed(0)
    module = Classifier(backend=backend, **{**ARGUMENTS, **arguments}).double()
    flat = arguments.get("model", "mlp") in ("mlp", "perceptron", "rbf_network")
    return module, fitted(module, DigitsDataModule(batch_size=200, images=not flat), epochs)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*cannot be pickled")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_clip_val": 0.5, "accumulate_grad_batches": 3},
        {"schedule": "StepLR", "schedule_args": {"step_size": 2, "gamma": 0.5}, "schedule_every": "step"},
        {"schedule": "ReduceLROnPlateau", "schedule_args": {"patience": 0, "threshold": 10.0}, "label_smoothing": 0.1},
        {
            "schedule": "ReduceLROnPlateau",
            "schedule_args": {"patience": 4, "factor": 0.7, "threshold": 10.0},
            "schedule_every": "step",
        },
        {"schedule": "LambdaLR", "schedule_args": {"lr_lambda": lambda n: 0.9**n}, "schedule_every": "step"},
    ],
    ids=["plain", "clipped and accumulated", "schedule by step", "by plateau", "by plateau of steps", "by a function"],
)
def test_backends_agree(arguments):
    modules = {backend: trained(backend, **arguments) for backend in ("manual", "bridged", "builtin")}
    reference, reference_trainer = modules["builtin"]
    assert reference_trainer.callback_metrics["validation_accuracy"] > 0.3
    for backend in ("manual", "bridged"):
        module, trainer = modules[backend]
        for (name, a), (_, b) in zip(module.named_parameters(), reference.named_parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        assert lr == reference_trainer.optimizers[0].param_groups[0]["lr"]
        assert (lr < module.hp.lr) == ("schedule" in arguments)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_compiled():
    """A compiled step learns what an ordinary one learns, logs it, and is counted by Lightning."""
    arguments = {"gradient_clip_val": 0.5, "schedule": "StepLR", "schedule_args": {"step_size": 2, "gamma": 0.5},
                 "schedule_every": "step"}  # fmt: skip
    (plain, trainer), (compiled, other) = (trained("manual", compile=compile, **arguments) for compile in (False, True))
    assert any(compiled.compiled.recordings.values()) and not compiled.compiled.ordinary
    for (name, a), (_, b) in zip(compiled.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    assert trainer.global_step == other.global_step > 0
    for name, value in trainer.callback_metrics.items():
        torch.testing.assert_close(other.callback_metrics[name], value, rtol=0, atol=1e-12, check_dtype=False)
    with pytest.raises(ValueError, match="accumulate_grad_batches must be 1"):
        Classifier(backend="manual", compile=True, accumulate_grad_batches=2)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
@pytest.mark.parametrize("model,options", [
    ("cnn", {"channels": [2, 3], "hidden": 8}),
    ("residual_network", {"channels": [2, 3]}),
    ("row_classifier", {"hidden": 6}),
    ("vision_transformer", {"width": 8, "heads": 2, "depth": 1}),
    ("locally_connected", {"channels": [2, 3]}),
    ("perceptron", {}),
    ("rbf_network", {"units": 12}),
])  # fmt: skip
def test_backends_agree_on_every_network(model, options):
    arguments = {"model": model, "model_args": options, "hidden": (128,), "lr": 0.01, "epochs": 1}  # hidden is an mlp's
    if model == "perceptron":
        arguments["loss"] = "PerceptronLoss"
    if model == "rbf_network":
        arguments |= {"loss": "MSELoss", "rbf_args": {"neighbours": 3, "ridge": 1e-3}}
    reference = trained("builtin", **arguments)[0].state_dict()
    for backend in ("manual", "bridged"):
        found = trained(backend, **arguments)[0].state_dict()
        for name, value in reference.items():  # parameters and running statistics
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def agreed(make, datamodule, **options) -> list:
    """The three backends trained from one start on the same data: their parameters differ by rounding alone."""
    modules = []
    for backend in ("manual", "bridged", "builtin"):
        torch.manual_seed(0)
        modules.append(module := make(backend).double())
        fitted(module, datamodule, **options)
    reference = modules[-1].state_dict()
    for module in modules[:2]:
        for name, value in reference.items():
            torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=1e-9)
    return modules


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
@pytest.mark.parametrize("model,options", [
    ("autoencoder", {"hidden": 16, "code": 4, "noise": 0.2, "tied": True}),
    ("convolutional_autoencoder", {"channels": 3, "code": 4}),
    ("variational_autoencoder", {"hidden": 16, "code": 4}),
])  # fmt: skip
def test_autoencoders(model, options, tmp_path):
    datamodule = DigitsDataModule(images=model == "convolutional_autoencoder")
    make = lambda backend: Autoencoder(model, options, backend=backend)  # noqa: E731
    module = agreed(make, datamodule, limit_train_batches=3)[0]
    x = datamodule.split.test.tensors[0][:7].double().to(next(module.parameters()))
    assert module.encode(x).shape == (7, 4) and module.decode(module.encode(x)).shape == x.shape
    assert module.draw(5, x).shape == (5, *x.shape[1:])
    assert module.picture(tmp_path).read_bytes()[:4] == b"\x89PNG"


def test_drawn_codes_are_distributed_as_the_codes_are():
    module = Autoencoder().double()
    x = DigitsDataModule().split.train.tensors[0].to(next(module.parameters()))
    codes, seen = module.encode(x), []
    module.decode = lambda code: seen.append(code) or code
    drawn = module.draw(200_000, x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), rtol=0, atol=0.02 * codes.std().item())
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), rtol=0, atol=0.02 * codes.var().item())


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_language_model(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("the cat sat on the mat; the dog did not. " * 300)
    datamodule = TextDataModule(str(path), batch_size=8, length=16)
    make = lambda backend: LanguageModel("GRU", 4, 16, backend=backend, prompt="the ", lr=0.5, gradient_clip_val=1.0)  # noqa: E731
    modules = agreed(make, datamodule, epochs=2, limit_train_batches=30)
    # Read in parallel streams with the state carried on, the loss is that of each stream read at once.
    trainer = fitted(modules[0], datamodule, limit_train_batches=0)
    bits = trainer.test(modules[0], datamodule, verbose=False)[0]["test_bits"]
    streams = text.Streams(datamodule.text.test, 16, 16)
    rows = streams.rows
    assert len(streams) > 3
    whole = torch.nn.functional.cross_entropy(modules[0].network(rows[:, :-1]), rows[:, 1:]) / torch.log(
        torch.tensor(2.0)
    )
    assert abs(bits - whole.item()) < 1e-5 and bits < 3.5
    assert modules[0].write().startswith("the ") and len(modules[0].write()) == 504
    assert modules[0].hparams.alphabet == datamodule.text.alphabet
    other = tmp_path / "other.txt"
    other.write_text("0123456789" * 50)
    with pytest.raises(ValueError, match="alphabet"):
        fitted(modules[0], TextDataModule(str(other)))


def test_text(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("abcab" * 60)
    (tmp_path / "b" / "c.txt").write_text("bcd\u00e9" * 10)
    (tmp_path / "b" / "picture.bin").write_bytes(b"\xff\xfe\xff")
    found = text.load(tmp_path, validation=0.1, test=0.1)
    assert found.alphabet == "\ufffdabc" and text.decode(found.train[:5], found.alphabet) == "abcab"
    assert len(found.train) + len(found.validation) + len(found.test) == 300 + 2 + 40
    assert 0 in found.test  # a letter that the training part has not
    windows, streams = text.Windows(found.train, 7), text.Streams(found.train, 7, 3)
    assert torch.equal(windows[[0, 1]][0, -1:], windows[[0, 1]][1, :1])
    joined = torch.cat([*(streams[i][:, :-1] for i in range(len(streams))), streams[len(streams) - 1][:, -1:]], 1)
    assert torch.equal(joined, streams.rows) and joined[0, -1] == joined[1, 0]
    # p(b | a) = (2 + 1) / (2 + 3), p(c | b) = (1 + 1) / (1 + 3) by hand
    train, test = text.encode("ababc"[:4] + "c", "abc"), text.encode("abc", "abc")
    expected = -(torch.tensor(3 / 5).log2() + torch.tensor(2 / 5).log2()) / 2
    assert abs(text.ngram_bits(train, test, 1, 3) - expected.item()) < 1e-6
    for wrong, told in (
        ((tmp_path / "none",), "no "),
        ((tmp_path / "b" / "picture.bin",), "UTF-8"),
        ((tmp_path / "b",), "100"),
    ):
        with pytest.raises(ValueError, match=told):
            text.load(*wrong)
    for wrong in ({"batch_size": 0}, {"length": 0}, {"length": 1000}, {"test": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TextDataModule(str(tmp_path), **wrong)


def test_augmentation():
    plain, turned = (DigitsDataModule(batch_size=50, images=True, augment=augment) for augment in (False, True))
    batches = [next(iter(module.train_dataloader())) for module in (plain, turned, turned)]
    assert torch.equal(batches[0][1], batches[1][1]) and batches[1][0].shape == (50, 1, 8, 8)
    change = (batches[1][0] - batches[0][0]).flatten(1).norm(dim=1)
    assert (change > 0.1).all() and change.unique().numel() == 50  # each image its own
    assert not torch.equal(batches[1][0], batches[2][0])
    assert torch.equal(next(iter(plain.test_dataloader()))[0], next(iter(turned.test_dataloader()))[0])
    still = data.augmentation(0.0, 0, 0, 0, 0)
    torch.testing.assert_close(still(batches[0][0]), batches[0][0], rtol=0, atol=1e-5)
    assert abs(turned.split.background - batches[0][0].min().item()) < 1e-6  # what comes in is as dark as the paper
    with pytest.raises(ValueError, match="images=True"):
        DigitsDataModule(augment=True)
    with pytest.raises(ValueError, match="augment_args must be arguments of augmentation"):
        DigitsDataModule(images=True, augment=True, augment_args={"turn": 3})


SETS = [("mnist", 1, 28, 200, 10), ("fashion_mnist", 1, 28, 200, 10), ("cifar10", 3, 32, 250, 50)]


@pytest.mark.parametrize("name,channels,size,number,last", SETS)
def test_torchvision_images(name, channels, size, number, last, directory):
    """They are read as torchvision reads them, standardised by the training part, and kept in order."""
    from torchvision.transforms.functional import pil_to_tensor

    split = data.images(name, directory, validation=0.2)
    shape = (channels, size, size)
    assert [len(p) for p in (split.train, split.validation, split.test)] == [0.8 * number, 0.2 * number, last]
    x, _ = split.train.tensors
    assert x.shape[1:] == shape and abs(x.mean()) < 1e-5 and abs(x.std(correction=0) - 1) < 1e-4
    assert split.validation.tensors[1].bincount().max() == number / 50 and split.features == channels * size**2
    import torchvision

    theirs = getattr(torchvision.datasets, data.IMAGES[name][0])(directory, train=False)
    for i in range(10):
        image, label = theirs[i]
        ours, ours_label = split.test[i]
        torch.testing.assert_close(
            ours * split.std + split.mean, pil_to_tensor(image).to(ours) / 255.0, rtol=0, atol=1e-6
        )
        assert label == ours_label
    module = ImagesDataModule(name, str(directory), batch_size=8, validation=0.2)
    assert next(iter(module.train_dataloader()))[0].shape == (8, split.features)
    assert (
        ImagesDataModule(name, str(directory), images=True, augment=True, validation=0.2).split.train[0][0].shape
        == shape
    )


def test_missing_images_are_told(tmp_path, monkeypatch):
    from urllib.error import URLError

    with pytest.raises(ValueError, match=r"the files of mnist must be in .*: give --download"):
        data.images("mnist", tmp_path)
    with pytest.raises(ValueError, match="the data must be one of mnist"):
        data.images("minst", tmp_path)

    def nowhere(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", nowhere)
    with pytest.raises(ValueError, match="download them elsewhere and put them there"):
        data.images("mnist", tmp_path, download=True)
    for wrong in ({"scale": "feature"}, {"validation": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            data.images("mnist", tmp_path, **wrong)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:The number of training")
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations(path, monkeypatch):
    """What configs/ asks for can be made, and takes a step."""
    options = yaml.safe_load(path.read_text())
    made = []
    for kind, usual in (("model", "Classifier"), ("data", "DigitsDataModule")):
        given = options[kind] if "class_path" in options[kind] else {"class_path": usual, "init_args": options[kind]}
        if kind == "data" and path.stem.startswith("text"):
            given["init_args"]["limit"] = 5000
        made.append(getattr(dl, given["class_path"].split(".")[-1])(**given["init_args"]))
    module, datamodule = made
    trainer = fitted(module, datamodule, limit_train_batches=1, limit_val_batches=1, precision="32-true")
    assert torch.isfinite(trainer.callback_metrics["validation_loss"])
    if (schedule := options["model"].get("schedule_args")) is not None:
        epochs = options["trainer"]["max_epochs"]
        steps = epochs * len(datamodule.train_dataloader())
        assert schedule.get("T_max", epochs) == epochs and schedule.get("total_steps", steps) == steps


def test_unknown_models_and_arguments_are_told():
    with pytest.raises(ValueError, match=r"model must be a known name, it is 'cn'; near it: cnn"):
        Classifier(model="cn")
    with pytest.raises(ValueError, match="model_args must be arguments of cnn"):
        Classifier(model="cnn", model_args={"width": 3})


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_accumulation_is_the_mean_over_the_batches_and_clipping_bounds_it():
    module, _ = trained("manual", epochs=1, gradient_clip_val=0.5, accumulate_grad_batches=7)
    torch.manual_seed(0)
    plain = Classifier(backend="builtin", **ARGUMENTS).double().network
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    loader = DigitsDataModule(batch_size=200).train_dataloader()
    for x, y in loader:  # 7 batches: one update
        (builtin.nn.CrossEntropyLoss()(plain(x.to(plain[0].weight)), y.to(plain[0].weight.device)) / 7).backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    optimizer.step()
    for a, b in zip(module.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, check_device=False)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_the_manual_backend_builds_no_graph(monkeypatch):
    def graph(*arguments, **options):
        raise AssertionError("autograd ran")

    monkeypatch.setattr(torch.autograd, "backward", graph)
    module = Classifier(**ARGUMENTS)
    z, error = module.gradients(torch.randn(4, 64), torch.tensor([0, 1, 2, 3]))
    assert z.grad_fn is None and error.grad_fn is None
    assert all(p.grad is not None for p in module.network.parameters())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"backend": "hand"}, "backend must be"),
        ({"optimizer": "sdg"}, "SGD"),
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"optimizer_args": {"nonsense": 1}}, "optimizer_args must be arguments of SGD"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches must be"),
    ],
)
def test_wrong_arguments(arguments, told):
    with pytest.raises(ValueError, match=told):
        Classifier(**arguments)
