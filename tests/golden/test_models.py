"""Networks filled with the recorded weights give the recorded outputs (models.md section 9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from golden.fill import filled_state
from golden.golden import golden_files
from sightline.models.build import build_model
from sightline.models.stack import inputs_of

STRICT, LOOSE = 1e-5, 5e-4  # of max(1, |recorded|), in float64 and float32


def image_shape(recorded: dict[str, np.ndarray]) -> tuple[int, int, int, int]:
    """Of the input: the first layer halves it."""
    batch, _, height, width = recorded["layer_shape"][0]
    return int(batch), 3, int(height) * 2, int(width) * 2


def far_off(name: str, value: torch.Tensor, recorded: np.ndarray, tolerance: float) -> str | None:
    own = value.detach().double().cpu().numpy()
    if own.shape != recorded.shape:
        return f"{name}: shape {own.shape}, recorded {recorded.shape}"
    error = np.abs(own - recorded) / np.maximum(1, np.abs(recorded))
    return f"{name}: off by {error.max():.2e}" if not error.max() <= tolerance else None


def run_layers(network: torch.nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of all layers before the head; then the maps that enter it."""
    outputs: list[torch.Tensor] = []
    for layer in network.model[:-1]:
        inputs = [outputs[each] if each >= 0 else image for each in inputs_of(layer)]
        outputs.append(layer(inputs if isinstance(layer.f, list) else inputs[0]))
    return outputs


def differences(path: Path, dtype: torch.dtype, tolerance: float) -> list[str]:
    recorded = dict(np.load(path))
    network = build_model(path.stem)
    network.load_state_dict(filled_state(network, recorded))
    return output_differences(network, recorded, dtype, tolerance)


@torch.no_grad()
def output_differences(
    network: torch.nn.Module, recorded: dict[str, np.ndarray], dtype: torch.dtype, tolerance: float
) -> list[str]:
    """Where the outputs of a network differ from the recorded arrays; its weights must be the recorded ones."""
    network.to(dtype).eval()
    image = torch.from_numpy(np.random.default_rng(0).random(image_shape(recorded)).astype(np.float32)).to(dtype)
    outputs = run_layers(network, image)
    problems: list[str | None] = layer_differences(outputs, recorded, tolerance)

    head = network.model[-1]
    maps = [outputs[each] for each in inputs_of(head)]
    head.training = True  # only the head's own flag: BatchNorm below it stays in eval mode
    raw = head(maps)
    head.training = False
    raw = raw if "one2many" in raw else {"one2many": raw}
    compared = {f"raw/{branch}/{name}": value for branch, values in raw.items() for name, value in values.items()}
    decoded, eval_raw = network(image)
    compared["eval/one2many/decoded"] = decoded[..., ::4]
    for branch, values in (eval_raw if "one2many" in eval_raw else {"one2many": eval_raw}).items():
        for name in ("boxes", "scores"):
            problems.append(
                far_off(f"eval raw {branch} {name}", values[name], recorded[f"raw/{branch}/{name}"], tolerance)
            )
    if network.end2end:
        compared["eval/one2one/decoded"] = head.decode_branch(eval_raw["one2one"], corners=True)[..., ::4]
        network.use_end2end(True)
        problems += top_k_differences(network(image)[0], recorded["eval/one2one/topk"], tolerance)
    names = [name for name in recorded if name.startswith(("raw/", "eval/")) and not name.endswith(("topk", "_margin"))]
    assert names
    for name in names:
        problems.append(
            far_off(name, compared[name], recorded[name], tolerance) if name in compared else f"{name} is missing"
        )
    return [problem for problem in problems if problem]


def layer_differences(
    outputs: list[torch.Tensor], recorded: dict[str, np.ndarray], tolerance: float
) -> list[str | None]:
    """Of the layers before the head: which of them differs first."""
    problems: list[str | None] = []
    for row, index in enumerate(recorded["layer_index"]):
        output = outputs[index].double()
        stats = torch.stack([output.mean(), output.std(), output.min(), output.max()])
        flat = output.flatten()  # row-major whatever the memory format
        probe = flat[np.round(np.linspace(0, flat.numel() - 1, 16)).astype(int)]
        if tuple(output.shape) != tuple(recorded["layer_shape"][row]):
            problems.append(f"layer {index}: shape {tuple(output.shape)}, recorded {recorded['layer_shape'][row]}")
        problems.append(far_off(f"layer {index} statistics", stats, recorded["layer_stats"][row], tolerance))
        problems.append(far_off(f"layer {index} probe", probe, recorded["layer_probe"][row], tolerance))
    return problems


def top_k_differences(rows: torch.Tensor, recorded: np.ndarray, tolerance: float) -> list[str]:
    """Near ties may stand in another order: scores are compared sorted, each clear row by its values."""
    own = rows.double().cpu().numpy()
    if own.shape != recorded.shape:
        return [f"top k: shape {own.shape}, recorded {recorded.shape}"]
    problems = []
    for image, (mine, theirs) in enumerate(zip(own, recorded, strict=True)):
        scores = np.sort(mine[:, 4])[::-1], np.sort(theirs[:, 4])[::-1]
        if not np.allclose(*scores, rtol=0, atol=tolerance):
            problems.append(f"top k of image {image}: scores off by {np.abs(scores[0] - scores[1]).max():.2e}")
        for row in theirs[theirs[:, 4] > theirs[:, 4].min() + tolerance]:
            same_class = mine[mine[:, 5] == row[5]]
            error = np.abs(same_class - row) / np.maximum(1, np.abs(row))
            if not (len(error) and error.max(1).min() <= tolerance):
                problems.append(f"top k of image {image}: no row like {row}")
    return problems


@pytest.mark.parametrize("path", golden_files("models/yolo*.npz"))
def test_float64_outputs_are_those_recorded(path: Path):
    problems = differences(path, torch.float64, STRICT)
    assert not problems, "\n".join(problems[:10])


@pytest.mark.parametrize("path", golden_files("models/yolo*.npz"))
def test_float32_outputs_are_close(path: Path):
    problems = differences(path, torch.float32, LOOSE)
    assert not problems, "\n".join(problems[:10])


@pytest.mark.parametrize("path", golden_files("models/yolo26*.npz"))
def test_channels_last_changes_nothing(path: Path):
    recorded = dict(np.load(path))
    network = build_model(path.stem)
    network.load_state_dict(filled_state(network, recorded))
    network.double().eval()
    image = torch.from_numpy(np.random.default_rng(0).random(image_shape(recorded)))
    with torch.no_grad():
        expected = network(image)[0]
        actual = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
