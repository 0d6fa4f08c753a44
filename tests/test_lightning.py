"""The Classifier under Lightning: its three backends agree, clipping and accumulation are those of the plain loop."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
import yaml

from dlref import builtin
from dlref.lightning import Classifier, DigitsDataModule

CONFIGS = Path(__file__).parent.parent / "configs"
ARGUMENTS = {"optimizer_args": {"momentum": 0.9, "nesterov": True}, "hidden": (16,), "lr": 0.1}


def trained(backend: str, epochs: int = 2, **arguments) -> tuple[Classifier, lightning.Trainer]:
    torch.manual_seed(0)
    module = Classifier(backend=backend, **{**ARGUMENTS, **arguments}).double()
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, precision="64-true",
    )  # fmt: skip
    trainer.fit(module, DigitsDataModule(batch_size=200, images=arguments.get("model", "mlp") != "mlp"))
    return module, trainer


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_clip_val": 0.5, "accumulate_grad_batches": 3},
        {"schedule": "StepLR", "schedule_args": {"step_size": 2, "gamma": 0.5}, "schedule_every": "step"},
        {"schedule": "ReduceLROnPlateau", "schedule_args": {"patience": 0, "threshold": 10.0}, "label_smoothing": 0.1},
    ],
    ids=["plain", "clipped and accumulated", "schedule by step", "schedule by plateau"],
)
def test_backends_agree(arguments):
    modules = {backend: trained(backend, **arguments) for backend in ("manual", "bridged", "builtin")}
    reference, reference_trainer = modules["builtin"]
    assert reference_trainer.callback_metrics["validation_accuracy"] > 0.3
    for backend in ("manual", "bridged"):
        module, trainer = modules[backend]
        for (name, a), (_, b) in zip(module.named_parameters(), reference.named_parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
        assert trainer.optimizers[0].param_groups[0]["lr"] == reference_trainer.optimizers[0].param_groups[0]["lr"]


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
@pytest.mark.parametrize("model,options", [
    ("cnn", {"channels": [2, 3], "hidden": 8}),
    ("residual_network", {"channels": [2, 3]}),
    ("row_classifier", {"hidden": 6}),
    ("vision_transformer", {"width": 8, "heads": 2, "depth": 1}),
])  # fmt: skip
def test_backends_agree_on_every_network(model, options):
    arguments = {"model": model, "model_args": options, "lr": 0.01, "epochs": 1}
    reference = trained("builtin", **arguments)[0].state_dict()
    for backend in ("manual", "bridged"):
        found = trained(backend, **arguments)[0].state_dict()
        for name, value in reference.items():  # parameters and running statistics
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations(path):
    """What configs/ asks for can be made."""
    options = yaml.safe_load(path.read_text())
    module, data = Classifier(**options["model"]), DigitsDataModule(**options["data"])
    x, y = next(iter(data.train_dataloader()))
    assert module(x).shape == (len(y), 10)


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
        (builtin.nn.CrossEntropyLoss()(plain(x.double()), y) / 7).backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    optimizer.step()
    for a, b in zip(module.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


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
