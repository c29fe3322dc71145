"""Settings: the batch test of `sightline batch-find`."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Whole


class BatchFindSettings(BaseModel):
    """How batches are tried by `sightline batch-find`."""

    batch_find_steps: Whole = setting(
        40, "Steps of training, from whose second half the gradient noise scale is taken.", "train", new=True, ge=10
    )
    batch_find_max: Whole = setting(512, "The largest batch that is tried.", "train", new=True, ge=1)
