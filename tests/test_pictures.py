"""The pictures that a training leaves: what is drawn of which network, and that no title is cut."""

from __future__ import annotations

import pytest
import torch

from dlref import builtin, manual, models
from dlref.pictures.images import draw_first_weights, draw_mistakes
from dlref.pictures.training import draw_activations, draw_confusion, draw_curves

SIDES = {"manual": manual, "builtin": builtin}
side = pytest.mark.parametrize("ns", SIDES.values(), ids=SIDES)


def title_fits(figure) -> bool:
    figure.draw_without_rendering()  # at its own resolution
    title = figure._suptitle.get_window_extent()
    return title.x0 >= 0 and title.x1 <= figure.bbox.x1 and title.y1 <= figure.bbox.y1


@pytest.mark.parametrize("part", ["", "validation part:", "images of handwritten digits of the validation part:"])
@pytest.mark.parametrize("mistakes", [0, 1, 3, 24, 30])
def test_the_title_of_mistakes_is_not_cut(mistakes, part, tmp_path, figures):
    target = torch.zeros(180, dtype=torch.long)
    scores = torch.eye(10)[(torch.arange(180) < mistakes).long()]
    draw_mistakes(tmp_path / "mistakes.png", torch.rand(180, 64), target, scores, part)
    (figure,) = figures
    assert f"{mistakes} of 180 are mistaken" in figure.get_suptitle() and title_fits(figure)
    assert sum(bool(axis.images) for axis in figure.axes) == min(mistakes, 24)


@pytest.mark.parametrize("classes", [2, 10, 12])
def test_confusion_has_upright_numbers_and_its_whole_title(classes, tmp_path, figures):
    target = torch.arange(100) % classes
    draw_confusion(tmp_path / "confusion.png", target, target.roll(1), classes, "validation part:")
    (figure,) = figures
    axis = figure.axes[0]
    labels = [*axis.get_xticklabels(), *axis.get_yticklabels()]
    assert len(labels) == 2 * classes and {label.get_rotation() for label in labels} == {0}
    assert title_fits(figure)


@side
@pytest.mark.parametrize("make, title, tiles", [
    (lambda ns: models.mlp(ns, 64, 32, 10), "0.weight, 32 x 64", lambda w: w.view(-1, 8, 8)),
    (lambda ns: models.cnn(ns), "0.weight, ", lambda w: w.flatten(0, 1)),
    (lambda ns: models.vision_transformer(ns), "0.projection.weight, ", lambda w: w.squeeze(1)),
    (lambda ns: models.locally_connected(ns), "the first filter at each place", lambda w: w[:, :, 0, 0].flatten(0, 1)),
    (lambda ns: models.row_classifier(ns), "1.rnn.weight_ih_l0, ", lambda w: w[None]),
    (lambda ns: models.rbf_network(ns, 64, 20, 10), "0.centers, 20 x 64", lambda w: w.view(-1, 8, 8)),
    (lambda ns: ns.nn.Linear(7, 1), "weight, 1 x 7", lambda w: w[None]),
    (lambda ns: ns.nn.Conv1d(3, 1, 5), "weight, 1 x 3 x 5", lambda w: w.flatten(1)[None]),
], ids=["mlp", "cnn", "transformer", "local", "lstm", "rbf", "one row", "one filter"])  # fmt: skip
def test_the_first_weights_are_those_of_a_layer(ns, make, title, tiles, tmp_path, figures):
    draw_first_weights(tmp_path / "weights.png", network := make(ns))
    (figure,) = figures
    drawn = [axis.images[0] for axis in figure.axes if axis.images]  # the colour bar has none
    weight = network.get_parameter(figure.get_suptitle().split(",")[0]).detach()
    assert title in figure.get_suptitle() and title_fits(figure)
    assert {image.get_interpolation() for image in drawn} == {"nearest"}
    for image, tile in zip(drawn, tiles(weight)[:64], strict=True):
        assert torch.equal(torch.as_tensor(image.get_array().data), tile)


@side
@pytest.mark.parametrize("name, layers", [
    ("row_classifier", ["1.rnn LSTM", "2 Linear"]),
    ("vision_transformer", ["1.layers.0.self_attn MultiheadAttention", "1.layers.0.linear1 Linear"]),
])  # fmt: skip
def test_activations_have_recurrent_layers_and_attention(ns, name, layers, tmp_path, figures):
    draw_activations(tmp_path / "activations.png", getattr(models, name)(ns), torch.rand(6, 1, 8, 8))
    (figure,) = figures
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [label for label in labels if label in layers] == layers
    assert not [a for a in labels for b in labels if b.startswith(a.split()[0] + ".")]  # no container beside its layers


EPOCHS = range(1, 4)


def test_a_measure_that_is_the_loss_has_no_panel_of_its_own(tmp_path, figures):
    curves = {"train_loss": 1.0, "train_mse": 1.0, "validation_loss": 2.0, "validation_mse": 2.0}
    history = [{"epoch": epoch} | {key: value / epoch for key, value in curves.items()} for epoch in EPOCHS]
    draw_curves(tmp_path / "curves.png", history)
    draw_curves(tmp_path / "curves.png", [*history[:2], history[2] | {"validation_mse": 0.5}])
    draw_curves(tmp_path / "curves.png", [{k: v for k, v in record.items() if k != "train_mse"} for record in history])
    titles = [[axis.get_title() for axis in figure.axes] for figure in figures]
    assert titles == [["Loss and mse"], ["Loss", "Mse"], ["Loss", "Mse"]]


def test_labels_of_a_panel_of_curves_keep_away_from_its_neighbour(tmp_path, figures):
    history = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": epoch / 4} for epoch in EPOCHS]
    draw_curves(tmp_path / "curves.png", history)
    figures[0].draw_without_rendering()
    left, right = figures[0].axes
    assert right.yaxis.label.get_window_extent().x0 - left.get_window_extent().x1 > 0.1 * figures[0].dpi
