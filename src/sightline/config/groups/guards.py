"""Settings: what keeps a run alive."""

from __future__ import annotations

from pydantic import BaseModel

from sightline.config.groups.field import setting
from sightline.config.kinds import Names, Number, Whole


class GuardSettings(BaseModel):
    """What keeps a run alive when a step, a batch or the memory goes wrong."""

    nan_patience: Whole = setting(
        10,
        "Steps in a row that are not finite after which the run goes back to a good state; 0: never.",
        "train",
        new=True,
        ge=0,
    )
    spike_factor: Number = setting(
        10.0,
        "A loss above this many times its running median is a spike: its step is skipped; 0 is off.",
        "train",
        new=True,
        ge=0,
    )
    spike_patience: Whole = setting(
        3, "Spikes in a row after which the run goes back to its last good state.", "train", new=True, ge=1
    )
    snapshot_steps: Whole = setting(
        100, "Steps between two copies of the good state in memory; one more at the end of an epoch.", "train",
        new=True, ge=1,
    )  # fmt: skip
    rollback_lr_factor: Number = setting(
        0.5, "Factor on the learning rate each time the run goes back.", "train", new=True, gt=0, le=1
    )
    max_rollbacks: Whole = setting(
        5,
        "Times that a run may go back before it stops; 200 good steps clear the count.",
        "train",
        new=True,
        ge=0,
    )
    batch_dumps: Whole = setting(
        3, "Bad batches that are written to dumps/ of the run folder, for `sightline doctor replay`.", "train",
        new=True, ge=0,
    )  # fmt: skip
    empty_cache_period: Whole = setting(
        50, "Epochs between two times that memory which nobody uses is given back; 0 is off.", "train", new=True, ge=0
    )
    fp16_skip_layers: Names | None = setting(
        None,
        "Parts of the network that compute in fp32 under amp, by name or class, or regex:… on whole names.",
        "train",
        allowed="names, such as [dfl, model.23.cv3, regex:one2one]",
        new=True,
    )
