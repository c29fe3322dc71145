"""The pictures of a run: what stands in them, that they survive odd data, and that they leave no state behind."""

from __future__ import annotations

import csv
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from sightline.artifacts import plots
from sightline.artifacts.figures import confusion, curves, history, labels, mosaic, style
from sightline.errors import OutputError
from sightline.structures.draw import class_colour

NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}
LOSSES = ("box_loss", "cls_loss", "dfl_loss")
METRICS = ("precision(B)", "recall(B)", "mAP50(B)", "mAP50-95(B)")
COLUMNS = [
    "epoch",
    "time",
    *(f"train/{name}" for name in LOSSES),
    *(f"metrics/{name}" for name in METRICS),
    *(f"val/{name}" for name in LOSSES),
    "lr/pg0",
]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures drawn in this test, so that their contents can be read; files are still written."""
    drawn: list[Any] = []

    def keep(made: Any, file: Any, **options: Any) -> Path:
        drawn.append(made)
        return style.save_figure(made, file, **options)

    for module in (history, curves, confusion, labels):
        monkeypatch.setattr(module, "save_figure", keep)
    return drawn


def write_table(folder: Path, epochs: int, *, every: int = 1) -> Path:
    """results.csv with known numbers: loss = 1 / epoch, metric = epoch / 1000; validated every few epochs."""
    file = folder / "results.csv"
    with file.open("w", newline="") as output:
        rows = csv.writer(output)
        rows.writerow(COLUMNS)
        for epoch in range(1, epochs + 1):
            validated = epoch % every == 0
            metric = [epoch / 1000] * 4 if validated else [""] * 4
            rows.writerow(
                [epoch, epoch * 10, *[1 / epoch] * 3, *metric, *([1 / epoch] * 3 if validated else [""] * 3), 1]
            )
    return file


def shape_of(path: Path) -> tuple[int, ...]:
    picture = cv2.imread(str(path))
    assert picture is not None, f"{path} is not a picture"
    assert picture.std() > 0, f"{path} is blank"
    return picture.shape


# ---- results.png -----------------------------------------------------------------------------------------------------


def test_results_shows_every_loss_and_metric(tmp_path: Path, figure: list[Any]):
    file = plots.plot_results(write_table(tmp_path, 60))
    assert file == tmp_path / "results.png"
    shape_of(file)
    titles = [axes.get_title() for axes in figure[0].axes if axes.get_title()]
    assert titles == [
        *(f"train/{name}" for name in LOSSES),
        *(f"metrics/{name}" for name in METRICS[:2]),
        *(f"val/{name}" for name in LOSSES),
        *(f"metrics/{name}" for name in METRICS[2:]),
    ]
    line, smoothed = figure[0].axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), 1 / np.arange(1, 61), rtol=1e-5)
    assert smoothed.get_linestyle() == ":"
    assert "best 0.060 · epoch 60" in [text.get_text() for text in figure[0].axes[3].texts]


def test_epochs_without_validation_are_left_out(tmp_path: Path, figure: list[Any]):
    plots.plot_results(write_table(tmp_path, 12, every=5))
    assert figure[0].axes[3].lines[0].get_xdata().tolist() == [5, 10]


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_results_of_hardly_any_epochs(tmp_path: Path, epochs: int):
    shape_of(plots.plot_results(write_table(tmp_path, epochs)))


def test_results_without_a_table(tmp_path: Path):
    shape_of(plots.plot_results(tmp_path / "results.csv", tmp_path / "other.png"))


def test_smoothing_is_gaussian_inside():
    values = np.random.default_rng(0).normal(size=80)
    inside = slice(15, -15)  # the ends are averaged over what is there
    expected = gaussian_filter1d(values, sigma=3, truncate=8)
    np.testing.assert_allclose(history.smooth(np.arange(80.0), values)[inside], expected[inside], atol=1e-4)
    np.testing.assert_allclose(history.smooth(np.array([1.0, 5.0, 6.0]), np.full(3, 7.0)), 7)


# ---- labels.jpg ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "objects"), [(1, 50), (3, 2000), (80, 300), (300, 300), (3, 0), (0, 0)])
def test_labels(tmp_path: Path, figure: list[Any], classes: int, objects: int):
    rng = np.random.default_rng(0)
    names = {index: f"name {index}" for index in range(classes)}
    numbers = rng.integers(0, max(classes, 1), objects)
    file = plots.plot_labels(rng.uniform(0.05, 0.9, (objects, 4)), numbers, names, tmp_path)
    assert file == tmp_path / "labels.jpg"
    shape_of(file)
    bars = figure[0].axes[0].patches
    assert [bar.get_height() for bar in bars] == [(numbers == index).sum() for index in range(classes)]


def test_labels_counts_every_box_once(tmp_path: Path, figure: list[Any]):
    boxes = np.array([[0.5, 0.5, 0.2, 0.4], [0.0, 1.0, 1.0, 1.0], [0.51, 0.5, 0.2, 0.4]])
    plots.plot_labels(torch.from_numpy(boxes), torch.tensor([0.0, 2.0, 0.0]), NAMES, tmp_path)
    for axes in figure[0].axes[2:4]:
        assert axes.collections[0].get_array().sum() == 3
    assert figure[0].axes[2].yaxis_inverted()  # as in an image


def test_labels_with_keypoints_have_two_more_panels(tmp_path: Path, figure: list[Any]):
    """Two objects: a point a quarter into the box of both, one that is hidden on one of them, one without labels."""
    boxes = np.array([[0.5, 0.5, 0.2, 0.4], [0.3, 0.7, 0.4, 0.2]])
    corners = boxes[:, :2] - boxes[:, 2:] / 2
    points = np.zeros((2, 3, 3))
    points[:, 0] = [[*place, 2] for place in corners + boxes[:, 2:] / 4]
    points[0, 1] = [0.5, 0.5, 1]
    plots.plot_labels(boxes, np.zeros(2), NAMES, tmp_path, keypoints=points)
    places, counts = figure[0].axes[4:6]
    cloud, mean = (places.collections[i].get_offsets() for i in (0, 2))  # 1 is the cloud of the second point
    np.testing.assert_allclose(cloud, [[0.25, 0.25]] * 2)
    np.testing.assert_allclose(mean, [[0.25, 0.25]])
    assert places.yaxis_inverted()
    assert [bar.get_height() for bar in counts.patches] == [2, 0, 0, 0, 1, 0]  # seen, and on top hidden


def test_limbs_join_the_mean_person_and_nothing_labelled_is_said(tmp_path: Path, figure: list[Any]):
    person = np.full((1, 17, 3), [0.5, 0.5, 2.0])
    person[:, 0, 2] = 0  # no nose: its three limbs are missing of 19
    plots.plot_labels(np.array([[0.5, 0.5, 0.5, 0.5]]), np.zeros(1), NAMES, tmp_path, keypoints=person)
    assert len(figure[0].axes[4].lines) == 17
    plots.plot_labels(np.zeros((0, 4)), np.zeros(0), NAMES, tmp_path, keypoints=np.zeros((0, 5, 3)))
    assert figure[1].axes[4].texts[0].get_text() == "no labelled keypoints"


# ---- curves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 80])
def test_curves(tmp_path: Path, figure: list[Any], count: int):
    x = np.linspace(0, 1, 1000)
    y = np.stack([1 - x ** (index + 1) for index in range(count)]) if count else np.zeros((0, 1000))
    ap = np.tile(np.linspace(0.2, 0.8, max(count, 1))[:count, None], (1, 10))
    names = {index: f"name {index}" for index in range(count)}
    shape_of(plots.plot_pr_curve(x, y, ap, tmp_path / "BoxPR_curve.png", names))
    shape_of(plots.plot_metric_curve(x, y, tmp_path / "BoxP_curve.png", names, xlabel="Confidence", ylabel="Precision"))
    legend = figure[0].axes[0].get_legend()
    words = [text.get_text() for text in legend.get_texts()] if legend else []
    if count == 0:
        assert words == []
    elif count == 3:
        assert words == ["name 0 0.200", "name 1 0.500", "name 2 0.800", "all classes 0.500 mAP@0.5"]
    elif count == 80:
        assert words == ["80 classes", "all classes 0.500 mAP@0.5"]


def test_the_best_point_of_a_metric_curve(tmp_path: Path, figure: list[Any]):
    x = np.linspace(0, 1, 1000)
    plots.plot_metric_curve(x, [1 - 4 * (x - 0.3) ** 2], tmp_path / "f.png", NAMES, xlabel="Confidence", ylabel="F1")
    words = [text.get_text() for text in figure[0].axes[0].get_legend().get_texts()]
    assert words[-1] == "all classes 1.00 at 0.300"


def test_rows_of_some_classes_get_the_right_names_or_none(tmp_path: Path, figure: list[Any]):
    x = np.linspace(0, 1, 1000)
    rows, ap = np.stack([1 - x, 1 - x**2]), np.full((2, 10), 0.5)
    plots.plot_pr_curve(x, rows, ap, tmp_path / "a.png", NAMES, classes=[0, 2])
    plots.plot_pr_curve(x, rows, ap, tmp_path / "b.png", NAMES)
    named, unnamed = ([text.get_text() for text in drawn.axes[0].get_legend().get_texts()] for drawn in figure)
    assert named == ["RBC 0.500", "Platelets 0.500", "all classes 0.500 mAP@0.5"]
    assert unnamed == ["all classes 0.500 mAP@0.5"]


def test_the_empty_curves_of_a_validation_without_labels(tmp_path: Path):
    """The shapes that the metrics object has before anything was measured."""
    x = np.linspace(0, 1, 1000)
    shape_of(plots.plot_pr_curve(x, np.zeros((1, 1000)), np.zeros((0, 10)), tmp_path / "a.png", NAMES))
    shape_of(plots.plot_metric_curve([], [], tmp_path / "b.png", NAMES))


# ---- confusion ------------------------------------------------------------------------------------------------------


def test_confusion_matrix_numbers(tmp_path: Path, figure: list[Any]):
    counts = np.array([[8, 1, 0], [0, 3, 0], [2, 0, 0]])
    names = {0: "cat", 1: "dog"}
    plots.plot_confusion_matrix(counts, tmp_path / "a.png", names)
    plots.plot_confusion_matrix(counts, tmp_path / "b.png", names, normalize=True)
    cells = [{text.get_position(): text.get_text() for text in drawn.axes[0].texts} for drawn in figure]
    assert cells[0] == {(0, 0): "8", (1, 0): "1", (1, 1): "3", (0, 2): "2"}
    assert cells[1] == {(0, 0): "0.80", (1, 0): "0.25", (1, 1): "0.75", (0, 2): "0.20"}  # columns sum to 1
    axes = figure[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "background"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("True class", "Predicted class")


@pytest.mark.parametrize("classes", [0, 1, 40, 200])
def test_confusion_matrix_of_any_size(tmp_path: Path, figure: list[Any], classes: int):
    matrix = np.random.default_rng(0).integers(0, 50, (classes + 1, classes + 1)) * (classes > 0)
    shape_of(plots.plot_confusion_matrix(matrix, tmp_path / "m.png", {i: f"name {i}" for i in range(classes)}))
    assert bool(figure[0].axes[0].texts) == (0 < classes <= 30)  # many classes: colours alone


# ---- batches ---------------------------------------------------------------------------------------------------------


def make_batch(count: int, *, objects: int = 1, side: int = 64) -> dict[str, Any]:
    """Grey images; each object is a box over the middle half of its image."""
    owner = torch.arange(count).repeat_interleave(objects).float()
    return {
        "img": torch.full((count, 3, side, side), 100, dtype=torch.uint8),
        "bboxes": torch.tensor([0.5, 0.5, 0.5, 0.5]).repeat(len(owner), 1),
        "cls": torch.ones(len(owner), 1),
        "batch_idx": owner,
        "im_file": tuple(f"/data/image {index}.jpg" for index in range(count)),
    }


@pytest.mark.parametrize(("count", "tiles"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (16, (4, 4)), (20, (4, 4))])
def test_a_mosaic_has_a_tile_for_each_image(tmp_path: Path, count: int, tiles: tuple[int, int]):
    file = plots.plot_images(make_batch(count), file=tmp_path / "train_batch0.png", names=NAMES)
    height, width, _ = shape_of(file)
    assert width == tiles[1] * (64 + 6) + 6
    assert height == tiles[0] * (64 + 6 + 20) + 6 + 24  # and one line of legend
    grey = (cv2.imread(str(file)) == 100).all(axis=2).sum()
    assert grey > 0.4 * min(count, 16) * 64 * 64


def test_boxes_lie_where_the_labels_say(tmp_path: Path):
    picture = cv2.imread(str(plots.plot_images(make_batch(1), file=tmp_path / "a.png", names=NAMES)))
    tile = picture[6 + 20 : 6 + 20 + 64, 6 : 6 + 64]
    edge = (tile == class_colour(1)).all(axis=2)
    rows, columns = edge[20:].nonzero()  # below the label
    assert (columns.min(), columns.max()) == (16, 48)
    assert rows.max() + 20 == 48


def test_colours_arrive_as_bgr_from_bytes_and_floats(tmp_path: Path):
    batch = make_batch(1, objects=0)
    for image in (torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)):
        image[:, 0] = 1.0 if image.is_floating_point() else 255  # red
        file = plots.plot_images(batch | {"img": image}, file=tmp_path / "a.png", names=NAMES)
        assert cv2.imread(str(file))[60, 40].tolist() == [0, 0, 255]


def test_predictions_below_the_threshold_are_left_out(tmp_path: Path):
    batch = make_batch(1, objects=0)
    prediction = {
        "bboxes": torch.tensor([[16.0, 16, 48, 48]] * 2),
        "conf": torch.tensor([0.9, 0.2]),
        "cls": torch.tensor([1, 2]),
    }
    picture = cv2.imread(str(plots.plot_images(batch, [prediction], file=tmp_path / "a.png", names=NAMES)))
    assert (picture == class_colour(1)).all(axis=2).any()
    assert not (picture == class_colour(2)).all(axis=2).any()
    picture = cv2.imread(str(plots.plot_images(batch, [prediction], file=tmp_path / "a.png", names=NAMES, conf=0.1)))
    assert (picture == class_colour(2)).all(axis=2).any()


def test_crowded_tiles_have_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[list[str]] = []
    monkeypatch.setattr(mosaic, "draw_boxes", lambda tile, boxes, names, *_, **__: drawn.append(list(names)))
    plots.plot_images(make_batch(1, objects=5), file=tmp_path / "a.png", names=NAMES)
    plots.plot_images(make_batch(1, objects=80), file=tmp_path / "a.png", names=NAMES)
    assert drawn == [["WBC"] * 5, [""] * 80]


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_a_batch_without_objects_or_with_odd_channels(tmp_path: Path, channels: int):
    batch = make_batch(2, objects=0) | {"img": torch.full((2, channels, 64, 64), 90, dtype=torch.uint8)}
    shape_of(plots.plot_images(batch, file=tmp_path / "a.jpg", names=NAMES))


def test_an_empty_batch(tmp_path: Path):
    batch = make_batch(0, objects=0)
    plots.plot_images(batch, file=tmp_path / "a.jpg", names=NAMES)
    assert cv2.imread(str(tmp_path / "a.jpg")) is not None


def test_a_large_batch_stays_below_a_sensible_size(tmp_path: Path):
    height, width, _ = shape_of(plots.plot_images(make_batch(9, side=1280), file=tmp_path / "a.jpg", names=NAMES))
    assert width <= 1930
    assert height <= 1960


# ---- all -------------------------------------------------------------------------------------------------------------


def test_names_of_any_kind(tmp_path: Path, figure: list[Any]):
    names = {0: "红细胞", 1: "Größe", 2: "$x^2$ and a name much longer than any legend has room for", 3: "", 4: "a\nb"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_confusion_matrix(np.eye(6), tmp_path / "m.png", names)
    ticks = [label.get_text() for label in figure[0].axes[0].get_xticklabels()]
    assert ticks[0] in ("红细胞", "class0")  # the number, where no font has the letters
    assert ticks[1] == "Größe"
    assert ticks[2].startswith(r"\$x^2\$ and a")
    assert len(ticks[2]) <= 26
    assert ticks[3:5] == ["class3", "a b"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="confusion"):
        plots.plot_confusion_matrix(np.eye(3), tmp_path / "file" / "confusion_matrix.png", NAMES)
    with pytest.raises(OutputError, match="train_batch0"):
        plots.plot_images(make_batch(1), file=tmp_path / "file" / "train_batch0.jpg", names=NAMES)


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path):
    script = (
        "import sys; from sightline.artifacts import plots; assert 'matplotlib' not in sys.modules;"
        f"plots.plot_confusion_matrix([[1, 0], [0, 0]], {str(tmp_path / 'm.png')!r}, ['a']);"
        "assert 'matplotlib.pyplot' not in sys.modules; import matplotlib;"
        "from matplotlib import rcParams, rcParamsDefault;"
        "assert all(rcParams._get(k) == rcParamsDefault._get(k) for k in rcParams if k != 'backend');"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_keypoints_of_labels_and_predictions_are_drawn(tmp_path: Path):
    batch = {
        "img": torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        "im_file": ("a.png",),
        "bboxes": torch.tensor([[0.5, 0.5, 0.9, 0.9]]),
        "cls": torch.zeros(1, 1),
        "batch_idx": torch.zeros(1),
    }
    points = torch.tensor([[[0.5, 0.5, 2.0]]])
    found = [{"bboxes": torch.tensor([[4.0, 4, 60, 60]]), "conf": torch.ones(1), "cls": torch.zeros(1)}]
    of_labels = plots.plot_images({**batch, "keypoints": points}, file=tmp_path / "labels.png")
    of_found = plots.plot_images(
        batch, [{**found[0], "keypoints": points * torch.tensor([64, 64, 0.4])}], file=tmp_path / "found.png"
    )
    without = plots.plot_images(batch, file=tmp_path / "without.png")
    middle = [cv2.imread(str(path))[30 + 26 : 34 + 26, 36:40].sum() for path in (of_labels, of_found, without)]
    assert middle[0] == middle[1] > middle[2] == 0
