"""The validator with a network whose answers are known."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.errors import DataError, ModelError, UsageError
from sightline.validate.detect import DetectionValidator

NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}
SIDE = 64


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.end2end, self.max_det, self.agnostic_nms = False, 300, False


class KnownAnswers(nn.Module):
    """Answers the n-th call with the n-th answer: rows for the NMS-free branch, else the same boxes for suppression."""

    def __init__(self, answers: list[Tensor], names: dict[int, str] = NAMES) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.model = nn.ModuleList([Head()])
        self.answers, self.calls = answers, [0]  # the list is shared with copies, so a test can look at it
        self.names, self.nc, self.stride = names, len(names), torch.tensor([8.0, 32.0])
        self.end2end, self.criterion = True, None

    def use_end2end(self, on: bool) -> None:
        self.model[-1].end2end = on

    def fuse(self, verbose: bool = True) -> KnownAnswers:
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, dict]:
        assert x.dtype == torch.float32
        assert float(x.max()) <= 1
        rows = self.answers[self.calls[0]]
        self.calls[0] += 1
        if self.model[-1].end2end:
            return rows, {}
        scores = torch.nn.functional.one_hot(rows[..., 5].long(), self.nc) * rows[..., 4:5]
        centre, size = (rows[..., :2] + rows[..., 2:4]) / 2, rows[..., 2:4] - rows[..., :2]
        return torch.cat([centre, size, scores], dim=-1).transpose(1, 2), {}

    def loss(self, batch: dict, preds: object) -> tuple[Tensor, dict[str, Tensor]]:
        share = batch["cls"].sum()
        return share, {"box_loss": share, "l1_loss": share * 2}


def make_batches(sizes: list[int], *, classes: int = 3, seed: int = 0) -> list[dict]:
    """Batches as a loader gives them: images twice as large in the files as in the batch, no borders."""
    rng = np.random.default_rng(seed)
    batches, number = [], 0
    for size in sizes:
        batch: dict = {"img": torch.randint(0, 255, (size, 3, SIDE, SIDE), dtype=torch.uint8)}
        owner, class_, boxes = [], [], []
        for i in range(size):
            # On a grid of 16 pixels, so that no box overlaps another.
            cells = rng.choice(16, rng.integers(1, 6), replace=False)
            for cell in cells:
                owner.append(i)
                class_.append(float(rng.integers(0, classes)))
                boxes.append([(cell % 4 + 0.5) / 4, (cell // 4 + 0.5) / 4, 10 / SIDE, 12 / SIDE])
        batch |= {"batch_idx": torch.tensor(owner).float(), "cls": torch.tensor(class_)[:, None]}
        batch["bboxes"] = torch.tensor(boxes)
        batch["im_file"] = [f"/data/images/{number + i}.jpg" for i in range(size)]
        batch["ori_shape"] = [(2 * SIDE, 2 * SIDE)] * size
        batch["resized_shape"] = [(SIDE, SIDE)] * size
        batch["ratio_pad"] = [((0.5, 0.5), (0.0, 0.0))] * size
        number += size
        batches.append(batch)
    return batches


def perfect_answers(batches: list[dict], scores: tuple[float, float] = (0.5, 0.95)) -> list[Tensor]:
    """(B, K, 6) rows that repeat the labels; unused rows have score 0."""
    rng = np.random.default_rng(1)
    answers = []
    for batch in batches:
        rows = torch.zeros(len(batch["img"]), 20, 6)
        for i in range(len(batch["img"])):
            mine = batch["batch_idx"] == i
            boxes = batch["bboxes"][mine] * SIDE
            count = len(boxes)
            rows[i, :count, :2], rows[i, :count, 2:4] = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
            rows[i, :count, 4] = torch.from_numpy(np.sort(rng.uniform(*scores, count))[::-1].copy()).float()
            rows[i, :count, 5] = batch["cls"][mine, 0]
        answers.append(rows)
    return answers


def make_validator(batches: list, folder: Path, **args: object) -> DetectionValidator:
    return DetectionValidator(batches, save_dir=folder, args={"plots": False, "device": "cpu", **args})


@pytest.mark.parametrize("nms", [None, True])
def test_a_perfect_network(tmp_path: Path, nms: bool | None):
    batches = make_batches([3, 3, 2])
    network = KnownAnswers(perfect_answers(batches)).train()
    validator = make_validator(batches, tmp_path, nms=nms)
    stats = validator(model=network)
    assert list(stats) == [*validator.metrics.keys, "fitness"]
    assert stats["metrics/mAP50-95(B)"] == stats["fitness"] == pytest.approx(0.995)
    assert stats["metrics/recall(B)"] == pytest.approx(1.0)
    assert validator.seen == 8
    matrix = validator.metrics.confusion_matrix.matrix
    objects = sum(len(batch["cls"]) for batch in batches)
    assert matrix.trace() == matrix.sum() == objects == validator.metrics.nt_per_class.sum()
    assert list(validator.metrics.speed) == ["preprocess", "inference", "loss", "postprocess"]
    assert validator.metrics.speed["inference"] > 0
    # and the network is as it was
    assert network.training
    assert network.model[-1].end2end is False
    assert network.weight.requires_grad


def test_two_calls_give_the_same(tmp_path: Path):
    batches = make_batches([2, 2])
    answers = [rows + torch.randn_like(rows) * torch.tensor([2.0, 2, 2, 2, 0, 0]) for rows in perfect_answers(batches)]
    validator = make_validator(batches, tmp_path)
    first = validator(model=KnownAnswers(answers))
    kept = validator.metrics
    assert validator(model=KnownAnswers(answers)) == first
    assert validator.metrics is not kept  # somebody may hold the earlier results
    assert kept.results_dict == first
    assert 0 < first["fitness"] < 0.9


def test_a_model_is_needed():
    with pytest.raises(UsageError, match="trainer or a model"):
        DetectionValidator([])()


def test_confidence_of_the_curves_and_of_the_confusion_matrix(tmp_path: Path):
    batches = make_batches([2])
    answers = perfect_answers(batches, scores=(0.01, 0.2))  # all right, all unsure
    validator = make_validator(batches, tmp_path)
    assert validator(model=KnownAnswers(answers))["fitness"] == pytest.approx(0.995)
    assert validator.confusion_matrix.matrix.trace() == 0  # 0.25 by default
    validator = make_validator(batches, tmp_path, conf=0.005)
    validator(model=KnownAnswers(answers))
    assert validator.confusion_matrix.matrix.trace() == len(batches[0]["cls"])  # the user's
    validator = make_validator(batches, tmp_path, conf=0.3)
    assert validator(model=KnownAnswers(answers))["fitness"] == 0


def test_callbacks_get_the_validator(tmp_path: Path):
    batches = make_batches([2, 1])
    seen: list[tuple[str, int]] = []
    events = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
    table = {event: [lambda validator, event=event: seen.append((event, validator.seen))] for event in events}
    validator = DetectionValidator(batches, tmp_path, {"plots": False}, {**table, "on_train_start": None})
    validator(model=KnownAnswers(perfect_answers(batches)))
    middle = [("on_val_batch_start", 0), ("on_val_batch_end", 2), ("on_val_batch_start", 2), ("on_val_batch_end", 3)]
    assert seen == [("on_val_start", 0), *middle, ("on_val_end", 3)]


def make_trainer(network: nn.Module, batches: list, folder: Path) -> SimpleNamespace:
    return SimpleNamespace(
        ema=SimpleNamespace(ema=network),
        test_loader=batches,
        save_dir=folder,
        data={"names": NAMES, "path": str(folder), "val": str(folder)},
        precision=SimpleNamespace(autocast=contextlib.nullcontext),
        epoch=0,
        epochs=3,
        stop=False,
        stopper=SimpleNamespace(possible_stop=False),
        callbacks={},
        label_loss_items=lambda items, prefix: {
            f"{prefix}/{name.replace('l1_loss', 'dfl_loss')}": float(value) for name, value in items.items()
        },
    )


def test_during_training_losses_are_means_over_images(tmp_path: Path):
    batches = make_batches([3, 1])
    network = KnownAnswers(perfect_answers(batches)).eval()
    validator = DetectionValidator(args={"plots": True})
    stats = validator(make_trainer(network, batches, tmp_path))
    sums = [float(batch["cls"].sum()) for batch in batches]  # the loss of each batch, by the network above
    expected = (3 * sums[0] + 1 * sums[1]) / 4
    assert stats["val/box_loss"] == pytest.approx(expected)
    assert stats["val/dfl_loss"] == pytest.approx(2 * expected)
    assert stats["fitness"] == pytest.approx(0.995)
    assert network.model[-1].end2end is False  # given back
    assert not list(tmp_path.iterdir())  # no pictures before the last epoch


def test_max_det_is_raised_only_when_nobody_chose_it(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    class Loader(list):
        dataset = SimpleNamespace(index=SimpleNamespace(object_counts=lambda: np.array([4, 301]), paths=["a.jpg"]))

    batches = make_batches([1])
    for args, expected, message in (({}, 301, "max_det=301"), ({"max_det": 7}, 7, "recall is capped")):
        caplog.clear()
        limits = []
        network = KnownAnswers(perfect_answers(batches))
        validator = make_validator(Loader(batches), tmp_path, **args)
        validator.add_callback("on_val_start", lambda v, to=limits: to.append(v.network.network.model[-1].max_det))
        with caplog.at_level(logging.WARNING, logger="sightline"):
            validator(model=network)
        assert validator.max_det == expected
        assert limits == [expected]  # the NMS-free head has the same limit
        assert "301 labelled objects" in caplog.text
        assert message in caplog.text
        assert validator.args.max_det == args.get("max_det", 300)
        assert network.model[-1].max_det == 300


def test_predictions_json_and_coco_numbers(tmp_path: Path):
    batches = make_batches([2, 2])
    validator = make_validator(batches, tmp_path, save_json=True, coco_eval=True)
    stats = validator(model=KnownAnswers(perfect_answers(batches)))
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert rows == validator.jdict
    assert len(rows) == sum(len(batch["cls"]) for batch in batches)
    assert list(rows[0]) == ["image_id", "file_name", "category_id", "bbox", "score"]
    assert rows[0]["image_id"] == 0  # /data/images/0.jpg
    assert rows[0]["file_name"] == "0.jpg"
    assert rows[0]["bbox"][2:] == [20.0, 24.0]  # in pixels of the file, twice those of the batch
    assert {row["category_id"] for row in rows} <= {1, 2, 3}
    assert stats["metrics/coco/AP"] == validator.metrics.coco["AP"] == pytest.approx(1.0)
    assert stats["metrics/coco/APl"] == -1  # there is no large object
    assert stats["fitness"] == pytest.approx(0.995)


def _annotation_file(folder: Path, batches: list[dict], *, crowd: int | None = None) -> dict:
    content: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 10 * (n + 1), "name": NAMES[n]} for n in NAMES],
    }
    for batch in batches:
        for i, path in enumerate(batch["im_file"]):
            image_id = 100 + len(content["images"])
            content["images"].append(
                {"id": image_id, "file_name": f"val/{Path(path).name}", "width": 128, "height": 128}
            )
            mine = batch["batch_idx"] == i
            for class_, (x, y, w, h) in zip(
                batch["cls"][mine, 0].tolist(), (batch["bboxes"][mine] * 128).tolist(), strict=True
            ):
                number = len(content["annotations"]) + 1
                content["annotations"].append(
                    {
                        "id": number,
                        "image_id": image_id,
                        "category_id": 10 * (int(class_) + 1),
                        "bbox": [x - w / 2, y - h / 2, w, h],
                        "area": w * h,
                        "iscrowd": int(number == crowd),
                    }
                )
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "val.json").write_text(json.dumps(content))
    return content


def test_the_data_sets_own_annotations_are_the_truth(tmp_path: Path):
    batches = make_batches([3, 2])
    answers = [rows + torch.randn_like(rows) * torch.tensor([1.0, 1, 1, 1, 0, 0]) for rows in perfect_answers(batches)]
    annotations = _annotation_file(tmp_path, batches, crowd=1)
    validator = make_validator(batches, tmp_path, save_json=True, coco_eval=True)
    validator.data = {"path": str(tmp_path), "val": str(tmp_path / "images"), "names": NAMES}
    stats = validator(model=KnownAnswers(answers))

    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(None):
        truth = COCO(str(tmp_path / "annotations" / "val.json"))
        ids = {Path(image["file_name"]).name: image["id"] for image in annotations["images"]}
        rows = json.loads((tmp_path / "predictions.json").read_text())
        rows = [{**row, "image_id": ids[row["file_name"]], "category_id": 10 * row["category_id"]} for row in rows]
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert list(validator.metrics.coco.values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-6)
    assert 0 < stats["metrics/coco/AP"] < 1


@pytest.mark.parametrize("missing", ["images", "categories"])
def test_stale_annotations_are_an_error_before_the_first_batch(tmp_path: Path, missing: str):
    batches = make_batches([2])
    content = _annotation_file(tmp_path, batches)
    content[missing].pop()
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(content))
    paths = batches[0]["im_file"]

    class Loader(list):
        dataset = SimpleNamespace(index=SimpleNamespace(object_counts=lambda: np.array([1]), paths=paths))

    validator = make_validator(Loader(batches), tmp_path, coco_eval=True)
    validator.data = {"path": str(tmp_path), "val": str(tmp_path / "images"), "names": NAMES}
    network = KnownAnswers(perfect_answers(batches))
    with pytest.raises(DataError, match=r"val\.json lacks 1 of"):
        validator(model=network)
    assert network.calls == [0]


def test_labels_as_text(tmp_path: Path):
    batches = make_batches([2])
    validator = make_validator(batches, tmp_path, save_txt=True, save_conf=True)
    validator(model=KnownAnswers(perfect_answers(batches)))
    mine = batches[0]["batch_idx"] == 1
    written = np.loadtxt(tmp_path / "labels" / "1.txt", ndmin=2)
    assert written.shape == (int(mine.sum()), 6)
    expected = torch.cat([batches[0]["cls"], batches[0]["bboxes"]], dim=1)[mine].numpy()
    np.testing.assert_allclose(
        written[np.lexsort(written[:, 1:3].T), :5], expected[np.lexsort(expected[:, 1:3].T)], atol=1e-5
    )


def test_a_label_that_has_no_name(tmp_path: Path):
    batches = make_batches([1])
    batches[0]["cls"][0] = 3
    with pytest.raises(DataError, match=r"0\.jpg has a label of class 3.*3 classes"):
        make_validator(batches, tmp_path)(model=KnownAnswers(perfect_answers(batches)))


def test_nothing_to_validate_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    validator = DetectionValidator([], args={"project": "runs", "name": "empty"})
    with pytest.raises(DataError, match="no image to validate on"):
        validator(model=KnownAnswers([]))
    assert not (tmp_path / "runs" / "empty").exists()


def test_a_model_that_knows_more_classes(tmp_path: Path):
    batches = make_batches([3])
    answers = perfect_answers(batches)
    model_names = {0: "cat", 1: "Platelets", 2: "WBC", 3: "RBC"}
    for rows in answers:
        rows[..., 5] = 3 - rows[..., 5]  # the model's numbers for the same classes
        rows[:, 19] = torch.tensor([0, 0, 30, 30, 0.9, 0])  # and a cat
    validator = make_validator(batches, tmp_path)
    validator.data = {"names": NAMES}
    stats = validator(model=KnownAnswers(answers, model_names))
    assert stats["fitness"] == pytest.approx(0.995)
    assert validator.confusion_matrix.matrix.trace() == validator.confusion_matrix.matrix.sum()
    with pytest.raises(ModelError, match=r"2 classes \(cat, dog\)"):
        validator(model=KnownAnswers(answers, {0: "cat", 1: "dog"}))


def test_a_model_that_knows_fewer_classes(tmp_path: Path):
    batches = make_batches([3])
    answers = perfect_answers(batches)
    for rows in answers:
        rows[..., 4] *= rows[..., 5] < 2  # it never says Platelets
    validator = make_validator(batches, tmp_path)
    validator.data = {"names": NAMES}
    stats = validator(model=KnownAnswers(answers, {0: "RBC", 1: "WBC"}))
    assert stats["fitness"] == pytest.approx(0.995)
    assert validator.metrics.ap_class_index.tolist() == [0, 1]


def test_one_class_and_chosen_classes(tmp_path: Path):
    batches = make_batches([3])
    merged = [{**batch, "cls": torch.zeros_like(batch["cls"])} for batch in batches]
    validator = make_validator(merged, tmp_path, single_cls=True)
    validator.data = {"names": {0: "item"}}
    assert validator(model=KnownAnswers(perfect_answers(batches)))["fitness"] == pytest.approx(0.995)
    assert validator.metrics.nt_per_class.tolist() == [len(merged[0]["cls"])]
    validator = make_validator(batches, tmp_path, classes=[1])
    validator(model=KnownAnswers(perfect_answers(batches)))
    assert validator.confusion_matrix.matrix[[0, 2]].sum() == 0


def test_no_labels_at_all_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    batches = make_batches([2])
    answers = perfect_answers(batches)
    batches[0] |= {"cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0)}
    with caplog.at_level(logging.INFO, logger="sightline"):
        stats = make_validator(batches, tmp_path)(model=KnownAnswers(answers))
    assert "No labels were found" in caplog.text
    assert stats["fitness"] == 0


def test_the_printed_table(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    batches = make_batches([3])
    with caplog.at_level(logging.INFO, logger="sightline"):
        make_validator(batches, tmp_path)(model=KnownAnswers(perfect_answers(batches)))
    lines = [record.getMessage() for record in caplog.records]
    header = next(line for line in lines if line.lstrip().startswith("Class"))
    assert header.split() == ["Class", "Images", "Instances", "Box(P", "R", "mAP50", "mAP50-95)"]
    rows = lines[lines.index(header) + 1 :]
    assert [row.split()[0] for row in rows[:4]] == ["all", "RBC", "WBC", "Platelets"]
    assert rows[0].split()[1] == "3"
    assert len(rows[0]) == len(header) == 22 + 6 * 11


def test_pictures_of_errors(tmp_path: Path):
    batches = make_batches([2])
    make_validator(batches, tmp_path, visualize=True)(model=KnownAnswers(perfect_answers(batches)))
    assert sorted(path.name for path in (tmp_path / "visualizations").iterdir()) == ["0.jpg", "1.jpg"]
