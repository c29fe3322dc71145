"""Built networks: keys and shapes of published weights, sizes, first values, what training and eval mode give."""

from __future__ import annotations

import copy
import fnmatch
import io
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from golden.golden import NOT_BUILT, SPEC
from sightline.errors import ModelError
from sightline.models.build import build_model, reset_weights
from sightline.models.find import built_in_names

# As published: layers, parameters, GFLOPs at 640 pixels.
SIZES = {
    "yolo12n": (272, 2_602_288, 7.6),
    "yolo12s": (272, 9_284_096, 23.7),
    "yolo12m": (292, 20_199_168, 71.3),
    "yolo12l": (488, 26_450_784, 96.3),
    "yolo12x": (488, 59_210_784, 210.1),
    "yolo26n": (260, 2_572_280, 6.2),
    "yolo26s": (260, 10_009_784, 23.1),
    "yolo26m": (280, 21_896_248, 75.6),
    "yolo26l": (392, 26_299_704, 94.2),
    "yolo26x": (392, 58_993_368, 210.1),
    "yolo26n-p2": (329, 2_662_400, 9.6),
    "yolo26s-p2": (329, 9_765_856, 28.0),
    "yolo26m-p2": (349, 21_144_288, 91.6),
    "yolo26l-p2": (489, 25_815_520, 115.6),
    "yolo26x-p2": (489, 57_935_232, 257.4),
    "yolo26n-p6": (349, 4_063_872, 6.0),
    "yolo26s-p6": (349, 15_876_448, 22.3),
    "yolo26m-p6": (369, 32_400_096, 77.3),
    "yolo26l-p6": (523, 39_365_600, 97.0),
    "yolo26x-p6": (523, 88_330_368, 216.7),
    "yolo26n-pose": (363, 3_747_554, 10.8),
    "yolo26s-pose": (363, 11_870_498, 29.8),
    "yolo26m-pose": (383, 24_344_482, 86.1),
    "yolo26l-pose": (495, 28_747_938, 104.7),
    "yolo26x-pose": (495, 62_914_350, 226.9),
    "yolo11n-pose": (196, 2_908_507, 7.8),
    "yolo11s-pose": (196, 9_948_811, 23.6),
    "yolo11m-pose": (246, 20_973_273, 72.4),
    "yolo11l-pose": (372, 26_230_745, 91.6),
    "yolo11x-pose": (372, 58_889_881, 204.7),
    "yolov8n-pose": (144, 3_295_470, 9.3),
    "yolov8s-pose": (144, 11_626_046, 30.4),
    "yolov8m-pose": (184, 26_464_462, 81.4),
    "yolov8l-pose": (224, 44_489_196, 169.1),
    "yolov8x-pose": (224, 69_491_724, 264.0),
}
# Published layers count modules that are functions here, or nothing (activations, dropout of 0 in encoder and decoder).
RTDETR_SIZES = {
    "rtdetr-l": (470, 32_970_476, 110.2),
    "rtdetr-x": (592, 67_467_852, 234.9),
    "rtdetr-resnet50": (410, 42_925_132, 132.7),
    "rtdetr-resnet101": (546, 61_917_260, 193.7),
}
FUNCTIONS = 51


@pytest.fixture
def _no_initial_values(monkeypatch: pytest.MonkeyPatch):
    """Building a network of 90 million parameters is mostly random numbers, which tests of shapes do not need."""
    monkeypatch.setattr(nn.Conv2d, "reset_parameters", lambda self: None)


def small(**options) -> nn.Module:
    torch.manual_seed(0)
    return build_model("yolo26n", **{"nc": 3, **options})


def maps_of_keys() -> list:
    marks = {
        path: [pytest.mark.xfail(strict=True, reason=why)]
        for path in SPEC.glob("state_dict/*.json")
        for pattern, why in NOT_BUILT.items()
        if fnmatch.fnmatch(f"models/{path.stem}.npz", pattern)
    }
    paths = sorted(SPEC.glob("state_dict/*.json"))
    if not paths:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {SPEC}/state_dict; set SIGHTLINE_SPEC"))]
    return [pytest.param(path, id=path.stem, marks=marks.get(path, [])) for path in paths]


