"""Whether the classes a model predicts are those that the labels mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.errors import ModelError
from sightline.log import LOGGER


@dataclass(frozen=True, slots=True)
class ClassMap:
    """How class numbers of a model become class numbers of a data set.

    Attributes:
        to_data: (classes of the model,) int64; the number in the data set, or -1 where it has no such class.
        known: (classes of the data set,) bool; whether the model can predict it.
    """

    to_data: np.ndarray
    known: np.ndarray

    @property
    def is_identity(self) -> bool:
        """Whether nothing needs to be translated or left out."""
        return bool(self.known.all()) and np.array_equal(self.to_data, np.arange(len(self.known)))

    def model_classes(self, data_classes: Sequence[int]) -> list[int]:
        """The model's numbers for some classes of the data set."""
        return np.flatnonzero(np.isin(self.to_data, list(data_classes))).tolist()


def match_classes(model_names: Mapping[int, str], data_names: Mapping[int, str], *, data: str = "the data") -> ClassMap:
    """Line up the classes of a model with those of a data set.

    With as many classes on both sides the numbers are taken as they are, and other names are only warned of. With
    different counts the names decide, if one side has all names of the other: labels of a class that the model does not
    know are left out, and so are predictions of a class that the data set does not have. Both are said.

    Args:
        model_names: class index → name.
        data_names: class index → name.
        data: what to call the data set in messages.

    Raises:
        ModelError: the classes cannot be lined up.
    """
    model_list, data_list = list(model_names.values()), list(data_names.values())
    counts = len(model_list), len(data_list)
    if counts[0] == counts[1]:
        _warn_of_other_names(model_list, data_list, data)
        same = np.arange(counts[1])
        return ClassMap(same, np.ones(counts[1], dtype=bool))
    model_folded, data_folded = [[_fold(name) for name in names] for names in (model_list, data_list)]
    if not (set(model_folded) <= set(data_folded) or set(data_folded) <= set(model_folded)):
        raise ModelError(
            f"The model predicts {_listed(model_list)}, but {data} names {_listed(data_list)}. "
            "Give the data set that the model was trained on, or train a model on this one."
        )
    numbers = {name: number for number, name in enumerate(data_folded)}
    to_data = np.array([numbers.get(name, -1) for name in model_folded], dtype=np.int64)
    known = np.isin(np.arange(counts[1]), to_data)
    if not known.all():
        missing = [name for name, is_known in zip(data_list, known, strict=True) if not is_known]
        LOGGER.warning(f"The model does not know {_listed(missing)} of {data}: labels of them are left out.")
    if (to_data < 0).any():
        extra = [name for name, number in zip(model_list, to_data, strict=True) if number < 0]
        LOGGER.warning(f"{data} does not have {_listed(extra)} of the model: predictions of them are left out.")
    return ClassMap(to_data, known)


def _warn_of_other_names(model_names: list[str], data_names: list[str], data: str) -> None:
    pairs = zip(model_names, data_names, strict=True)
    different = [
        (model, name)
        for model, name in pairs
        # A network built from a description has no names yet, only numbers.
        if _fold(model) != _fold(name) and not _fold(model).removeprefix("class").isdigit()
    ]
    if different:
        listed = ", ".join(f"{model!r} here is {name!r} there" for model, name in different[:3])
        LOGGER.warning(
            f"{len(different)} of {len(data_names)} class names of the model and {data} differ ({listed}): the numbers "
            "are taken to mean the same. If they do not, the results are meaningless."
        )


def _fold(name: str) -> str:
    return "".join(str(name).lower().replace("_", " ").split())


def _listed(names: list[str]) -> str:
    """`3 classes (RBC, WBC, Platelets)`, with at most five of the names."""
    shown = ", ".join(map(str, names[:5])) + (", …" if len(names) > 5 else "")
    return f"{len(names)} class{'es' if len(names) != 1 else ''} ({shown})"
