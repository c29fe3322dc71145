"""`sightline compare repeats=N a.yaml b.yaml`: what is run, what is kept, and real runs of a tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doctor.test_compare import write_run
from sightline.cli import compare as command
from sightline.cli.main import main
from sightline.doctor.repeats import Repeats
from sightline.errors import SettingValueError, UsageError

NOTHING_MORE = "model: yolo26n.yaml\ndata: shapes\nepochs: 2\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(NOTHING_MORE)
    Path("b.yaml").write_text(NOTHING_MORE + "lr0: 0.02\n")
    return ["a.yaml", "b.yaml"]


class Trainer:
    """Stands for `sightline train`: writes what a run of two epochs leaves, and ends early where it is told to."""

    def __init__(self, fail_at: int = -1) -> None:
        self.words: list[list[str]] = []
        self.fail_at = fail_at

    def __call__(self, words: list[str]) -> int:
        self.words.append(words)
        values = dict(word.split("=", 1) for word in words[1:])
        if len(self.words) - 1 == self.fail_at:
            weights = Path(values["save_dir"]) / "weights"
            weights.mkdir(parents=True)
            (weights / "last.pt").touch()
            return 130
        folder = Path(values.get("save_dir") or values["resume"])
        seed = int(folder.name[-1])
        if folder.exists():
            for file in (folder / "weights").iterdir():
                file.unlink()
            (folder / "weights").rmdir()
            folder.rmdir()
        write_run(folder, [0.1, 0.5 + 0.01 * seed + (0.2 if folder.name[0] == "b" else 0)], seed=seed)
        return 0


def test_each_file_is_run_with_each_seed(files: list[str]):
    train = Trainer()
    plan = Repeats(files, 2, Path("out"), words=["device=cpu"], given={"device": "cpu"})
    assert plan.run(train) == 0
    runs = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert train.words == [
        ["train", f"cfg={name}.yaml", "device=cpu", f"seed={seed}", f"save_dir=out/{name}-seed{seed}"]
        for name, seed in runs
    ]
    assert [(each.name, len(each.runs)) for each in plan.recipes()] == [("a", 2), ("b", 2)]


def test_what_is_done_is_kept_and_what_was_begun_goes_on(files: list[str]):
    first = Trainer(fail_at=2)
    assert Repeats(files, 2, Path("out")).run(first) == 130
    assert len(first.words) == 3
    again = Trainer()
    plan = Repeats(files, 3, Path("out"))  # more of them than before
    assert plan.run(again) == 0
    assert again.words[0] == ["train", "resume=out/a-seed1"]
    assert [words[-1] for words in again.words[1:]] == [
        f"save_dir=out/{run}" for run in ("b-seed1", "a-seed2", "b-seed2")
    ]
    nothing = Trainer()
    assert Repeats(files, 3, Path("out")).run(nothing) == 0
    assert nothing.words == []


def test_a_run_that_ended_before_it_was_noted_is_done(files: list[str]):
    Repeats(files, 1, Path("out")).run(Trainer())
    state = json.loads(Path("out/repeats.json").read_text())
    state["a-seed0"]["finished"] = False
    Path("out/repeats.json").write_text(json.dumps(state))
    train = Trainer()
    Repeats(files, 1, Path("out")).run(train)
    assert train.words == []


def test_a_file_that_has_changed_is_another_recipe(files: list[str]):
    Repeats(files, 1, Path("out")).run(Trainer())
    Path("b.yaml").write_text(NOTHING_MORE + "lr0: 0.03\n")
    with pytest.raises(SettingValueError, match=r"b has changed since out/b-seed0 .*lr0: 0\.02 → 0\.03.*save_dir="):
        Repeats(files, 1, Path("out"))
    Path("b.yaml").write_text(NOTHING_MORE + "lr0: 0.02\nworkers: 1\n")  # where, not what
    Repeats(files, 1, Path("out"))
    Path("new/a-seed0").mkdir(parents=True)
    Path("new/a-seed0/results.csv").touch()
    with pytest.raises(SettingValueError, match="did not make"):
        Repeats(files, 1, Path("new"))


def test_a_wrong_request_starts_nothing(files: list[str], capsys: pytest.CaptureFixture[str]):
    Path("c.yaml").write_text("data: shapes\n")
    for words, expected in (
        (["repeats=2", "a.yaml"], "two or more"),
        (["repeats=2", "a.yaml", "c.yaml"], "c.yaml names no model"),
        (["repeats=2", "a.yaml", "nowhere.yaml"], "nowhere.yaml"),
        (["repeats=0", "a.yaml", "b.yaml"], "repeats=0"),
        (["repeats=two", "a.yaml", "b.yaml"], "repeats=two"),
        (["repeats=2", "a.yaml", "b.yaml", "seed=4"], "chooses seed itself"),
        (["repeats=2", "a.yaml", "b.yaml", "epochss=4"], "epochs=100"),
        (["repeats=2", "a.yaml", "b.yaml", "at=start"], "end or best"),
        (["a.yaml", "b.yaml"], "repeats=3"),
    ):
        assert main(["compare", *words]) == 2
        assert expected in capsys.readouterr().err
    assert not Path("runs").exists()
    with pytest.raises(UsageError):
        Repeats(files, 2, Path("out"), given={"name": "x"})


def test_two_files_of_one_name_are_told_apart(files: list[str]):
    for folder in ("x", "y"):
        Path(folder).mkdir()
        Path(folder, "a.yaml").write_text(NOTHING_MORE)
    plan = Repeats(["x/a.yaml", "y/a.yaml", "x/a.yaml"], 1, Path("out"))
    assert plan.names == ["x-a-1", "y-a-2", "x-a-3"]
    assert Repeats(["x/a.yaml", "y/a.yaml"], 1, Path("out")).names == ["x-a", "y-a"]


@pytest.mark.e2e
def test_real_runs_are_made_compared_and_kept(
    tiny_data: Path,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    common = f"data: '{tiny_data}'\nmodel: '{tiny_model}'\nimgsz: 64\nbatch: 4\nepochs: 2\nworkers: 0\nplots: false\n"
    Path("a.yaml").write_text(common)
    Path("b.yaml").write_text(common + "optimizer: AdamW\nlr0: 0.001\n")
    assert main(["compare", "repeats=2", "a.yaml", "b.yaml", "device=cpu", "metric=val/box_loss"]) == 0
    out = capsys.readouterr().out
    assert "a: 2 runs (seed 0, 1), 2 epochs: runs/compare/a-b/a-seed0 … a-seed1" in out
    assert "AdamW (file:b.yaml)" in out
    assert "val/box_loss at the end: " in out
    folder = tmp_path / "runs" / "compare" / "a-b"
    numbers = json.loads((folder / "comparison.json").read_text())
    assert [each["seeds"] for each in numbers["recipes"]] == [[0, 1], [0, 1]]
    ends = numbers["recipes"][0]["end"]["val/box_loss"]
    assert ends[0] != ends[1]  # the seeds reach the runs
    assert (folder / "comparison.png").is_file()

    def nothing(words: list[str]) -> int:
        raise AssertionError(words)

    monkeypatch.setattr("sightline.cli.run.run", nothing)
    assert command.compare(["repeats=2", "a.yaml", "b.yaml", "metric=val/box_loss"]) == 0


def test_a_setting_that_came_later_is_no_change(files: list[str]):
    """Runs of an older version do not name it: they had what is its default now."""
    Repeats(files, 1, Path("out")).run(Trainer())
    state = json.loads(Path("out/repeats.json").read_text())
    for run in state.values():
        del run["settings"]["patience"]
    Path("out/repeats.json").write_text(json.dumps(state))
    again = Trainer()
    assert Repeats(files, 1, Path("out")).run(again) == 0
    assert again.words == []
    with pytest.raises(SettingValueError, match="patience: 100 → 7"):
        Repeats(files, 1, Path("out"), given={"patience": 7})
