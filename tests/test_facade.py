"""YOLO: what it is made from, what it does with it, and where its settings come from."""

from __future__ import annotations

import functools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from golden import golden
from sightline import YOLO
from sightline.artifacts.checkpoint import load_checkpoint
from sightline.cli.main import main
from sightline.errors import (
    CheckpointError,
    DownloadError,
    MissingFileError,
    ModelError,
    SettingValueError,
    UsageError,
)
from sightline.models.build import build_model
from sightline.predict.detect import DetectionPredictor
from sightline.train.detect import DetectionTrainer
from sightline.validate.detect import DetectionValidator

TINY = {"imgsz": 64, "workers": 0, "device": "cpu", "verbose": False}
TRAIN = {**TINY, "epochs": 1, "batch": 4, "plots": False, "amp": False}
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an empty cache, no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SIGHTLINE_ASSETS_URL", "http://127.0.0.1:9")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[YOLO, Any, Path]:
    """(the model, what train() returned, the run folder) after one epoch."""
    project = tmp_path_factory.mktemp("runs")
    model = YOLO("yolo26n.yaml")
    metrics = model.train(data=str(tiny_data), project=str(project), name="run", **TRAIN)
    return model, metrics, project / "run"


@pytest.fixture
def best(trained: tuple[YOLO, Any, Path]) -> str:
    return str(trained[2] / "weights/best.pt")


def small(names: dict[int, str] | None = None) -> YOLO:
    """A model of a few named classes with weights of its own."""
    names = names or {0: "red", 1: "blue"}
    return YOLO(build_model("yolo26n.yaml", nc=len(names), names=names))


def state(model: YOLO) -> dict[str, torch.Tensor]:
    return model.model.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def found(model: YOLO) -> torch.Tensor:
    """(n, 6) boxes, scores and classes of the noise picture, unsure ones too."""
    return model(PICTURE, imgsz=64, conf=0.0, verbose=False)[0].boxes.data


# ------------------------------------------------------------------------------------------------- what it is made from


def test_a_description():
    model = YOLO("yolo26n.yaml")
    assert (model.task, model.cfg, model.ckpt) == ("detect", "yolo26n.yaml", None)
    assert model.names == {index: str(index) for index in range(80)}
    assert str(model.device) == "cpu"
    assert isinstance(model.model, torch.nn.Module)
    layers, parameters, gradients, gflops = model.info(verbose=False)
    recorded = json.loads((golden.SPEC / "state_dict/yolo26n.json").read_text())
    kinds = ("running_mean", "running_var", "num_batches_tracked")  # of a state dict, no parameters
    counted = sum(math.prod(shape) for name, (shape, _) in recorded.items() if not name.endswith(kinds))
    assert (parameters, gradients) == (counted, counted)
    assert layers > 200
    assert 4 < gflops < 8


def test_a_checkpoint_of_the_reference():
    """The file is read without the reference, becomes the same network, and finds the same."""
    path = golden.golden_path("checkpoints/yolo26n.pt")
    model = YOLO(path)
    assert model.ckpt is not None
    assert model.ckpt.kind == "reference"
    assert equal(
        state(model),
        {name: value.float() if value.is_floating_point() else value for name, value in model.ckpt.state.items()},
    )
    assert model.task == "detect"
    assert len(model.names) == model.ckpt.nc
    assert not model.model.training
    again = YOLO("yolo26n.yaml").load(path)
    assert equal(state(again), state(model))
    assert torch.equal(found(again), found(model))


def test_what_a_checkpoint_remembers():
    """Of the settings of the run that made it, only those that describe data and input size are repeated."""
    model = YOLO(golden.golden_path("checkpoints/yolo26n.pt"))
    assert set(model.overrides) <= {"model", "data", "imgsz", "single_cls"}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_tensors_goes_into_a_network(tmp_path: Path, suffix: str):
    source = small()
    file = tmp_path / f"Gewichte 1{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": source.model.state_dict()}, file)
    else:
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in state(source).items()}, file)
    target = small()
    assert not equal(state(target), state(source))
    assert target.load(file) is target
    assert equal(state(target), state(source))
    with pytest.raises(ModelError, match=r"tensors only.*\.load\("):
        YOLO(file)


def test_a_network_and_another_model_can_be_loaded_too():
    source = small()
    for given in (source, source.model, state(source)):
        assert equal(state(small().load(given)), state(source))


