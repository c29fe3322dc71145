"""What acts and what does not: what tune says, held against real runs whose weights are compared bit by bit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sightline.config.load import make_settings
from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import SettingValueError
from sightline.tune.in_force import NEVER, Probe, check_names, trial_settings, without_effect
from sightline.tune.plan import Options
from sightline.tune.search import prepare
from sightline.tune.space import Factor, Space, read_space
from sightline.tune.trial import TrainTrial


@pytest.fixture
def settings_with(tiny_data: Path, tiny_model: str, tmp_path: Path):
    def make(**given: Any) -> Settings:
        usual = {
            "model": tiny_model, "data": str(tiny_data), "imgsz": 64, "batch": 4, "epochs": 2, "device": "cpu",
            "workers": 0, "plots": False, "loggers": [], "verbose": False, "close_mosaic": 1, "save": False,
            "save_dir": str(tmp_path / "run"), "exist_ok": True, "diagnosis": False,
        }  # fmt: skip
        values = {**usual, **given}
        settings = make_settings("train", {name: value for name, value in values.items() if value is not ...})
        settings.assign("task", values.get("task", "detect"), origin="auto")
        return settings

    return make


def trained(settings: Settings, values: dict[str, Any]) -> str:
    """A fingerprint of the weights, and of their average, after a real run with these values."""
    trainer = TrainTrial().make(trial_settings(settings, values))
    trainer.train()
    digest = hashlib.sha256()
    for network in (trainer.network, trainer.ema.ema):
        for tensor in network.state_dict().values():
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def reasons(settings: Settings, space: dict[str, Any]) -> dict[str, str]:
    read, _ = read_space(space)
    return without_effect(read, Probe(settings, TrainTrial().make))


def built_in(probe: Probe) -> Space:
    space, _ = read_space(None)
    return {
        name: dimension.around(name, getattr(probe.base, name)) if isinstance(dimension, Factor) else dimension
        for name, dimension in space.items()
    }


def test_the_whole_built_in_space_acts_on_a_detector_but_for_the_gains_of_keypoints(settings_with: Any):
    probe = Probe(settings_with(), TrainTrial().make)
    assert set(without_effect(built_in(probe), probe)) == {"pose", "kobj", "rle"}


# Fast: the kinds of reasons. Slow: all that can be searched by default, and everything that tune refuses.
FAST = ["lr0", "mosaic"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in read_space(None)[0]
        if name not in ("pose", "kobj", "rle")
    ],
)
def test_what_the_built_in_space_searches_changes_the_weights(name: str, settings_with: Any):
    """With optimizer=auto, which fills lr0, momentum and others only where nobody set them."""
    settings = settings_with()
    assert settings.optimizer == "auto"
    low, high = built_in(Probe(settings, TrainTrial().make))[name].ends()
    assert trained(settings, {name: low}) != trained(settings, {name: high})


WITHOUT_EFFECT: list[tuple[dict[str, Any], str, Any, str]] = [
    ({"optimizer": "AdamW"}, "warmup_momentum", (0.1, 0.9), "every learning rate, momentum and decay is the same"),
    ({"close_mosaic": 10}, "mosaic", (0.0, 1.0), "close_mosaic=10 leaves no epoch of epochs=2"),
    ({}, "pose", (1.0, 20.0), "no such term"),
    ({}, "kobj", (1.0, 20.0), "no such term"),
    ({}, "rle", (1.0, 20.0), "no such term"),
    ({"warmup_epochs": 0}, "warmup_bias_lr", (0.0, 0.5), "there is no warm-up"),
    ({"warmup_epochs": 0}, "warmup_start_factor", (0.0, 0.5), "there is no warm-up"),
    ({"epochs": 1, "close_mosaic": 0}, "lrf", (0.01, 0.9), "epochs=1"),
    ({"epochs": 1, "close_mosaic": 0}, "cos_lr", {"choices": [True, False]}, "epochs=1"),
    ({"scheduler": "constant"}, "lrf", (0.01, 0.9), "is the same"),
    ({"scheduler": "cosine"}, "cos_lr", {"choices": [True, False]}, "scheduler=cosine decides"),
    ({"warmup_steps": 2}, "warmup_epochs", (0.5, 1.0), "warmup_steps=2 decides"),
    ({}, "lr_base_batch", {"low": 8, "high": 64}, "is the same"),
    ({}, "step_epochs", {"choices": [0.3, 0.5]}, "is the same"),
    ({}, "restart_factor", (0.1, 0.9), "is the same"),
    ({"rect": True}, "mosaic", (0.0, 1.0), "rect=True combines no images"),
    ({"rect": True}, "mixup", (0.0, 1.0), "rect=True combines no images"),
    ({"mosaic": 0.0}, "close_mosaic", {"low": 0, "high": 2}, "no images are combined"),
    ({"mosaic": 0.0}, "mosaic_tiles", {"choices": [4, 9]}, "mosaic=0"),
    ({"mosaic": 0.0}, "mosaic_prob", (0.0, 1.0), "mosaic=0"),
    ({}, "copy_paste_mode", {"choices": ["flip", "mixup"]}, "copy_paste=0"),
    ({"augment_schedule": [{"translate": 0.2}]}, "translate", (0.0, 0.9), "augment_schedule has its own value"),
    ({"ema": False}, "ema_tau", (10.0, 2000.0), "ema=False"),
    ({"ema": False}, "ema_decay", (0.5, 0.99), "ema=False"),
    ({"dfl": 0.0}, "dfl_loss_weight", (0.5, 2.0), "a factor on 0"),
    ({}, "unfreeze_epoch", {"choices": [1, 2]}, "nothing is frozen"),
]
# Here the numbers are drawn in another order, so that weights differ as they do with another seed; or the run refuses.
ONLY_SAID = {"close_mosaic", "copy_paste_mode", "ema_decay", "unfreeze_epoch"}
FAST_CASES = 2


@pytest.mark.parametrize(
    ("given", "name", "dimension", "says"),
    [
        pytest.param(*case, id=f"{case[1]}-{number}", marks=() if number < FAST_CASES else pytest.mark.slow)
        for number, case in enumerate(WITHOUT_EFFECT)
        if case[1] not in ONLY_SAID
    ],
)
def test_what_is_refused_leaves_every_weight_as_it_is(
    given: dict[str, Any], name: str, dimension: Any, says: str, settings_with: Any
):
    settings = settings_with(**given)
    assert says in reasons(settings, {name: dimension})[name]
    low, high = read_space({name: dimension})[0][name].ends()  # type: ignore[union-attr]
    assert trained(settings, {name: low}) == trained(settings, {name: high})


@pytest.mark.parametrize("case", range(len(WITHOUT_EFFECT)))
def test_every_reason_is_said(case: int, settings_with: Any):
    given, name, dimension, says = WITHOUT_EFFECT[case]
    assert says in reasons(settings_with(**given), {name: dimension})[name]


@pytest.mark.parametrize(
    ("given", "space"),
    [
        # What keeps a setting from acting may itself be searched.
        ({"mosaic": ..., "close_mosaic": 1}, {"mosaic": (0.0, 1.0), "mosaic_tiles": {"choices": [4, 9]}}),
        ({"close_mosaic": ...}, {"mosaic": (0.0, 1.0), "close_mosaic": {"low": 0, "high": 1}}),
        ({}, {"optimizer": {"choices": ["AdamW", "SGD"]}, "warmup_momentum": (0.1, 0.9)}),
        ({}, {"copy_paste": (0.0, 0.5), "copy_paste_mode": {"choices": ["flip", "mixup"]}}),
        ({}, {"warmup_epochs": (0.0, 1.0), "warmup_bias_lr": (0.0, 0.5)}),
        ({}, {"batch": {"low": 2, "high": 8}, "nbs": {"low": 4, "high": 64}, "accumulate": {"low": 1, "high": 4}}),
        ({}, {"clip_grad": (0.1, 10.0), "cls_pw": (0.0, 1.0), "focal_gamma": (1.0, 3.0), "flipud": (0.0, 0.5)}),
    ],
)
def test_what_acts_somewhere_in_the_space_is_searched(given: dict[str, Any], space: dict[str, Any], settings_with: Any):
    assert reasons(settings_with(**given), space) == {}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("epochs", "longer is better"),
        ("seed", "other luck"),
        ("conf", "how a network is judged"),
        ("nms", "how a network is judged"),
        ("workers", "where or how fast"),
        ("classes", "what is to be learnt"),
        ("spike_factor", "a run goes wrong"),
        ("loss", "objects or tables"),
    ],
)
def test_some_settings_are_never_searched(name: str, says: str):
    with pytest.raises(SettingValueError, match=f"{name} cannot be searched: .*{says}"):
        check_names({name: ...})
    assert set(NEVER) <= set(DEFAULTS)


@pytest.mark.parametrize(
    ("given", "space", "says"),
    [
        ({}, {"pose": (1.0, 20.0), "lr0": (0.001, 0.1)}, "pose: the loss of this network has no such term"),
        ({"lr0": 0.1}, {"lr0": (0.001, 0.1)}, r"lr0=0.1 \(code\): set, and in the space"),
        ({}, {"mixup": {"factor": 3}}, "mixup: factor=3 is around what the setting would be, and that is 0"),
        ({}, {"epochs": {"low": 1, "high": 4}}, "epochs cannot be searched"),
        ({"val": False}, None, "val=False"),
        ({"nproc": 2}, None, "nproc=2: a trial trains in one process"),
        ({"dry_run": True}, None, "dry_run=True"),
        ({"lr0": "find"}, None, "lr0=find: every trial would look for its own"),
        ({"model": ...}, None, "tune needs model="),
    ],
)
def test_a_study_that_would_find_noise_is_not_started(
    given: dict[str, Any], space: Any, says: str, settings_with: Any, tmp_path: Path
):
    with pytest.raises(Exception, match=says):
        prepare(settings_with(**given), Options(), space, run=TrainTrial())
    assert not (tmp_path / "run").exists()


def test_of_the_built_in_space_is_left_out_what_does_not_act_or_is_set(settings_with: Any):
    plan = prepare(settings_with(lr0=0.02, rect=True), Options(), run=TrainTrial())
    assert set(plan.left_out) == {"lr0", "mosaic", "mixup", "pose", "kobj", "rle"}
    assert plan.left_out["lr0"] == "you set lr0=0.02"
    assert "momentum" in plan.space
    assert plan.start["momentum"] == 0.9  # of auto, which is where the search begins
    assert plan.start_is_inside
    assert plan.settings.optimizer == "auto"


def test_a_folder_that_holds_a_study_is_not_written_to(settings_with: Any):
    prepare(settings_with(), Options(), {"lr0": {"factor": 3}}, run=TrainTrial())
    with pytest.raises(SettingValueError, match=r"holds a study already\. Go on with it: resume="):
        prepare(settings_with(), Options(), {"lr0": {"factor": 3}}, run=TrainTrial())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "unread"),
    [("yolo26n-pose.yaml", "shapes-pose", set()), ("rtdetr-resnet50.yaml", "shapes", {"pose", "kobj", "rle"})],
)
def test_the_built_in_space_of_other_tasks(model: str, data: str, unread: set[str], settings_with: Any):
    task = "pose" if unread == set() else "rtdetr"
    probe = Probe(settings_with(model=model, data=data, task=task), TrainTrial().make)
    assert set(without_effect(built_in(probe), probe)) == unread
