"""Names of settings that are none: misspelt, old, not here yet."""

from __future__ import annotations

import logging

import pytest

from sightline.config.names import ALIASES, DROPPED, LATER, RENAMED, suggest
from sightline.config.settings import DEFAULTS, Settings
from sightline.errors import SettingValueError, UnknownSettingError

# Every argument of data_and_metrics.md section 9 and every old name of section 8.
REFERENCE = """
task mode model data epochs time patience batch imgsz save save_period cache device workers project name exist_ok
pretrained cls_remap optimizer verbose seed deterministic single_cls rect cos_lr close_mosaic resume amp fraction
profile freeze multi_scale compile channels_last overlap_mask mask_ratio dropout val split save_json conf iou max_det
quantize
dnn plots nms source vid_stride stream_buffer visualize augment agnostic_nms classes retina_masks embed show save_frames
save_txt save_conf save_crop show_labels show_conf show_boxes line_width format optimize dynamic simplify opset
workspace lr0 lrf momentum weight_decay warmup_epochs warmup_momentum warmup_bias_lr box cls cls_pw dfl pose kobj rle
angle dlog dgrad dlam distill_model dis nbs hsv_h hsv_s hsv_v degrees translate scale shear perspective flipud fliplr
bgr mosaic mixup cutmix copy_paste copy_paste_mode auto_augment erasing cfg tracker
boxes hide_labels hide_conf line_thickness half int8 end2end label_smoothing save_hybrid crop_fraction keras
augmentations save_dir
"""


@pytest.mark.parametrize("name", REFERENCE.split())
def test_every_argument_of_the_reference_is_accounted_for_once(name: str):
    assert sum(name in place for place in (DEFAULTS, LATER, RENAMED, DROPPED)) == 1


@pytest.mark.parametrize("name", sorted(LATER))
def test_what_comes_later_says_so(name: str):
    with pytest.raises(UnknownSettingError) as caught:
        Settings(**{name: LATER[name].default})
    assert "exists in Ultralytics, not in sightline yet" in str(caught.value)
    assert LATER[name].brings in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("learning_rate", "lr0"),
        ("batchsize", "batch"),
        ("batch_size", "batch"),
        ("imgsize", "imgsz"),
        ("img-size", "imgsz"),
        ("EPOCHS", "epochs"),
        ("conf_thres", "conf"),
        ("num_workers", "workers"),
        ("save-txt", "save_txt"),
        ("mosiac", "mosaic"),
    ],
)
def test_the_first_suggestion_is_what_was_meant(typed: str, meant: str):
    assert suggest(typed, DEFAULTS)[0].partition("=")[0] == meant
    with pytest.raises(UnknownSettingError, match=meant):
        Settings(**{typed: 1})


def test_suggestions_point_at_settings_that_exist():
    assert set(ALIASES.values()) <= set(DEFAULTS)
    assert {new for new, _ in RENAMED.values()} <= set(DEFAULTS)
    assert not set(ALIASES) & set(DEFAULTS)


def test_nothing_near_points_at_the_list():
    with pytest.raises(UnknownSettingError, match="sightline settings"):
        Settings(zzzzqq=1)


@pytest.mark.parametrize(
    ("old", "value", "new", "kept"),
    [
        ("boxes", False, "show_boxes", False),
        ("hide_labels", True, "show_labels", False),
        ("hide_conf", False, "show_conf", True),
        ("line_thickness", 3, "line_width", 3),
        ("end2end", True, "nms", False),
        ("end2end", False, "nms", True),
    ],
)
def test_old_names_work_and_say_so(old: str, value: object, new: str, kept: object, caplog):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        assert Settings(**{old: value}).get(new) == kept
    assert new in caplog.text


def test_names_without_effect_are_ignored_and_say_so(caplog):
    with caplog.at_level(logging.WARNING, logger="sightline"):
        assert Settings(crop_fraction=0.1).changed() == {}
    assert "crop_fraction" in caplog.text


def test_an_old_and_its_new_name_together_are_refused():
    with pytest.raises(SettingValueError, match=r"hide_labels.*show_labels"):
        Settings(hide_labels=True, show_labels=True)
    with pytest.raises(SettingValueError, match="hide_labels=1"):
        Settings(hide_labels=1)
