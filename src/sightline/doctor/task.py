"""The task of a run that is only being looked at: what was asked for, else what its model does."""

from __future__ import annotations

from typing import Any

from sightline import download
from sightline.artifacts.weights_file import read_weights
from sightline.config.settings import Settings
from sightline.models.build import NETWORKS
from sightline.models.network import load_spec
from sightline.tasks import get_task, is_called


def settle_task(settings: Settings, source: Any = None) -> None:
    """Set `task` to that of the model, unless the user named another one.

    Args:
        settings: of a training.
        source: weights or a network to start from.

    Raises:
        ModelError, MissingFileError, CheckpointError: the model cannot be read.
        SettingValueError: it cannot be trained yet.
    """
    if source is None and settings.model is None:
        return
    if source is None:
        name = str(settings.model)
        if name.endswith((".yaml", ".yml")):
            network = NETWORKS.get(load_spec(name).head[-1].block)  # None: building it says what is wrong
            task = None if network is None else network.task
        else:
            task = read_weights(download.fetch_weights(name)).task
    else:
        task = getattr(source, "task", None)
    if task is None or task == settings.task or (settings.is_user_set("task") and not is_called(task, settings.task)):
        return
    get_task(task)  # of some there are only networks
    settings.assign("task", task, origin="auto")
