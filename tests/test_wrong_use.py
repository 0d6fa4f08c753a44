"""Wrong use of what trains: one line that says what must hold, status 2, nothing written."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

from dlref import data, manual, models
from dlref.cli import main
from dlref.cli.train import by_name
from dlref.core.ranges import RANGES, check_number
from dlref.core.sizes import large
from dlref.lightning import Autoencoder, Classifier, DigitsDataModule, LanguageModel, TextDataModule
from dlref.lightning.rehearsal import rehearse, to_watch
from dlref.manual.optim.named import schedule_named

BRIEF = [
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
    "--trainer.accelerator",
    "cpu",
]
LIGHTNING = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*does not have many workers",
    "ignore:.*LeafSpec", "ignore:The number of training",
)  # fmt: skip
# What is given after `dlref`, and what the line says.
WRONG = {
    "smoothing": ("fit --model.label_smoothing 1.1", "label_smoothing must be a number in [0, 1], it is 1.1"),
    "smoothing of another loss": ("fit --model.label_smoothing 0.1 --model.loss MSELoss", "CrossEntropyLoss alone"),
    "classes": ("fit --model.classes 3", "classes must be at least the 10 of the data, it is 3"),
    "features": ("fit --model.in_features 63", "in_features must be the 64 numbers of a sample, it is 63"),
    "images for rows": ("fit --data.images true", "leave out --data.images true"),
    "rows for images": ("fit --model.model cnn", "give --data.images true"),
    "rows for an autoencoder": ("fit --model Autoencoder --model.model convolutional_autoencoder", "--data.images true"),
    "rate": ("fit --model.lr 1e300", "float32 holds, it is 1e+300"),
    "rate inf": ("fit --model.lr .inf", "lr must be greater than 0, it is inf"),
    "rate nan": ("fit --model.lr .nan", "lr must be greater than 0, it is nan"),
    "rate twice": ('fit --model.optimizer_args {"lr":5}', "leave it out there"),
    "momentum": ('fit --model.optimizer_args {"momentum":"text"}', "momentum must be at least 0, it is 'text'"),
    "step 0": ('fit --model.schedule StepLR --model.schedule_args {"step_size":0}', "step_size must be an integer of"),
    "step -1": ('fit --model.schedule StepLR --model.schedule_args {"step_size":-1}', "step_size must be"),
    "gamma": ('fit --model.schedule StepLR --model.schedule_args {"step_size":1,"gamma":.nan}', "gamma must be"),
    "T_max": ('fit --model.schedule CosineAnnealingLR --model.schedule_args {"T_max":0}', "T_max must be"),
    "no schedule": ('fit --model.schedule_args {"step_size":5}', "give schedule too"),
    "arguments of an mlp": ('fit --model.model_args {"hidden":3}', "model_args must be those of another model"),
    "hidden of a perceptron": ("fit --model.model perceptron --model.hidden [3]", "hidden is of the mlp alone"),
    "centres": ('fit --model.rbf_args {"ridge":1}', "rbf_args must be those of an rbf_network"),
    "augmentation": ('fit --data.images true --model.model cnn --data.augment_args {"shear":1}', "--data.augment true"),
    "digits for text": ("fit --model LanguageModel", "give --data TextDataModule"),
    "text for digits": (f"fit --data TextDataModule --data.path {Path(__file__)}", "give --data DigitsDataModule or"),
    "accelerator": ("fit --trainer.accelerator tpu", "torch_xla"),
    "validation every 0 epochs": ("fit --trainer.check_val_every_n_epoch 0", "check_val_every_n_epoch must be"),
    "batch": (f"fit --data.batch_size {2**63}", "batch_size must be an integer of at least 1, and a number that int64 holds"),
    "memory": ("fit --model.hidden [99999999]", "must fit into memory; they take 60.0 GB"),
    "depth": ('fit --model.model vision_transformer --data.images true --model.model_args {"depth":99999}', "depth must be"),
    "checkpoint": ("fit --ckpt_path last", "ckpt_path must be an existing file, there is no last"),
    "checkpoint to test": ("test --ckpt_path nowhere.ckpt", "nowhere.ckpt"),
    "nothing to test": ("test --data.test 0", "the test part must hold data"),
    "nothing to validate": ("validate --data.validation 0", "the validation part must hold data"),
    "watched": ("fit --checkpoint.monitor losses", "checkpoint.monitor must be one of train_loss"),
    "validation within an epoch": ("fit --trainer.val_check_interval 0", "val_check_interval must be greater than 0"),
    "no flag": ('fit --model.optimizer_args {"foreach":"NaN"}', "optimizer_args.foreach must be true or false, it is 'NaN'"),
    "no number": ('fit --model.optimizer_args {"dampening":""}', "optimizer_args.dampening must be a number, it is ''"),
    "no alphabet": ("fit --model LanguageModel --model.alphabet= --data TextDataModule", "alphabet must have at least one"),
    "no length": ("fit --model LanguageModel --model.length null --data TextDataModule", "length must be an integer"),
    "no rate": ("fit --model.lr null", "lr must be greater than 0, it is None"),
    "no share": ("fit --data.validation null", "validation must be a number in [0, 1), it is None"),
    "no dropout": ("fit --model.dropout null", "dropout must be a number in [0, 1), it is None"),
    "batches": ("fit --trainer.overfit_batches 1", "trainer.overfit_batches must be 0"),
    "checkpoint nowhere": ("fit --checkpoint.dirpath=", "must name a file or a folder, it is empty"),
    "page nowhere": ("report relu6 --out=", "out must name a file or a folder, it is empty"),
    "run nowhere": ("fit --runs=", "runs must name a file or a folder, it is empty"),
    "results nowhere": ("compare relu6 --json=", "json must name a file or a folder, it is empty"),
    "checkpoint outside": ("fit --checkpoint.filename ../x", "must name a file in the run's folder"),
    "mode": ("fit --on_nonfinite halt", "on_nonfinite must be a known name"),
    "epochs": (f"report --epochs {10**21}", "int64 holds, it is 1e+21"),
    "seeds": ("experiment run xor --seeds 0", "seeds"),
}  # fmt: skip


@LIGHTNING
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_one_line_and_leaves_nothing(case, tmp_path, monkeypatch, capfd):
    arguments, told = WRONG[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dlref"])
    brief = BRIEF[:4] if "accelerator" in arguments else BRIEF
    with pytest.raises(SystemExit) as ended:
        main([*arguments.split(), *(brief if arguments.split()[0] in ("fit", "test", "validate") else ())])
    errors = capfd.readouterr().err
    assert ended.value.code == 2 and errors.startswith("dlref: error: ")
    assert errors.count("\n") == 1 and told in errors, errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", RANGES)
def test_every_number_of_an_option_has_a_range(name):
    for value in (
        float("nan"),
        float("inf"),
        -float("inf"),
        1e300,
        2**63,
        -(2**63) - 1,
        [float("nan")],
        {"a": [1e300]},
    ):
        with pytest.raises(ValueError, match=rf"model\.{name}.* must be"):
            check_number(f"model.{name}", value)
    for value in ("", "text", [], None, True, [1, "text"]):
        with pytest.raises(ValueError, match="must"):
            check_number(name, value, needed=True)
    held = RANGES[name]
    check_number(name, 0.5 if held.holds(0.5) else 1)
    outside = -1 if held.least == 0 else held.least - 1
    with pytest.raises(ValueError, match=f"{name} must be .*, it is {outside}"):
        check_number(name, outside)


def test_other_numbers_must_be_finite_and_no_larger_than_a_type_holds():
    for value in (3, -1.5, "nan", None, [1, 2], {"a": 0}, True, 2**63 - 1, 1e38):
        check_number("other", value)
    with pytest.raises(ValueError, match="other must be a finite number, it is nan"):
        check_number("other", {"x": [1.0, float("nan")]} and [float("nan")])
    with pytest.raises(ValueError, match=r"other\.x must be a finite number"):
        check_number("other", {"x": [1.0, float("inf")]})


@pytest.mark.parametrize(("name", "arguments"), [
    ("StepLR", {"step_size": 0.5}), ("StepLR", {"step_size": "2"}), ("ExponentialLR", {"gamma": 1e30}), ("MultiStepLR",
    {"milestones": "text"}), ("CosineAnnealingWarmRestarts", {"T_0": 0}), ("CyclicLR", {"base_lr": 0.1, "max_lr": "x"}),
    ("ReduceLROnPlateau", {"factor": 2.0}), ("LambdaLR", {"lr_lambda": "x"}),
    ("ExponentialLR", {"gamma": 0.5, "last_epoch": 3}),
])  # fmt: skip
def test_a_schedule_that_leads_nowhere_is_refused(name, arguments):
    optimizer = manual.optim.SGD([torch.nn.Parameter(torch.zeros(2))], 0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"must|should"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule_named(manual, name, optimizer, **arguments)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_rehearsal_teaches_nothing():
    split = DigitsDataModule(images=True)
    module = Classifier(model="residual_network", model_args={"channels": [4]})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    rehearse(module, split, "fit")
    assert module.training and all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(3)))


def test_what_a_checkpoint_watches(tmp_path):
    (tmp_path / "text").write_text("all work and no play. " * 20)
    module = Classifier()
    assert to_watch("validation_loss", module, DigitsDataModule()) == "validation_loss"
    assert to_watch("validation_loss", module, DigitsDataModule(validation=0)) == "train_loss"
    assert to_watch("validation_bits", LanguageModel(), TextDataModule(tmp_path / "text")) == "validation_bits"
    assert to_watch(None, module, DigitsDataModule()) is None and to_watch("x", object(), object()) == "x"
    with pytest.raises(ValueError, match="train_loss"):
        to_watch("validation_accuracy", module, DigitsDataModule(validation=0))


@LIGHTNING
@pytest.mark.parametrize("backend", ["manual", "bridged", "builtin"])
@pytest.mark.filterwarnings("ignore:Total length of")
def test_a_fault_on_the_way_has_status_1_and_names_it(backend, tmp_path, capfd):
    options = [
        "--model.backend",
        backend,
        "--model.lr",
        "1e12",
        "--runs",
        str(tmp_path / "runs"),
        "--trainer.max_epochs",
        "2",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["fit", *options, *BRIEF])
    errors = capfd.readouterr().err
    assert ended.value.code == 1 and errors.count("error: ") == 1
    assert re.search(r"in epoch 1, batch (\d) \(step \1\): lower the learning rate", errors.splitlines()[-1])


@LIGHTNING
@pytest.mark.parametrize("option", [["--trainer.fast_dev_run", "true"], ["--trainer.logger", "false"]])
def test_nothing_lies_outside_of_the_run(option, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    main(["fit", *option, "--trainer.max_epochs", "1", *BRIEF])
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if "fast_dev_run" in option[0] else ["runs"])


@LIGHTNING
def test_parts_may_be_empty(tmp_path, capfd):
    """Without a validation part the training loss is watched; an autoencoder draws what it has."""
    main(["fit", "--data.validation", "0", "--data.test", "0", "--model", "Autoencoder", "--trainer.max_epochs", "1",
          "--runs", str(tmp_path), *BRIEF])  # fmt: skip
    assert not capfd.readouterr().err
    assert (tmp_path / "001-autoencoder-manual/reconstructions.png").is_file()
    assert (tmp_path / "001-autoencoder-manual/checkpoints/best.ckpt").is_file()


def test_modules_refuse_what_they_would_not_heed():
    for make, told in ((lambda: Autoencoder(beta=2.0), "beta is of the variational_autoencoder"),
                       (lambda: Classifier(accumulate_grad_batches=None), "accumulate_grad_batches must be"),
                       (lambda: Classifier(on_nonfinite="skip", compile=True), "on_nonfinite must be stop or ignore"),
                       (lambda: DigitsDataModule(augment_args={"shear": 1.0}), "augment_args must come with augment"),
                       (lambda: LanguageModel(temperature=float("nan")), "temperature must be")):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            make()


def test_networks_that_no_memory_holds_are_counted_before_they_are_made():
    with pytest.raises(ValueError, match=r"must fit into memory; they take [\d,.]+ GB"):
        models.mlp(manual, 10**6, [10**6], 10)
    assert large([64, [5000, 5000], 10]) and not large([64, [128], 10, "relu", 0.0])
    torch.manual_seed(0)
    one = models.mlp(manual, 500, [500, 500], 10)  # counted, and drawn as if it were not
    torch.manual_seed(0)
    other = models.mlp.__wrapped__(manual, 500, [500, 500], 10)
    assert torch.equal(one[0].weight, other[0].weight)


def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch):
    import torchvision

    def fails(directory, train, download):
        (tmp_path / "data/MNIST/raw").mkdir(parents=True)
        (tmp_path / "data/MNIST/raw/images.gz").write_bytes(b"half")
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fails)
    with pytest.raises(ValueError, match="no network"):
        data.images("mnist", tmp_path / "data", download=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("download", [True, False])
def test_what_somebody_else_puts_beside_a_data_set_stays(download, tmp_path, monkeypatch):
    import torchvision

    def fails(directory, train, download):
        (tmp_path / "theirs.txt").write_text("from another program, meanwhile")
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fails)
    with pytest.raises(ValueError, match="no network"):
        data.images("mnist", tmp_path, download=download)
    assert (tmp_path / "theirs.txt").exists()


def test_what_to_do_about_numbers_is_an_option_of_the_model():
    assert by_name(["--on_nonfinite", "skip"]) == ["--model.on_nonfinite", "skip"]
    assert by_name(["--on_nonfinite=skip"]) == ["--model.on_nonfinite=skip"]
