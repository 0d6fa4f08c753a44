"""One thread a worker, small files of torchvision's data sets, and how many samples each kind of test compared."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers run side by side: threads of several would wait for each other

import gc
import hashlib
import pickle
import signal
import struct
from collections import Counter
from pathlib import Path

import pytest
import torch

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

# torch.manual_seed keeps, for each kind of device that is not in use, the text of the whole stack, until the device is: where
# there is none, that takes longer than most of what is seeded, and is never read.
for kind in (torch.cuda, torch.xpu, torch.mtia):
    if not kind.is_available():
        kind.manual_seed_all = lambda seed: None

# What takes more than a few seconds in all; `pytest -m "not slow"` leaves it out.
SLOW = {
    "test_attention": "test_second_derivatives test_values_and_gradients",
    "test_bench": (
        "test_estimators_are_fitted_to_the_same_losses_and_compared_with_scikit_learns "
        "test_the_command_writes_what_it_measured"
    ),
    "test_blocks": "test_commands test_commands_that_are_not_run_have_their_options test_python",
    "test_calls": "test_tensor_arguments_are_known test_wrong_arguments",
    "test_check": (
        "test_a_change_is_one_finding_and_hides_none "
        "test_modules_pass test_optimizers_and_schedules_pass test_other_names_and_fewer_options "
        "test_other_styles_are_not_accused test_planted_errors_are_found test_rows_beyond_sixteen_bits "
        "test_the_command test_the_pytest_plug_in_and_the_page_as_pasted test_the_pages_kernel_without_a_term "
        "test_what_is_right_passes"
    ),
    "test_classics": "test_the_mistakes_are_bounded",
    "test_cli": (
        "test_a_language_model_and_an_autoencoder_leave_what_they_made test_fit_then_test_and_predict "
        "test_images_by_name test_wrong_use_is_told_in_one_line"
    ),
    "test_closure": "test_lbfgs_searches_among_waves_as_torch_does test_lbfgs_searches_as_torch_does",
    "test_compare": "test_pairs_agree test_what_is_wrong_departs",
    "test_compile_step": "test_compiled test_every_model test_every_optimizer test_modes_and_versions test_schedules",
    "test_crossing": "test_options_meet test_options_of_modules_meet",
    "test_device": "test_compare_and_check",
    "test_docstrings": "test_a_name_says_what_it_is",
    "test_domain": (
        "test_a_function_says_where test_a_wrong_expression_is_told_in_one_line "
        "test_modules_optimizers_and_schedules test_the_command_line test_the_pytest_plug_in"
    ),
    "test_empty": "test_module test_operation",
    "test_estimators": (
        "test_checks test_equals_scikit_learn "
        "test_gradient_manual_cpu test_n_iter_no_change_inf_builtin_cpu test_n_iter_no_change_inf_manual_cpu "
        "test_pipeline_search_and_scores"
    ),
    "test_estimators_export": "test_export test_export_of_networks test_onnx test_onnx_of_the_others",
    "test_estimators_networks": "test_autoencoder test_checks",
    "test_estimators_options": "test_activations test_compile",
    "test_estimators_perceptron": (
        "test_checks test_perceptron_accuracy_builtin test_perceptron_accuracy_manual "
        "test_perceptron_l1_ratio_builtin test_rows_that_are_nearly_empty test_scikit_learns_numbers "
        "test_scores_of_0_to_the_last_bit test_tools"
    ),
    "test_experiments": "test_each_runs_and_both_sides_agree",
    "test_init": "test_the_same_numbers",
    "test_kernels": "test_judged_as_a_strangers",
    "test_lbfgs": "test_the_path_is_that_of_scipy",
    "test_lightning": "test_autoencoders test_backends_agree_on_every_network test_compiled test_configurations",
    "test_memory": (
        "test_attention_by_blocks test_attention_by_blocks_of_queries test_linear_cross_entropy_by_chunks "
        "test_peak_of_attention test_peak_of_linear_cross_entropy"
    ),
    "test_mode": "test_every_form_of_a_call test_the_librarys_own_steps_are_not_seen",
    "test_models": "test_twenty_steps",
    "test_modules": "test_compile test_fake_cuda test_module test_state_and_copies",
    "test_ops": (
        "test_autocast test_compile test_errors test_fake_cuda test_integers test_memory_format test_needs "
        "test_no_grad_and_inference_mode test_non_contiguous test_second_derivatives test_torch_func"
    ),
    "test_optim": ("test_copies_go_on test_state_is_exchanged test_ten_steps"),
    "test_overwritten": "test_chains_of_layers_in_place test_compiled test_modules test_operations test_steps",
    "test_parameters": "test_no_gradient_of_what_is_no_number test_operation",
    "test_pretended": "test_steps_of_models test_steps_without_float64 test_updates",
    "test_processes": (
        "test_a_signal_ends_all_before_they_have_met test_a_signal_ends_all_of_them_together "
        "test_one_run_folder_and_the_numbers_of_one_process test_the_others_end_with_one_line "
        "test_torchrun_goes_on_from_the_checkpoint"
    ),
    "test_proof": "test_fifty_digits",
    "test_reuse": "test_manual_mode test_there_and_back",
    "test_rnn": "test_compiled test_options",
    "test_rounding": "test_no_less_exact",
    "test_scripts": (
        "test_a_surface_is_approximated_better_by_more_units test_after_ctrl_c_the_run_can_be_continued "
        "test_autoencoders_against_principal_components test_networks_on_splits"
    ),
    "test_site": (
        "test_each_section_of_the_article_is_treated test_equations_are_mathml test_every_pair_has_its_anchor "
        "test_nothing_is_asked_of_a_network_and_no_link_is_broken"
    ),
    "test_startup": "test_everything_with_torch_alone test_names_are_the_functions_whatever_is_imported_first",
    "test_training": "test_thirty_epochs_of_digits",
}


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the tests compute, both sides: cpu, cuda, cuda:1, mps, xpu")


def pytest_configure(config):
    if (name := config.getoption("device")) == "cpu":
        return
    import placed

    from dlref.core.names import device_named

    try:
        placed.place(device_named(name))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(config, items):
    if config.getoption("device") != "cpu":
        from placed import CPU_ONLY

        for item in items:
            keys = (item.module.__name__, f"{item.module.__name__}::{getattr(item, 'originalname', item.name)}")
            for reason in filter(None, map(CPU_ONLY.get, keys)):
                item.add_marker(pytest.mark.skip(reason=reason))
    for item in items:
        name = getattr(item, "originalname", item.name)
        dtype = item.callspec.params.get("dtype") if hasattr(item, "callspec") else None
        if name in SLOW.get(item.module.__name__, "").split() or (
            name == "test_value_and_gradients" and dtype is not torch.float64
        ):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What asks for float64 on a device that has none is skipped."""
    try:
        return (yield)
    except TypeError as error:
        if item.config.getoption("device") == "cpu" or "float64" not in str(error):
            raise
        from placed import DEVICE

        from dlref.core.modes import has_float64

        if has_float64(DEVICE):
            raise
        pytest.skip("it asks for float64, which the device has not")


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not go through a million objects of PyTorch's database."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def form(request):
    """No kernel runs where a test is given the name of an operation whose definition it is to try."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    if type(name).__name__ != "Alone":
        yield
        return
    from dlref.core.modes import definitions

    with definitions():
        yield


def pytest_terminal_summary(terminalreporter):
    counts: Counter = Counter()
    for report in terminalreporter.getreports("passed"):
        if report.when == "call":
            counts.update({f"{report.nodeid.split('::')[1].split('[')[0]}: {k}": v for k, v in report.user_properties})
    if counts:
        terminalreporter.section("compared")
        for what, number in sorted(counts.items()):
            terminalreporter.line(f"{number:7d}  {what.removeprefix('test_')}")


def idx(path: Path, values: torch.Tensor) -> None:
    """An IDX file as MNIST's are: magic number, sizes, bytes."""
    header = struct.pack(f">{1 + values.dim()}i", 0x0800 + values.dim(), *values.shape)
    path.write_bytes(header + values.to(torch.uint8).cpu().numpy().tobytes())


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, in their order."""
    from matplotlib.figure import Figure

    saved, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: (saved.append(figure), save(figure, *args, **kw))
    )
    return saved


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Small files of torchvision's data sets, in their own formats."""
    import torchvision

    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randint(0, 256, shape, generator=generator)  # noqa: E731
    for name in ("MNIST", "FashionMNIST"):
        (folder := tmp_path / name / "raw").mkdir(parents=True)
        for part, number in (("train", 200), ("t10k", 10)):
            idx(folder / f"{part}-images-idx3-ubyte", draw(number, 28, 28))
            idx(folder / f"{part}-labels-idx1-ubyte", torch.arange(number) % 10)
    (folder := tmp_path / "cifar-10-batches-py").mkdir()
    lists = {"train_list": [f"data_batch_{i}" for i in range(1, 6)], "test_list": ["test_batch"]}
    for attribute, names in lists.items():
        for name in names:
            content = {"data": draw(50, 3072).to(torch.uint8).cpu().numpy(), "labels": list(range(10)) * 5}
            (folder / name).write_bytes(pickle.dumps(content))
        sums = [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in names]
        monkeypatch.setattr(torchvision.datasets.CIFAR10, attribute, sums)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    meta = {"filename": "batches.meta", "key": "label_names",
            "md5": hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()}  # fmt: skip
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    return tmp_path