def test_a_network_is_taken_as_it_is():
    network = build_model("yolo26n.yaml", nc=3, names={0: "a", 1: "b", 2: "c"})
    model = YOLO(network)
    assert model.model is network
    assert model.names == {0: "a", 1: "b", 2: "c"}


def test_official_weights_without_a_network_say_what_to_do():
    with pytest.raises(DownloadError) as caught:
        YOLO("yolo26n.pt")
    assert "train from scratch with model=yolo26n.yaml" in str(caught.value)
    assert str(Path.cwd()) in str(caught.value)
    with pytest.raises(MissingFileError, match=r"yolo26n\.yaml \(a new network\) or yolo26n\.pt"):
        YOLO("yolo26n")


def test_official_weights_are_found_in_the_working_folder_and_the_cache(tmp_path: Path):
    source = small()
    source.save(tmp_path / "cache/weights/yolo26n.pt")
    assert equal(state(YOLO("yolo26n.pt")), state(source))
    other = small()
    other.save("yolo26n.pt")
    assert equal(state(YOLO("yolo26n.pt")), state(other))


def test_saved_and_read_again_it_is_the_same(tmp_path: Path):
    model = small()
    model.save(tmp_path / "neu/größer.pt")
    again = YOLO(tmp_path / "neu/größer.pt")
    assert equal(state(again), state(model))
    assert (again.names, again.task) == (model.names, model.task)
    assert torch.equal(again.model.stride, model.model.stride)
    assert torch.equal(found(again), found(model))


def test_folded_it_finds_the_same(tmp_path: Path):
    model = small()
    before = found(model)
    assert model.fuse() is model
    torch.testing.assert_close(found(model), before, rtol=1e-4, atol=1e-4)
    assert model.predictor.model.end2end
    model.save("folded.pt")
    assert torch.equal(found(YOLO("folded.pt")), found(model))


def test_a_copy_is_independent():
    model = small()
    twin = model.copy()
    before = {name: value.clone() for name, value in state(model).items()}
    with torch.no_grad():
        next(twin.model.parameters()).zero_()
    twin.add_callback("on_predict_start", print)
    assert equal(state(model), before)
    assert model.callbacks["on_predict_start"] == []


# ------------------------------------------------------------------------------------------------- train, val, predict


def test_a_trained_model_can_be_copied(trained: tuple[YOLO, Any, Path]):
    model = trained[0]
    twin = model.copy()
    assert equal(state(twin), state(model))
    assert (twin.trainer, twin.validator, twin.predictor) == (None, None, None)
    assert model.trainer is not None


@pytest.mark.parametrize("start", [pytest.param("yolo26n.yaml", marks=pytest.mark.slow), "weights"])
def test_what_the_user_froze_does_not_train(start: str, best: str, tiny_data: Path):
    """The trainer builds the network anew, with the classes of the data; and a run that goes on remembers it."""
    model = YOLO(start if start.endswith(".yaml") else best)
    for parameter in model.model.model[0].parameters():
        parameter.requires_grad = False
    model.add_callback("on_train_epoch_end", _stop_in_second_epoch)
    with pytest.raises(InterruptedError):
        model.train(data=str(tiny_data), **{**TRAIN, "epochs": 3}, name="frozen")
    frozen = {name for name, p in model.trainer.model.named_parameters() if not p.requires_grad}
    assert frozen == {"model.0.conv.weight", "model.0.bn.weight", "model.0.bn.bias"}
    last = model.trainer.last
    again = YOLO(str(last))
    again.train(resume=True)
    assert {name for name, p in again.trainer.model.named_parameters() if not p.requires_grad} == frozen


def _stop_in_second_epoch(trainer: Any) -> None:
    if trainer.epoch == 1:
        raise InterruptedError


def test_what_it_does_not_know_is_asked_of_the_network():
    model = small()
    assert model.nc == 2
    assert model.stride.tolist() == [8, 16, 32]
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        model.colour  # noqa: B018
    with pytest.raises(AttributeError, match="'export' exists in Ultralytics, not in sightline yet"):
        model.export(format="onnx")
    assert not hasattr(YOLO.__new__(YOLO), "stride")  # nothing is there before __init__


@pytest.mark.parametrize(("batch", "device"), [(-1, None), (0.5, None), (1, "0,1"), (1, -1)])
def test_what_cannot_run_yet_is_refused_in_every_mode(batch: float, device: Any, tiny_data: Path):
    for call in (lambda **kw: small()(PICTURE, **kw), lambda **kw: small().val(data=str(tiny_data), **kw)):
        with pytest.raises(SettingValueError, match="batch=" if device is None else "device="):
            call(batch=batch, device=device)


