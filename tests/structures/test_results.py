"""Results and Boxes: what a user does with them. The numbers of the formats are in tests/golden/test_results.py."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sightline.errors import MissingExtraError, OutputError, SettingValueError, ShapeError
from sightline.structures.results import Boxes, Results

NAMES = {0: "cat", 1: "dog"}
ROWS = [[10.0, 20.0, 50.0, 60.0, 0.75, 1.0], [0.0, 0.0, 100.0, 80.0, 0.5, 0.0], [60.0, 10.0, 90.0, 30.0, 0.25, 1.0]]


def make(rows: list[list[float]] | None = None, *, names: dict[int, str] = NAMES, path: str = "a/photo.jpg") -> Results:
    picture = np.full((80, 100, 3), 128, np.uint8)
    data = torch.tensor(ROWS if rows is None else rows).reshape(-1, len(rows[0]) if rows else 6)
    return Results(picture, path, names, boxes=data)


def test_formats_of_one_box_by_hand():
    boxes = Boxes(torch.tensor([10.0, 20.0, 50.0, 60.0, 0.75, 1.0]), (80, 100))  # one box without the first axis
    assert boxes.shape == (1, 6)
    assert boxes.xywh.tolist() == [[30.0, 40.0, 40.0, 40.0]]
    torch.testing.assert_close(boxes.xyxyn, torch.tensor([[0.1, 0.25, 0.5, 0.75]]))
    torch.testing.assert_close(boxes.xywhn, torch.tensor([[0.3, 0.5, 0.4, 0.5]]))


@pytest.mark.parametrize("columns", [4, 5, 8])
def test_other_column_counts_are_refused(columns: int):
    with pytest.raises(ShapeError, match=rf"\(2, {columns}\)"):
        Boxes(torch.zeros(2, columns), (80, 100))
    with pytest.raises(AssertionError):  # the class that scripts catch
        Boxes(torch.zeros(2, columns), (80, 100))


def test_indexing_keeps_the_picture_and_the_chosen_objects():
    result = make()
    assert len(result[0]) == 1
    assert result[0].boxes.conf.tolist() == [0.75]
    assert result[-1].boxes.cls.tolist() == [1.0]
    assert result[[0, 2]].boxes.cls.tolist() == [1.0, 1.0]
    assert result[result.boxes.conf > 0.4].boxes.conf.tolist() == [0.75, 0.5]
    assert result[1:].orig_img is result.orig_img
    assert [len(one) for one in result] == [1, 1, 1]  # iteration ends by itself


def test_conversion_between_torch_and_numpy():
    result = make().numpy()
    assert isinstance(result.boxes.data, np.ndarray)
    assert isinstance(result.boxes.xywhn, np.ndarray)
    assert result.cpu().boxes.data is result.boxes.data
    back = result.to(torch.float64)
    assert back.boxes.data.dtype == torch.float64
    assert back.boxes.data.tolist() == ROWS


def test_new_and_update():
    result = make()
    empty = result.new()
    assert len(empty) == 0
    assert empty.boxes is None
    assert empty.verbose() == "(no detections), "
    empty.update(boxes=torch.tensor([[-5.0, 10.0, 200.0, 60.0, 0.9, 0.0]]))
    assert empty.boxes.xyxy.tolist() == [[0.0, 10.0, 100.0, 60.0]]  # moved into the 100 × 80 picture
    empty.update(boxes=None)
    assert len(empty) == 1
    result.update(boxes=np.array([[1.0, 1.0, 2.0, 2.0, 7.0, 0.9, 0.0]]))
    assert result.boxes.id.tolist() == [7.0]


def test_a_class_without_a_name_is_shown_by_its_number():
    assert make([[0, 0, 9, 9, 0.5, 4]]).verbose() == "1 class4, "
    assert make(names=["x", "y"]).verbose() == "1 x, 2 ys, "


def test_tables():
    result = make()
    rows = json.loads(result.to_json())
    assert rows == result.summary()
    assert rows[0] == {"name": "dog", "class": 1, "confidence": 0.75, "box": {"x1": 10, "y1": 20, "x2": 50, "y2": 60}}
    table = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["name"] for row in table] == ["dog", "cat", "dog"]
    assert [float(row["x2"]) for row in table] == [50, 100, 90]
    assert make([]).to_csv() == "name,class,confidence,x1,y1,x2,y2\n"
    assert make([]).to_json() == "[]"
    tracked = make([[0, 0, 9, 9, 7, 0.5, 1]])
    assert tracked.to_csv().splitlines()[1] == "dog,1,0.5,0.0,0.0,9.0,9.0,7"
    assert json.loads(make(names={0: "кот", 1: "犬"}).to_json())[0]["name"] == "犬"


def test_to_df_needs_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match="dataframe"):
        make().to_df()


def test_to_df():
    polars = pytest.importorskip("polars")
    frame = make().to_df(decimals=1)
    assert isinstance(frame, polars.DataFrame)
    assert frame["name"].to_list() == ["dog", "cat", "dog"]
    assert frame["box"].struct.field("x2").to_list() == [50.0, 100.0, 90.0]


def test_save_txt_overwrites_unless_told(tmp_path: Path):
    file = tmp_path / "labels" / "photo.txt"
    for _ in range(2):
        assert make().save_txt(file) == str(file)
    assert len(file.read_text().splitlines()) == 3
    make().save_txt(file, append=True)
    assert len(file.read_text().splitlines()) == 6
    make([]).save_txt(file, append=True)
    assert len(file.read_text().splitlines()) == 6
    make([]).save_txt(file)  # nothing found any more: what was found earlier must not stay
    assert not file.exists()


def test_save_txt_names_the_place_it_cannot_write(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"photo\.txt"):
        make().save_txt(tmp_path / "file" / "photo.txt")


def test_save_crop_by_hand(tmp_path: Path):
    result = make(ROWS[:1])
    result.orig_img = np.arange(80 * 100 * 3, dtype=np.uint32).reshape(80, 100, 3).astype(np.uint8)
    (first,) = result.save_crop(tmp_path, "photo.png")
    assert Path(first) == tmp_path / "dog" / "photo.jpg"
    # 40 × 40 around (30, 40), 2 % and 10 px larger: 50.8 a side, so 4.6 … 55.4 by 14.6 … 65.4
    assert cv2.imread(first).shape == (65 - 14, 55 - 4, 3)
    (second,) = result.save_crop(tmp_path, "photo.png")
    assert Path(second).name == "photo-2.jpg"


def test_save_crop_stays_in_its_folder_and_skips_empty_boxes(tmp_path: Path):
    result = make([[10, 10, 20, 20, 0.9, 0], [300, 300, 320, 320, 0.9, 0]], names={0: "../knife/fork"})
    (written,) = result.save_crop(tmp_path / "crops")
    assert Path(written).parent.parent == tmp_path / "crops"
    assert make([]).save_crop(tmp_path) == []


def test_plot_draws_on_a_copy():
    result = make(ROWS[:1])
    drawn = result.plot(line_width=2, labels=False)
    assert (result.orig_img == 128).all()
    assert (drawn[40, 10] != 128).any()  # left edge
    assert (drawn[40, 30] == 128).all()  # inside
    assert (result.plot(boxes=False) == 128).all()
    assert (result.plot(labels=False, img=np.zeros((80, 100, 3), np.uint8))[40, 30] == 0).all()


def test_plot_switches_change_the_label():
    with_score = make(ROWS[:1]).plot()
    assert (with_score != make(ROWS[:1]).plot(conf=False)).any()
    assert (with_score != make(ROWS[:1]).plot(labels=False)).any()
    assert (with_score != make(ROWS[:1]).plot(txt_color=(0, 0, 255))).any()
    one_class = make([[*row[:5], 0.0] for row in ROWS])
    assert (one_class.plot() != one_class.plot(color_mode="instance")).any()
    with pytest.raises(SettingValueError, match="color_mode"):
        make().plot(color_mode="rainbow")


@pytest.mark.parametrize("shape", [(80, 100), (80, 100, 1), (80, 100, 4), (80, 100, 6)])
def test_plot_of_pictures_with_other_channel_counts(shape: tuple[int, ...]):
    result = Results(np.zeros(shape, np.uint8), "x.png", NAMES, boxes=torch.tensor(ROWS))
    assert result.plot().shape == (80, 100, 3)


def test_plot_as_pil():
    drawn, picture = make().plot(), make().plot(pil=True)
    assert (np.asarray(picture)[..., ::-1] == drawn).all()


def test_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = make()
    assert result.save() == "results_photo.jpg"
    assert result.save(tmp_path / "new folder" / "снимок.png") == str(tmp_path / "new folder" / "снимок.png")
    assert (cv2.imdecode(np.fromfile(tmp_path / "new folder" / "снимок.png", np.uint8), 1) == result.plot()).all()
    assert make(path="film.mp4").save() == "results_film.mp4.jpg"  # one frame is a picture
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"photo\.jpg"):
        result.save(tmp_path / "file" / "photo.jpg")


def test_show_without_a_display_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.structures.pictures.sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match="no display"):
        make().show()
