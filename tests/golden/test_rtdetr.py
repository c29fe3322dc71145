"""RT-DETR filled with the recorded weights gives the recorded outputs (models.md section 9)."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from golden.fill import filled_state
from golden.golden import golden_files
from golden.test_models import STRICT, far_off, layer_differences, run_layers, top_k_differences
from sightline.models.build import build_model
from sightline.models.stack import inputs_of

LOOSE = 1e-2  # in float32: the decoder amplifies rounding


@functools.cache
def filled(path: Path) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    recorded = dict(np.load(path))
    with pytest.MonkeyPatch.context() as patch:  # all of it is filled: random numbers would be for nothing
        for kind in (torch.nn.Conv2d, torch.nn.Linear):
            patch.setattr(kind, "reset_parameters", lambda self: None)
        network = build_model(path.stem)
    network.load_state_dict(filled_state(network, recorded))
    return network, recorded


@torch.no_grad()
def differences(path: Path, dtype: torch.dtype, tolerance: float) -> list[str]:
    network, recorded = filled(path)
    network = copy.deepcopy(network).to(dtype).eval()
    image = torch.from_numpy(np.random.default_rng(0).random((2, 3, 128, 160)).astype(np.float32)).to(dtype)
    outputs = run_layers(network, image)
    problems: list[str | None] = layer_differences(outputs, recorded, tolerance)

    head = network.model[-1]
    maps = [outputs[each] for each in inputs_of(head)]
    chosen: list[torch.Tensor] = []
    hook = head.enc_score_head.register_forward_hook(lambda module, inputs, output: chosen.append(output))
    head.training = True  # only the head's own flag: BatchNorm below it stays in eval mode
    raw = head(maps)
    head.training = False
    hook.remove()
    best = chosen[0].amax(-1)  # (B, S)
    problems.append(far_off("best logit", best, recorded["raw/enc_best_logit"], tolerance))
    order = recorded["raw/enc_topk_index"]  # (B, Q)
    mine = best.topk(order.shape[1], dim=1).indices.numpy()
    if dtype == torch.float64:
        assert (mine == order).all()
    # Near ties may stand in another order: queries are compared by the cell they come from.
    place = [{int(cell): query for query, cell in enumerate(row)} for row in mine]
    kept = [[query for query, cell in enumerate(row) if int(cell) in place[image]] for image, row in enumerate(order)]
    assert min(len(each) for each in kept) >= 298
    decoded, eval_raw = network(image)

    def by_cell(name: str, value: torch.Tensor, golden: np.ndarray, queries: range) -> None:
        """`value` (..., B, Q, C) has all queries, `golden` those of `queries`."""
        for number in range(value.shape[-3]):
            rows = [(at, query) for at, query in enumerate(queries) if query in set(kept[number])]
            own = value[..., number, [place[number][int(order[number, query])] for _, query in rows], :]
            problems.append(far_off(name, own, golden[..., number, [at for at, _ in rows], :], tolerance))

    everyone = range(order.shape[1])
    by_cell("decoder boxes", raw["boxes"], recorded["raw/dec_bboxes"], everyone)
    by_cell("scores of two layers", raw["scores"][[0, -1]], recorded["raw/dec_scores_first_last"], everyone)
    by_cell("scores of all layers", raw["scores"], recorded["raw/dec_scores_every10"], everyone[::10])
    by_cell("encoder boxes", raw["encoder_boxes"], recorded["raw/enc_bboxes"], everyone)
    by_cell("encoder scores", raw["encoder_scores"], recorded["raw/enc_scores"], everyone[::2])
    by_cell("boxes in eval mode", eval_raw["boxes"][0], recorded["eval/dec_bboxes"], everyone)
    assert raw["denoising"] is None
    problems += top_k_differences(decoded, recorded["eval/topk"], tolerance)
    return [problem for problem in problems if problem]


@pytest.mark.parametrize("path", golden_files("models/rtdetr*.npz"))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, STRICT), (torch.float32, LOOSE)])
def test_outputs_are_those_recorded(path: Path, dtype: torch.dtype, tolerance: float):
    problems = differences(path, dtype, tolerance)
    assert not problems, "\n".join(problems[:10])