def test_a_source_may_stand_in_a_file_of_settings(best: str, tiny_data: Path):
    source = next(iter(sorted((tiny_data.parent / "images").rglob("*.*"))))
    Path("ask.yaml").write_text(yaml.safe_dump({"source": str(source), "imgsz": 64}))
    assert [result.path for result in YOLO(best)(cfg="ask.yaml", verbose=False)] == [str(source)]


def test_training_leaves_the_best_weights_in_the_object(trained: tuple[YOLO, Any, Path]):
    model, metrics, run = trained
    assert model.trainer.save_dir == run
    assert equal(state(model), load_checkpoint(run / "weights/best.pt")["model"])
    assert model.names == {0: "red", 1: "blue"}
    assert model.ckpt_path == str(run / "weights/best.pt")
    assert metrics is model.metrics is model.trainer.validator.metrics
    assert 0 <= metrics.box.map <= metrics.box.map50 <= 1
    assert set(metrics.results_dict) >= {"metrics/mAP50(B)", "metrics/mAP50-95(B)", "fitness"}


def test_validation_repeats_the_data_and_size_of_training(trained: tuple[YOLO, Any, Path], best: str):
    """Without data= and imgsz=; the numbers are those that training ended with."""
    model = YOLO(best)
    metrics = model.val(workers=0, plots=False, batch=8)
    args = model.validator.args
    assert (args.data, args.imgsz) == (trained[0].trainer.args.data, 64)
    assert args.origin("data") == args.origin("imgsz") == "checkpoint"
    assert args.origin("batch") == "code"
    assert metrics.box.map == pytest.approx(trained[1].box.map, abs=1e-6)
    again = model.val(imgsz=32, workers=0, plots=False)
    assert model.validator.args.imgsz == 32
    assert again is model.metrics


def test_validation_without_data_says_so():
    with pytest.raises(UsageError, match="val needs a data set"):
        small().val()


def test_prediction_from_python_returns_results_and_writes_nothing(best: str, tiny_data: Path, place: Path):
    model = YOLO(best)
    images = sorted((tiny_data.parent / "images/val").iterdir())
    results = model(images, conf=0.0, verbose=False)
    assert [result.path for result in results] == [str(path) for path in images]
    assert all(result.names == {0: "red", 1: "blue"} for result in results)
    assert model.predictor.args.imgsz == 64  # as in training
    assert model.predictor.args.origin("imgsz") == "checkpoint"
    one = list(model.predict(PICTURE, stream=True, imgsz=32, verbose=False))
    assert len(one) == 1
    assert model.predictor.args.origin("imgsz") == "code"
    assert list(place.iterdir()) == []


def test_prediction_writes_when_asked(best: str, place: Path):
    model = YOLO(best)
    model(PICTURE, save=True, verbose=False)
    assert (place / "runs/detect/predict/image0.jpg").is_file()


def test_predictions_in_a_loop_share_one_copy_of_the_network(best: str):
    model = YOLO(best)
    first = found(model)
    copy = model.predictor.model
    assert torch.equal(found(model), first)
    assert model.predictor.model is copy
    with torch.no_grad():
        model.model.model[-1].one2one_cv3[0][2].bias += 1  # any change of a weight is seen
    assert not torch.equal(found(model), first)
    assert model.predictor.model is not copy


def test_a_stream_under_way_is_not_disturbed_by_another_prediction(best: str):
    model = YOLO(best)
    stream = model([PICTURE] * 3, stream=True, verbose=False)
    first = next(stream)
    model(PICTURE[:32], verbose=False)
    rest = list(stream)
    assert [result.path for result in (first, *rest)] == ["image0.jpg", "image1.jpg", "image2.jpg"]
    assert all(result.orig_shape == (64, 64) for result in rest)


def test_a_network_of_random_weights_says_so_once(capsys: pytest.CaptureFixture[str], best: str):
    model = YOLO("yolo26n.yaml")
    for _ in range(2):
        model(PICTURE, imgsz=64)
    assert capsys.readouterr().err.count("model=yolo26n.yaml is a description, its weights are random") == 1
    YOLO("yolo26n.yaml").load(state(model))(PICTURE, imgsz=64)
    by_hand = YOLO("yolo26n.yaml")
    by_hand.model.load_state_dict(state(model))
    by_hand(PICTURE, imgsz=64)
    YOLO(best)(PICTURE)
    assert "random" not in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- fine-tuning


