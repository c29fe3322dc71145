"""The weights behind the recorded outputs: a formula per key, so no file of weights (models.md 9.1 and 9.2)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

AS_BUILT = ("dfl.conv.weight", ".flow_model.loc", ".flow_model.cov", ".flow_model.mask")


def filled_state(network: nn.Module, recorded: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """State dict in float32. `recorded` holds `bn/keys` and `bn/values`, the running variances."""
    state = {key: fill(key, value) for key, value in network.state_dict().items()}
    keys = bytes(recorded["bn/keys"]).decode().split("\n")
    values = torch.from_numpy(recorded["bn/values"])
    sizes = [state[key].numel() for key in keys]
    assert sum(sizes) == len(values), "the recorded variances are of another network"
    assert keys == [key for key in state if key.endswith("running_var")]
    for key, variance in zip(keys, values.split(sizes), strict=True):
        state[key] = variance.clone()
    return state


def fill(key: str, built: Tensor) -> Tensor:
    if key.endswith(AS_BUILT):
        return built.clone()
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(built)
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(built.shape))
    if key.endswith("running_mean"):
        value = 0.1 * z
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(z)
    elif built.ndim >= 2:
        value = z * np.sqrt(1 / np.prod(built.shape[1:]))
    elif key.rsplit(".", 1)[-1].endswith("bias"):
        value = 0.1 * z
    else:
        value = 1 + 0.1 * z
    return torch.from_numpy(np.asarray(value, dtype=np.float32))
