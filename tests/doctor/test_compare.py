"""`sightline compare RUN…` on run folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sightline.cli.main import main
from sightline.config.load import make_settings, to_yaml
from sightline.doctor.compare import compare
from sightline.errors import MissingFileError, SettingValueError, UsageError

METRIC = "metrics/mAP50-95(B)"


def write_run(folder: Path, scores: list[float], **settings: Any) -> Path:
    """A run as training leaves it, with one loss and two metrics."""
    folder.mkdir(parents=True)
    rows = ["epoch,train/box_loss,metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss"]
    rows += [f"{i},{2 / i},{score + 0.2},{score},{3 / i}" for i, score in enumerate(scores, 1)]
    (folder / "results.csv").write_text("\n".join(rows) + "\n")
    given = {"data": "cells.yaml", "epochs": len(scores), **settings}
    made = make_settings("train", given, origin="command line")
    (folder / "args.yaml").write_text(to_yaml(made, save_dir=str(folder)))
    return folder


def five(root: Path, name: str, level: float, **settings: Any) -> list[Path]:
    noise = [0.0, 0.01, -0.01, 0.005, -0.005]
    return [
        write_run(root / f"{name}-{seed}", [0.1, level + 0.03 + each, level + each], seed=seed, **settings)
        for seed, each in enumerate(noise)
    ]


def test_seeds_are_grouped_and_a_worse_recipe_is_called_worse(tmp_path: Path):
    runs = [*five(tmp_path, "base", 0.6), *five(tmp_path, "slow", 0.5, lr0=0.0003, cfg=None)]
    found = compare(runs)
    assert [(each.name, len(each.runs)) for each in found.recipes] == [("base", 5), ("slow", 5)]
    assert found.differing() == ["lr0"]
    assert found.metric == METRIC
    (verdict,) = found.verdicts
    assert (verdict.outcome, round(verdict.difference, 6)) == ("worse", -0.1)
    text = "\n".join(found.lines())
    assert "lr0      0.01 (default)  0.0003 (command line)" in text
    # mean and standard deviation of the five: by hand 0.6 and sqrt((2·0.01² + 2·0.005²) / 4)
    assert f"{METRIC} at the end  0.6000 ± 0.0079  0.5000 ± 0.0079" in text
    assert f"{METRIC} best epoch  0.6300 ± 0.0079" in text
    assert f"{METRIC} at the end: slow is worse: -0.100 ± 0.0" in text


def test_equal_recipes_differ_within_noise(tmp_path: Path):
    runs = [*five(tmp_path, "base", 0.6), *five(tmp_path, "other", 0.603, mixup=0.1)]
    (verdict,) = compare(runs).verdicts
    assert verdict.outcome == "same"


def test_one_run_a_side_cannot_tell(tmp_path: Path):
    a = write_run(tmp_path / "a", [0.1, 0.5])
    b = write_run(tmp_path / "b", [0.1, 0.9], lr0=0.02)
    text = "\n".join(compare([a, b / "results.csv"]).lines())
    assert "one run a side: cannot tell (b - a: +0.400)" in text
    assert "repeats=5" in text


def test_a_seed_that_is_there_twice_is_counted_once(tmp_path: Path):
    runs = [write_run(tmp_path / f"a{i}", [0.1, 0.5], seed=0) for i in range(3)]
    found = compare([*runs, *five(tmp_path, "b", 0.6, lr0=0.02)])
    assert [len(each.runs) for each in found.recipes] == [1, 5]
    assert sum("no further evidence" in each for each in found.warnings) == 2


def test_what_makes_numbers_mean_something_else_is_said(tmp_path: Path):
    a = write_run(tmp_path / "a", [0.1, 0.5])
    b = write_run(tmp_path / "b", [0.1, 0.6], data="other.yaml", epochs=9)
    warnings = "\n".join(compare([a, b]).warnings)
    assert "another data (a: cells.yaml, b: other.yaml)" in warnings
    assert f"{b} has 2 of 9 epochs" in warnings


def test_a_run_without_a_number_is_not_forgotten(tmp_path: Path):
    runs = [*five(tmp_path, "a", 0.5), *five(tmp_path, "b", 0.6, lr0=0.5)]
    table = runs[-1] / "results.csv"
    table.write_text("epoch,train/box_loss,metrics/mAP50-95(B)\n1,nan,nan\n2,nan,\n3,nan,nan\n")
    found = compare(runs)
    assert found.verdicts[0].runs == (5, 4)
    assert any("1 of 5 runs never reached a finite" in each for each in found.warnings)


def test_a_setting_that_an_older_run_lacks_is_at_its_default(tmp_path: Path):
    a = write_run(tmp_path / "a", [0.1, 0.5])
    b = write_run(tmp_path / "b", [0.1, 0.6], lr0=0.02)
    lines = [line for line in (a / "args.yaml").read_text().splitlines() if not line.startswith("scheduler:")]
    (a / "args.yaml").write_text("\n".join(lines))
    assert compare([a, b]).differing() == ["lr0"]


def test_losses_are_better_when_lower(tmp_path: Path):
    runs = [*five(tmp_path, "a", 0.5), *five(tmp_path, "b", 0.5, lr0=0.02)]
    for i, folder in enumerate(runs):
        table = folder / "results.csv"
        end = (1.0 if i < 5 else 0.5) + 0.01 * (i % 5)
        table.write_text(table.read_text().rsplit(",", 1)[0] + f",{end}\n")
    found = compare(runs, metric="val/box_loss")
    assert found.verdicts[0].outcome == "better"
    assert found.verdicts[0].difference == pytest.approx(-0.5)


def test_several_recipes_are_judged_more_strictly(tmp_path: Path):
    runs = [*five(tmp_path, "a", 0.5), *five(tmp_path, "b", 0.5, lr0=0.02), *five(tmp_path, "c", 0.5, lr0=0.03)]
    alone, together = compare(runs[:10]), compare(runs)
    assert together.verdicts[0].alpha == alone.verdicts[0].alpha / 2
    assert together.verdicts[0].margin > alone.verdicts[0].margin
    assert len(together.verdicts) == 2


def test_the_command_writes_a_picture_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    five(tmp_path / "runs", "base", 0.6)
    five(tmp_path / "runs", "new", 0.7, lr0=0.02)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "runs/base-*", "runs/new-*"]) == 0
    out = capsys.readouterr().out
    assert "new is better: +0.100 ± " in out
    folder = tmp_path / "runs" / "compare" / "compare"
    numbers = json.loads((folder / "comparison.json").read_text())
    assert numbers["verdicts"][0]["outcome"] == "better"
    assert numbers["recipes"][1]["end"][METRIC] == pytest.approx([0.7, 0.71, 0.69, 0.705, 0.695])
    picture = cv2.imread(str(folder / "comparison.png"))
    assert picture.shape[1] > 1000
    # both colours of the curves are there
    for colour in ((180, 119, 31), (10, 113, 232)):
        assert (np.abs(picture.astype(int) - colour).max(axis=2) < 8).sum() > 500
    assert main(["compare", "runs/base-*", "runs/new-*", "metric=mAP50", "at=best", f"save_dir={tmp_path / 'x'}"]) == 0
    assert "metrics/mAP50(B) at the best epoch: new is better" in capsys.readouterr().out
    assert (tmp_path / "x" / "comparison.png").is_file()


def test_bad_requests_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a = write_run(tmp_path / "a", [0.1, 0.5])
    same = write_run(tmp_path / "a2", [0.1, 0.6], seed=1)
    with pytest.raises(UsageError, match="at least two runs"):
        compare([a, a / "results.csv"])
    with pytest.raises(UsageError, match=r"one recipe.* 0\.5500 ± 0\.0707"):
        compare([a, same])
    with pytest.raises(MissingFileError, match="is no run"):
        compare([a, tmp_path])
    with pytest.raises(MissingFileError, match="matches"):
        compare([str(tmp_path / "nothing-*")])
    b = write_run(tmp_path / "b", [0.1, 0.6], lr0=0.02)
    with pytest.raises(SettingValueError, match=r"metric=mAP75 .*metrics/mAP50\(B\)"):
        compare([a, b], metric="mAP75")
    assert main(["compare"]) == 2
    assert main(["compare", str(a), str(b), "metrics=x"]) == 2
    assert "metric=" in capsys.readouterr().err
    assert main(["compare", str(a), str(b), "at=middle"]) == 2