@pytest.fixture
def three(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data with three names, the known ones in other places."""
    path = tmp_path / "three.yaml"
    path.write_text(f"path: {tiny_data.parent}\ntrain: images/train\nval: images/val\nnames: [green, Blue, red]\n")
    return path


def start_of(model: YOLO, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, torch.Tensor]:
    """The weights that training begins with."""

    class Stop(Exception):
        pass

    def stop(trainer: DetectionTrainer) -> None:
        raise Stop

    model.add_callback("on_train_start", stop)
    with pytest.raises(Stop):
        model.train(**{**TRAIN, **settings})
    return model.trainer.model.state_dict()


def test_fine_tuning_takes_class_rows_by_name(best: str, three: Path, monkeypatch: pytest.MonkeyPatch):
    source = state(YOLO(best))
    start = start_of(YOLO(best), monkeypatch, data=str(three))
    for name, value in start.items():
        old = source[name]
        if not name.startswith("model.23."):
            assert torch.equal(value, old), name
        if name.endswith(("cv3.0.2.weight", "cv3.1.2.bias")):
            assert len(value) == 3
            assert torch.equal(value[1], old[1])  # blue, whatever its capitals
            assert torch.equal(value[2], old[0])  # red
            assert not torch.equal(value[0], old[0])
            assert not torch.equal(value[0], old[1])


def test_training_starts_from_what_the_object_holds(best: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    data = str(tiny_data)
    assert equal(start_of(YOLO(best), monkeypatch, data=data), state(YOLO(best)))
    changed = YOLO(best)
    with torch.no_grad():
        next(changed.model.parameters()).fill_(0.5)
    assert equal(start_of(changed, monkeypatch, data=data), state(changed))
    loaded = small().load(best)
    assert equal(start_of(loaded, monkeypatch, data=data), state(YOLO(best)))
    by_hand = small()
    by_hand.model.load_state_dict(state(YOLO(best)))
    assert equal(start_of(by_hand, monkeypatch, data=data), state(YOLO(best)))
    written = YOLO("yolo26n.yaml")
    with torch.no_grad():
        next(written.model.parameters()).fill_(0.25)
    assert (start_of(written, monkeypatch, data=data)["model.0.conv.weight"] == 0.25).all()
    new = [start_of(YOLO("yolo26n.yaml"), monkeypatch, data=data) for _ in range(2)]
    assert equal(*new)  # random weights follow the seed of the run
    fresh = start_of(YOLO(best), monkeypatch, data=data, pretrained=False)
    assert not torch.equal(fresh["model.0.conv.weight"], state(YOLO(best))["model.0.conv.weight"])


def test_fine_tuning_repeats_the_data_but_not_the_size(best: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    model = YOLO(best)
    start_of(model, monkeypatch, imgsz=32)
    args = model.trainer.args
    assert (args.data, args.origin("data")) == (str(tiny_data), "checkpoint")
    assert (args.imgsz, args.origin("imgsz")) == (32, "code")
    assert args.origin("lr0") == "auto"
    assert args.is_user_set("epochs")


def test_a_run_goes_on_from_its_checkpoint(trained: tuple[YOLO, Any, Path], tmp_path: Path, tiny_data: Path):
    first = YOLO("yolo26n.yaml")
    first.train(data=str(tiny_data), project=str(tmp_path), name="r", **TRAIN)
    last = tmp_path / "r/weights/last.pt"
    second = YOLO(last)
    second.train(resume=True, epochs=2)
    assert second.trainer.start_epoch == 1
    assert second.trainer.save_dir == tmp_path / "r"
    assert load_checkpoint(last)["epoch"] == 1


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_last_pt_that_cannot_be_used_is_replaced_by_the_one_before(
    harm: str, best: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    shutil.copy(best, tmp_path / "last.prev.pt")
    last = tmp_path / "last.pt"
    if harm == "damaged":
        last.write_bytes(Path(best).read_bytes()[:1000])
    model = YOLO(str(last))
    assert "last.prev.pt" in capfd.readouterr().err
    assert model.ckpt_path == str(last)  # what a resume names
    for name, value in YOLO(best).model.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], value)
    (tmp_path / "last.prev.pt").write_bytes(b"")
    with pytest.raises(CheckpointError if harm == "damaged" else MissingFileError, match=r"last\.pt"):
        YOLO(str(last))


# ------------------------------------------------------------------------------------------------- parts and origins


def test_callbacks_reach_trainer_validator_and_predictor(tiny_data: Path):
    seen: list[tuple[str, type]] = []
    model = YOLO("yolo26n.yaml")
    for event in ("on_train_start", "on_val_start", "on_fit_epoch_end", "on_predict_start", "on_predict_end"):
        model.add_callback(event, lambda part, event=event: seen.append((event, type(part))))
    model.train(data=str(tiny_data), **TRAIN)
    training = list(seen)
    assert training[0] == ("on_train_start", DetectionTrainer)
    assert training.count(("on_val_start", DetectionValidator)) == 2  # of the epoch, and of best.pt
    assert training.count(("on_fit_epoch_end", DetectionTrainer)) == 2
    seen.clear()
    model.val(workers=0, plots=False)
    model(PICTURE, verbose=False)
    assert seen == [
        ("on_val_start", DetectionValidator),
        ("on_predict_start", DetectionPredictor),
        ("on_predict_end", DetectionPredictor),
    ]
    seen.clear()
    model.clear_callback("on_predict_start")
    model(PICTURE, verbose=False)
    assert seen == [("on_predict_end", DetectionPredictor)]
    model.reset_callbacks()
    model(PICTURE, verbose=False)
    assert len(seen) == 1


def test_parts_of_ones_own_are_used(best: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    class MyTrainer(DetectionTrainer):
        pass

    class MyValidator(DetectionValidator):
        def __init__(self, *arguments: Any, mine: int = 0, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.mine = mine

    class MyPredictor(DetectionPredictor):
        pass

    model = YOLO(best)
    start_of(model, monkeypatch, trainer=MyTrainer, data=str(tiny_data))
    assert type(model.trainer) is MyTrainer
    model.val(validator=functools.partial(MyValidator, mine=7), workers=0, plots=False)
    assert model.validator.mine == 7
    model.predict(PICTURE, predictor=MyPredictor, verbose=False)
    assert type(model.predictor) is MyPredictor


def test_a_trainers_overrides_are_a_plain_dict_that_can_be_added_to(
    best: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
):
    """Subclasses in people's scripts read and change it before they call the base class."""

    class MyTrainer(DetectionTrainer):
        def __init__(self, cfg: Any = None, overrides: Any = None, _callbacks: Any = None) -> None:
            self.asked = dict(overrides)
            overrides["mosaic"] = 0.25
            super().__init__(cfg, overrides, _callbacks)

    model = YOLO(best)
    start_of(model, monkeypatch, trainer=MyTrainer)
    assert model.trainer.asked["data"] == str(tiny_data)
    assert model.trainer.asked["epochs"] == 1
    assert model.trainer.args.mosaic == 0.25
    assert model.trainer.args.epochs == 1


def test_origins_from_python_and_from_the_command_line(tiny_data: Path, monkeypatch: pytest.MonkeyPatch, place: Path):
    """What ran is in args.yaml, with where each value came from."""
    (place / "mine.yaml").write_text("degrees: 5.0\nepochs: 7\n")
    settings = {name: value for name, value in TRAIN.items() if name != "verbose"}
    YOLO("yolo26n.yaml").train(data=str(tiny_data), cfg="mine.yaml", name="python", **settings)
    words = [f"{name}={value}" for name, value in settings.items()]
    assert main(["train", "model=yolo26n.yaml", f"data={tiny_data}", "cfg=mine.yaml", "name=words", *words]) == 0
    for name, origin in (("python", "code"), ("words", "command line")):
        file = place / "runs/detect" / name
        args = yaml.safe_load((file / "args.yaml").read_text(encoding="utf-8"))
        assert (args["epochs"], args["degrees"], args["model"]) == (1, 5.0, "yolo26n.yaml")
        origins = load_checkpoint(file / "weights/last.pt")["origins"]
        assert origins["epochs"] == origins["imgsz"] == origins["data"] == origin
        assert origins["degrees"] == "file:mine.yaml"
        assert origins["mosaic"] == "default"
        assert origins["optimizer"] == "auto"


def test_reset_weights_makes_it_untrained_again():
    model = YOLO("yolo26n.yaml")
    before = model.model.model[0].conv.weight.clone()
    model.load(model.model.state_dict())
    assert not model._is_untrained()
    assert model.reset_weights() is model
    assert model._is_untrained()
    assert not model.model.model[0].conv.weight.equal(before)
