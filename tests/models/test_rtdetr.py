"""RT-DETR networks from a user's description: called in both modes, folded, saved, loaded, transferred, trained."""

from __future__ import annotations

import copy
import math
import sys
import types

import pytest
import torch
from torch import nn

from models.small_rtdetr import HGNET, RESNET
from sightline import YOLO
from sightline.errors import ModelError, SettingValueError
from sightline.losses.rtdetr import RTDETRDetectionLoss
from sightline.models.build import build_from_state, build_model, reset_weights
from sightline.models.rtdetr import RTDETRDetectionModel
from sightline.models.weights import transfer
from sightline.nn.transformer import MultiheadAttention
from sightline.predict.detect import DetectionPredictor
from sightline.validate.detect import DetectionValidator


def small(cfg=HGNET, **options) -> RTDETRDetectionModel:
    torch.manual_seed(0)
    return build_model(cfg, **options)


def a_batch(objects: bool = True, nc: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = [(0, 0, 0.3, 0.3, 0.2, 0.3), (0, 1, 0.7, 0.6, 0.4, 0.5), (1, nc - 1, 0.5, 0.5, 0.6, 0.4)] if objects else []
    table = torch.tensor(rows).view(-1, 6)
    images = torch.rand(2, 3, 96, 128, generator=generator)
    return {"img": images, "batch_idx": table[:, 0], "cls": table[:, 1:2], "bboxes": table[:, 2:]}


@pytest.mark.parametrize("cfg", [HGNET, RESNET], ids=["hgnet", "resnet"])
def test_a_users_description(cfg):
    network = small(cfg)
    assert isinstance(network, RTDETRDetectionModel)
    assert network.stride.tolist() == [16]  # of two levels; one number, as published networks have it
    assert network.head.stride.tolist() == [8, 16]
    assert sum(each.numel() for each in network.parameters()) < 5_000_000
    assert len(network.yaml["backbone"]) == len(cfg["backbone"])
    again = build_model(network.yaml)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert build_model(network.yaml, nc=7).head.enc_score_head.out_features == 7


@pytest.mark.parametrize(
    ("name", "length"), [("rtdetr-l", 10), ("rtdetr-x", 14), ("rtdetr-resnet50", 5), ("rtdetr-resnet101", 5)]
)
def test_length_of_the_backbone(name: str, length: int, monkeypatch: pytest.MonkeyPatch):
    for kind in (nn.Conv2d, nn.Linear):
        monkeypatch.setattr(kind, "reset_parameters", lambda self: None)
    network = build_model(f"{name}.yaml", nc=2)
    assert len(network.yaml["backbone"]) == length
    assert network.stride.tolist() == [32]


@pytest.mark.parametrize("cfg", [HGNET, RESNET], ids=["hgnet", "resnet"])
def test_shapes_in_both_modes(cfg):
    network = small(cfg)
    raw = network.train()(a_batch()["img"])  # images alone: no targets, so no noisy queries
    assert raw["denoising"] is None
    assert raw["boxes"].shape == (2, 2, 50, 4)
    assert raw["scores"].shape == (2, 2, 50, 3)
    assert raw["encoder_boxes"].shape == (2, 50, 4)
    decoded, raw = network.eval()(a_batch()["img"])
    assert raw["boxes"].shape == (1, 2, 50, 4)
    assert decoded.shape == (2, 50, 6)
    scores = raw["scores"][0].sigmoid()
    assert (decoded[..., 4].diff(dim=1) <= 0).all()
    torch.testing.assert_close(decoded[:, 0, 4], scores.amax((1, 2)))
    for image, (*box, score, class_) in ((0, decoded[0, 3]), (1, decoded[1, 40])):
        query = int((scores[image, :, int(class_)] - score).abs().argmin())
        torch.testing.assert_close(torch.stack(box), raw["boxes"][0, image, query])


def test_fewer_cells_than_queries():
    decoded, raw = small().eval()(torch.rand(1, 3, 32, 32))
    assert raw["boxes"].shape == (1, 1, 4 * 4 + 2 * 2, 4)
    assert decoded.shape == (1, 50, 6)  # 60 pairs of query and class, of which as many as queries are wanted


def test_cells_at_the_edge_are_emptied():
    network = small().eval()
    _, valid = network.head.anchors_for([(80, 80), (40, 40)], torch.float32, torch.device("cpu"))
    assert int((~valid).sum()) == 316  # the outermost ring: 0.5 / 80 is nearer to the edge than 0.01


def test_queries_learn_from_the_decoder_only_what_it_may_teach():
    """The encoder's choice and its boxes get no gradient from the decoder's loss."""
    network = small().train()
    raw = network(a_batch()["img"])
    (raw["boxes"].sum() + raw["scores"].sum()).backward()
    head = network.head
    assert all(each.grad is None for each in (*head.enc_score_head.parameters(), *head.enc_bbox_head.parameters()))
    assert all(each.grad is not None for each in head.input_proj.parameters())


def test_boxes_get_a_gradient_from_two_layers():
    """Layer 1 moves the box of layer 0, which is not detached; the place where layer 1 looks is."""
    network = small().train()
    raw = network(a_batch()["img"])
    raw["boxes"][1].sum().backward()
    first = network.head.dec_bbox_head[0].layers[-1].bias.grad
    assert first is not None
    assert first.abs().sum() > 0


@pytest.mark.parametrize("objects", [True, False])
def test_every_parameter_gets_a_gradient(objects: bool):
    """Also in a batch without objects, or ranks would wait for each other's gradients."""
    network = small().train()
    loss, items = network(a_batch(objects))
    loss.sum().backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []
    assert all(each.grad.isfinite().all() for each in network.parameters())
    assert list(items) == ["giou_loss", "cls_loss", "l1_loss"]
    assert not any(each.requires_grad for each in items.values())
    assert float(items["cls_loss"]) > 0
    assert (float(items["l1_loss"]) > 0) == objects


def test_denoising_queries_are_in_the_loss_and_only_in_training():
    network = small().train()
    with_noise = network.loss(a_batch())[0].sum()
    network.head.num_denoising = 0
    without = network.loss(a_batch())[0].sum()
    assert with_noise.item() > 1.2 * without.item()
    network.eval()
    network.head.num_denoising = 100
    assert network.predict_batch(a_batch())[1]["denoising"] is None


def test_noisy_queries_do_not_change_the_others():
    network = small().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    network.double()
    images = a_batch()["img"].double()
    noisy = network.predict_batch({**a_batch(), "img": images})
    plain = network.predict(images)
    count = noisy["denoising"].count
    assert noisy["boxes"].shape[2] == 50 + count
    for name in ("boxes", "scores"):
        torch.testing.assert_close(noisy[name][:, :, count:], plain[name], rtol=1e-9, atol=1e-9)


def test_first_scores_and_boxes():
    """Scores of 0.01 for any number of classes; boxes are those of the cells."""
    for nc in (3, 80):
        network = small(nc=nc).train()
        for head in (network.head.enc_score_head, *network.head.dec_score_head):
            torch.testing.assert_close(head.bias.sigmoid(), torch.full((nc,), 0.01))
    raw = network(a_batch()["img"])
    torch.testing.assert_close(raw["boxes"][0], raw["encoder_boxes"], atol=1e-4, rtol=1e-4)


def test_the_loss_of_validation():
    network = small().eval()
    with torch.no_grad():
        preds = network(a_batch()["img"])
        loss, items = network.loss(a_batch(), preds)
    assert loss.shape == (3,)
    assert all(torch.isfinite(value) for value in items.values())


def test_folding_changes_nothing():
    network = small().double()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.running_mean.normal_(generator=generator)
    network.eval()
    image = a_batch()["img"].double()
    with torch.no_grad():
        expected = network(image)[0]
        assert not network.is_fused()
        state = network.fuse().state_dict()
        torch.testing.assert_close(network(image)[0], expected, rtol=1e-9, atol=1e-9)
        assert network.is_fused()
        again = build_from_state(network.yaml, state={name: value.float() for name, value in state.items()})
    assert again.is_fused()
    assert sum(name.endswith("running_var") for name in state) == 2  # of the projections, as in published folded files


def test_an_exporter_can_follow_it():
    """Everything from the image to the rows is operations of torch on tensors, none of them remembered by value."""
    network = small(RESNET).eval().fuse()
    first, second = torch.rand(2, 1, 3, 96, 128).unbind()
    with torch.no_grad():
        exported = torch.export.export(network, (first,)).module()
        torch.testing.assert_close(exported(second)[0], network(second)[0])
        assert not torch.allclose(network(first)[0], network(second)[0])


def test_half_precision():
    """Boxes and scores stay in float32; gradients are finite."""
    network = small().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = network.predict_batch(a_batch())
        loss, _ = network.loss(a_batch(), raw)
    assert {raw[name].dtype for name in ("boxes", "scores", "encoder_boxes", "encoder_scores")} == {torch.float32}
    loss.sum().backward()
    assert all(each.grad.isfinite().all() for each in network.parameters())


def test_saved_and_loaded(tmp_path):
    model = YOLO(small(nc=2, names=["cat", "dog"]))
    assert model.task == "rtdetr"
    model.save(tmp_path / "small.pt")
    loaded = YOLO(tmp_path / "small.pt")
    assert loaded.task == "rtdetr"
    assert isinstance(loaded.model, RTDETRDetectionModel)
    assert loaded.names == {0: "cat", 1: "dog"}
    image = a_batch()["img"]
    torch.testing.assert_close(loaded.model(image)[0], model.eval().model(image)[0])


@pytest.fixture
def reference(monkeypatch):
    """Classes with the names of another program, which are gone when the file is read."""
    modules = {name: types.ModuleType(name) for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    place = modules["ultralytics.nn.tasks"]

    def disguised(module: nn.Module, name: str | None = None) -> nn.Module:
        """The same tensors under the same names, in a class of that program; torch's own attention as it has it."""
        if isinstance(module, MultiheadAttention):
            theirs = nn.MultiheadAttention(module.width, module.heads, batch_first=True)
            theirs.load_state_dict(module.state_dict())
            return theirs
        name = type(module).__name__ if name is None else name
        kind = getattr(place, name, None) or type(name, (nn.Module,), {"__module__": place.__name__})
        setattr(place, name, kind)
        made = kind()
        made._parameters, made._buffers = module._parameters, module._buffers
        for child, value in module.named_children():
            made.add_module(child, disguised(value))
        return made

    yield disguised
    monkeypatch.undo()


def test_a_file_made_by_the_reference(reference, tmp_path):
    """Whole modules in half precision, `task` detect, the description in its own layout."""
    network = small(names=["a", "b", "c"])
    file = reference(copy.deepcopy(network), "RTDETRDetectionModel").half()
    file.yaml, file.names, file.nc = {**copy.deepcopy(HGNET), "ch": 3}, {0: "a", 1: "b", 2: "c"}, 3
    file.task, file.stride = "detect", torch.tensor([32.0])
    torch.save({"epoch": -1, "ema": None, "model": file, "train_args": {"task": "detect"}}, tmp_path / "theirs.pt")
    for name in [each for each in sys.modules if each.partition(".")[0] == "ultralytics"]:
        del sys.modules[name]
    loaded = YOLO(tmp_path / "theirs.pt")
    assert loaded.task == "rtdetr"
    assert loaded.names == {0: "a", 1: "b", 2: "c"}
    network.half().float().eval()
    torch.testing.assert_close(loaded.model(a_batch()["img"])[0], network(a_batch()["img"])[0])


def test_classes_are_transferred_by_name():
    source, target = small(nc=3, names=["cat", "dog", "cow"]), small(nc=2, names=["cow", "cat"])
    with torch.no_grad():
        for key, value in source.state_dict().items():
            if "score_head" in key or "class_embed" in key:
                value.copy_(torch.arange(3.0).view(-1, *[1] * (value.ndim - 1)))
    report = transfer(target, source.state_dict(), source_names=source.names)
    assert report.remapped_rows == {"cow": 2, "cat": 0}
    assert report.missing == []
    for key, value in target.state_dict().items():
        if "score_head" in key or "class_embed" in key:
            assert value.flatten(1).mean(1).tolist() == [2, 0] if value.ndim > 1 else value.tolist() == [2, 0]


def test_folded_weights_do_not_train():
    folded = copy.deepcopy(small()).fuse().state_dict()
    with pytest.raises(ModelError, match="folded"):
        transfer(small(), folded)


def test_grey_images_get_the_sum_of_the_colours():
    for cfg, key in ((HGNET, "model.0.stem1.conv.weight"), (RESNET, "model.0.layer.0.conv.weight")):
        source = small(cfg)
        rows = copy.deepcopy(cfg)
        if cfg is RESNET:
            rows["backbone"][0] = {"block": "ResNetLayer", "width": 16, "first": True}
        target = small(rows, ch=1)
        assert transfer(target, source.state_dict()).first_conv
        expected = source.state_dict()[key].sum(1, keepdim=True)
        torch.testing.assert_close(target.state_dict()[key], expected)


def test_reset_weights():
    network = small()
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(7)
    reset_weights(network)
    fresh = small().state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            assert value.std(unbiased=False).item() == pytest.approx(
                fresh[name].std(unbiased=False).item(), rel=0.7, abs=0.05
            ), name
    offsets = network.head.decoder.layers[0].cross_attn.sampling_offsets
    assert offsets.bias.equal(fresh["model.16.decoder.layers.0.cross_attn.sampling_offsets.bias"])
    assert not offsets.weight.any()
    assert math.isclose(network.head.enc_score_head.bias[0].sigmoid().item(), 0.01, rel_tol=1e-4)


def test_messages():
    with pytest.raises(ModelError, match="nothing for NMS"):
        small().use_end2end(False)
    wrong = copy.deepcopy(RESNET)
    wrong["backbone"][1][3][0] = 64
    with pytest.raises(ModelError, match="in_channels is 64, but the map that comes in has 16"):
        build_model(wrong)
    wrong = copy.deepcopy(HGNET)
    wrong["head"][-1][3] = ["nc", 30, 50, 4, 4, 2]
    with pytest.raises(ModelError, match="30 channels cannot be shared out among 4 heads"):
        build_model(wrong)


def test_its_task_may_be_named():
    assert YOLO(small(), task="rtdetr").task == "rtdetr"
    with pytest.raises(SettingValueError, match="task=depth is not in sightline yet"):
        YOLO(small(), task="depth")


def test_parts_of_another_task_refuse_it(tmp_path):
    network = small()
    with pytest.raises(ModelError, match=r"task=rtdetr \(RTDETRDecoder\).*task=detect"):
        DetectionValidator(args={"data": "shapes", "imgsz": 64})(model=network)
    with pytest.raises(ModelError, match="task=rtdetr"):
        DetectionPredictor(args={"imgsz": 64})(str(tmp_path), model=network)


def test_own_criterion():
    assert isinstance(small().init_criterion(), RTDETRDetectionLoss)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rtdetr-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101"])
def test_three_steps_on_a_repeated_batch(name: str):
    """128 px, batch 2, the rates of training: finite, and it falls."""
    torch.manual_seed(0)
    network = build_model(name, nc=3).train()
    batch = {**a_batch(), "img": torch.rand(2, 3, 128, 128)}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss, _ = network(batch)
        loss.sum().backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        assert norm.isfinite()
        optimizer.step()
        losses.append(float(loss.sum().detach()))
    assert losses[3] < losses[2] < losses[1] < losses[0]
