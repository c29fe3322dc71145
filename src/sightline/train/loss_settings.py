"""The settings of the loss, put in force on the network: weights of classes, and a loss of the user's own.

`losses/` reads plain numbers from the network and its `args`; this is where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.errors import SettingValueError
from sightline.log import LOGGER
from sightline.losses.end_to_end import E2ELoss
from sightline.losses.own import BRANCH, FUNCTION, OwnLoss
from sightline.losses.terms.class_weights import positive_weights
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.config.settings import Settings
    from sightline.train.trainer import BaseTrainer

# What our own losses read. A plain function cannot, so there these settings would be without effect.
READ_BY_OURS = (
    *("box", "cls", "dfl", "pose", "kobj", "rle", "cls_pw", "class_weights", "focal_gamma", "label_smoothing"),
    *("loss_schedule", "box_loss_weight", "cls_loss_weight", "dfl_loss_weight"),
)
OF_SOME_NETWORKS = ("pose", "kobj", "rle")  # gains of terms that not every network has


def put_in_force(trainer: BaseTrainer) -> None:
    """Give the network the loss of the user's own, and note what each of these settings does in this run.

    Raises:
        SettingTypeError: `loss` is nothing that can be one.
        SettingValueError: a setting that would not be in force.
    """
    network, settings = unwrap(trainer.model), trainer.args
    reader = "the loss"
    if settings.loss is None:
        _refuse_what_ours_does_not_read(network, settings)
    if settings.loss is not None:
        own = OwnLoss(settings.loss)
        _refuse_what_it_cannot_read(own, trainer)
        if not hasattr(network, "make_criterion"):
            raise SettingValueError(
                f"loss={own.name}: the network {type(network).__name__} makes its loss itself. Leave loss= out, or "
                "derive the network from sightline.models.network.DetectionModel."
            )
        network.own_loss, network.criterion = own, None  # also in the place of a criterion that was set by hand
        ours = own.kind == BRANCH or _makes_ours(own.given)
        reader = own.name if ours else f"{own.name}, if it reads them"
        trainer.in_force["loss"] = own.describe()
    _say_what_no_term_reads(trainer)
    names = trainer.data.get("names", {})
    if settings.class_weights is not None:
        weights = getattr(network, "positive_weights", None)
        if weights is None:
            raise SettingValueError(
                f"class_weights={settings.class_weights} is not in force: set_class_weights() of "
                f"{type(trainer).__name__} did not set model.positive_weights. Call super().set_class_weights() in it, "
                "or leave class_weights= out."
            )
        trainer.in_force["class_weights"] = f"objects weigh {_by_name(weights, names)} in {reader}"
    if settings.cls_pw > 0 and getattr(network, "class_weights", None) is not None:
        trainer.in_force["cls_pw"] = f"classes weigh {_by_name(network.class_weights, names)} in {reader}"
    if settings.focal_gamma > 0:
        trainer.in_force["focal_gamma"] = f"class costs times |target − score|^{settings.focal_gamma:g} in {reader}"
    if settings.label_smoothing > 0:
        if trainer.data.get("nc") == 1:
            raise SettingValueError(
                f"label_smoothing={settings.label_smoothing} spreads a target over the classes, but the data has only "
                "one: leave label_smoothing out."
            )
        trainer.in_force["label_smoothing"] = (
            f"{settings.label_smoothing:g} of an object's target is spread over all classes in {reader}"
        )


def weights_of(setting: str | list[float] | Mapping[str | int, float], counts: Tensor, names: dict[int, str]) -> Tensor:
    """What `class_weights` asks for.

    Args:
        setting: "auto", a weight for each class, or weights by class name or number (1 for the others).
        counts: (nc,) training labels of each class.
        names: class number → name.

    Returns:
        (nc,) float32 on the CPU.

    Raises:
        SettingValueError: the list has another length, or there is no class of a name.
    """
    if isinstance(setting, str):
        return positive_weights(counts)
    listed = ", ".join(names.values())
    if isinstance(setting, Mapping):
        by_name = {name: number for number, name in names.items()}
        weights = torch.ones(len(names))
        for name, weight in setting.items():
            number = name if isinstance(name, int) else by_name.get(name)
            if number not in names:
                raise SettingValueError(
                    f"class_weights names the class {name!r}, which the data does not have. Its classes: {listed}."
                )
            weights[number] = weight
        return weights
    if len(setting) != len(names):
        raise SettingValueError(
            f"class_weights has {len(setting)} weights, but the data has {len(names)} classes: {listed}. Give one for "
            "each, or name them: class_weights={'" + next(iter(names.values()), "name") + "': 2.0}."
        )
    return torch.tensor(setting, dtype=torch.float32)


def _refuse_what_ours_does_not_read(network: Any, settings: Settings) -> None:
    changed = settings.changed()
    for name, reason in getattr(network, "unread_settings", {}).items():
        if name in changed and settings.is_user_set(name):
            raise SettingValueError(
                f"{name}={changed[name][0]} would have no effect on {type(network).__name__}: {reason}. Leave it out."
            )


def _refuse_what_it_cannot_read(own: OwnLoss, trainer: BaseTrainer) -> None:
    changed = trainer.args.changed()
    unread = [
        f"{name}={changed[name][0]}" for name in READ_BY_OURS if name in changed and trainer.args.is_user_set(name)
    ]
    if own.kind == FUNCTION and unread:
        raise SettingValueError(
            f"{', '.join(unread)}: a function of (preds, batch) such as loss={own.name} does not read settings, so "
            "it would have no effect. Leave it out, or derive your loss from v8DetectionLoss."
        )


def _say_what_no_term_reads(trainer: BaseTrainer) -> None:
    """A gain of keypoints on a network that has none would be without effect, unless a loss of the user's reads it."""
    settings = trainer.args
    changed, staged = settings.changed(), {name for stage in settings.loss_schedule or [] for name in stage}
    asked = [name for name in OF_SOME_NETWORKS if name in changed or name in staged]
    unread = [name for name in asked if f"{name}_loss" not in trainer.loss_names]
    if unread:
        LOGGER.warning(
            f"{', '.join(unread)}: the loss of this network has no such term (it has "
            f"{', '.join(trainer.loss_names)}), so "
            f"{'this gain has' if len(unread) == 1 else 'these gains have'} no effect, unless a loss of your own reads "
            f"{'it' if len(unread) == 1 else 'them'}."
        )


def _makes_ours(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, E2ELoss)


def _by_name(weights: Tensor, names: Mapping[int, str]) -> str:
    return ", ".join(f"{names.get(i, i)} {weight:.3g}" for i, weight in enumerate(weights.tolist()))