@pytest.mark.usefixtures("_no_initial_values")
@pytest.mark.parametrize("path", maps_of_keys())
def test_keys_shapes_types_and_order_of_published_weights(path: Path):
    expected = json.loads(path.read_text())
    state = build_model(path.stem).state_dict()
    own = {key: [list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in state.items()}
    assert own == expected
    assert list(own) == list(expected)


@pytest.mark.usefixtures("_no_initial_values")
@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name: str):
    layers, parameters, gflops = SIZES[name]
    model = build_model(name)
    info = model.info(verbose=False)
    fixed = model.head.reg_max if model.head.reg_max > 1 else 0  # the numbers of the bins never train
    assert info[:3] == (layers, parameters, parameters - fixed)
    assert info[3] == pytest.approx(gflops, abs=0.051)  # printed with one digit


@pytest.mark.usefixtures("_no_initial_values")
@pytest.mark.parametrize("name", RTDETR_SIZES)
def test_published_sizes_of_rtdetr(name: str):
    layers, parameters, gflops = RTDETR_SIZES[name]
    info = build_model(name).info(verbose=False)
    assert info[:3] == (layers - FUNCTIONS, parameters, parameters)
    assert info[3] == pytest.approx(gflops, abs=0.11)


def test_sizes_cover_the_zoo():
    assert set(built_in_names()) == {*SIZES, *RTDETR_SIZES}


@pytest.mark.usefixtures("_no_initial_values")
@pytest.mark.parametrize(
    ("name", "strides"), [("yolo26n", [8, 16, 32]), ("yolo26n-p2", [4, 8, 16, 32]), ("yolo26n-p6", [8, 16, 32, 64])]
)
def test_strides(name: str, strides: list[int]):
    model = build_model(name)
    assert model.stride.tolist() == model.model[-1].stride.tolist() == strides


def test_building_runs_no_data_through_the_norms():
    state = small().state_dict()
    assert all((value == 0).all() for key, value in state.items() if key.endswith(("running_mean", "tracked")))


def test_first_values():
    model = small()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        weight = conv.weight.detach()
        bound = 1 / math.sqrt(conv.weight[0].numel())  # PyTorch's own: uniform within ±1/√fan-in
        assert weight.abs().max() <= bound
        assert weight.numel() < 50 or weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.35)
    head = model.model[-1]
    for branch in (head.cv3, head.one2one_cv3):
        for score, stride in zip(branch, (8, 16, 32), strict=True):
            assert score[-1].bias.tolist() == pytest.approx([math.log(5 / 3 / (640 / stride) ** 2)] * 3)


def test_what_scripts_read():
    model = small(names=["red cell", "white cell", "platelet"])
    assert (model.nc, model.task, model.end2end) == (3, "detect", True)
    assert model.names == {0: "red cell", 1: "white cell", 2: "platelet"}
    assert small().names == {0: "0", 1: "1", 2: "2"}
    assert model.save == [4, 6, 10, 13, 16, 19, 22]
    head = model.model[-1]
    assert (head.nc, head.reg_max, head.nl, head.no, head.i, head.f, head.type) == (
        3,
        1,
        3,
        7,
        23,
        [16, 19, 22],
        "Detect",
    )
    assert model.yaml["nc"] == 3
    assert model.yaml["scale"] == "n"
    assert model.yaml["yaml_file"] == "yolo26n.yaml"
    assert model.yaml["channels"] == 3
    assert model.yaml["backbone"][9] == [-1, 1, "SPPF", [1024, 5, 3, True]]
    assert model.yaml["head"][-1] == [[16, 19, 22], 1, "Detect", ["nc"]]


@pytest.mark.parametrize("names", [["a", "b"], {1: "a", 2: "b", 3: "c"}])
def test_names_must_fit(names):
    with pytest.raises(ModelError, match="class names were given for nc=3"):
        small(names=names)


def test_nc_follows_the_names():
    assert build_model("yolo26n", names=["a", "b"]).nc == 2


def test_input_channels():
    model = small(ch=1)
    assert model.yaml["channels"] == 1
    assert model.eval()(torch.zeros(1, 1, 64, 64))[0].shape == (1, 7, 84)


def test_eval_gives_boxes_for_suppression_until_switched():
    model = small().eval()
    image = torch.rand(2, 3, 64, 96)
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    with torch.no_grad():
        decoded, raw = model(image)
        assert decoded.shape == (2, 7, anchors)
        assert set(raw) == {"one2many", "one2one"}
        assert not model.model[-1].end2end
        model.use_end2end(True)
        rows, raw = model(image)
        assert rows.shape == (2, min(300, anchors), 6)
        assert set(raw) == {"one2many", "one2one"}
        model.use_end2end(False)
        torch.testing.assert_close(model(image)[0], decoded)


def test_switching_on_what_is_not_there_is_an_error():
    with pytest.raises(ModelError, match="no NMS-free branch"):
        build_model({**small().yaml, "end2end": False}).use_end2end(True)


def test_the_one_to_one_branch_sends_nothing_to_the_backbone():
    model = small().train()
    raw = model(torch.rand(2, 3, 64, 64))
    (raw["one2one"]["boxes"].sum() + raw["one2one"]["scores"].sum()).backward()
    with_gradient = {name.split(".")[2] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"one2one_cv2", "one2one_cv3"}


def batch(nc: int = 3) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.rand(2, 3, 64, 64, generator=generator),
        "batch_idx": torch.tensor([0.0, 0, 1]),
        "cls": torch.randint(0, nc, (3, 1), generator=generator).float(),
        "bboxes": torch.tensor([[0.3, 0.3, 0.3, 0.2], [0.7, 0.6, 0.2, 0.4], [0.5, 0.5, 0.6, 0.6]]),
    }


def test_a_batch_gives_the_loss_and_predictions_can_be_handed_in():
    model = small().train()
    loss, items = model(batch())
    assert loss.shape == (3,)
    assert len(items) == 3
    loss.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    with torch.no_grad():
        predictions = model(batch()["img"])
        torch.testing.assert_close(model.loss(batch(), predictions)[0], model.loss(batch())[0])


def test_the_criterion_is_not_copied_and_no_part_of_the_weights():
    model = small().train()
    keys = list(model.state_dict())
    model.criterion = nn.Linear(2, 2)  # a user's loss may be a module
    assert list(model.state_dict()) == keys
    model.criterion = None
    model(batch())
    assert model.criterion is not None
    assert copy.deepcopy(model).criterion is None
    assert model.criterion is not None
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.load(file, weights_only=False).criterion is None


def test_one_branch_has_the_plain_loss():
    from sightline.losses.detect import v8DetectionLoss
    from sightline.losses.end_to_end import E2ELoss

    assert isinstance(small().init_criterion(), E2ELoss)
    assert isinstance(build_model({**small().yaml, "end2end": False}).init_criterion(), v8DetectionLoss)


def test_an_own_criterion_is_used():
    class Mine(type(small())):
        def init_criterion(self):
            return lambda predictions, batch: (torch.ones(1), {"mine": torch.ones(1)})

    loss, items = Mine("yolo26n.yaml", nc=3, verbose=False)(batch())
    assert float(loss) == 1
    assert list(items) == ["mine"]


def test_reset_weights_gives_a_network_as_just_built(tmp_path):
    path = tmp_path / "dfl.yaml"
    path.write_text(
        "nc: 3\nreg_max: 16\nscales: {n: [0.5, 0.25, 1024]}\n"
        "backbone:\n  - [-1, 1, Conv, [64, 3, 2]]\n  - [-1, 1, Conv, [64, 3, 2]]\nhead:\n  - [[1], 1, Detect, [nc]]\n"
    )
    for cfg in ("yolo26n.yaml", path):
        torch.manual_seed(0)
        network = build_model(cfg, nc=3)
        first = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            for value in network.parameters():
                value.requires_grad_(False).fill_(7.0)
        next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)).running_mean.fill_(9)
        torch.manual_seed(1)
        reset_weights(network)
        after = network.state_dict()
        for name, value in first.items():
            if not value.is_floating_point():
                continue
            assert after[name].std(unbiased=False).item() == pytest.approx(
                value.std(unbiased=False).item(), rel=0.7, abs=0.05
            ), name
        constant = [
            name for name in first if ".dfl." in name or "running_" in name or name.endswith(("bn.weight", "bn.bias"))
        ]
        assert all(after[name].equal(first[name]) for name in constant)
        assert not after["model.0.conv.weight"].equal(first["model.0.conv.weight"])
        fixed = {name for name, value in network.named_parameters() if not value.requires_grad}
        assert fixed == {name for name in first if ".dfl." in name}
        head = network.head
        if head.has_one2one:
            assert head.one2one_cv3[0][0][0].conv.weight.equal(head.cv3[0][0][0].conv.weight)
        assert head.cv3[0][-1].bias.equal(build_model(cfg, nc=3).head.cv3[0][-1].bias)
